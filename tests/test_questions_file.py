"""Files of questions: the shipped one is valid, and every problem is reported in one line."""

import json
from collections import Counter

import pytest

from eval.harness import questions as module
from eval.harness.nuggets import contains_nugget
from eval.harness.questions import (
    check_questions,
    load_abstracts,
    load_questions,
    sample_questions_file,
)
from rag.assistant import Assistant
from rag.errors import UsageError

ROW = {
    "id": "q1",
    "split": "dev",
    "kind": "base",
    "type": "fact",
    "question": "How salty?",
    "answerable": True,
    "gold": [["salt-1", "salt-2"]],
    "nuggets": [{"text": "8 grams", "any": ["8 grams"], "numbers": ["8"]}],
}
ABSTRACTS = {"salt-1": "Barley tolerates 8 grams of salt.", "salt-2": "Wheat does not."}


@pytest.fixture
def save(tmp_path):
    def save_rows(*rows):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file = tmp_path / "questions.jsonl"
        file.write_text("\n".join(lines), encoding="utf-8")
        return file

    return save_rows


def load_error(file):
    """Return the message with which a file is refused."""
    with pytest.raises(UsageError) as caught:
        load_questions(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message


# --- loading -------------------------------------------------------------------------------------


def test_file_is_loaded_as_questions(save):
    variant = ROW | {
        "id": "q1-b",
        "kind": "typo",
        "variant_of": "q1",
        "must_not": ["wheat"],
        "note": "typing error",
    }
    followup = ROW | {"id": "q2", "kind": "followup", "history": ["Does barley tolerate salt?"]}
    first, second, third = load_questions(save(ROW, "", variant, followup))
    assert (first.id, first.gold, first.cluster) == ("q1", (("salt-1", "salt-2"),), "q1")
    assert first.gold_papers == ["salt-1", "salt-2"]
    [nugget] = first.nuggets
    assert (nugget.text, nugget.alternatives) == ("8 grams", ("8 grams",))
    assert (nugget.numbers, nugget.vital) == (("8",), True)
    assert (second.cluster, second.must_not) == ("q1", ("wheat",))
    assert third.history == ("Does barley tolerate salt?",)


def row_without(*names):
    return {name: value for name, value in ROW.items() if name not in names}


def row_with_nugget(**nugget):
    return ROW | {"nuggets": [nugget]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "invalid JSON"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps(ROW | {"note": "\ud800"}), "not valid Unicode"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        (row_without("gold"), "missing fields: gold"),
        (row_without("id", "type"), "missing fields: id, type"),
        (ROW | {"colour": "red"}, "unknown fields: colour"),
        (ROW | {"split": "train"}, "split must be one of dev, test, not 'train'"),
        (ROW | {"kind": "joke"}, "kind"),
        (ROW | {"type": "joke"}, "type"),
        (ROW | {"answerable": "yes"}, "answerable"),
        (ROW | {"answerable": 1}, "answerable"),
        (ROW | {"id": ""}, "id"),
        (ROW | {"question": "  "}, "question"),
        (ROW | {"question": 7}, "question"),
        (ROW | {"gold": [[]]}, "gold"),
        (ROW | {"gold": ["salt-1"]}, "gold"),
        (ROW | {"gold": 7}, "gold"),
        (ROW | {"gold": []}, "gold"),
        (ROW | {"nuggets": []}, "nugget"),
        (ROW | {"nuggets": 7}, "nugget"),
        (ROW | {"nuggets": ["8 grams"]}, "nugget"),
        (row_with_nugget(text="8 grams", any=[]), "nugget"),
        (row_with_nugget(text="8 grams", any="8 grams"), "nugget"),
        (row_with_nugget(any=["8 grams"]), "nugget"),
        (row_with_nugget(text="x", any=["x"], vital=False), "vital"),
        (row_with_nugget(text="x", any=["x"], numbers=8), "number"),
        (ROW | {"kind": "followup"}, "history"),
        (ROW | {"kind": "followup", "history": []}, "history"),
        (ROW | {"kind": "followup", "history": "Does it?"}, "history"),
        (ROW | {"must_not": "wheat"}, "must_not"),
        (ROW | {"note": 7}, "note"),
        (ROW | {"kind": "paraphrase"}, "variant"),
        (ROW | {"variant_of": "q0"}, "variant"),
    ],
)
def test_problem_of_a_record_is_reported_with_its_line(save, row, problem):
    message = load_error(save(ROW | {"id": "q0"}, row))
    assert ", line 2: " in message
    assert problem in message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROW, "duplicate id: q1"),
        (
            ROW | {"id": "q2", "kind": "typo", "variant_of": "q9"},
            "question q2: unknown question in variant_of: q9",
        ),
        (
            ROW | {"id": "q2", "kind": "typo", "variant_of": "q1", "split": "test"},
            "question q2 is not in the same split as its base question q1",
        ),
    ],
)
def test_conflict_between_questions_is_reported(save, row, problem):
    assert problem in load_error(save(ROW, row))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_file_without_questions_is_refused(save, text):
    assert "no questions in" in load_error(save(text))


def test_file_that_is_missing_or_not_text_is_refused(tmp_path):
    file = tmp_path / "q.jsonl"
    assert "cannot read" in load_error(file)
    file.write_bytes(b'{"id": "\xff\xfe"}')
    assert "cannot read" in load_error(file)
    assert "cannot read" in load_error(tmp_path)


def test_file_that_is_too_large_is_refused(save, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_CHARACTERS", 10)
    assert "is too large: a file of questions has at most 10 characters" in load_error(save(ROW))


# --- checking against a library ------------------------------------------------------------------


def test_questions_that_fit_the_library_have_no_problems(save):
    questions = load_questions(save(ROW))
    assert list(check_questions(questions, ABSTRACTS)) == []
    other_spacing = {"salt-1": "Barley tolerates 8\n GRAMS of salt.", "salt-2": ""}
    assert list(check_questions(questions, other_spacing)) == []


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        ([["salt-1"], ["rye-1"]], "question q1: no paper 'rye-1' in the library"),
        ([["salt-2"]], "question q1: none of its gold papers contains '8 grams'"),
    ],
)
def test_missing_paper_or_nugget_is_reported(save, gold, problem):
    questions = load_questions(save(ROW | {"gold": gold}))
    assert list(check_questions(questions, ABSTRACTS)) == [problem]


def test_command_prints_problems_and_counts(save, tmp_path, footnote):
    papers = tmp_path / "papers.jsonl"
    papers.write_text(json.dumps({"title": "Salt", "abstract": ABSTRACTS["salt-1"]}))
    assistant = Assistant.open(tmp_path / "library", language_model="none")
    assistant.add(papers)
    [paper] = assistant.papers()
    assistant.library.close()

    def check(row):
        return footnote("eval", "check", save(row), "--library", tmp_path / "library")

    fits = check(ROW | {"gold": [[paper.id]]})
    assert (fits.code, fits.lines) == (0, ["1 question, 0 problems"])
    missing = check(ROW | {"gold": [["rye"]]})
    assert (missing.code, missing.lines[-1]) == (1, "1 question, 2 problems")
    broken = check("{")
    assert (broken.code, broken.out) == (2, "")
    assert "invalid JSON" in broken.err


# --- the shipped questions -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_questions(sample_questions_file())


def test_shipped_questions_cover_every_split_kind_and_type(shipped):
    assert len(shipped) >= 240
    assert sum(not question.answerable for question in shipped) >= 60
    assert {question.kind for question in shipped} == set(module.KINDS)
    for split in module.SPLITS:
        of_split = [question for question in shipped if question.split == split]
        answerable = sum(question.answerable for question in of_split)
        assert answerable >= 60
        assert len(of_split) - answerable >= 20
    assert {question.type for question in shipped} == set(module.TYPES)


def test_shipped_questions_fit_the_sample_library(shipped):
    abstracts = load_abstracts(Assistant.sample())
    assert list(check_questions(shipped, abstracts)) == []
    for question in shipped:
        text = " ".join(abstracts[paper] for paper in question.gold_papers)
        for nugget in question.nuggets:
            for number in nugget.numbers:
                assert contains_nugget(text, [number], []), (question.id, number)


def test_no_question_is_shipped_twice(shipped):
    counts = Counter()
    for question in shipped:
        counts[" ".join(question.question.casefold().split()), question.history] += 1
    assert [question for question, count in counts.items() if count > 1] == []


def test_shipped_nuggets_match_their_own_phrases(shipped):
    for question in shipped:
        for nugget in question.nuggets:
            for phrase in nugget.alternatives:
                assert contains_nugget(f"So, {phrase}!", [phrase], []), (question.id, phrase)
