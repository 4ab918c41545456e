"""Sets of curated questions: the ACL abstracts stay outside, and questions still find them."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from eval.harness import question_sets
from eval.harness.question_sets import (
    ACL_PAPERS,
    build_acl_library,
    draw_acl_ids,
    find_data_folder,
    resolve_questions,
)
from eval.harness.questions import load_questions
from rag import UsageError

SHARED = Path(os.environ.get("FOOTNOTE_DATA") or Path(__file__).parents[2] / "shared" / "data")
ABSTRACT = "Reeds filter nitrate. They remove 40% of it in a week."
ROWS = [
    {"id": "2020.pond-1.1", "title": "Reed beds", "abstract": ABSTRACT, "authors": ["Ada Okafor"],
     "year": 2020, "venue": "Pond", "url": "https://anthology.example/2020.pond-1.1"},
    {"id": "2021.pond-1.2", "title": "Herons in winter", "abstract": "Herons leave in October.",
     "authors": [], "year": 2021, "venue": "Pond", "url": "https://anthology.example/2021.pond-1.2/"},
]  # fmt: skip
SPAN = {"paper": "2020.pond-1.1", "start": 22, "end": len(ABSTRACT)}
QUESTION = {
    "id": "acl-1", "split": "dev", "kind": "typo", "type": "fact", "answerable": True,
    "question": "How much nitrogen do resds take out?", "gold": [["2020.pond-1.1"]],
    "nuggets": [{"text": "40% in a week", "any": ["40% of it"], "numbers": ["40"], "vital": True}],
}  # fmt: skip


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.fixture
def library(tmp_path):
    return build_acl_library(iter(ROWS), [row["id"] for row in ROWS], tmp_path)


def resolve(tmp_path, library, span):
    source, target = tmp_path / "source.jsonl", tmp_path / "target.jsonl"
    source.write_text(json.dumps(QUESTION | {"evidence": [span]}), encoding="utf-8")
    resolve_questions(source, target, *library)
    return load_questions(target)


def test_questions_get_the_ids_of_the_library(tmp_path, library):
    evidence = SPAN | {"digest": digest("They remove 40% of it in a week.")}
    (question,) = resolve(tmp_path, library, evidence)
    library_ids, _ = library
    assert question.gold == ((library_ids["2020.pond-1.1"],),)
    assert question.gold[0][0].startswith("reed-beds-")


def test_a_changed_abstract_is_refused(tmp_path, library):
    with pytest.raises(UsageError, match=r"acl-1: the abstract of 2020\.pond-1\.1 has changed"):
        resolve(tmp_path, library, SPAN | {"digest": digest("They remove 41% of it in a week.")})


def test_missing_papers_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"1 of 2 papers are missing; the first: 1999\.pond-1"):
        build_acl_library(iter(ROWS), ["2020.pond-1.1", "1999.pond-1"], tmp_path)


def test_missing_data_is_refused_with_the_way_out(monkeypatch, tmp_path, footnote):
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="set FOOTNOTE_DATA"):
        find_data_folder()
    run = footnote("eval", "--set", "acl", "-o", tmp_path / "run")
    assert (run.code, run.out) == (2, "")
    assert "set FOOTNOTE_DATA to the folder that holds them" in run.err


def test_unknown_sets_are_refused(footnote, tmp_path):
    run = footnote("eval", "--set", "pond", "-o", tmp_path / "run")
    assert run.code == 2
    assert "unknown question set 'pond'; choose from: sample, acl, acl-sealed" in run.err


# --- the shipped set ------------------------------------------------------------------------------


def shipped(name):
    file = Path(question_sets.__file__).parents[1] / "data" / "acl" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_parts_of_the_acl_set_share_no_paper_and_no_question():
    parts = {"sealed": shipped("sealed")}
    for split in ("dev", "test"):
        parts[split] = [row for row in shipped("questions") if row["split"] == split]
    assert {name: len(rows) for name, rows in parts.items()} == {
        "sealed": 150,
        "dev": 376,
        "test": 150,
    }
    seen = {}
    for name, rows in parts.items():
        assert sum(not row["answerable"] for row in rows) > 0.29 * len(rows)
        for row in rows:
            papers = [paper for group in row["gold"] for paper in group]
            for item in (*papers, row["question"].casefold()):
                assert seen.setdefault(item, name) == name, item


@pytest.mark.skipif(not SHARED.is_dir(), reason="the ACL abstracts are not on this machine")
def test_the_papers_are_those_that_the_seed_draws(times):
    if not times(False, True):
        pytest.skip("drawing takes half a minute; with --soak")
    rows = question_sets.read_rows(SHARED / "acl" / "acl.jsonl")
    drawn = draw_acl_ids(rows)
    assert len(drawn) == ACL_PAPERS
    listed = Path(question_sets.__file__).parents[1] / "data" / "acl" / "papers.txt"
    assert listed.read_text(encoding="utf-8").split() == drawn
