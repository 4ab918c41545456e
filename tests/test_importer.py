"""Importing: counts, merges, updates, removals, failures and interruptions."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import HashEmbedder, OtherEmbedder

from rag import Assistant, EmbedderMismatch, Library, LibraryError

GATES = {
    "title": "Tidal Gates",
    "abstract": "Gates open twice a day. They save 12% of power.",
    "year": 2020,
}
OWLS = {
    "title": "Night Owls of Jutland",
    "abstract": "Owls hunt at dusk.",
    "authors": ["Ada Brandt"],
}
REEDS = {"title": "Reed Beds", "abstract": "Reeds filter water.", "doi": "10.1000/reeds"}


@pytest.fixture
def assistant(tmp_path):
    return Assistant(Library(tmp_path / "library"), HashEmbedder())


@pytest.fixture
def write(tmp_path):
    def write_records(name, *records):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write_records


def counts(report):
    return (
        report.read,
        report.added,
        report.updated,
        report.merged,
        report.unchanged,
        len(report.rejected),
    )


def test_report_counts_every_record(assistant, write):
    report = assistant.add(
        write("a.jsonl", GATES, OWLS, {"title": "tidal gates!"}, {"abstract": "No title."})
    )
    assert counts(report) == (4, 2, 0, 1, 0, 1)
    assert report.papers == 2
    assert (report.rejected[0].record, report.merges[0].record, report.merges[0].matched_by) == (
        4,
        3,
        "title",
    )


def test_adding_a_file_again_changes_and_embeds_nothing(assistant, write):
    path = write("a.jsonl", GATES, OWLS, GATES)
    assistant.add(path)
    digest, embedded = assistant.library.digest, assistant._embedder.embedded
    report = assistant.add(path)
    assert counts(report) == (3, 0, 0, 1, 2, 0)
    assert (assistant.library.digest, assistant._embedder.embedded) == (digest, embedded)


def test_edited_record_updates_its_paper(assistant, write):
    assistant.add(write("a.jsonl", GATES, REEDS))
    report = assistant.add(
        write("a.jsonl", GATES | {"abstract": "Gates now save 30% of power."}, REEDS)
    )
    assert counts(report) == (2, 0, 1, 0, 1, 0)
    (paper,) = [paper for paper in assistant.papers() if paper.title == "Tidal Gates"]
    assert paper.abstract == "Gates now save 30% of power."
    assert (
        assistant.ask("How much power do gates save?").citations[0].quote
        == "Gates now save 30% of power."
    )


def test_reverted_edit_is_an_update(assistant, write):
    assistant.add(write("a.jsonl", GATES))
    assistant.add(write("a.jsonl", GATES | {"abstract": "Edited."}))
    report = assistant.add(write("a.jsonl", GATES))
    assert report.updated == 1
    assert next(assistant.papers()).abstract == GATES["abstract"]


def test_preprint_and_publication_merge_and_keep_both_ids(assistant, write):
    preprint = GATES | {"arxiv_id": "2003.01234", "authors": ["Ada Brandt"]}
    published = {
        "title": "Tidal gates",
        "doi": "10.1000/gates",
        "year": 2021,
        "venue": "Gate Letters",
    }
    assistant.add(write("arxiv.jsonl", preprint))
    report = assistant.add(write("journal.jsonl", published))
    assert counts(report) == (1, 0, 0, 1, 0, 0)
    (paper,) = assistant.papers()
    assert (paper.doi, paper.arxiv_id, paper.venue) == (
        "10.1000/gates",
        "2003.01234",
        "Gate Letters",
    )
    assert assistant.paper("10.1000/gates") == assistant.paper("2003.01234") == paper


def test_record_with_ids_of_two_papers_merges_them(assistant, write):
    assistant.add(write("a.jsonl", GATES | {"arxiv_id": "2003.01234"}))
    assistant.add(
        write(
            "b.jsonl",
            {"title": "The Gates of the Tide", "doi": "10.1000/gates", "venue": "Gate Letters"},
        )
    )
    assert len(assistant.library) == 2
    both = GATES | {"arxiv_id": "2003.01234", "doi": "10.1000/gates"}
    assistant.add(write("c.jsonl", both))
    (paper,) = assistant.papers()
    assert (paper.doi, paper.arxiv_id, paper.venue) == (
        "10.1000/gates",
        "2003.01234",
        "Gate Letters",
    )
    assert assistant._index.keys() == set(assistant.library.passage_keys())


def test_wrong_identifier_does_not_merge_different_papers(assistant, write):
    tidal, reed = GATES | {"doi": "10.1000/a"}, REEDS | {"doi": "10.1000/b", "pmid": "555"}
    assistant.add(write("a.jsonl", tidal, reed))
    assistant.add(write("b.jsonl", tidal | {"pmid": "555"}))
    assert {paper.title for paper in assistant.papers()} == {"Tidal Gates", "Reed Beds"}
    assert assistant.paper("555").title == "Reed Beds"
    report = assistant.add(write("c.jsonl", OWLS | {"pmid": "555", "doi": "10.1000/c"}))
    assert (report.added, report.papers) == (1, 3)


def test_swapped_identifiers_are_corrected(assistant, write):
    one, two = GATES | {"arxiv_id": "2003.00001"}, REEDS | {"arxiv_id": "2003.00002"}
    assistant.add(write("a.jsonl", one | {"doi": "10.1000/b"}, two | {"doi": "10.1000/a"}))
    report = assistant.add(write("a.jsonl", one | {"doi": "10.1000/a"}, two | {"doi": "10.1000/b"}))
    assert (report.updated, report.papers) == (2, 2)
    assert assistant.paper("10.1000/a") == assistant.paper("2003.00001")
    assert assistant.paper("10.1000/b") == assistant.paper("2003.00002")


def test_corrected_identifier_releases_the_old_one(assistant, write):
    assistant.add(write("a.jsonl", GATES | {"arxiv_id": "2003.00001", "doi": "10.1000/wrong"}))
    assistant.add(write("a.jsonl", GATES | {"arxiv_id": "2003.00001", "doi": "10.1000/right"}))
    report = assistant.add(write("b.jsonl", OWLS | {"doi": "10.1000/wrong"}))
    assert report.added == 1
    assert assistant.paper("10.1000/wrong").title == OWLS["title"]
    assert assistant.paper("10.1000/right").title == "Tidal Gates"


def test_another_source_only_fills_gaps_in_any_order(tmp_path, write):
    published = GATES | {
        "arxiv_id": "2003.00001",
        "venue": "Gate Letters",
        "year": 2022,
        "abstract": "Final text.",
    }
    draft = GATES | {"arxiv_id": "2003.00001", "abstract": "Draft text.", "authors": ["Ada Brandt"]}
    files = write("published.jsonl", published), write("draft.jsonl", draft)
    together = Assistant(Library(tmp_path / "together"), HashEmbedder())
    one_by_one = Assistant(Library(tmp_path / "one by one"), HashEmbedder())
    together.add(*files)
    for file in files:
        one_by_one.add(file)
    assert next(together.papers()) == next(one_by_one.papers())
    assert next(together.papers()).abstract == "Final text."
    assert next(together.papers()).authors == ("Ada Brandt",)


def test_edit_applies_when_another_source_of_the_paper_comes_first(assistant, write):
    first, second = REEDS, REEDS | {"abstract": "Reeds filter much water."}
    assistant.add(write("x.jsonl", first), write("y.jsonl", second))
    edited = second | {"abstract": "Reeds filter nearly all water."}
    report = assistant.add(write("x.jsonl", first), write("y.jsonl", edited))
    assert counts(report) == (2, 0, 1, 0, 1, 0)
    assert next(assistant.papers()).abstract == edited["abstract"]
    again = assistant.add(write("x.jsonl", first), write("y.jsonl", edited))
    assert (again.updated, next(assistant.papers()).abstract) == (0, edited["abstract"])


def test_unchanged_file_with_linked_records_changes_nothing(assistant, write):
    assistant.add(write("a.jsonl", GATES | {"arxiv_id": "2003.00001"}))
    both = [GATES | {"doi": "10.1000/a", "abstract": "Published says."}]
    both.append(both[0] | {"arxiv_id": "2003.00001", "abstract": "Published says it."})
    path = write("a.jsonl", *both)
    assistant.add(path)
    digest = assistant.library.digest
    for _ in range(2):
        assert assistant.add(path).updated == 0
        assert assistant.library.digest == digest


def test_reverted_edit_is_an_update_even_if_a_copy_has_the_same_record(assistant, write):
    assistant.add(write("a.jsonl", GATES), write("copy.jsonl", GATES))
    assistant.add(write("a.jsonl", GATES | {"abstract": "Gates open thrice a day."}))
    assert assistant.add(write("a.jsonl", GATES)).updated == 1
    assert next(assistant.papers()).abstract == GATES["abstract"]


def test_short_title_alone_does_not_merge_papers(assistant, write):
    owls, tides = (
        "Owls hunt voles at dusk in barns.",
        "Tides lift ferries twice daily near harbours.",
    )
    path = write("a.jsonl", *({"title": "Editorial", "abstract": text} for text in (owls, tides)))
    assert assistant.add(path).added == 2
    assert assistant.add(path).unchanged == 2


def test_papers_with_one_title_and_different_ids_stay_separate(assistant, write):
    report = assistant.add(
        write("a.jsonl", GATES | {"arxiv_id": "2003.01234"}, GATES | {"arxiv_id": "2107.05555"})
    )
    assert (report.added, report.papers) == (2, 2)


def test_paper_without_abstract_is_found_but_never_quoted(assistant, write):
    report = assistant.add(write("a.jsonl", {"title": "Walrus Counting by Sonar"}, OWLS))
    assert report.without_abstract == 1
    assert assistant.search("walrus sonar")[0].paper.title == "Walrus Counting by Sonar"
    assert all(citation.paper.abstract for citation in assistant.ask("walrus sonar").citations)


def test_removing_a_paper_removes_its_passages_and_provenance(assistant, write):
    path = write("a.jsonl", GATES, OWLS)
    assistant.add(path)
    (removed,) = assistant.remove(next(assistant.papers()).id)
    assert removed.title == "Tidal Gates"
    assert [hit.paper.title for hit in assistant.search("tidal gates power")] == [
        "Night Owls of Jutland"
    ]
    assert assistant._index.keys() == set(assistant.library.passage_keys())
    assert assistant.add(path).added == 1


def test_library_digest_does_not_depend_on_the_order(tmp_path, write):
    first = Assistant(Library(tmp_path / "one"), HashEmbedder())
    second = Assistant(Library(tmp_path / "two"), HashEmbedder())
    first.add(write("a.jsonl", GATES, OWLS))
    second.add(write("b.jsonl", OWLS, GATES, REEDS))
    assert first.library.digest != second.library.digest
    second.remove("10.1000/reeds")
    assert first.library.digest == second.library.digest


def test_another_embedding_model_is_refused(tmp_path, assistant, write):
    assistant.add(write("a.jsonl", GATES))
    other = Assistant(Library(tmp_path / "library"), OtherEmbedder())
    with pytest.raises(EmbedderMismatch, match="footnote reindex --embedder other"):
        other.add(write("b.jsonl", OWLS))
    assert len(assistant.library) == 1
    with pytest.raises(EmbedderMismatch):
        Assistant.open(tmp_path / "library", embedder="other")


def test_failure_within_a_batch_rolls_it_back(tmp_path, write, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    failing = Assistant(Library(tmp_path / "library"), HashEmbedder())
    path = write("a.jsonl", GATES, OWLS)
    with monkeypatch.context() as patched:
        patched.setattr("rag.library.transaction.Transaction.put_vectors", fail)
        with pytest.raises(LibraryError, match="disk is full"):
            failing.add(path)
    assert len(failing.library) == 0
    healthy = Assistant(Library(tmp_path / "library"), HashEmbedder())
    assert healthy.add(tmp_path / "a.jsonl").added == 2


def test_passages_of_a_long_abstract_cover_every_sentence(assistant, write):
    sentences = [
        f"Sentence number {n} speaks of tides and of owls near the coast." for n in range(30)
    ]
    assistant.add(write("a.jsonl", {"title": "Long", "abstract": " ".join(sentences)}))
    (key,) = assistant.library.paper_keys()
    passages = [passage for _, passage in assistant.library.passages([key])[0]]
    assert len(passages) > 1
    stored, vectors = assistant.library.sentences([key])[key]
    assert [sentence.text for sentence in stored] == sentences
    assert vectors.shape == (30, HashEmbedder.dimension)
    assert all(sum(p.start <= s.start and s.end <= p.end for p in passages) == 1 for s in stored)


def test_progress_ends_with_all_bytes_and_records(assistant, write):
    seen = []
    path = write("a.jsonl", GATES, OWLS, REEDS)
    assistant.add(
        path, on_progress=lambda done, total, records: seen.append((done, total, records))
    )
    assert seen[-1] == (path.stat().st_size, path.stat().st_size, 3)
    assert seen == sorted(seen)


def test_concurrent_imports_lose_nothing(tmp_path, write):
    files = [
        write(f"{n}.jsonl", *({"title": f"Paper {n} {m}", "abstract": "Text."} for m in range(300)))
        for n in "ab"
    ]
    waited = threading.Event()

    def add(path):
        Assistant(Library(tmp_path / "library"), HashEmbedder()).add(path, on_wait=waited.set)

    threads = [threading.Thread(target=add, args=(path,)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library = Library(tmp_path / "library")
    assert len(library) == 600
    assert Assistant(library, HashEmbedder())._index.keys() == set(library.passage_keys())


ADD_FILE = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from fakes import HashEmbedder
from rag import Assistant, Library
Assistant(Library(Path(sys.argv[1])), HashEmbedder()).add(sys.argv[2])
"""


@pytest.mark.soak
def test_killed_import_can_be_resumed(tmp_path, write, times):
    papers = times(800, 3_000)
    path = write(
        "a.jsonl", *({"title": f"Paper {n}", "abstract": f"Text {n}."} for n in range(papers))
    )
    command = [
        sys.executable,
        "-c",
        ADD_FILE,
        str(tmp_path / "library"),
        str(path),
        str(Path(__file__).parent),
    ]
    rng = random.Random(1)
    previous = 0
    for _ in range(times(1, 4)):
        process = subprocess.Popen(command)
        target = previous + rng.randrange(1, 400)
        while process.poll() is None and count_papers(tmp_path / "library") < target:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assistant = Assistant(Library(tmp_path / "library", create=False), HashEmbedder())
        assert len(assistant.library) >= previous
        assert assistant.search("paper")
        assert assistant.library.check_database() == ""
        assert assistant._index.keys() == set(assistant.library.passage_keys())
        previous = len(assistant.library)
    assert 0 < previous < papers
    subprocess.run(command, check=True)
    uninterrupted = Assistant(Library(tmp_path / "other"), HashEmbedder())
    uninterrupted.add(path)
    assert Library(tmp_path / "library").digest == uninterrupted.library.digest
    assert len(Library(tmp_path / "library")) == papers


def count_papers(folder):
    try:
        with sqlite3.connect(f"file:{folder / 'library.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM paper").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_vectors_are_stored_in_half_precision(assistant, write):
    assistant.add(write("a.jsonl", GATES))
    (key,) = assistant.library.paper_keys()
    stored = assistant.library.passages([key])[1][0]
    exact = assistant._embedder._vector(f"{GATES['title']}. {GATES['abstract']}")
    assert np.abs(stored - exact).max() < 1e-3


def test_papers_can_be_counted_filtered_and_paged(small_library):
    assistant = Assistant.open(small_library, create=False)
    ids = [paper.id for paper in assistant.papers()]
    assert assistant.count() == len(ids) == 12
    assert [paper.id for paper in assistant.papers(2, 5)] == ids[2:5]
    assert [paper.id for paper in assistant.papers(10)] == ids[10:]
    recent = [paper.id for paper in assistant.papers(year=">=2023")]
    assert assistant.count(year=">=2023") == len(recent) > 1
    assert [paper.id for paper in assistant.papers(1, year=">=2023")] == recent[1:]
