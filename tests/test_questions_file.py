"""Files of questions: what is shipped is sound, and every fault is told in one line."""

import json
import sys
from collections import Counter

import pytest

from eval.harness import questions as module
from eval.harness.measures import fact_found
from eval.harness.questions import check_against, load_questions, sample_questions
from rag import FootnoteError, UsageError
from rag.ingest.sample import sample_file

ROW = {
    "id": "q1", "split": "dev", "kind": "base", "type": "fact", "question": "How salty?", "answerable": True,
    "gold": [["salt-1", "salt-2"]], "nuggets": [{"text": "8 grams", "any": ["8 grams"], "numbers": ["8"]}],
}  # fmt: skip
ABSTRACTS = {"salt-1": "Barley tolerates 8 grams of salt.", "salt-2": "Wheat does not."}


@pytest.fixture
def save(tmp_path):
    def saved(*rows):
        file = tmp_path / "questions.jsonl"
        file.write_text(
            "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows),
            encoding="utf-8",
        )
        return file

    return saved


def fault(file):
    with pytest.raises(UsageError) as caught:
        load_questions(file)
    text = str(caught.value)
    assert str(file) in text
    assert "\n" not in text
    return text


def test_a_file_becomes_questions(save):
    variant = ROW | {
        "id": "q1-b",
        "kind": "typo",
        "variant_of": "q1",
        "must_not": ["wheat"],
        "note": "slip",
    }
    follow = ROW | {"id": "q2", "kind": "followup", "history": ["Does barley tolerate salt?"]}
    first, second, third = load_questions(save(ROW, "", variant, follow))
    assert (first.id, first.gold, first.cluster) == ("q1", (("salt-1", "salt-2"),), "q1")
    [nugget] = first.nuggets
    assert (nugget.text, nugget.alternatives, nugget.numbers, nugget.vital) == (
        "8 grams",
        ("8 grams",),
        ("8",),
        True,
    )
    assert (second.cluster, second.must_not) == ("q1", ("wheat",))
    assert third.history == ("Does barley tolerate salt?",)


def without(*names):
    return {name: value for name, value in ROW.items() if name not in names}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "not a record"),
        ("7", "not a record"),
        (without("gold"), "without gold"),
        (without("id", "type"), "without id, type"),
        (ROW | {"colour": "red"}, "no field is called colour"),
        (ROW | {"split": "train"}, "split"),
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
        (ROW | {"nuggets": [{"text": "8 grams", "any": []}]}, "nugget"),
        (ROW | {"nuggets": [{"text": "8 grams", "any": "8 grams"}]}, "nugget"),
        (ROW | {"nuggets": [{"any": ["8 grams"]}]}, "nugget"),
        (ROW | {"nuggets": [{"text": "x", "any": ["x"], "vital": False}]}, "vital"),
        (ROW | {"nuggets": [{"text": "x", "any": ["x"], "numbers": 8}]}, "number"),
        (ROW | {"kind": "followup"}, "history"),
        (ROW | {"kind": "followup", "history": []}, "history"),
        (ROW | {"kind": "followup", "history": "Does it?"}, "history"),
        (ROW | {"must_not": "wheat"}, "must_not"),
        (ROW | {"kind": "typo"}, "variant"),
    ],
)
def test_a_fault_is_told_with_its_line(save, row, said):
    told = fault(save(ROW | {"id": "q0"}, row))
    assert "line 2" in told
    assert said in told


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW, "two questions are called q1"),
        (
            ROW | {"id": "q2", "kind": "typo", "variant_of": "q9"},
            "question q2: there is no question q9",
        ),
        (
            ROW | {"id": "q2", "kind": "typo", "variant_of": "q1", "split": "test"},
            "different splits",
        ),
    ],
)
def test_a_fault_between_questions_is_told(save, row, said):
    assert said in fault(save(ROW, row))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_questions_is_refused(save, text):
    assert "holds no questions" in fault(save(text))


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    file = tmp_path / "q.jsonl"
    assert "cannot be read" in fault(file)
    file.write_bytes(b'{"id": "\xff\xfe"}')
    assert "cannot be read" in fault(file)
    assert "cannot be read" in fault(tmp_path)


def test_questions_agree_with_their_library(save):
    assert list(check_against(load_questions(save(ROW)), ABSTRACTS)) == []
    spaced = {"salt-1": "Barley tolerates 8\n GRAMS of salt.", "salt-2": ""}
    assert list(check_against(load_questions(save(ROW)), spaced)) == []


def test_a_paper_that_is_not_there_is_told(save):
    asked = load_questions(save(ROW | {"gold": [["salt-1"], ["rye-1"]]}))
    assert list(check_against(asked, ABSTRACTS)) == ["question q1: no paper 'rye-1' in the library"]


def test_a_fact_that_no_paper_holds_is_told(save):
    asked = load_questions(save(ROW | {"gold": [["salt-2"]]}))
    assert list(check_against(asked, ABSTRACTS)) == [
        "question q1: '8 grams' stands in none of its papers"
    ]


def shipped():
    return load_questions(sample_questions())


def test_the_shipped_questions_have_the_promised_sizes():
    questions = shipped()
    assert len(questions) >= 240
    assert sum(not question.answerable for question in questions) >= 60
    kinds = Counter(question.kind for question in questions)
    assert set(kinds) == set(module.KINDS)
    for split in module.SPLITS:
        of_split = [question for question in questions if question.split == split]
        assert sum(question.answerable for question in of_split) >= 60
        assert sum(not question.answerable for question in of_split) >= 20
        assert {question.type for question in of_split} == set(module.TYPES)


def test_the_shipped_questions_agree_with_the_sample_library(tmp_path):
    from rag import Assistant

    assistant = Assistant.open(tmp_path / "sample", language_model="none")
    assistant.add(sample_file())
    abstracts = {paper.id: paper.abstract for paper in assistant.papers()}
    assert list(check_against(shipped(), abstracts)) == []
    for question in shipped():
        text = " ".join(abstracts[name] for group in question.gold for name in group)
        for number in (number for nugget in question.nuggets for number in nugget.numbers):
            assert fact_found(text, [number], []), (question.id, number)


def test_no_question_is_shipped_twice():
    asked = Counter((" ".join(q.question.casefold().split()), q.history) for q in shipped())
    assert [question for question, times in asked.items() if times > 1] == []


def test_the_shipped_facts_are_found_where_they_stand():
    for question in shipped():
        for nugget in question.nuggets:
            for one in nugget.alternatives:
                assert fact_found(f"So, {one}!", [one], []), (question.id, one)


def test_the_command_counts_questions_and_faults(save, tmp_path, monkeypatch, capsys):
    from rag import Assistant

    (tmp_path / "papers.jsonl").write_text(
        json.dumps({"title": "Salt", "abstract": ABSTRACTS["salt-1"]})
    )
    assistant = Assistant.open(tmp_path / "library", language_model="none")
    assistant.add(tmp_path / "papers.jsonl")
    [paper] = assistant.papers()
    assistant.library.close()

    def run(row):
        monkeypatch.setattr(
            sys, "argv", ["questions", str(save(row)), "--library", str(tmp_path / "library")]
        )
        with pytest.raises(SystemExit) as stop:
            module.main()
        return stop.value.code, capsys.readouterr().out.splitlines()

    assert run(ROW | {"gold": [[paper.id]]}) == (0, ["1 questions, 0 faults"])
    code, lines = run(ROW | {"gold": [["rye"]]})
    assert (code, lines[-1]) == (1, "1 questions, 2 faults")
    code, _ = run("{")
    assert "no JSON" in code


def test_a_fault_is_an_error_that_footnote_raises_on_purpose(save):
    with pytest.raises(FootnoteError):
        load_questions(save("{"))
