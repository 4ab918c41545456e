"""The text of an answer: what answers first, then the evidence by paper."""

import pytest

from rag import Citation, Claim, Paper
from rag.text.answer_form import format_answer, format_evidence, format_written, written_claims

TIDES = Paper("Tides", "Tides rise. Tides fall.", ("Ada Brandt", "Zoë Müller"), 2021, id="tides-1")
OWLS = Paper("Night Owls", "Owls hunt at dusk.", retracted=True, id="owls-2")


def cite(number, paper, quote):
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def quoted(citation):
    return Claim(citation.quote, "quoted", (citation.number,), supported=True, score=1.0)


def written(text, *numbers, kind="generated", heading=""):
    return Claim(text, kind, numbers, supported=True, score=1.0, heading=heading)


RISE, HUNT, FALL = (
    cite(1, TIDES, "Tides rise."),
    cite(2, OWLS, "Owls hunt at dusk."),
    cite(3, TIDES, "Tides fall."),
)
EVIDENCE = """\
Tides (Ada Brandt and Zoë Müller, 2021)
“Tides rise.” [1]
“Tides fall.” [3]

Night Owls — RETRACTED
“Owls hunt at dusk.” [2]"""


def test_quotations_are_grouped_by_paper_in_order_of_first_appearance():
    claims = [quoted(RISE), quoted(HUNT), quoted(FALL)]
    assert format_answer(claims, [RISE, HUNT, FALL]) == EVIDENCE


def test_what_is_written_comes_first_as_one_paragraph():
    claims = [
        written("Tides move.", 1, 3),
        written("2 papers are here.", kind="computed"),
        *map(quoted, (RISE, HUNT, FALL)),
    ]
    expected = f"Tides move. [1] [3] 2 papers are here.\n\n{EVIDENCE}"
    assert format_answer(claims, [RISE, HUNT, FALL]) == expected


def test_words_of_a_quotation_are_in_quotation_marks():
    claims = [written("at dusk", 2, kind="extracted"), quoted(HUNT)]
    assert format_written(claims[0]) == "“at dusk” [2]"
    assert format_answer(claims, [HUNT]).startswith("“at dusk” [2]\n\nNight Owls — RETRACTED\n")


def test_claims_with_a_heading_are_lines_of_a_list():
    claims = [
        written("Two papers look at nature."),
        written("It measures water.", 1, heading="Tides"),
        written("It counts birds.", 2, heading="Night Owls"),
        written("Neither is new."),
    ]
    assert format_answer(claims, ()) == (
        "Two papers look at nature.\n\n"
        "- Tides: It measures water. [1]\n"
        "- Night Owls: It counts birds. [2]\n\n"
        "Neither is new."
    )


def test_every_footnote_can_be_read_even_if_no_quoted_claim_repeats_it():
    claims = [written("Owls and tides move.", 1, 2), quoted(HUNT)]
    assert format_answer(claims, [RISE, HUNT]).split("\n\n")[1:] == [
        "Night Owls — RETRACTED\n“Owls hunt at dusk.” [2]",
        "Tides (Ada Brandt and Zoë Müller, 2021)\n“Tides rise.” [1]",
    ]


def test_a_number_without_a_citation_has_no_evidence():
    assert format_evidence([written("Tides sing.", 9)], ()) == ""
    assert format_evidence([quoted(RISE)], ()) == ""


@pytest.mark.parametrize(
    "claims",
    [
        [],
        [quoted(RISE)],
        [written("Tides move.", 1)],
        [written("Tides move.", 1), written("Yes."), quoted(RISE), quoted(HUNT)],
        [written("It rises.", 1, heading="Tides"), written("So.", 1), quoted(RISE)],
    ],
)
def test_the_pieces_of_a_stream_add_up_to_the_text(claims):
    citations, text, previous = (RISE, HUNT), "", None
    for claim in written_claims(claims):
        text += format_written(claim, previous)
        previous = claim
    assert text + format_evidence(claims, citations) == format_answer(claims, citations)
