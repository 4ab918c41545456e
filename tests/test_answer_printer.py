"""An answer in the terminal: printed as it is written, with the evidence to read until then."""

import io
import sys
from dataclasses import replace

import pytest
from test_rendering import ABSTENTION, ANSWER, GATES, TRACE, make_answer, make_citation

from rag import Claim, Evidence, Sentence
from rag.cli.answer_printer import AnswerPrinter
from rag.output.export import export_answer
from rag.output.terminal import render_answer
from rag.records import Preview, Waiting
from rag.text.answer_form import format_answer, format_evidence, format_written

OPEN, HUNT = make_citation(1, GATES, "Gates open twice a day."), ANSWER.citations[2]


def evidence(citation):
    sentence = Sentence(citation.paper.id, citation.start, citation.end, citation.quote)
    return Evidence(sentence, citation.paper, 0.9, 0.9, 0.9, 0.9)


def written(text, number, heading=""):
    return Claim(text, "generated", (number,), supported=True, score=1.0, heading=heading)


def streamed(*claims, rewritten_query=""):
    """Return the events of an answer with written claims and a quotation from each paper."""
    claims = (*claims, *make_answer(OPEN, HUNT).claims)
    answer = replace(
        make_answer(OPEN, HUNT),
        text=format_answer(claims, (OPEN, HUNT)),
        claims=claims,
        trace=replace(TRACE, rewritten_query=rewritten_query),
    )
    preview = Preview((evidence(OPEN), evidence(HUNT)), rewritten_query)
    previous = [None, *claims[:-2]]
    pieces = map(format_written, claims[:-2], previous)
    return [preview, *pieces, format_evidence(claims, (OPEN, HUNT)), answer]


SENTENCES = [written("Both keep their hours day by day.", 1), written("Owls are late.", 3)]
LIST = [
    written("They open at fixed hours of the day.", 1, heading="Tidal Gates of the North-West"),
    written("They hunt late.", 3, heading="Night Owls"),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def attach_terminal(monkeypatch):
    """Let standard error be a terminal that keeps what it gets."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


@pytest.mark.parametrize("columns", ["12", "30", "100"])
@pytest.mark.parametrize("claims", [[], SENTENCES, LIST, [*SENTENCES, *LIST]])
def test_the_pieces_of_a_stream_are_printed_like_the_whole_answer(monkeypatch, columns, claims):
    monkeypatch.setenv("COLUMNS", columns)
    events, output = streamed(*claims, rewritten_query="When? (on gates)"), []
    assert AnswerPrinter(output.append).print_events(events) is events[-1]
    assert "".join(output) == render_answer(events[-1]) + "\n"
    # Each sentence was printed when it came.
    assert len(output) == len(claims) + 3


def test_titles_are_bold_at_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    events, output = streamed(*SENTENCES), []
    AnswerPrinter(output.append).print_events(events)
    assert "".join(output) == render_answer(events[-1], bold=True) + "\n"
    assert "\n\n\033[1mNight Owls — RETRACTED\033[0m\n" in "".join(output)


def test_an_answer_without_a_preview_is_printed_at_once():
    abstention = replace(ABSTENTION, trace=replace(TRACE, rewritten_query="When? (on gates)"))
    output = []
    AnswerPrinter(output.append).print_events([abstention.text, abstention])
    assert "".join(output) == render_answer(abstention) + "\n"
    assert output[0].startswith("Interpreted as: When? (on gates)\n\nYour library does not say.")


def test_an_exported_answer_is_printed_alone():
    events, output = streamed(*SENTENCES, rewritten_query="When?"), []
    printer = AnswerPrinter(output.append, lambda answer: export_answer(answer, "markdown"))
    printer.print_events(events)
    assert output == [events[-1].to_markdown()]


def test_the_evidence_is_shown_at_a_terminal_until_the_first_sentence(monkeypatch):
    terminal = attach_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    preview, first, *others = streamed(*SENTENCES)
    shown = []

    def events():
        yield preview
        shown.append(terminal.getvalue())
        yield Waiting(2)
        shown.append(terminal.getvalue().removeprefix("".join(shown)))
        yield Waiting(0)
        shown.append(terminal.getvalue().removeprefix("".join(shown)))
        yield first
        shown.append(terminal.getvalue().removeprefix("".join(shown)))
        yield from others

    AnswerPrinter(lambda _: None).print_events(events())
    note = (
        "\033[2mTidal Gates of the North-West (Ada\nBrandt and Zoë Müller, 2021)\n"
        "  “Gates open twice a day.”\n"
        "Night Owls — RETRACTED\n  “Owls hunt at dusk.”\033[0m\n"
    )
    assert shown == [
        note,
        f"\033[5F\033[J{note}2 answers before yours\n",
        f"\033[6F\033[J{note}",
        "\033[5F\033[J",
    ]
    assert terminal.getvalue() == "".join(shown)


def test_at_most_three_sentences_are_shown_and_they_go_when_the_answer_fails(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    terminal = attach_terminal(monkeypatch)

    def events():
        yield Preview((evidence(OPEN),) * 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AnswerPrinter(lambda _: None).print_events(events())
    assert terminal.getvalue().count(OPEN.quote) == 3
    assert terminal.getvalue().endswith("\033[6F\033[J")


def test_nothing_is_shown_without_a_terminal(capsys):
    AnswerPrinter(lambda _: None).print_events(streamed(*SENTENCES))
    assert capsys.readouterr() == ("", "")
