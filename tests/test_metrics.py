"""Metrics of replies against values worked out by hand, and nugget matching."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.harness.error_attribution import ERROR_CAUSES, attribute_error
from eval.harness.metrics import METRICS, counted_text, score_reply
from eval.harness.nuggets import contains_nugget
from eval.harness.questions import Nugget, Question
from eval.harness.replies import Footnote, Reply, Statement
from rag.records import Answer, Citation, Claim, Hit, Paper, Passage, Trace

# --- nuggets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phrase", "matches"),
    [
        ("It is 58x faster.", "58", True),
        ("It is 158x faster.", "58", False),
        ("It is 5.8x faster.", "58", False),
        ("It is 58.1x faster.", "58", False),
        ("Of 1,000 slides", "1000", True),
        ("Of 1000 slides", "1,000", True),
        ("Of 12,345,678 slides", "12345678", True),
        ("Of 1,000 slides", "1", False),
        ("Of 1,00 slides", "100", False),
        ("in 2.4ms at most", "2.4 ms", True),
        ("in 12.4ms at most", "2.4 ms", False),
        ("2–3 times", "2-3 times", True),
        ("2—3 times", "23", False),
        ("45.2% of users", "45.2", True),
        ("45.2 of users", "45.2%", False),
        ("5.2 % of users", "5.2%", True),
        ("FP16 only", "FP8", False),
        ("K-means", "k means", True),
        ("A catalogue", "cat", False),
        ("GPT\u20114 answers", "gpt-4", True),
        ("ﬁve bits", "five", True),
        ("CO₂ is up", "CO2", True),
        ("", "anything", False),
    ],
)
def test_nugget_matches_whole_words_and_numbers(text, phrase, matches):
    assert contains_nugget(text, [phrase], []) is matches


def test_nugget_needs_one_alternative_and_every_number():
    text = "Memory falls from 31% to 19%."
    assert contains_nugget(text, ["falls"], ["31", "19"])
    assert not contains_nugget(text, ["falls"], ["31", "91"])
    assert not contains_nugget(text, ["drops"], ["31"])
    assert not contains_nugget(text, [], ["31"])


@given(st.text(max_size=60), st.text(alphabet="abc 123", min_size=1, max_size=8).filter(str.strip))
def test_nugget_between_spaces_matches_in_any_text(text, phrase):
    assert contains_nugget(f"{text} ; {phrase} ; {text}", [phrase], [])


# --- metrics -------------------------------------------------------------------------------------

BY_NAME = {metric.name: metric for metric in METRICS}
CORPUS = {
    "salt": "Salt harms crops. Barley tolerates 8 grams of it. Wheat dies at 3 grams. Rye was not "
    "sown. Oats were.",
    "rye": "Rye stands the cold. It was sown in 1911.",
}
NUGGETS = (
    Nugget("8 grams", ("8 grams",), ("8",), True),
    Nugget("wheat dies", ("wheat dies",), (), True),
    Nugget("oats", ("oats were",), (), False),
)
ANSWERABLE = Question(
    "q1",
    "dev",
    "base",
    "fact",
    "How salty?",
    True,
    (("salt", "sea"),),
    NUGGETS,
    must_not=("barley dies",),
)
FALSE_PREMISE = replace(ANSWERABLE, answerable=False, must_not=())
FOREIGN = replace(FALSE_PREMISE, gold=(), nuggets=())
BARLEY, WHEAT = "Barley tolerates 8 grams of it.", "Wheat dies at 3 grams."


def quoting(*quotes, paper="salt", retrieved=("salt", "rye")):
    statements, footnotes = [], []
    for number, quote in enumerate(quotes, 1):
        statements.append(Statement(quote, "quoted", (number,)))
        footnotes.append(Footnote(number, paper, quote))
    return Reply(tuple(statements), tuple(footnotes), retrieved, confidence=0.9)


ABSTENTION = Reply(retrieved=("salt",), abstained=True)
TWO_PAPERS = Reply(
    (Statement(BARLEY, "quoted", (1,)), Statement("Rye.", "quoted", (2,))),
    (Footnote(1, "salt", BARLEY), Footnote(2, "rye", "Rye.")),
)


def compute(metric, reply, question=ANSWERABLE):
    return BY_NAME[metric].compute(question, reply, CORPUS)


def test_registry_is_complete_and_unambiguous():
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert metric.direction in {"higher", "lower", "neither"}
        assert metric.description.endswith(".")
        if metric.must_be_zero:
            assert metric.direction == "lower"


def test_nugget_recall_counts_vital_nuggets():
    assert compute("nugget recall", quoting(BARLEY)) == 0.5
    assert compute("nugget recall", quoting(BARLEY, WHEAT)) == 1
    assert compute("nugget recall", quoting(CORPUS["salt"])) == 1
    assert compute("nugget recall", quoting("Oats were.")) == 0
    assert compute("nugget recall", ABSTENTION) == 0
    assert compute("nugget recall", quoting(BARLEY), FALSE_PREMISE) is None


def test_three_quotations_count_if_nothing_is_written():
    quotations = quoting("Rye was not sown.", BARLEY, "Oats were.", WHEAT)
    assert counted_text(quotations) == f"Rye was not sown. {BARLEY} Oats were."
    assert compute("nugget recall", quotations) == 0.5
    assert compute("words counted", quotations) == 4 + 6 + 2
    assert compute("words", quotations) == 4 + 6 + 2 + 5


@pytest.mark.parametrize("kind", ["generated", "computed"])
def test_two_quotations_count_below_written_statements(kind):
    quotations = quoting("Rye was not sown.", "Oats were.", BARLEY)
    written = (Statement(WHEAT, kind, (1,)), Statement("So it is.", kind, (2,), heading="Salt"))
    reply = replace(quotations, statements=(*written, *quotations.statements))
    assert counted_text(reply) == f"{WHEAT} Salt: So it is. Rye was not sown. Oats were."
    assert compute("nugget recall", reply) == 0.5
    assert compute("nugget recall, first sentence", reply) == 0.5
    assert compute("nugget recall, whole reply", reply) == 1


def test_nuggets_count_in_the_first_120_words():
    filler = "word " * 115
    assert compute("nugget recall", quoting(f"{filler}{WHEAT}")) == 0.5, "words 116 to 120"
    assert compute("nugget recall", quoting(f"{filler}One {WHEAT}")) == 0.5, "wheat dies is inside"
    assert compute("nugget recall", quoting(f"{filler}One two three four {WHEAT}")) == 0
    assert compute("words counted", quoting(f"{filler}One two three four {WHEAT}")) == 120
    assert compute("words counted", ABSTENTION) is None


def test_nugget_recall_of_the_first_sentence_and_of_the_whole_reply():
    assert compute("nugget recall, first sentence", quoting(BARLEY, WHEAT)) == 0.5
    long_reply = quoting("Rye was not sown.", CORPUS["salt"])
    assert compute("nugget recall, whole reply", long_reply) == 1


def test_correct_abstention_includes_correcting_a_false_premise():
    metric = "correct-abstention rate"
    assert compute(metric, ABSTENTION, FALSE_PREMISE) == 1
    assert compute(metric, quoting(BARLEY), FALSE_PREMISE) == 1
    assert compute(metric, quoting("Rye stands the cold."), FALSE_PREMISE) == 0
    assert compute(metric, quoting(BARLEY), FOREIGN) == 0
    assert compute(metric, ABSTENTION) is None


def test_answer_rate_applies_to_answerable_questions():
    assert compute("answer rate", ABSTENTION) == 0
    assert compute("answer rate", quoting("Rye.")) == 1
    assert compute("answer rate", ABSTENTION, FOREIGN) is None


def test_crag_score():
    assert compute("CRAG score", quoting(BARLEY, WHEAT)) == 1
    assert compute("CRAG score", quoting(BARLEY)) == 0.5
    assert compute("CRAG score", ABSTENTION) == 0
    assert compute("CRAG score", quoting("Rye.")) == -1
    assert compute("CRAG score", quoting(BARLEY, WHEAT, paper="rye")) == -1, "no right paper"
    assert compute("CRAG score", ABSTENTION, FOREIGN) == 1
    assert compute("CRAG score", quoting(BARLEY), FOREIGN) == -1


def test_citation_metrics():
    assert TWO_PAPERS.cited_papers == ("salt", "rye")
    assert compute("citation precision", TWO_PAPERS) == 0.5
    assert compute("citation recall", TWO_PAPERS) == 1
    assert compute("right paper cited", TWO_PAPERS) == 1
    assert compute("citation F1", TWO_PAPERS) == pytest.approx(2 / 3)
    assert compute("citation precision", ABSTENTION) is None
    assert compute("right paper cited", TWO_PAPERS, FALSE_PREMISE) is None


def test_citation_f1_of_an_unanswerable_question_is_1_for_citing_nothing():
    assert compute("citation F1", ABSTENTION) == 0
    assert compute("citation F1", ABSTENTION, FOREIGN) == 1
    assert compute("citation F1", ABSTENTION, FALSE_PREMISE) == 1
    assert compute("citation F1", TWO_PAPERS, FOREIGN) == 0


def test_metrics_that_must_be_zero_count_faults():
    uncited = Reply(
        (Statement("So.", "generated", (7,)), Statement("And so.", "generated", ())), ()
    )
    inexact = Reply((), (Footnote(1, "salt", "Barley!", is_literal=False),))
    assert compute("invalid citations", uncited) == 1
    assert compute("uncited sentences", uncited) == 1
    assert compute("invalid citations", quoting(BARLEY, paper="sea")) == 1
    assert compute("non-literal quotations", inexact) == 1
    for metric in METRICS:
        if metric.must_be_zero:
            assert compute(metric.name, quoting(BARLEY, WHEAT)) == 0


def test_lexical_support_needs_shared_words_and_every_number():
    generated = (
        Statement("Barley tolerates 8 grams.", "generated", (1,)),
        Statement("Barley tolerates 9 grams.", "generated", (1,)),
    )
    uncited = (Statement("Barley tolerates salt.", "generated", ()),)
    assert compute("lexical support", Reply(generated, (Footnote(1, "salt", BARLEY),))) == 0.5
    assert compute("lexical support", Reply(uncited, ())) == 0
    assert compute("lexical support", ABSTENTION) is None


def test_computed_statements_have_no_lexical_support():
    computed = Statement("2 of the papers are about salt.", "computed", (1,))
    assert compute("lexical support", Reply((computed,), (Footnote(1, "salt", ""),))) is None
    quotation = Statement(BARLEY, "quoted", (1,))
    both = Reply((computed, quotation), (Footnote(1, "salt", BARLEY),))
    assert compute("lexical support", both) == 1


def test_contradicted_copied_and_words():
    assert compute("contradicted", quoting("Barley dies.")) == 1
    assert compute("contradicted", quoting(BARLEY)) == 0
    assert compute("contradicted", quoting(BARLEY), FALSE_PREMISE) is None
    assert compute("copied", quoting(BARLEY)) == 1
    assert compute("copied", quoting("Barley tolerates much of it.")) == pytest.approx(2 / 5)
    assert compute("words", quoting(BARLEY)) == 6
    assert compute("words", ABSTENTION) is None


def test_retrieval_metrics():
    second = quoting(BARLEY, retrieved=("rye", "salt"))
    assert compute("MRR@10", second) == 0.5
    assert compute("nDCG@10", second) == pytest.approx(0.387, abs=0.001), "the ideal has two papers"
    assert compute("recall@5", second) == 1
    assert compute("recall@5", quoting(BARLEY, retrieved=("rye",))) == 0
    assert compute("MRR@10", second, FOREIGN) is None


def test_failed_reply_scores_0_and_the_lowest_crag_score():
    failed = score_reply(ANSWERABLE, Reply(error="out of memory"), CORPUS)
    assert failed["CRAG score"] == -1
    assert failed["nugget recall"] == failed["citation F1"] == failed["answer rate"] == 0
    assert failed["correct-abstention rate"] is None
    unanswerable = score_reply(FOREIGN, Reply(error="x"), CORPUS)
    assert unanswerable["correct-abstention rate"] == 0


def test_gated_metrics_are_not_won_by_abstaining_copying_or_length():
    questions = [ANSWERABLE, replace(ANSWERABLE, id="q2"), replace(FOREIGN, id="q3")]
    good = {"q1": quoting(BARLEY, WHEAT), "q2": quoting(BARLEY), "q3": ABSTENTION}
    trivial = [ABSTENTION, quoting(CORPUS["salt"]), quoting(*CORPUS["salt"].split(". "))]
    gated = [metric for metric in METRICS if metric.gated]
    assert gated
    for metric in gated:
        good_score = sum(compute(metric.name, good[q.id], q) for q in questions)
        for reply in trivial:
            assert good_score > sum(compute(metric.name, reply, q) for q in questions)


def test_answers_of_high_confidence_are_right_if_they_state_a_nugget_of_a_gold_paper():
    metric = "right at high confidence"
    high = replace(quoting(BARLEY), confidence_label="high")
    assert compute(metric, high) == 1
    assert compute(metric, replace(quoting("Oats were."), confidence_label="high")) == 0
    assert compute(metric, replace(quoting(BARLEY, paper="rye"), confidence_label="high")) == 0
    assert compute(metric, high, FALSE_PREMISE) == 0
    assert compute(metric, replace(high, confidence_label="fair")) is None
    assert compute(metric, replace(ABSTENTION, confidence_label="high")) is None


# --- error attribution ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reply", "cause"),
    [
        (ANSWERABLE, quoting(BARLEY, WHEAT), ""),
        (ANSWERABLE, quoting(BARLEY, WHEAT, paper="rye"), "wrongly cited"),
        (ANSWERABLE, quoting(BARLEY), "not selected"),
        (ANSWERABLE, quoting(BARLEY, retrieved=("rye",)), "not retrieved"),
        (ANSWERABLE, ABSTENTION, "should not have abstained"),
        (FOREIGN, quoting(BARLEY), "should have abstained"),
        (FOREIGN, ABSTENTION, ""),
        (ANSWERABLE, Reply(error="out of memory"), "failed"),
    ],
)
def test_wrong_reply_is_attributed_to_the_first_stage_that_failed(question, reply, cause):
    assert attribute_error(question, reply, CORPUS) == cause
    assert cause in {"", *ERROR_CAUSES}


def test_nuggets_that_are_quoted_but_not_stated_are_attributed_to_generation():
    statement = Statement("Some crops stand salt.", "generated", (1, 2))
    reply = replace(quoting(BARLEY, WHEAT), statements=(statement,))
    assert attribute_error(ANSWERABLE, reply, CORPUS) == "not stated"


def test_nuggets_that_no_gold_paper_states_are_attributed_to_the_question():
    corpus = {"salt": "Salt."}
    assert attribute_error(ANSWERABLE, quoting(BARLEY), corpus) == "not in the library"


# --- replies -------------------------------------------------------------------------------------

texts = st.text(alphabet="Barley tolerates 8 grams. Wheat dies", max_size=40)
paper_ids = st.sampled_from(["salt", "rye", "sea"])
kinds = st.sampled_from(["quoted", "generated", "computed"])
citations = st.lists(st.integers(0, 3), max_size=2).map(tuple)
replies = st.builds(
    Reply,
    st.lists(st.builds(Statement, texts, kinds, citations, heading=texts)).map(tuple),
    st.lists(st.builds(Footnote, st.integers(0, 3), paper_ids, texts)).map(tuple),
    st.lists(paper_ids, unique=True).map(tuple),
    st.booleans(),
)


@given(replies, st.sampled_from([ANSWERABLE, FALSE_PREMISE, FOREIGN]))
def test_scores_of_any_reply_are_in_bounds_and_replies_survive_serialization(reply, question):
    assert Reply.from_dict(reply.to_dict()) == reply
    for name, value in score_reply(question, reply, CORPUS).items():
        if value is not None:
            counts = name.startswith(("words", "unlabelled"))
            unbounded = counts or BY_NAME[name].must_be_zero
            assert value >= (-1 if name == "CRAG score" else 0), name
            assert unbounded or value <= 1, name
    attribute_error(question, reply, CORPUS)


def test_reply_from_an_answer():
    paper = Paper("Salt", CORPUS["salt"], id="salt")
    start = CORPUS["salt"].index(BARLEY)
    query = "How salty (on barley)?"
    trace = Trace("e", "none", "quote", "", "", rewritten_query=query)
    literal = Citation(4, paper, BARLEY, start, start + len(BARLEY))
    inexact = Citation(5, paper, "Barley!", 0, 7)
    claims = (Claim(BARLEY, "quoted", (4,), True, 0.8, heading="Salt"),)
    hits = (Hit(paper, 1.0, 1, Passage("p", "salt", 0, 9)),)
    answer = Answer("How salty?", "…", claims, (literal, inexact), hits, False, "", 0.5, trace)
    reply = Reply.from_answer(answer)
    assert (reply.text, reply.cited_papers) == (f"Salt: {BARLEY}", ("salt",))
    assert (reply.retrieved, reply.rewritten_query) == (("salt",), query)
    assert [footnote.is_literal for footnote in reply.footnotes] == [True, False]
    first = reply.footnotes[0]
    assert (first.title, first.span) == ("Salt", f"salt:{start}-{start + len(BARLEY)}")
    assert first.before == "Salt harms crops."
    assert reply.confidence_label == "low"
    assert Reply.from_answer(replace(answer, abstained=True)).statements == ()


@pytest.mark.parametrize(("abstract", "is_literal"), [("", True), ("Salt harms crops.", False)])
def test_an_empty_quotation_is_literal_for_a_paper_without_an_abstract(abstract, is_literal):
    citation = Citation(1, Paper("Salt", abstract, id="salt"), "", 0, 0)
    claims = (Claim("Ada Okafor wrote it.", "computed", (1,), True, 1.0),)
    trace = Trace("e", "none", "quote", "", "")
    answer = Answer("Who wrote Salt?", "…", claims, (citation,), (), False, "", 1.0, trace)
    reply = Reply.from_answer(answer)
    assert reply.statements[0].kind == "computed"
    assert reply.footnotes[0].is_literal == is_literal
    assert score_reply(ANSWERABLE, reply, {"salt": abstract})["invalid citations"] == 0
