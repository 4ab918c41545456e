"""The conversation in a terminal: lines in, text out, errors as one line; an interrupt stops the answer only."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from fakes import ScriptedModel

from rag import Assistant, Library
from rag.output.terminal import Talk, render_answer

LEDGERS = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture(scope="module")
def small(small_library):
    return Assistant(Library(small_library), language_model="none")


@pytest.fixture
def talk(small, monkeypatch):
    """Run lines through a conversation; gives what was written, what was said, and how many lines failed."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*lines, **filters):
        written, said = [], []
        failed = Talk(
            lambda: small.chat(**filters), written.append, said.append, style="quote"
        ).run(lines)
        return "".join(written), said, failed

    return run


def test_the_streamed_answer_looks_as_that_of_ask(talk, small, monkeypatch):
    out, said, failed = talk(LEDGERS + "\n")
    assert out.rstrip("\n") == render_answer(small.ask(LEDGERS, style="quote"))
    assert max(map(len, out.splitlines())) <= 80
    assert (said, failed) == ([], 0)


def test_a_follow_up_says_how_it_was_read(talk):
    out, _, _ = talk(LEDGERS, "And by how much does perplexity rise?")
    question, title = (
        "And by how much does perplexity rise?",
        "Sliding Ledgers: Shrinking the KV Cache by Forgetting Politely",
    )
    assert f"Read as: {question} (on {title})" in " ".join(out.split())


def test_blank_lines_are_nothing_and_quit_ends(talk):
    assert talk("", "   ", "/quit", LEDGERS) == ("", [], 0)


def test_filters_are_said_and_taken_back(talk):
    title = "Two-Bit Keys, Four-Bit Values"
    question = "How does one shrink the KV cache?"
    everything, _, _ = talk(question)
    recent, _, _ = talk("/year >=2024", question)
    again, _, _ = talk("/year >=2024", "/year", question)
    assert title in everything
    assert title not in recent
    assert again == everything
    started, _, _ = talk("/year", question, year=">=2024")
    assert started == everything


def test_new_forgets_what_was_said_but_not_how_it_was_started(talk):
    question = "And by how much does perplexity rise?"
    out, _, _ = talk(LEDGERS, "/venue nowhere", "/new", question)
    assert "Read as" not in out
    assert "No paper passes the filters" not in out
    out, _, _ = talk("/new", LEDGERS, year="1999")
    assert "No paper passes the filters." in out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/year soon", "soon"),
        ("/save", "name the file: /save FILE"),
        ("/dance", "no command is called /dance; /help shows them"),
        ("x" * 2001, "at most 2,000 are read"),
        ("/save no/such/folder/a.md", "cannot be written"),
        ("/save a\0b", "cannot be written"),
        ("/save ~nobody-of-that-name/a.md", "cannot be written"),
        ("/save a\ud800", "cannot be written"),
    ],
)
def test_an_error_is_one_line_and_the_conversation_goes_on(talk, line, told):
    out, said, failed = talk(line, LEDGERS)
    assert failed == len(said) == 1
    assert told in said[0]
    assert "\n" not in said[0]
    assert "71%" in out


def test_help_names_every_command(talk):
    out, _, _ = talk("/help")
    for command in ("/year", "/venue", "/author", "/source", "/new", "/save", "/quit"):
        assert command in out


def test_saving_writes_markdown_and_replaces_only_what_came_from_here(talk, tmp_path):
    path = tmp_path / "notes.md"
    _, said, failed = talk(LEDGERS, f"/save {path}", "why?", f"/save {path}")
    assert (said, failed) == ([f"saved as {path}"] * 2, 0)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"**{LEDGERS}**")
    assert "**why?**" in text
    assert "[^1]: *Sliding Ledgers" in text
    _, said, failed = talk(f"/save {path}")
    assert (said, failed) == ([f"{path} is there already; name another file"], 1)
    assert path.read_text(encoding="utf-8") == text


def test_an_interrupt_stops_the_answer_in_the_making_and_keeps_the_conversation(
    small_library, monkeypatch
):
    def reply(_):
        yield "The KV cache shrinks by 71% on average [1].\nAnd then"
        while not written:
            yield ""
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            yield ""

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assistant = Assistant(Library(small_library), language_model=ScriptedModel(reply))
    written, said, chats = [], [], []

    def begin():
        chats.append(assistant.chat())
        return chats[-1]

    before = signal.getsignal(signal.SIGINT)
    assert Talk(begin, written.append, said.append, style="write").run([LEDGERS, "/help"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert said[0] == "stopped before the answer was finished; the answer ends where it stopped"
    assert "shrinks by 71%" in "".join(written)
    assert "/quit" in written[-1]
    assert [len(turn.answer.claims) for turn in chats[0].turns] == [1]


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def piped(footnote, small_library, monkeypatch):
    def run(text, *options):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        return footnote("chat", "--library", small_library, "--model", "none", *options)

    return run


def test_each_line_of_a_pipe_is_a_question_and_no_prompt_is_printed(piped):
    run = piped(f"{LEDGERS}\nAnd by how much does perplexity rise?\n".encode())
    assert run.code == 0
    assert run.out.startswith("“")
    assert "Read as: And by how much" in run.out
    assert run.err == ""


def test_a_question_from_a_pipe_that_failed_is_told_by_the_exit_code(piped):
    run = piped(b"caf\xe9?\n" + LEDGERS.encode())
    assert run.code == 1
    assert run.err == "footnote: the question holds bytes that are no text\n"
    assert "71%" in run.out
    assert piped(b"").code == 0


def test_wrong_filters_and_styles_are_refused(piped):
    assert piped(LEDGERS.encode(), "--year", "soon").code != 0
    assert piped(LEDGERS.encode(), "--style", "loud").code != 0
    run = piped(LEDGERS.encode(), "--year", "1999")
    assert "No paper passes the filters." in run.out


def _until(terminal, text, again=lambda: None):
    """What the command wrote up to a text; what may be missed is done again until then."""
    waiting = select.poll()  # `select.select` knows no descriptor above 1,023
    waiting.register(terminal, select.POLLIN)
    seen, deadline = "", time.monotonic() + 60
    while text not in seen and time.monotonic() < deadline:
        if waiting.poll(1000):
            seen += os.read(terminal, 4096).decode()
        else:
            again()
    assert text in seen
    return seen


def test_at_a_terminal_an_interrupt_keeps_the_conversation_and_the_end_of_input_ends_it(
    small_library,
):
    terminal, line = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "rag.cli",
        "chat",
        "--library",
        str(small_library),
        "--model",
        "none",
    ]
    # A shell that runs the tests in the background has its children ignore interrupts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command,
        stdin=line,
        stdout=line,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=heeding,  # noqa: PLW1509 - it only sets a signal
    )
    os.close(line)
    try:
        _until(terminal, "? ")
        # A signal between the prompt and the waiting for a key is seen with the next one.
        _until(terminal, "? ", again=lambda: process.send_signal(signal.SIGINT))
        os.write(terminal, f"{LEDGERS}\n".encode())
        assert "71%" in _until(terminal, "\r\n? ")
        os.write(terminal, b"\x04")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(terminal)
