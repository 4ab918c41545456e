"""Answers and papers as text, Markdown and JSON, with untrusted text escaped."""

import json
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from rag import Answer, Citation, Claim, Hit, Paper, Passage, Trace
from rag.output.terminal import render_answer, render_paper
from rag.text.answer_form import format_answer

GATES = Paper(
    title="Tidal Gates of the North-West",
    abstract="Gates open twice a day. They save 12% of post-war power.",
    authors=("Ada Brandt", "Zoë Müller"),
    year=2021,
    doi="10.5555/shores.2021.7",
    id="tidal-gates-of-the-123456",
)
OWLS = Paper(
    title="Night Owls", abstract="Owls hunt at dusk.", retracted=True, id="night-owls-654321"
)
TRACE = Trace(
    "tiny", "none", "quote", "", "0123", signals={"dense": 0.123456}, seconds={"read": 0.00004}
)


def make_citation(number, paper, quote):
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def make_answer(*citations, question="When do gates open?", confidence=0.87654):
    claims = tuple(Claim(c.quote, "quoted", (c.number,), True, 0.56789) for c in citations)
    text = format_answer(claims, citations)
    hits = tuple(
        Hit(c.paper, 0.98765, rank, Passage(f"{c.paper.id}:0-9", c.paper.id, 0, 9))
        for rank, c in enumerate(citations, 1)
    )
    return Answer(question, text, claims, citations, hits, False, "", confidence, TRACE)


ANSWER = make_answer(
    make_citation(1, GATES, "Gates open twice a day."),
    make_citation(2, GATES, "They save 12% of post-war power."),
    make_citation(3, OWLS, "Owls hunt at dusk."),
)
ABSTENTION = replace(
    ANSWER,
    text="Your library does not say. It is about tides.",
    claims=(),
    citations=(),
    abstained=True,
    reason="It is about tides.",
)


# --- terminal ----------------------------------------------------------------------------


def test_evidence_by_paper_is_followed_by_sources_and_confidence(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert render_answer(ANSWER) == (
        "Tidal Gates of the North-West (Ada Brandt and Zoë Müller, 2021)\n"
        "“Gates open twice a day.” [1]\n"
        "“They save 12% of post-war power.” [2]\n\n"
        "Night Owls — RETRACTED\n"
        "“Owls hunt at dusk.” [3]\n\n"
        "[1][2] https://doi.org/10.5555/shores.2021.7\n"
        "[3] footnote show night-owls-654321\n\n"
        "Confidence: high"
    )


def test_a_written_follow_up_shows_how_the_question_was_read_and_bold_titles(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    claims = (
        Claim("It opens.", "generated", (1,), True, 1.0, heading="Tidal Gates of the North"),
        *ANSWER.claims[:1],
    )
    answer = replace(
        make_answer(ANSWER.citations[0]),
        claims=claims,
        text=format_answer(claims, ANSWER.citations[:1]),
        trace=replace(TRACE, rewritten_query="And\x1b they? (on gates)"),
    )
    assert render_answer(answer, bold=True) == (
        "Interpreted as: And� they? (on\ngates)\n\n"
        "- Tidal Gates of the North: It\n  opens. [1]\n\n"
        "\033[1mTidal Gates of the North-West\n(Ada Brandt and Zoë Müller,\n2021)\033[0m\n"
        "“Gates open twice a day.” [1]\n\n"
        "[1] https://doi.org/10.5555/shores.2021.7\n\n"
        "Confidence: high"
    )


def test_an_abstention_lists_the_closest_papers(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert render_answer(replace(ABSTENTION, hits=ABSTENTION.hits[1:])) == (
        "Your library does not say. It\nis about tides.\n\n"
        "Closest matches:\n"
        "- Tidal Gates of the\n"
        "  North-West\n"
        "- Night Owls"
    )
    without_hits = render_answer(replace(ABSTENTION, hits=()))
    assert without_hits == "Your library does not say. It\nis about tides."


@pytest.mark.parametrize("columns", ["1", "9", "20", "40", "79", "1000"])
def test_quotations_stay_literal_at_any_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = " ".join(render_answer(ANSWER).split())
    assert " ".join(ANSWER.text.split()) in shown
    assert GATES.abstract in " ".join(render_paper(GATES).split())


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(1.0, "high"), (0.85, "high"), (0.84, "fair"), (0.65, "fair"), (0.5, "low")],
)
def test_confidence_label_follows_the_thresholds(confidence, word):
    assert replace(ANSWER, confidence=confidence).confidence_label == word


def test_a_paper_is_shown_with_its_known_fields(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert (
        render_paper(OWLS) == "Night Owls\nRETRACTED\nid: night-owls-654321\n\nOwls hunt at dusk."
    )
    assert render_paper(replace(OWLS, abstract="")).endswith("\n\n(no abstract)")


# --- Markdown ------------------------------------------------------------------------------


def test_markdown_output():
    assert ANSWER.to_markdown() == (
        "**When do gates open?**\n\n"
        "**Tidal Gates of the North-West** (Ada Brandt and Zoë Müller, 2021)\n\n"
        "- “Gates open twice a day.”[^1]\n"
        "- “They save 12% of post-war power.”[^2]\n\n"
        "**Night Owls** **Retracted.**\n\n"
        "- “Owls hunt at dusk.”[^3]\n\n"
        "[^1]: *Tidal Gates of the North-West*. Ada Brandt and Zoë Müller, 2021. "
        "<https://doi.org/10.5555/shores.2021.7> “Gates open twice a day.”\n"
        "[^2]: *Tidal Gates of the North-West*. Ada Brandt and Zoë Müller, 2021. "
        "<https://doi.org/10.5555/shores.2021.7> “They save 12% of post-war power.”\n"
        "[^3]: *Night Owls*. **Retracted.** “Owls hunt at dusk.”\n"
    )


def test_markdown_output_of_a_written_follow_up():
    claims = (
        Claim("Both keep hours.", "generated", (2, 1), True, 1.0),
        Claim("It opens *twice*.", "generated", (1,), True, 1.0, heading="Tidal Gates"),
        Claim("It hunts.", "computed", (2,), True, 1.0, heading="Night [Owls]"),
    )
    gates, owls = ANSWER.citations[0], replace(ANSWER.citations[2], number=2)
    trace = replace(TRACE, rewritten_query="And\nthey? (on *gates*)")
    answer = replace(ANSWER, claims=claims, citations=(gates, owls), trace=trace)
    assert answer.to_markdown().split("[^1]: ")[0] == (
        "**When do gates open?**\n\n"
        "*Interpreted as: And they? (on \\*gates\\*)*\n\n"
        "Both keep hours.[^2][^1]\n\n"
        "- **Tidal Gates**: It opens \\*twice\\*.[^1]\n"
        "- **Night \\[Owls\\]**: It hunts.[^2]\n\n"
        "**Tidal Gates of the North-West** (Ada Brandt and Zoë Müller, 2021)\n\n"
        "- “Gates open twice a day.”[^1]\n\n"
        "**Night Owls** **Retracted.**\n\n"
        "- “Owls hunt at dusk.”[^2]\n\n"
    )


def test_markdown_output_of_an_abstention():
    assert ABSTENTION.to_markdown() == (
        "**When do gates open?**\n\n"
        "Your library does not say. It is about tides.\n\n"
        "- *Tidal Gates of the North-West*\n- *Tidal Gates of the North-West*\n- *Night Owls*\n"
    )


def parse_markdown(markdown):
    """Return the kinds of markup in a piece of Markdown and its addresses."""
    tokens = [
        child
        for block in MarkdownIt("commonmark").parse(markdown)
        for child in (block.children or [block])
    ]
    addresses = [
        str(token.attrs[name])
        for token in tokens
        for name in ("href", "src")
        if name in token.attrs
    ]
    return {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}, addresses


@pytest.mark.promise("inert-text")
@pytest.mark.parametrize(
    "text",
    [
        "[click](javascript:alert(1)) and ![pixel](https://evil.example/p.png).",
        "<script>alert(1)</script> <img src=x onerror=alert(1)>.",
        "Stars *a* **b**, bars _c_, `code`, ```fence```, # hash.",
        "[^9]: a footnote of its own, [^1] and <https://evil.example>.",
        "A table | of | cells \\ with \\* slashes.",
    ],
)
def test_markdown_escapes_untrusted_text(text):
    paper = Paper(title=text, abstract=text, authors=(text,), id="hostile-1")
    written = make_answer(make_citation(1, paper, text), question=text)
    for shown in (written, replace(written, claims=(), citations=(), abstained=True, text=text)):
        kinds, addresses = parse_markdown(shown.to_markdown())
        assert addresses == []
        assert kinds <= {
            "paragraph",
            "strong",
            "em",
            "text",
            "softbreak",
            "bullet_list",
            "list_item",
        }


@pytest.mark.parametrize(
    ("paper", "address"),
    [
        (
            replace(OWLS, url="https://x.example/><script>alert(1)</script>"),
            "https://x.example/%3E%3Cscript%3Ealert(1)%3C/script%3E",
        ),
        (replace(OWLS, doi="10.1002/a<1:b>3.0"), "https://doi.org/10.1002/a%3C1:b%3E3.0"),
    ],
    ids=["url", "doi"],
)
def test_markdown_encodes_addresses(paper, address):
    kinds, addresses = parse_markdown(
        make_answer(make_citation(1, paper, "Owls hunt at dusk.")).to_markdown()
    )
    assert addresses == [address]
    assert "html_inline" not in kinds


# --- JSON ----------------------------------------------------------------------------------


def test_json_is_plain_rounded_and_complete():
    plain = json.loads(ANSWER.to_json())
    assert plain == json.loads(json.dumps(ANSWER.to_dict()))
    assert (plain["confidence"], plain["abstained"], plain["reason"]) == (0.8765, False, "")
    assert plain["claims"][1] == {
        "text": "They save 12% of post-war power.",
        "kind": "quoted",
        "citations": [2],
        "supported": True,
        "score": 0.5679,
        "heading": "",
    }
    assert plain["citations"][1] == {
        "number": 2,
        "paper_id": "tidal-gates-of-the-123456",
        "title": "Tidal Gates of the North-West",
        "authors": ["Ada Brandt", "Zoë Müller"],
        "year": 2021,
        "url": "https://doi.org/10.5555/shores.2021.7",
        "quote": "They save 12% of post-war power.",
        "start": 24,
        "end": 56,
    }
    assert plain["hits"][0] == {
        "paper_id": "tidal-gates-of-the-123456",
        "title": "Tidal Gates of the North-West",
        "score": 0.9877,
        "rank": 1,
    }
    assert plain["trace"]["signals"] == {"dense": 0.1235}
    assert plain["trace"]["seconds"] == {"read": 0.0}


def test_json_keeps_non_ascii_letters():
    assert "Zoë Müller" in ANSWER.to_json()
