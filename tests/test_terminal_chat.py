"""Chat in a terminal: questions, commands, errors and interrupts."""

import io
import json
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
from rag.cli.chat_session import ChatSession
from rag.output.terminal import render_answer

QUESTION = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture(scope="module")
def small(small_library):
    return Assistant(Library(small_library), language_model="none")


@pytest.fixture
def chat(small, monkeypatch):
    """Run lines through a session; return its output, its messages and the number of failures."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*lines, as_json=False, **filters):
        output, messages = [], []
        session = ChatSession(
            lambda: small.chat(**filters),
            output.append,
            messages.append,
            style="quote",
            as_json=as_json,
        )
        failures = session.run(lines)
        return "".join(output), messages, failures

    return run


def test_streamed_answer_equals_the_answer_of_ask(chat, small, monkeypatch):
    out, messages, failures = chat(QUESTION + "\n")
    assert out.rstrip("\n") == render_answer(small.ask(QUESTION, style="quote"))
    assert max(map(len, out.splitlines())) <= 80
    assert (messages, failures) == ([], 0)


def test_a_follow_up_shows_the_rewritten_query_before_the_answer(chat):
    first, _, _ = chat(QUESTION)
    out, _, _ = chat(QUESTION, "And by how much does perplexity rise?")
    question, title = (
        "And by how much does perplexity rise?",
        "Sliding Ledgers: Shrinking the KV Cache by Forgetting Politely",
    )
    second = " ".join(out.removeprefix(first).split())
    assert second.startswith(f"Interpreted as: {question} (about “{title}”) {title}")


def test_blank_lines_are_ignored_and_quit_ends_the_chat(chat):
    assert chat("", "   ", "/quit", QUESTION) == ("", [], 0)


def test_filters_are_set_and_removed(chat):
    title = "Two-Bit Keys, Four-Bit Values"
    question = "Which papers shrink the KV cache?"
    everything, _, _ = chat(question)
    recent, _, _ = chat("/year >=2024", question)
    again, _, _ = chat("/year >=2024", "/year", question)
    assert title in everything
    assert title not in recent
    assert again == everything
    started, _, _ = chat("/year", question, year=">=2024")
    assert started == everything


def test_new_drops_the_conversation_but_keeps_the_options(chat):
    question = "And by how much does perplexity rise?"
    out, _, _ = chat(QUESTION, "/venue nowhere", "/new", question)
    assert "Interpreted as" not in out
    assert "No papers match your filters" not in out
    out, _, _ = chat("/new", QUESTION, year="1999")
    assert "No papers match your filters." in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/year soon", "soon"),
        ("/save", "missing file name; write /save FILE"),
        ("/dance", "unknown command '/dance'; choose from: /year, /venue, "),
        ("x" * 2001, "the limit is 2,000"),
        ("/save no/such/folder/a.md", "cannot write"),
        ("/save a\0b", "cannot write"),
        ("/save ~nobody-of-that-name/a.md", "cannot write"),
        ("/save a\ud800", "cannot write"),
    ],
)
def test_an_error_is_one_line_and_the_chat_continues(chat, line, message):
    out, messages, failures = chat(line, QUESTION)
    assert failures == len(messages) == 1
    assert message in messages[0]
    assert "\n" not in messages[0]
    assert "71%" in out


def test_json_mode_writes_one_answer_per_line_and_nothing_else(chat, small):
    output, messages, failures = chat("/help", QUESTION, "why?", "/dance", as_json=True)
    answers = list(map(json.loads, output.splitlines()))
    assert [answer["question"] for answer in answers] == [QUESTION, "why?"]
    expected = json.loads(small.ask(QUESTION, style="quote").to_json())
    assert answers[0]["claims"] == expected["claims"]
    assert list(answers[0]) == list(expected)
    assert failures == 1
    assert "/quit" in messages[0]


def test_help_lists_every_command(chat):
    out, _, _ = chat("/help")
    for command in ("/year", "/venue", "/author", "/source", "/new", "/save", "/quit"):
        assert command in out


def test_save_writes_markdown_and_overwrites_only_its_own_files(chat, tmp_path):
    path = tmp_path / "notes.md"
    _, messages, failures = chat(QUESTION, f"/save {path}", "why?", f"/save {path}")
    assert (messages, failures) == ([f"saved as {path}"] * 2, 0)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"**{QUESTION}**")
    assert "**why?**" in text
    assert "[^1]: *Sliding Ledgers" in text
    _, messages, failures = chat(f"/save {path}")
    assert (messages, failures) == ([f"{path} already exists; choose another name"], 1)
    assert path.read_text(encoding="utf-8") == text


def test_an_interrupt_stops_the_answer_and_keeps_the_conversation(small_library, monkeypatch):
    def reply(_):
        yield "On average, the KV cache shrinks by 71% [1].\nAnd then"
        while not output:
            yield ""
        # As the signal would, which could end the tests if it came too late.
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        while True:
            yield ""

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assistant = Assistant(Library(small_library), language_model=ScriptedModel(reply))
    output, messages, chats = [], [], []

    def start():
        chats.append(assistant.chat())
        return chats[-1]

    before = signal.getsignal(signal.SIGINT)
    session = ChatSession(start, output.append, messages.append, style="write")
    assert session.run([QUESTION, "/help"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert messages[0] == "the answer is incomplete: it was stopped early"
    assert "the KV cache shrinks by 71%. [1]" in "".join(output)
    assert "/quit" in output[-1]
    assert [len(turn.answer.claims) for turn in chats[0].turns] == [1]


# --- command ------------------------------------------------------------------------------


@pytest.fixture
def piped(footnote, small_library, monkeypatch):
    def run(text, *options):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        return footnote("chat", "--library", small_library, "--model", "none", *options)

    return run


def test_piped_lines_are_questions_without_prompts(piped):
    run = piped(f"{QUESTION}\nAnd by how much does perplexity rise?\n".encode())
    assert run.code == 0
    assert run.out.startswith("Sliding Ledgers: ")
    assert "Interpreted as: And by how much" in run.out
    assert run.err == ""


def test_a_failed_question_from_a_pipe_sets_the_exit_code(piped):
    run = piped(b"caf\xe9?\n" + QUESTION.encode())
    assert run.code == 1
    assert run.err == "footnote: the question is not valid Unicode text\n"
    assert "71%" in run.out
    assert piped(b"").code == 0


def test_piped_questions_are_answered_as_json_lines(piped):
    run = piped(f"{QUESTION}\nAnd by how much does perplexity rise?\n".encode(), "--json")
    assert (run.code, run.err) == (0, "")
    answers = list(map(json.loads, run.lines))
    assert [answer["abstained"] for answer in answers] == [False, False]
    assert answers[1]["trace"]["rewritten_query"].startswith("And by how much")


def test_invalid_filters_and_styles_are_refused(piped):
    assert piped(QUESTION.encode(), "--year", "soon").code != 0
    assert piped(QUESTION.encode(), "--style", "loud").code != 0
    run = piped(QUESTION.encode(), "--year", "1999")
    assert "No papers match your filters." in run.out


def read_until(terminal, text, retry=lambda: None):
    """Return the output up to a text; `retry` is called while there is none."""
    waiting = select.poll()  # `select.select` knows no descriptor above 1,023
    waiting.register(terminal, select.POLLIN)
    seen, deadline = "", time.monotonic() + 60
    while text not in seen and time.monotonic() < deadline:
        if waiting.poll(1000):
            seen += os.read(terminal, 4096).decode()
        else:
            retry()
    assert text in seen
    return seen


def test_interrupt_and_end_of_input_at_a_terminal(
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
    # If the tests run as a background job of a shell, they and their children ignore interrupts.
    accept_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command,
        stdin=line,
        stdout=line,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=accept_interrupts,  # noqa: PLW1509 - it only sets a signal
    )
    os.close(line)
    try:
        read_until(terminal, "? ")
        # A signal that arrives before the chat waits for a key takes effect with the next one.
        read_until(terminal, "? ", retry=lambda: process.send_signal(signal.SIGINT))
        os.write(terminal, f"{QUESTION}\n".encode())
        assert "71%" in read_until(terminal, "\r\n? ")
        os.write(terminal, b"\x04")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(terminal)
