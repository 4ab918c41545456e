"""What an answer is worth: facts, papers and refusals, by cases worked out by hand."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import answers
from eval.answers import Scored, ask_all
from eval.metrics import fact_found, group_precision, group_recall, harmonic_mean
from eval.questions import Nugget, Question
from rag import Answer, Assistant, Citation, Claim, Hit, Paper, Passage, Trace

# --- facts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fact", "found"),
    [
        ("It is 58x faster.", "58", True),
        ("It is 158x faster.", "58", False),
        ("It is 5.8x faster.", "58", False),
        ("It is 58.1x faster.", "58", False),
        ("It is 0.58 in all.", "58", False),
        ("Of 1,000 slides", "1000", True),
        ("Of 1000 slides", "1,000", True),
        ("Of 12,345,678 slides", "12345678", True),
        ("Of 1,000 slides", "1", False),
        ("Of 1,00 slides", "100", False),
        ("in 2.4ms at most", "2.4 ms", True),
        ("in 2.4 ms at most", "2.4ms", True),
        ("in 12.4ms at most", "2.4 ms", False),
        ("2–3 times", "2-3 times", True),
        ("2–3 times", "2", True),
        ("2–3 times", "3", True),
        ("2—3 times", "23", False),
        ("45.2% of users", "45.2%", True),
        ("45.2% of users", "45.2", True),
        ("45.2 of users", "45.2%", False),
        ("5.2 % of users", "5.2%", True),
        ("FP8 (e.g. E4M3)", "fp8", True),
        ("FP16 only", "FP8", False),
        ("K-means", "k means", True),
        ("The KV-cache shrinks.", "KV cache", True),
        ("A catalogue", "cat", False),
        ("GPT\u20114 answers", "gpt-4", True),
        ("ﬁve bits", "five", True),
        ("CO₂ is up", "CO2", True),
        ("", "anything", False),
    ],
)
def test_a_fact_is_found_as_whole_words_and_numbers(text, fact, found):
    assert fact_found(text, [fact], []) is found


def test_one_alternative_is_enough_and_every_number_is_needed():
    text = "Memory falls from 31% to 19%."
    assert fact_found(text, ["drops", "falls from"], [])
    assert fact_found(text, ["falls"], ["31", "19"])
    assert not fact_found(text, ["falls"], ["31", "91"])
    assert not fact_found(text, ["drops"], ["31"])
    assert not fact_found(text, [], ["31"])


@given(st.text(max_size=60), st.text(alphabet="abc 123", min_size=1, max_size=8).filter(str.strip))
def test_what_stands_between_spaces_is_found(text, fact):
    assert fact_found(f"{text} ; {fact} ; {text}", [fact], [])


# --- papers --------------------------------------------------------------------------------------------------


def test_papers_by_hand():
    gold = [["a", "b"], ["c"]]
    assert group_recall(["b", "x"], gold) == 0.5
    assert group_recall(["a", "b"], gold) == 0.5
    assert group_recall(["c", "a"], gold) == 1
    assert group_recall([], gold) == group_recall(["a"], []) == 0
    assert group_precision(["a", "a", "x"], gold) == 0.5
    assert group_precision(["a", "b", "c"], gold) == 1
    assert group_precision([], gold) == group_precision(["x"], gold) == 0


def test_the_harmonic_mean_by_hand():
    assert harmonic_mean(0.5, 1) == pytest.approx(2 / 3)
    assert harmonic_mean(0.4, 0.4) == pytest.approx(0.4)
    assert harmonic_mean(0, 1) == harmonic_mean(1, 0) == 0


# --- answers -------------------------------------------------------------------------------------------------

SALT = Paper("Salt", "Barley tolerates 8 grams. Wheat dies.", id="salt")
FACTS = (
    Nugget("8 grams", ("8 grams",), ("8",), True),
    Nugget("wheat dies", ("wheat dies",), (), True),
    Nugget("barley", ("barley",), (), False),
)


def question(answerable=True, gold=(("salt", "rye"),), nuggets=FACTS):
    return Question("q1", "dev", "base", "fact", "How salty?", answerable, gold, nuggets)


def answer(text="", *, abstained=False, start=0, end=25, quote=None, numbers=(1,)):
    cited = () if abstained else (Citation(1, SALT, SALT.abstract[start:end] if quote is None else quote, start, end),)
    claims = () if abstained else (Claim(text, "quote", numbers, True, 1.0),)
    hits = (Hit(SALT, 1.0, 1, Passage("p", "salt", 0, 9)),)
    return Answer("How salty?", text, claims, cited, hits, abstained, "", 0.5, Trace("e", "none", "quote", "", ""))


def worth(asked, given):
    scored = Scored(asked, given, 0.1)
    return scored.facts, scored.right_paper, scored.refused


def test_vital_facts_are_counted_in_the_answer():
    assert worth(question(), answer("Barley tolerates 8 grams.")) == (0.5, 1, 0)
    assert worth(question(), answer("Barley tolerates 8 grams. Wheat dies.")) == (1, 1, 0)
    assert worth(question(), answer("Barley is fine.")) == (0, 1, 0)
    assert worth(question(gold=(("oats",),)), answer("Wheat dies.")) == (0.5, 0, 0)


def test_a_refusal_holds_no_facts():
    assert worth(question(), answer("Your library does not say.", abstained=True)) == (0, 0, 1)


def test_what_contradicts_a_false_premise_counts_as_refused():
    false_premise = question(answerable=False)
    assert worth(false_premise, answer("Wheat dies.")) == (0.5, 1, 1)
    assert worth(false_premise, answer("Barley is fine.")) == (0, 1, 0)
    assert worth(question(answerable=False, gold=(), nuggets=()), answer("Barley.")) == (0, 0, 0)


def test_a_quotation_that_is_not_literal_and_a_claim_without_its_footnote_are_seen():
    assert Scored(question(), answer("x"), 0.1).literal == 1
    assert Scored(question(), answer(abstained=True), 0.1).literal == 1
    assert Scored(question(), answer("x", quote="Barley tolerates 9 grams."), 0.1).literal == 0
    assert Scored(question(), answer("x", start=3, end=3), 0.1).literal == 0
    assert Scored(question(), answer("x", numbers=(2,)), 0.1).literal == 0
    assert Scored(question(), answer("x", numbers=()), 0.1).literal == 0


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


ASKED = [
    Question("k", "dev", "base", "fact", "How much does the KV cache shrink with Sliding Ledgers?", True,
             (("sliding-ledgers-shrinking-the-ef3e7d",),), (Nugget("71%", ("71%",), ("71",), True),)),
    Question("f", "dev", "base", "foreign", "Who won the football cup?", False, (), ()),
]  # fmt: skip


def test_questions_are_put_to_an_assistant(quoting):
    found, refused = ask_all(quoting, ASKED)
    assert (found.facts, found.right_paper, found.refused, found.literal) == (1, 1, 0, 1)
    assert (refused.facts, refused.refused, refused.literal) == (0, 1, 1)
    assert len(found.answer.claims) <= 3
    assert found.seconds > 0


def test_the_benchmark_prints_a_line_for_each_system(quoting, monkeypatch, capsys):
    monkeypatch.setattr(answers, "load_questions", lambda _: ASKED)
    monkeypatch.setattr(Assistant, "sample", lambda: quoting)
    monkeypatch.setattr(sys, "argv", ["answers", "--only", "no language model"])
    answers.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 questions, split dev")
    assert lines[2].startswith("as used")
    assert lines[3].startswith("no language model")
    assert lines[2].split()[-2] == lines[3].split()[-2], "both are the same assistant here"
    assert lines[-1].endswith("0 of 2 answers")
