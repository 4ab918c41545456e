"""Chat in a terminal or from a pipe: one question per line, and commands such as `/new`."""

import contextlib
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rag.answering.conversation import Conversation
from rag.cli.answer_printer import AnswerPrinter
from rag.errors import FootnoteError, UsageError, unknown_choice
from rag.library.filters import FILTERS, Filters, merge_filters, parse_filters
from rag.records import Answer

PROMPT = "? "
_FILTER_COMMANDS = {name.replace("_", "-"): name for name in FILTERS}
_OTHER_FILTERS = ", ".join(f"/{name}" for name in _FILTER_COMMANDS if name != "year")
_HELP = f"""\
Ask a question. Follow-up questions work too. Ctrl-C stops an answer, Ctrl-D ends the chat.
/year >=2023    search papers from these years only; /year alone searches all years again
                (other filters: {_OTHER_FILTERS})
/new            start a new conversation
/save FILE      save the conversation as Markdown
/quit           end the chat
"""


class ChatSession:
    """One run of `footnote chat`, with its current conversation and filters."""

    def __init__(
        self,
        start: Callable[[], Conversation],
        write: Callable[[str], object],
        notify: Callable[[str], object],
        *,
        sentences: int | None = None,
        style: str = "auto",
        as_json: bool = False,
    ) -> None:
        """Use `start` to begin a conversation, `write` for text, and `notify` for messages.

        With `as_json`, each answer is written as one line of JSON, and nothing else is written.
        """
        self._start = start
        self._write = write
        self._notify = notify
        self._sentences = sentences
        self._style = style
        self._as_json = as_json
        self._conversation = start()
        self._filters: dict[str, str] = {}
        self._saved_files: set[Path] = set()
        self._commands: dict[str, Callable[[str], object]] = {
            "new": self._restart,
            "save": self._save,
            "help": self._show_help,
        }

    def run(self, lines: Iterable[str]) -> int:
        """Process lines until they end or one is `/quit`; return how many failed."""
        failures = 0
        for line in map(str.strip, lines):
            if line == "/quit":
                break
            try:
                self._process(line)
            except FootnoteError as error:
                failures += 1
                self._notify(str(error))
        return failures

    def _process(self, line: str) -> None:
        command, _, argument = line[1:].partition(" ")
        if not line.startswith("/"):
            if line:
                self._answer(line)
        elif command in _FILTER_COMMANDS:
            self._set_filter(_FILTER_COMMANDS[command], argument.strip())
        elif command in self._commands:
            self._commands[command](argument.strip())
        else:
            commands = [f"/{name}" for name in (*_FILTER_COMMANDS, *self._commands, "quit")]
            raise unknown_choice("command", f"/{command}", commands)

    def _answer(self, question: str) -> None:
        with _stop_on_interrupt() as stop:
            events = self._conversation.stream(
                question,
                sentences=self._sentences,
                style=self._style,
                stop=stop,
                **self._filters,
            )
            export = _json_line if self._as_json else None
            answer = AnswerPrinter(self._write, export).print_events(events)
            if not self._as_json:
                self._write("\n")
            for notice in answer.notices:
                self._notify(notice)

    def _set_filter(self, name: str, value: str) -> None:
        # An invalid filter is reported now, not with the next question.
        parse_filters(merge_filters(Filters(), {name: value}))
        self._filters[name] = value

    def _restart(self, _: str) -> None:
        self._conversation, self._filters = self._start(), {}

    def _show_help(self, _: str) -> None:
        if self._as_json:
            self._notify(_HELP.rstrip())
        else:
            self._write(_HELP)

    def _save(self, name: str) -> None:
        """Write the conversation to a file; only a file saved by this chat is overwritten."""
        if not name:
            raise UsageError("missing file name; write /save FILE")
        try:
            path = Path(name).expanduser()
            with path.open("w" if path in self._saved_files else "x", encoding="utf-8") as file:
                file.write(self._conversation.to_markdown())
        except FileExistsError:
            raise UsageError(f"{path} already exists; choose another name") from None
        # ValueError: the name is not valid text. RuntimeError: an unknown user's home folder.
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", "") or error
            raise UsageError(f"cannot write {name}: {reason}") from error
        self._saved_files.add(path)
        self._notify(f"saved as {path}")


def _json_line(answer: Answer) -> str:
    return json.dumps(answer.to_dict(), ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Let Ctrl-C at a terminal set an event; pressed again, it interrupts as usual."""
    stop = threading.Event()

    def set_stop(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if not sys.stdin.isatty() or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous_handler = signal.signal(signal.SIGINT, set_stop)
    try:
        yield stop
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def read_lines() -> Iterator[str]:
    """Yield the lines of standard input, with a prompt if it is a terminal."""
    if sys.stdin.isatty():
        yield from _prompt_for_lines()
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        # One line that is not valid text must not end the chat.
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


def _prompt_for_lines() -> Iterator[str]:
    with contextlib.suppress(ImportError):  # not available on Windows
        import readline  # noqa: F401 - gives `input` a history
    while True:
        try:
            line = _prompt()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            continue
        except EOFError:
            sys.stderr.write("\n")
            return
        yield line


def _prompt() -> str:
    """Read one line; when standard output goes to a file, the prompt goes to standard error."""
    if sys.stdout.isatty():
        return input(PROMPT)
    sys.stderr.write(PROMPT)
    sys.stderr.flush()
    return input()
