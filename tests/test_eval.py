"""The benchmarks run on a small collection made here, and say so when there is none."""

import json
import math
import re
import shutil
import sys

import pytest

from eval.benchmarks import evidence, retrieval
from eval.benchmarks.collections import Query, build_library, queries

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
RANKS = {"dense": 4, "full text": 11, "best sentence": 101, "fused": 1}


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    rows = [{"_id": name, "title": title, "text": text} for name, title, text in DOCUMENTS]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [
        ("q1", "How many canals had herons?", "dev"),
        ("q2", "salt tolerance of barley", "dev"),
    ]
    asked.append(("q3", "night ferries", "test"))
    lines = [{"_id": name, "text": text, "split": split} for name, text, split in asked]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "qrels.tsv").write_text(
        "query\tdocument\tgrade\nq1\td1\t1\nq2\td2\t2\nq2\td3\t0\nq3\td4\t1\n"
    )
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "data"))
    return folder


def test_judged_questions_are_those_of_the_split(data):
    assert [(query.id, query.grades) for query in queries(data, "dev")] == [
        ("q1", {"d1": 1.0}),
        ("q2", {"d2": 2.0}),
    ]
    assert [query.id for query in queries(data, "test")] == ["q3"]


def test_documents_with_one_title_stay_two(tmp_path):
    assistant, document_of = build_library(tmp_path / "built", DOCUMENTS)
    assert sorted(document_of.values()) == ["d1", "d2", "d3", "d4"]
    assert document_of[assistant.search("night ferries")[0].paper.id] == "d4"


def test_retrieval_prints_a_table_for_each_voice(data, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["retrieval", "tiny"])
    retrieval.main()
    printed = capsys.readouterr().out
    assert "tiny: 2 questions" in printed
    assert all(f"  {voice} " in printed for voice in retrieval.VOICES)
    fused = next(line for line in printed.splitlines() if line.startswith("  fused "))
    assert fused.count("1.000 [1.000, 1.000]") == len(retrieval.MEASURES) == 5


def means(line):
    """The figures of a line before their intervals."""
    return [float(figure) for figure in re.findall(r"([\d.]+) \[", line)]


def test_measures_stop_at_their_ranks(capsys):
    judged = [Query("q1", "Herons?", {"d": 1.0})]
    others = [f"other {rank}" for rank in range(120)]
    ranked = {voice: [[*others[: rank - 1], "d", *others[rank:]]] for voice, rank in RANKS.items()}
    retrieval.report("tiny", judged, ranked)
    lines = capsys.readouterr().out.splitlines()
    found = {
        voice: means(next(line for line in lines if line.startswith(f"  {voice}  ")))
        for voice in RANKS
    }
    assert found["fused"] == [1, 1, 1, 1, 1]
    assert found["dense"] == pytest.approx([1 / math.log2(5), 0, 1 / 4, 1, 1], abs=6e-4)
    assert found["full text"] == [0, 0, 0, 0, 1]
    assert found["best sentence"] == [0, 0, 0, 0, 0]


def test_a_collection_can_be_any_folder(data, tmp_path, monkeypatch, capsys):
    elsewhere = data.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["retrieval", str(elsewhere), "--split", "test"])
    retrieval.main()
    assert f"{elsewhere}: 1 questions" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in retrieval.load_all(["elsewhere"], "dev")] == ["elsewhere"]


def test_folders_called_the_same_keep_libraries_of_their_own(data, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(data, tmp_path / "other" / "tiny")
    lines = (other / "corpus.jsonl").read_text().splitlines()
    (other / "corpus.jsonl").write_text("\n".join(lines[::-1]))
    monkeypatch.setattr(
        sys, "argv", ["retrieval", str(data), str(other), "--libraries", str(tmp_path / "kept")]
    )
    retrieval.main()
    fused = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  fused  ")]
    assert [line.count("1.000 [1.000, 1.000]") for line in fused] == [5, 5]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def rewritten(name, text):
    return lambda folder: (folder / name).write_text(text)


ROW = '{"_id": "q1", "title": "", "text": "Herons?"}'
JUDGED = "query\tdocument\tgrade\nq1\td1\t1\n"
BAD_FOLDERS = {
    r"tiny: no such folder": shutil.rmtree,
    r"corpus.jsonl: no such file": lambda folder: (folder / "corpus.jsonl").unlink(),
    r"corpus.jsonl: the file is empty": rewritten("corpus.jsonl", "\n \n"),
    r"corpus.jsonl: row 2: not an object with _id, title, text": rewritten(
        "corpus.jsonl", ROW + '\n{"_id": "d2"}'
    ),
    r"corpus.jsonl: row 1: not an object": rewritten("corpus.jsonl", "[1]"),
    r"corpus.jsonl: row 1: Expecting value": rewritten("corpus.jsonl", "d1, Heron counts"),
    r"corpus.jsonl: row 2: a second row with the _id 'q1'": rewritten(
        "corpus.jsonl", f"{ROW}\n{ROW}"
    ),
    r"tiny: there must be one file queries\*.jsonl, not none": lambda folder: (
        folder / "queries.jsonl"
    ).unlink(),
    r"not queries.jsonl and queries2.jsonl": rewritten("queries2.jsonl", ROW),
    r"queries.jsonl: row 1: no text under the _id 'q1'": rewritten(
        "queries.jsonl", ROW.replace("Herons?", " ")
    ),
    r"qrels.tsv: no such file": lambda folder: (folder / "qrels.tsv").unlink(),
    r"qrels.tsv: the file is empty": rewritten("qrels.tsv", ""),
    r"qrels.tsv: .*can't decode": lambda folder: (folder / "qrels.tsv").write_bytes(b"\xff\xfe"),
    r"qrels.tsv: line 1 is a judgment": rewritten("qrels.tsv", "q1\td1\t1\n"),
    r"qrels.tsv: line 3: not a query, a document and a grade": rewritten(
        "qrels.tsv", JUDGED + "q1 d1 1\n"
    ),
    r"qrels.tsv: line 3: not a query": rewritten("qrels.tsv", JUDGED + "q1\td2\tgood\n"),
    r"qrels.tsv: line 3: the query 'q9' is not among": rewritten(
        "qrels.tsv", JUDGED + "q9\td1\t1\n"
    ),
    r"qrels.tsv: line 3: the document 'd9' is not in": rewritten(
        "qrels.tsv", JUDGED + "q1\td9\t1\n"
    ),
    r"no question of split 'dev' has a relevant document; splits there: dev, test": rewritten(
        "qrels.tsv", JUDGED.replace("1\n", "0\n")
    ),
}


@pytest.mark.parametrize("why", BAD_FOLDERS)
def test_a_bad_folder_ends_with_one_line_and_nothing_is_run(
    data, tmp_path, monkeypatch, capsys, why
):
    good = shutil.copytree(data, data.parent / "good")
    BAD_FOLDERS[why](data)
    monkeypatch.setattr(
        sys, "argv", ["retrieval", str(good), "tiny", "--libraries", str(tmp_path / "kept")]
    )
    with pytest.raises(SystemExit, match=why) as ended:
        retrieval.main()
    assert "\n" not in str(ended.value)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "kept").exists()


def test_each_bad_folder_has_its_line(data):
    with pytest.raises(
        SystemExit, match=r"\A.*data/one: no such folder\n.*data/two: no such folder\Z"
    ):
        retrieval.load_all(["one", "tiny", "two"], "dev")


def test_evidence_counts_answers_in_the_first_sentences(tmp_path, capsys):
    assistant, _ = build_library(tmp_path / "built", DOCUMENTS)
    asked = [
        ("By how much did heron numbers rise?", ["12%"]),
        ("How much salt does barley tolerate?", ["no such words"]),
    ]
    evidence.report(assistant, asked)
    (used,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("  as used")
    ]
    assert used.split("[")[0].split()[-1] == "0.500"


def test_collections_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["retrieval"])
    with pytest.raises(SystemExit, match="FOOTNOTE_DATA"):
        retrieval.main()
