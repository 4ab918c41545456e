"""What a reply is worth: every metric by cases worked out by hand, and what no trivial reply may win."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.harness.measures import fact_found, group_precision, group_recall, harmonic_mean
from eval.harness.metrics import GATED, METRICS, ZEROS, beginning, blame, score
from eval.harness.questions import Nugget, Question
from eval.harness.replies import Footnote, Reply, Statement, reply_from, reply_of
from rag import Answer, Citation, Claim, Hit, Paper, Passage, Trace


@pytest.mark.parametrize(
    ("text", "fact", "found"),
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
def test_a_fact_is_found_as_whole_words_and_numbers(text, fact, found):
    assert fact_found(text, [fact], []) is found


def test_one_alternative_is_enough_and_every_number_is_needed():
    text = "Memory falls from 31% to 19%."
    assert fact_found(text, ["falls"], ["31", "19"])
    assert not fact_found(text, ["falls"], ["31", "91"])
    assert not fact_found(text, ["drops"], ["31"])
    assert not fact_found(text, [], ["31"])


@given(st.text(max_size=60), st.text(alphabet="abc 123", min_size=1, max_size=8).filter(str.strip))
def test_what_stands_between_spaces_is_found(text, fact):
    assert fact_found(f"{text} ; {fact} ; {text}", [fact], [])


def test_papers_by_hand():
    gold = [["a", "b"], ["c"]]
    assert group_recall(["b", "x"], gold) == group_recall(["a", "b"], gold) == 0.5
    assert group_recall(["c", "a"], gold) == 1
    assert group_recall([], gold) == group_recall(["a"], []) == 0
    assert group_precision(["a", "a", "x"], gold) == 0.5
    assert group_precision([], gold) == group_precision(["x"], gold) == 0
    assert harmonic_mean(0.5, 1) == pytest.approx(2 / 3)
    assert harmonic_mean(0, 1) == harmonic_mean(1, 0) == 0


# --- replies -------------------------------------------------------------------------------------------------

CORPUS = {
    "salt": "Salt harms crops. Barley tolerates 8 grams of it. Wheat dies at 3 grams. Rye was not sown. Oats were.",
    "rye": "Rye stands the cold. It was sown in 1911.",
}
NUGGETS = (
    Nugget("8 grams", ("8 grams",), ("8",), True),
    Nugget("wheat dies", ("wheat dies",), (), True),
    Nugget("oats", ("oats were",), (), False),
)
ASKED = Question(
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
FALSE = replace(ASKED, answerable=False, must_not=())
FOREIGN = replace(FALSE, gold=(), nuggets=())


def quoting(*quotes, paper="salt", found=("salt", "rye")):
    said = tuple(Statement(quote, "quoted", (number,)) for number, quote in enumerate(quotes, 1))
    footnotes = tuple(Footnote(number, paper, quote) for number, quote in enumerate(quotes, 1))
    return Reply(said, footnotes, found, confidence=0.9)


REFUSED = Reply(found=("salt",), abstained=True)
BARLEY, WHEAT = "Barley tolerates 8 grams of it.", "Wheat dies at 3 grams."


def of(metric, reply, question=ASKED):
    return METRICS[metric](question, reply, CORPUS)


def test_facts_are_vital_ones_in_the_first_three_sentences():
    assert of("facts", quoting(BARLEY)) == 0.5
    assert of("facts", quoting(BARLEY, WHEAT)) == 1
    assert of("facts", quoting(CORPUS["salt"])) == 1, "the third sentence is the last that counts"
    assert of("facts", quoting("Rye was not sown.", CORPUS["salt"])) == 0.5
    assert of("facts", quoting("Oats were.")) == of("facts", REFUSED) == 0
    assert of("facts", quoting(BARLEY), FALSE) is None
    assert of("facts in the first sentence", quoting(BARLEY, WHEAT)) == 0.5
    assert of("all facts at any length", quoting("Rye was not sown.", CORPUS["salt"])) == 1
    assert beginning(quoting("One. Two.", "Three. Four.")) == "One. Two. Three."


def test_refusing_and_answering():
    assert (of("refused", REFUSED, FALSE), of("refused", quoting(BARLEY), FALSE)) == (1, 1), (
        "the premise is corrected"
    )
    assert (
        of("refused", quoting("Rye stands the cold."), FALSE),
        of("refused", quoting(BARLEY), FOREIGN),
    ) == (0, 0)
    assert (of("refused", REFUSED), of("answered", REFUSED, FOREIGN)) == (None, None)
    assert (of("answered", REFUSED), of("answered", quoting("Rye."))) == (0, 1)


def test_what_a_reply_is_worth():
    assert [of("worth", reply) for reply in (quoting(BARLEY, WHEAT), quoting(BARLEY), REFUSED, quoting("Rye."))] == [
        1, 0.5, 0, -1,
    ]  # fmt: skip
    assert of("worth", quoting(BARLEY, WHEAT, paper="rye")) == -1, (
        "the facts, but not where they are from"
    )
    assert [of("worth", reply, FOREIGN) for reply in (REFUSED, quoting(BARLEY))] == [1, -1]


def test_citations():
    mixed = Reply(
        (Statement(BARLEY, "quoted", (1,)), Statement("Rye.", "quoted", (2,))),
        (Footnote(1, "salt", BARLEY), Footnote(2, "rye", "Rye.")),
    )
    assert mixed.cited == ("salt", "rye")
    assert of("citation precision", mixed) == 0.5
    assert of("citation recall", mixed) == of("right paper", mixed) == 1
    assert of("citation F1", mixed) == pytest.approx(2 / 3)
    assert of("citation F1", REFUSED) == 0
    assert of("citation F1", REFUSED, FOREIGN) == of("citation F1", REFUSED, FALSE) == 1
    assert of("citation F1", mixed, FOREIGN) == 0
    assert of("citation precision", REFUSED) is of("right paper", mixed, FALSE) is None


def test_faults_are_counted():
    no_footnote = Reply(
        (Statement("So.", "generated", (7,)), Statement("And so.", "generated", ())), ()
    )
    assert of("invalid citations", no_footnote) == 1
    assert of("sentences without footnote", no_footnote) == 1
    assert of("invalid citations", quoting(BARLEY, paper="sea")) == 1
    assert (
        of("quotations not literal", Reply((), (Footnote(1, "salt", "Barley!", literal=False),)))
        == 1
    )
    assert all(of(name, quoting(BARLEY, WHEAT)) == 0 for name in ZEROS)


def test_support_contradiction_and_copying():
    written = (
        Statement("Barley tolerates 8 grams.", "generated", (1,)),
        Statement("Barley tolerates 9 grams.", "generated", (1,)),
    )
    assert of("supported", Reply(written, (Footnote(1, "salt", BARLEY),))) == 0.5
    assert of("supported", Reply((Statement("Barley tolerates salt.", "generated", ()),), ())) == 0
    assert of("supported", REFUSED) is None
    assert of("contradicted", quoting("Barley dies.")) == 1
    assert of("contradicted", quoting(BARLEY)) == 0
    assert of("contradicted", quoting(BARLEY), FALSE) is None
    assert of("copied", quoting(BARLEY)) == 1
    assert of("copied", quoting("Barley tolerates much of it.")) == pytest.approx(2 / 5)
    assert (of("words", quoting(BARLEY)), of("words", REFUSED)) == (6, None)


def test_what_was_found():
    second = quoting(BARLEY, found=("rye", "salt"))
    assert of("MRR@10", second) == 0.5
    assert of("nDCG@10", second) == pytest.approx(0.387, abs=0.001), (
        "two papers would do, one is second"
    )
    assert (of("recall@5", second), of("recall@5", quoting(BARLEY, found=("rye",)))) == (1, 0)
    assert of("MRR@10", second, FOREIGN) is None


def test_each_miss_is_put_down_to_one_place():
    assert blame(ASKED, quoting(BARLEY, WHEAT), CORPUS) == ""
    assert blame(ASKED, quoting(BARLEY, WHEAT, paper="rye"), CORPUS) == "wrongly cited"
    assert blame(ASKED, quoting(BARLEY), CORPUS) == "not read"
    assert blame(ASKED, quoting(BARLEY, found=("rye",)), CORPUS) == "not retrieved"
    assert blame(ASKED, quoting(BARLEY), {"salt": "Salt."}) == "not in the library"
    assert blame(ASKED, REFUSED, CORPUS) == "should not have abstained"
    assert blame(FOREIGN, quoting(BARLEY), CORPUS) == "should have abstained"
    assert blame(FOREIGN, REFUSED, CORPUS) == ""
    unsaid = replace(
        quoting(BARLEY, WHEAT), said=(Statement("Some crops stand salt.", "generated", (1, 2)),)
    )
    assert blame(ASKED, unsaid, CORPUS) == "not written"
    assert blame(ASKED, Reply(error="out of memory"), CORPUS) == "failed"


def test_a_row_that_failed_scores_nothing_and_is_worth_least():
    failed = score(ASKED, Reply(error="out of memory"), CORPUS)
    assert failed["worth"] == -1
    assert failed["facts"] == failed["citation F1"] == failed["answered"] == 0
    assert score(FOREIGN, Reply(error="x"), CORPUS)["refused"] == 0
    assert failed["refused"] is None


def test_no_gated_metric_is_won_by_silence_copying_or_length():
    questions = [ASKED, replace(ASKED, id="q2"), replace(FOREIGN, id="q3")]
    good = {"q1": quoting(BARLEY, WHEAT), "q2": quoting(BARLEY), "q3": REFUSED}
    trivial = [REFUSED, quoting(CORPUS["salt"]), quoting(*CORPUS["salt"].split(". "))]
    for metric in GATED:
        ours = sum(of(metric, good[question.id], question) for question in questions)
        assert all(
            ours > sum(of(metric, reply, question) for question in questions) for reply in trivial
        ), metric


texts = st.text(alphabet="Barley tolerates 8 grams. Wheat dies", max_size=40)
replies = st.builds(
    Reply,
    st.lists(
        st.builds(
            Statement, texts, st.just("quote"), st.lists(st.integers(0, 3), max_size=2).map(tuple)
        )
    ).map(tuple),
    st.lists(
        st.builds(Footnote, st.integers(0, 3), st.sampled_from(["salt", "rye", "sea"]), texts)
    ).map(tuple),
    st.lists(st.sampled_from(["salt", "rye", "sea"]), unique=True).map(tuple),
    st.booleans(),
)


@given(replies, st.sampled_from([ASKED, FALSE, FOREIGN]))
def test_any_reply_is_scored_within_bounds_and_kept_as_it_is(reply, question):
    assert reply_from(reply.to_dict()) == reply
    for name, value in score(question, reply, CORPUS).items():
        low, high = (-1, 1) if name == "worth" else (0, 1)
        unbounded = name in ("words", *ZEROS)
        assert value is None or value >= low, name
        assert value is None or unbounded or value <= high, name
    blame(question, reply, CORPUS)


def test_the_reply_of_an_answer():
    paper = Paper("Salt", CORPUS["salt"], id="salt")
    start = CORPUS["salt"].index(BARLEY)
    trace = Trace("e", "none", "quote", "", "", rewritten_query="How salty (on barley)?")
    citations = (
        Citation(4, paper, BARLEY, start, start + len(BARLEY)),
        Citation(5, paper, "Barley!", 0, 7),
    )
    claims = (Claim(BARLEY, "quoted", (4,), True, 0.8),)
    hits = (Hit(paper, 1.0, 1, Passage("p", "salt", 0, 9)),)
    answer = Answer("How salty?", "…", claims, citations, hits, False, "", 0.5, trace)
    reply = reply_of(answer)
    assert (reply.text, reply.cited, reply.found, reply.rewritten_query) == (
        BARLEY,
        ("salt",),
        ("salt",),
        "How salty (on barley)?",
    )
    assert [footnote.literal for footnote in reply.footnotes] == [True, False]
    assert reply_of(replace(answer, abstained=True)).said == ()
