"""Chroma as an index: derived, rebuildable, never stale."""

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


def records(first, last):
    words = [
        "tide",
        "owl",
        "reed",
        "gate",
        "moor",
        "lark",
        "dune",
        "heron",
        "salt",
        "marsh",
        "crab",
        "kelp",
    ]
    return [
        {
            "title": f"Paper {n}",
            "abstract": f"A {words[n % 12]} by the {words[n % 7]} and {words[n % 5]} no. {n}.",
        }
        for n in range(first, last)
    ]


@pytest.fixture
def library_of(tmp_path):
    def build(first, last, name="library"):
        path = tmp_path / f"{first}-{last}.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records(first, last)))
        assistant = Assistant(Library(tmp_path / name), HashEmbedder())
        assistant.add(path)
        return assistant

    return build


def test_the_index_finds_what_an_exact_search_finds(library_of):
    assistant = library_of(0, 800)
    library, index = assistant.library, assistant._index
    keys = library.keys()
    vectors = np.stack([library.passages([key])[1][0] for key in keys])
    owner = library.passage_owners(library.passage_keys())
    for question in ("tide and owl", "heron", "salt marsh by the dune"):
        vector = HashEmbedder().embed_question(question)
        exact = np.sort(vectors @ vector)[::-1][:50]
        found = index.search(vector, 50)
        assert np.allclose(sorted(found.values(), reverse=True), exact, atol=2e-3)
        assert all(key in owner for key in found)


@pytest.mark.parametrize("most", [20_000, 10])
def test_a_filtered_search_finds_the_nearest_allowed_however_many_are(
    library_of, monkeypatch, most
):
    monkeypatch.setattr("rag.retrieval.retriever._MOST_COMPARED", most)
    one, two = library_of(0, 60), library_of(60, 90)
    expected = [
        hit.paper.id
        for hit in two.search("owl by the reed", k=90)
        if hit.paper.source == "60-90.jsonl"
    ]
    found = two.search("owl by the reed", k=90, source="60-90")
    assert [hit.paper.id for hit in found] == expected
    assert len(found) == 30
    assert len(one.library) == 90


def test_rebuilding_embeds_nothing_and_finds_the_same(library_of):
    assistant = library_of(0, 60)
    before = [(hit.paper.id, hit.score) for hit in assistant.search("owl by the reed")]
    embedded = assistant._embedder.embedded
    shutil.rmtree(assistant.library.folder / "chroma")
    again = Assistant(Library(assistant.library.folder), assistant._embedder)
    assert again.reindex() == 60
    assert [(hit.paper.id, hit.score) for hit in again.search("owl by the reed")] == before
    assert assistant._embedder.embedded == embedded


@pytest.mark.parametrize("lost", ["folder", "collection"])
def test_a_lost_index_is_never_answered_from_in_silence(library_of, lost):
    assistant = library_of(0, 30)
    folder = assistant.library.folder
    if lost == "collection":
        assistant.search("owl")
        client = assistant._index._opened.client
        client.delete_collection(assistant._index._opened.collection.name)
    assistant._index.close()
    if lost == "folder":
        shutil.rmtree(folder / "chroma")
    again = Assistant(Library(folder), HashEmbedder())
    for _ in range(2):
        with pytest.raises(LibraryError, match="footnote reindex"):
            again.search("owl")
    assert again.reindex() == 30
    assert again.search("owl")[0].dense > 0.3


def test_a_search_waits_for_its_turn_while_another_process_is_at_chroma(library_of):
    assistant = library_of(0, 30)
    found = []
    asking = threading.Thread(target=lambda: found.append(assistant.search("owl")))
    # Another object for the same file is to the operating system what another process is.
    with FileLock(assistant.library.folder / "index.lock"):
        asking.start()
        asking.join(0.3)
        assert asking.is_alive()
        assert found == []
    asking.join()
    assert found[0][0].dense > 0.3


def test_inside_one_moment_of_the_papers_a_search_knows_of_every_change(library_of):
    """The process that searches opens Chroma again after another changed it, though it reads the papers of before."""
    assistant = library_of(0, 30)
    with assistant.library.snapshot():
        assistant.search("owl")
        code = (
            "import sys; from pathlib import Path; from fakes import HashEmbedder; from rag import Assistant, Library;"
            "a = Assistant(Library(Path(sys.argv[1])), HashEmbedder()); a.reindex()"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run(
            [sys.executable, "-c", code, assistant.library.folder], check=True, env=environment
        )
        assert assistant.search("owl")[0].dense > 0.3
    assert not (assistant.library.folder / "chroma").exists()


def test_after_many_removals_chroma_is_made_anew(library_of):
    assistant = library_of(0, 60)
    ids = [paper.id for paper in assistant.papers()]
    assistant.remove(*ids[:6])
    assert (assistant.library.folder / "chroma").exists()
    assistant.remove(*ids[6:20])
    assert not (assistant.library.folder / "chroma").exists()
    assert assistant._index.keys() == set(assistant.library.passage_keys())
    assert len(assistant.search("owl", k=60)) == 40


def test_until_an_index_is_made_anew_readers_have_the_old_one(library_of, monkeypatch):
    assistant = library_of(0, 30)
    before = [hit.paper.id for hit in assistant.search("owl by the reed")]
    found = []

    def meanwhile(index, *arguments):
        reader = Assistant(Library(assistant.library.folder), HashEmbedder())
        asking = threading.Thread(
            target=lambda: found.append([hit.paper.id for hit in reader.search("owl by the reed")])
        )
        asking.start()
        asking.join()
        return bring(index, *arguments)

    bring = VectorIndex._bring
    monkeypatch.setattr(VectorIndex, "_bring", meanwhile)
    assert assistant.reindex() == 30
    assert found == [before]
    assert [hit.paper.id for hit in assistant.search("owl by the reed")] == before


def test_making_it_anew_leaves_alone_what_another_process_begins_meanwhile(library_of, monkeypatch):
    assistant = library_of(0, 30)
    anothers = assistant.library.folder / "chroma-99"

    def meanwhile(index):
        close(index)
        anothers.mkdir(exist_ok=True)

    close = VectorIndex.close
    monkeypatch.setattr(VectorIndex, "close", meanwhile)
    assistant.reindex()
    assert anothers.exists()
    assert not (assistant.library.folder / "chroma").exists()


def test_a_damaged_index_is_refused_with_the_way_out_and_mended(library_of):
    assistant = library_of(0, 30)
    folder = assistant.library.folder
    assistant._index.close()
    (folder / "chroma" / "chroma.sqlite3").write_bytes(b"not a database" * 100)
    again = Assistant(Library(folder), HashEmbedder())
    with again.library.transaction() as writer:
        writer.mark_all_pending()
    with pytest.raises(LibraryError, match="footnote reindex"):
        again.search("owl")
    assert len(list(again.papers())) == 30
    (folder / "chroma_notes").mkdir()
    again.reindex()
    assert again.search("owl")
    assert (folder / "chroma_notes").exists()


ADD_MORE = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from fakes import HashEmbedder, OtherEmbedder
from rag import Assistant, Library
Assistant(Library(Path(sys.argv[1])), HashEmbedder()).add(sys.argv[2])
"""


def test_a_reader_sees_what_another_process_adds(library_of, tmp_path, request):
    assistant = library_of(0, 20)
    assert assistant.search("zeppelin")[0].full_text == 0
    more = tmp_path / "more.jsonl"
    more.write_text(
        json.dumps({"title": "Zeppelin moorings", "abstract": "A zeppelin over the moor."})
    )
    tests = str(request.path.parent)
    subprocess.run(
        [sys.executable, "-c", ADD_MORE, str(assistant.library.folder), str(more), tests],
        check=True,
    )
    (best, *_) = assistant.search("zeppelin")
    assert best.paper.title == "Zeppelin moorings"
    assert best.dense > 0.5
    assert assistant._index.keys() == set(assistant.library.passage_keys())


def test_a_library_asked_while_it_was_empty_is_found_by_the_next_process(library_of, tmp_path):
    empty = Assistant(Library(tmp_path / "library"), HashEmbedder())
    assert empty.search("owl by the moor") == []

    assistant = library_of(0, 20)
    assistant._index.close()  # as the next process begins

    assert assistant._index.keys() == set(assistant.library.passage_keys())


def test_what_a_kill_left_unindexed_is_made_up_before_the_next_search(library_of):
    assistant = library_of(0, 20)
    folder = assistant.library.folder
    with assistant.library.transaction() as writer:
        writer.mark_all_pending()
    assert not assistant.library.is_indexed()
    Assistant(Library(folder), HashEmbedder()).search("owl")
    assert assistant.library.is_indexed()


def test_embedding_again_with_another_model_replaces_every_vector(library_of, tmp_path):
    assistant = library_of(0, 25)
    assistant._embed_again(OtherEmbedder(), None)
    assistant._index.rebuild()
    key = assistant.library.keys()[0]
    assert assistant.library.passages([key])[1].shape[1] == OtherEmbedder.dimension
    assert len(assistant._index.keys()) == 25
    again = Assistant(Library(assistant.library.folder), OtherEmbedder())
    assert again.search("owl")[0].dense > 0


def test_quotations_are_literal_while_their_papers_are_being_edited(library_of, tmp_path):
    assistant = library_of(0, 60)
    stop = threading.Event()

    def edit():
        turn = 0
        while not stop.is_set():
            turn += 1
            rows = [
                row | {"abstract": f"{'Now ' * (turn % 3)}{row['abstract']}"}
                for row in records(0, 60)
            ]
            (tmp_path / "0-60.jsonl").write_text("\n".join(map(json.dumps, rows)))
            Assistant(Library(assistant.library.folder), HashEmbedder()).add(
                tmp_path / "0-60.jsonl"
            )

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(60):
            for citation in assistant.ask("heron and owl by the marsh").citations:
                assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    finally:
        stop.set()
        editor.join()


def test_a_model_changed_by_another_process_is_noticed(library_of):
    assistant = library_of(0, 20)
    Assistant(Library(assistant.library.folder), OtherEmbedder())._embed_again(
        OtherEmbedder(), None
    )
    with pytest.raises(EmbedderMismatch):
        assistant.search("owl")


def test_a_library_made_anew_in_the_same_folder_has_an_index_of_its_own(library_of):
    first = library_of(0, 20)
    first.search("owl")
    shutil.rmtree(first.library.folder)
    second = library_of(100, 130)
    assert {hit.paper.source for hit in second.search("owl")} == {"100-130.jsonl"}
    second._index.close()
    assert second._index.keys() == set(second.library.passage_keys())
    assert len(second._index.keys()) == 30
