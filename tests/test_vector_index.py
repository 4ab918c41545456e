"""Chroma as the vector index: derived from the library, rebuildable, never stale."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fakes import HashEmbedder, OtherEmbedder
from filelock import FileLock

from rag import Assistant, EmbedderMismatch, Library, LibraryError
from rag.library.vector_index import VectorIndex

WORDS = "tide owl reed gate moor lark dune heron salt marsh crab kelp".split()
# Runs code in another process, which may import the fakes.
PREAMBLE = (
    "import sys; from pathlib import Path; from fakes import HashEmbedder; "
    "from rag import Assistant, Library; "
    "assistant = Assistant(Library(Path(sys.argv[1])), HashEmbedder()); "
)


def record(number):
    first, second, third = (WORDS[number % divisor] for divisor in (12, 7, 5))
    abstract = f"A {first} by the {second} and {third} no. {number}."
    return {"title": f"Paper {number}", "abstract": abstract}


def write_records(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def run_in_other_process(code, folder, *arguments):
    command = [sys.executable, "-c", PREAMBLE + code, str(folder), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(command, check=True, env=environment)


def reopen(assistant):
    """Open the library again, as the next process would."""
    assistant._index.close()
    return Assistant(Library(assistant.library.folder), HashEmbedder())


def paper_ids(hits):
    return [hit.paper.id for hit in hits]


@pytest.fixture
def add_records(tmp_path):
    """Add numbered records to the test's library; return an assistant for it."""

    def add(first, last):
        path = write_records(tmp_path / f"{first}-{last}.jsonl", map(record, range(first, last)))
        assistant = Assistant(Library(tmp_path / "library"), HashEmbedder())
        assistant.add(path)
        return assistant

    return add


# --- searching -------------------------------------------------------------------------------


def test_search_finds_what_an_exact_search_finds(add_records):
    assistant = add_records(0, 800)
    library, index = assistant.library, assistant._index
    vectors = np.stack([library.passages([key])[1][0] for key in library.paper_keys()])
    passage_keys = set(library.passage_keys())
    for question in ("tide and owl", "heron", "salt marsh by the dune"):
        vector = HashEmbedder().embed_question(question)
        exact = np.sort(vectors @ vector)[::-1][:50]
        similarities = index.search(vector, 50)
        assert np.allclose(sorted(similarities.values(), reverse=True), exact, atol=2e-3)
        assert set(similarities) <= passage_keys


@pytest.mark.parametrize("max_exact_passages", [20_000, 10])
def test_filtered_search_finds_the_nearest_of_the_allowed_papers(
    add_records, monkeypatch, max_exact_passages
):
    monkeypatch.setattr("rag.retrieval.retriever._MAX_EXACT_PASSAGES", max_exact_passages)
    add_records(0, 60)
    assistant = add_records(60, 90)
    assert len(assistant.library) == 90
    hits = assistant.search("owl by the reed", k=90)
    expected = paper_ids(hit for hit in hits if hit.paper.source == "60-90.jsonl")
    assert len(expected) == 30
    assert paper_ids(assistant.search("owl by the reed", k=90, source="60-90")) == expected


def test_search_waits_while_another_process_uses_chroma(add_records):
    assistant = add_records(0, 30)
    results = []
    searching = threading.Thread(target=lambda: results.append(assistant.search("owl")))
    # To the operating system, another lock object on the same file is another process.
    with FileLock(assistant.library.folder / "index.lock"):
        searching.start()
        searching.join(0.3)
        assert searching.is_alive()
        assert results == []
    searching.join()
    assert results[0][0].dense > 0.3


@pytest.mark.soak
def test_quotations_stay_literal_while_papers_are_edited(add_records, tmp_path, times):
    assistant = add_records(0, 60)
    stop = threading.Event()

    def edit_papers():
        version = 0
        while not stop.is_set():
            version += 1
            prefix = "Now " * (version % 3)
            records = [record(number) for number in range(60)]
            edited = [row | {"abstract": prefix + row["abstract"]} for row in records]
            path = write_records(tmp_path / "0-60.jsonl", edited)
            Assistant(Library(assistant.library.folder), HashEmbedder()).add(path)

    editor = threading.Thread(target=edit_papers)
    editor.start()
    try:
        for _ in range(times(10, 200)):
            for citation in assistant.ask("heron and owl by the marsh").citations:
                assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    finally:
        stop.set()
        editor.join()


# --- changes by other processes --------------------------------------------------------------


def test_search_finds_what_another_process_added(add_records, tmp_path):
    assistant = add_records(0, 20)
    assert assistant.search("zeppelin")[0].full_text == 0
    zeppelin = {"title": "Zeppelin moorings", "abstract": "A zeppelin over the moor."}
    path = write_records(tmp_path / "more.jsonl", [zeppelin])
    run_in_other_process("assistant.add(sys.argv[2])", assistant.library.folder, path)
    best = assistant.search("zeppelin")[0]
    assert best.paper.title == "Zeppelin moorings"
    assert best.dense > 0.5
    assert assistant._index.keys() == set(assistant.library.passage_keys())


def test_search_within_a_snapshot_uses_the_index_that_another_process_rebuilt(add_records):
    assistant = add_records(0, 30)
    with assistant.library.snapshot():
        assistant.search("owl")
        run_in_other_process("assistant.reindex()", assistant.library.folder)
        assert assistant.search("owl")[0].dense > 0.3
    assert not (assistant.library.folder / "chroma").exists()


def test_library_that_was_searched_while_empty_can_be_opened_again(add_records, tmp_path):
    empty = Assistant(Library(tmp_path / "library"), HashEmbedder())
    assert empty.search("owl by the moor") == []
    again = reopen(add_records(0, 20))
    assert again._index.keys() == set(again.library.passage_keys())


def test_change_of_the_embedder_by_another_process_is_detected(add_records):
    assistant = add_records(0, 20)
    other = Assistant(Library(assistant.library.folder), OtherEmbedder())
    other._reembed(OtherEmbedder(), None)
    with pytest.raises(EmbedderMismatch):
        assistant.search("owl")


def test_new_library_in_the_same_folder_has_its_own_index(add_records):
    first = add_records(0, 20)
    first.search("owl")
    shutil.rmtree(first.library.folder)
    second = add_records(100, 130)
    assert {hit.paper.source for hit in second.search("owl")} == {"100-130.jsonl"}
    second._index.close()
    assert second._index.keys() == set(second.library.passage_keys())
    assert len(second._index.keys()) == 30


# --- rebuilding ------------------------------------------------------------------------------


def test_rebuild_embeds_nothing_and_finds_the_same(add_records):
    assistant = add_records(0, 60)
    embedder = assistant._embedder
    before = [(hit.paper.id, hit.score) for hit in assistant.search("owl by the reed")]
    embedded = embedder.embedded
    shutil.rmtree(assistant.library.folder / "chroma")
    again = Assistant(Library(assistant.library.folder), embedder)
    assert again.reindex() == 60
    assert [(hit.paper.id, hit.score) for hit in again.search("owl by the reed")] == before
    assert embedder.embedded == embedded


def test_index_is_rebuilt_after_many_removals(add_records):
    assistant = add_records(0, 60)
    ids = [paper.id for paper in assistant.papers()]
    assistant.remove(*ids[:6])
    assert (assistant.library.folder / "chroma").exists()
    assistant.remove(*ids[6:20])
    assert not (assistant.library.folder / "chroma").exists()
    assert assistant._index.keys() == set(assistant.library.passage_keys())
    assert len(assistant.search("owl", k=60)) == 40


def test_readers_use_the_old_index_until_a_rebuild_is_complete(add_records, monkeypatch):
    assistant = add_records(0, 30)
    before = paper_ids(assistant.search("owl by the reed"))
    results = []
    apply_pending = VectorIndex._apply_pending

    def search_meanwhile(index, *arguments):
        reader = Assistant(Library(assistant.library.folder), HashEmbedder())
        searching = threading.Thread(
            target=lambda: results.append(paper_ids(reader.search("owl by the reed")))
        )
        searching.start()
        searching.join()
        return apply_pending(index, *arguments)

    monkeypatch.setattr(VectorIndex, "_apply_pending", search_meanwhile)
    assert assistant.reindex() == 30
    assert results == [before]
    assert paper_ids(assistant.search("owl by the reed")) == before


def test_rebuild_keeps_an_index_that_another_process_starts_meanwhile(add_records, monkeypatch):
    assistant = add_records(0, 30)
    other_folder = assistant.library.folder / "chroma-99"
    close = VectorIndex.close

    def create_folder_meanwhile(index):
        close(index)
        other_folder.mkdir(exist_ok=True)

    monkeypatch.setattr(VectorIndex, "close", create_folder_meanwhile)
    assistant.reindex()
    assert other_folder.exists()
    assert not (assistant.library.folder / "chroma").exists()


def test_reembedding_with_another_model_replaces_every_vector(add_records):
    assistant = add_records(0, 25)
    assistant._reembed(OtherEmbedder(), None)
    assistant._index.rebuild()
    key = assistant.library.paper_keys()[0]
    assert assistant.library.passages([key])[1].shape[1] == OtherEmbedder.dimension
    assert len(assistant._index.keys()) == 25
    again = Assistant(Library(assistant.library.folder), OtherEmbedder())
    assert again.search("owl")[0].dense > 0


# --- damage ----------------------------------------------------------------------------------


def test_search_first_indexes_what_a_kill_left_pending(add_records):
    assistant = add_records(0, 20)
    with assistant.library.transaction() as transaction:
        transaction.mark_all_pending()
    assert not assistant.library.is_indexed()
    Assistant(Library(assistant.library.folder), HashEmbedder()).search("owl")
    assert assistant.library.is_indexed()


@pytest.mark.parametrize("missing", ["folder", "collection"])
def test_missing_index_is_an_error_until_it_is_rebuilt(add_records, missing):
    assistant = add_records(0, 30)
    assistant.search("owl")
    if missing == "collection":
        session = assistant._index._session
        session.client.delete_collection(session.collection.name)
    again = reopen(assistant)
    if missing == "folder":
        shutil.rmtree(again.library.folder / "chroma")
    for _ in range(2):
        with pytest.raises(LibraryError, match="footnote reindex"):
            again.search("owl")
    assert again.reindex() == 30
    assert again.search("owl")[0].dense > 0.3


@pytest.mark.promise("durability")
def test_damaged_index_is_an_error_until_it_is_rebuilt(add_records):
    again = reopen(add_records(0, 30))
    folder = again.library.folder
    (folder / "chroma" / "chroma.sqlite3").write_bytes(b"not a database" * 100)
    with again.library.transaction() as transaction:
        transaction.mark_all_pending()
    with pytest.raises(LibraryError, match="footnote reindex"):
        again.search("owl")
    assert len(list(again.papers())) == 30
    (folder / "chroma_notes").mkdir()  # not an index, whatever its name
    again.reindex()
    assert again.search("owl")
    assert (folder / "chroma_notes").exists()
