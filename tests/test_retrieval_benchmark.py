"""Benchmarks of retrieval and evidence on a tiny collection, and messages about bad ones."""

import json
import math
import re
import shutil
import sys

import pytest

from eval.benchmarks import evidence, retrieval
from eval.benchmarks.collections import Query, build_library, load_collections, load_queries
from eval.harness.systems import ASSISTANT

DOCUMENTS = [
    (
        "d1",
        "Heron counts",
        "Herons were counted on forty canals. Numbers rose by 12% in a wet year.",
    ),
    ("d2", "Salt in soil", "Barley tolerates salt up to 8 grams per litre. Wheat does not."),
    ("d3", "Ferry routes", "A planner orders ferry stops. It saves fuel on long routes."),
    ("d4", "Ferry routes", "Night ferries keep to the coast."),
]
QUERIES = [
    ("q1", "How many canals had herons?", "dev"),
    ("q2", "salt tolerance of barley", "dev"),
    ("q3", "night ferries", "test"),
]
ALL_PERFECT = "1.000 [1.000, 1.000]"


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """Folder of the collection `tiny` in a data folder."""
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    corpus = [{"_id": name, "title": title, "text": text} for name, title, text in DOCUMENTS]
    queries = [{"_id": name, "text": text, "split": split} for name, text, split in QUERIES]
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", queries)
    (folder / "qrels.tsv").write_text(
        "query\tdocument\tgrade\nq1\td1\t1\nq2\td2\t2\nq2\td3\t0\nq3\td4\t1\n"
    )
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def run_retrieval(monkeypatch, capsys):
    """Run the retrieval benchmark with these arguments, and return what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["retrieval", *map(str, arguments)])
        retrieval.main()
        return capsys.readouterr().out

    return run


def lines_starting_with(start, printed):
    return [line for line in printed.splitlines() if line.startswith(start)]


@pytest.fixture(scope="module")
def tiny_library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("built"), DOCUMENTS)


def test_queries_are_those_of_the_split_with_a_relevant_document(collection):
    grades = {query.id: query.grades for query in load_queries(collection, "dev")}
    assert grades == {"q1": {"d1": 1.0}, "q2": {"d2": 2.0}}
    assert [query.id for query in load_queries(collection, "test")] == ["q3"]


def test_documents_with_the_same_title_stay_separate_papers(tiny_library):
    assistant, document_ids = tiny_library
    assert sorted(document_ids.values()) == ["d1", "d2", "d3", "d4"]
    assert document_ids[assistant.search("night ferries")[0].paper.id] == "d4"


def test_retrieval_prints_a_row_for_each_signal(collection, run_retrieval):
    printed = run_retrieval("tiny")
    assert "tiny: 2 questions" in printed
    for signal in retrieval.SIGNALS:
        assert f"  {signal} " in printed
    fused = lines_starting_with("  fused ", printed)[0]
    assert fused.count(ALL_PERFECT) == len(retrieval.METRICS) == 5


def test_metrics_stop_at_their_ranks(capsys):
    ranks = {"dense": 4, "full text": 11, "best sentence": 101, "fused": 1}
    others = [f"other {rank}" for rank in range(120)]
    rankings = {}
    for signal, rank in ranks.items():
        rankings[signal] = [[*others[: rank - 1], "d", *others[rank:]]]
    retrieval.print_report("tiny", [Query("q1", "Herons?", {"d": 1.0})], rankings)
    printed = capsys.readouterr().out
    means = {}
    for signal in ranks:
        line = lines_starting_with(f"  {signal}  ", printed)[0]
        means[signal] = [float(figure) for figure in re.findall(r"([\d.]+) \[", line)]
    assert means["fused"] == [1, 1, 1, 1, 1]
    assert means["dense"] == pytest.approx([1 / math.log2(5), 0, 1 / 4, 1, 1], abs=6e-4)
    assert means["full text"] == [0, 0, 0, 0, 1]
    assert means["best sentence"] == [0, 0, 0, 0, 0]


def test_a_collection_can_be_any_folder(collection, tmp_path, monkeypatch, run_retrieval):
    folder = collection.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    assert f"{folder}: 1 questions" in run_retrieval(folder, "--split", "test")
    monkeypatch.chdir(tmp_path)
    assert load_collections(["elsewhere"], "dev")[0].name == "elsewhere"


def test_collections_in_folders_of_the_same_name_get_separate_libraries(
    collection, tmp_path, run_retrieval
):
    other = shutil.copytree(collection, tmp_path / "other" / "tiny")
    lines = (other / "corpus.jsonl").read_text().splitlines()
    (other / "corpus.jsonl").write_text("\n".join(lines[::-1]))
    printed = run_retrieval(collection, other, "--libraries", tmp_path / "libraries")
    fused = lines_starting_with("  fused  ", printed)
    assert [line.count(ALL_PERFECT) for line in fused] == [5, 5]
    assert len(list((tmp_path / "libraries").iterdir())) == 2


# --- folders in another layout -------------------------------------------------------------------

ROW = '{"_id": "q1", "title": "", "text": "Herons?"}'
JUDGMENTS = "query\tdocument\tgrade\nq1\td1\t1\n"


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def remove(name):
    return lambda folder: (folder / name).unlink()


def write_undecodable_judgments(folder):
    (folder / "qrels.tsv").write_bytes(b"\xff\xfe")


# Expected message, and how to damage the folder.
FAULTS = {
    r"tiny: no such folder": shutil.rmtree,
    r"corpus.jsonl: no such file": remove("corpus.jsonl"),
    r"corpus.jsonl: the file is empty": write("corpus.jsonl", "\n \n"),
    r"corpus.jsonl: row 2: expected an object with _id, title, text": write(
        "corpus.jsonl", ROW + '\n{"_id": "d2"}'
    ),
    r"corpus.jsonl: row 1: expected an object": write("corpus.jsonl", "[1]"),
    r"corpus.jsonl: row 1: Expecting value": write("corpus.jsonl", "d1, Heron counts"),
    r"corpus.jsonl: row 2: duplicate _id 'q1'": write("corpus.jsonl", f"{ROW}\n{ROW}"),
    r"tiny: expected one file queries\*.jsonl, found none": remove("queries.jsonl"),
    r"found queries.jsonl and queries2.jsonl": write("queries2.jsonl", ROW),
    r"queries.jsonl: row 1: no text with the _id 'q1'": write(
        "queries.jsonl", ROW.replace("Herons?", " ")
    ),
    r"qrels.tsv: no such file": remove("qrels.tsv"),
    r"qrels.tsv: the file is empty": write("qrels.tsv", ""),
    r"qrels.tsv: .*can't decode": write_undecodable_judgments,
    r"qrels.tsv: line 1 is a judgment": write("qrels.tsv", "q1\td1\t1\n"),
    r"qrels.tsv: line 3: expected a query, a document and a grade": write(
        "qrels.tsv", JUDGMENTS + "q1 d1 1\n"
    ),
    r"qrels.tsv: line 3: expected a query": write("qrels.tsv", JUDGMENTS + "q1\td2\tgood\n"),
    r"qrels.tsv: line 3: unknown query 'q9'": write("qrels.tsv", JUDGMENTS + "q9\td1\t1\n"),
    r"qrels.tsv: line 3: unknown document 'd9'": write("qrels.tsv", JUDGMENTS + "q1\td9\t1\n"),
    r"no query of split 'dev' has a relevant document; its splits: dev, test": write(
        "qrels.tsv", JUDGMENTS.replace("1\n", "0\n")
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_bad_folder_ends_the_run_before_it_starts(
    collection, tmp_path, run_retrieval, capsys, message
):
    good = shutil.copytree(collection, collection.parent / "good")
    FAULTS[message](collection)
    with pytest.raises(SystemExit, match=message) as exit_info:
        run_retrieval(good, "tiny", "--libraries", tmp_path / "libraries")
    assert "\n" not in str(exit_info.value)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "libraries").exists()


def test_each_bad_folder_gets_its_own_line(collection):
    lines = r"\A.*data/one: no such folder\n.*data/two: no such folder\Z"
    with pytest.raises(SystemExit, match=lines):
        load_collections(["one", "tiny", "two"], "dev")


def test_a_missing_data_folder_is_named(tmp_path, monkeypatch, run_retrieval):
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="FOOTNOTE_DATA"):
        run_retrieval()


# --- evidence ------------------------------------------------------------------------------------


def test_evidence_counts_accepted_answers_in_the_first_sentences(tiny_library, capsys):
    assistant, _ = tiny_library
    items = [
        ("By how much did heron numbers rise?", ["12%"]),
        ("How much salt does barley tolerate?", ["no such words"]),
    ]
    evidence.print_report(assistant, items)
    (row,) = lines_starting_with(f"  {ASSISTANT} ", capsys.readouterr().out)
    assert row.split("[")[0].split()[-1] == "0.500"
