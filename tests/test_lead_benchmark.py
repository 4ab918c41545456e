"""The benchmark of a written lead: what counts as one, and what it is worth, by cases worked out by hand."""

from dataclasses import replace

import pytest

from eval.answers import Scored
from eval.lead import Lead, carried, first_sentence, lead, report_leads, report_written, show
from eval.questions import Nugget, Question
from rag import Answer, Citation, Claim, Paper, Support, Trace

SALT = Paper("Salt", "Barley tolerates 8 grams of salt. Wheat dies at 2 grams.", id="salt")
CITED = (Citation(1, SALT, SALT.abstract[:33], 0, 33), Citation(2, SALT, SALT.abstract[34:], 34, 56))
CLAIMS = tuple(
    Claim(one.quote, "quote", (one.number,), supported=True, score=score)
    for one, score in zip(CITED, (0.4, 0.9), strict=True)
)
FACTS = (Nugget("8 grams", ("8 grams",), ("8",), True), Nugget("2 grams", ("2 grams",), ("2",), True))
QUESTION = Question("q", "dev", "base", "fact", "How much salt does barley tolerate?", True, (("salt",),), FACTS)
TEXT = "“Barley tolerates 8 grams of salt.” [1]"
QUOTED = Scored(QUESTION, Answer("?", TEXT, CLAIMS, CITED, (), False, "", 0.9, Trace("e", "none", "quote", "", "")), 1)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ("Barley does. Wheat does not.", "Barley does."),
        ("  Barley\n tolerates 8.5 grams, i.e. much.\n\nMore", "Barley tolerates 8.5 grams, i.e. much."),
        ("Is it barley? Yes.", "Is it barley?"),
        ("Barley tolerates so much that", ""),
        ("", ""),
    ],
)
def test_a_lead_is_the_first_sentence_that_comes_to_its_end(reply, sentence):
    assert first_sentence(reply) == sentence


def test_the_model_is_given_the_quotations_and_the_question():
    read = []
    lead(QUOTED, lambda prompt: read.append(prompt) or "Yes.")
    assert all(part in read[0] for part in (CITED[0].quote, CITED[1].quote, QUESTION.question))


def test_a_lead_that_passes_stands_before_the_quotations():
    one = lead(QUOTED, lambda _: "Wheat dies at 2 grams of salt. And so on")
    assert (one.passes, one.alone.facts, one.quoted.facts, one.before.facts) == (True, 0.5, 0.5, 1)
    assert one.before.answer.text == f"Wheat dies at 2 grams of salt. {TEXT}"


@pytest.mark.parametrize("reply", ["Barley tolerates 9 grams of salt.", "Barley tolerates 8 grams", ""])
def test_a_lead_that_is_not_carried_or_not_whole_leaves_the_answer_as_it_was(reply):
    one = lead(QUOTED, lambda _: reply)
    assert not one.passes
    assert one.before == QUOTED


def test_the_best_quotation_is_the_one_that_scores_best():
    assert lead(QUOTED, lambda _: "").best_quotation.answer.text == "Wheat dies at 2 grams."


def test_what_only_repeats_is_seen():
    assert lead(QUOTED, lambda _: "Barley tolerates 8 grams.").repeats_question is False
    assert lead(QUOTED, lambda _: "Barley does tolerate salt.").repeats_question
    assert lead(QUOTED, lambda _: "Barley tolerates 8 grams.").copies
    assert not lead(QUOTED, lambda _: "Barley tolerates grams.").copies
    assert carried("Barley tolerates salt.", "Salt and barley.") == pytest.approx(2 / 3)


def test_the_report_counts_and_the_leads_can_be_read(capsys):
    passing = Lead(QUOTED, "Barley tolerates 8 grams.", Support(True, 1.0, ""), 0.5)
    failing = Lead(QUOTED, "Barley tolerates 9 grams.", Support(False, 0.5, "no"), 0.5)
    report_leads([passing, failing])
    show([failing, passing], 5)
    printed = capsys.readouterr().out
    assert "leads that pass: 1 of 2" in printed
    assert "a vital fact in the lead: 1 of 1" in printed
    assert printed.count("LEAD Barley tolerates") == 1


def test_the_report_tells_written_sentences_from_quotations_in_their_place(capsys):
    claims = (
        Claim("Barley tolerates 8 grams.", "written", (1,), supported=True, score=1.0),
        replace(CLAIMS[1], note="quoted in place of what the language model wrote"),
    )
    trace = replace(QUOTED.answer.trace, tokens={"dropped_sentences": 3})
    report_written([replace(QUOTED, answer=replace(QUOTED.answer, claims=claims, trace=trace)), QUOTED])
    printed = capsys.readouterr().out
    assert "1 sentences kept, 3 not carried, of which 1 replaced by a quotation" in printed
    assert "nothing kept, quoted instead: 0 of 2 answers; declined: 0" in printed
