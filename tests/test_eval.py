"""The benchmarks run on a small collection made here, and say so when there is none."""

import json
import sys

import pytest

from eval import evidence, retrieval
from eval.collections import build_library, queries

DOCUMENTS = [
    ("d1", "Heron counts", "Herons were counted on forty canals. Numbers rose by 12% in a wet year."),
    ("d2", "Salt in soil", "Barley tolerates salt up to 8 grams per litre. Wheat does not."),
    ("d3", "Ferry routes", "A planner orders ferry stops. It saves fuel on long routes."),
    ("d4", "Ferry routes", "Night ferries keep to the coast."),
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    rows = [{"_id": name, "title": title, "text": text} for name, title, text in DOCUMENTS]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [("q1", "How many canals had herons?", "dev"), ("q2", "salt tolerance of barley", "dev")]
    asked.append(("q3", "night ferries", "test"))
    lines = [{"_id": name, "text": text, "split": split} for name, text, split in asked]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "qrels.tsv").write_text("query\tdocument\tgrade\nq1\td1\t1\nq2\td2\t2\nq2\td3\t0\nq3\td4\t1\n")
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "data"))
    return folder


def test_judged_questions_are_those_of_the_split(data):
    assert [(query.id, query.grades) for query in queries(data, "dev")] == [("q1", {"d1": 1.0}), ("q2", {"d2": 2.0})]
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
    assert fused.count("1.000 [1.000, 1.000]") == 3


def test_evidence_counts_answers_in_the_first_sentences(tmp_path, capsys):
    assistant, _ = build_library(tmp_path / "built", DOCUMENTS)
    asked = [
        ("By how much did heron numbers rise?", ["12%"]),
        ("How much salt does barley tolerate?", ["no such words"]),
    ]
    evidence.report(assistant, asked)
    (used,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  as used")]
    assert used.split("[")[0].split()[-1] == "0.500"


def test_collections_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["retrieval"])
    with pytest.raises(SystemExit, match="FOOTNOTE_DATA"):
        retrieval.main()
