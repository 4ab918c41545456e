"""An answer, a paper and a conversation as they are read in a terminal."""

import contextlib
import io
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from rag.answering.conversation import Conversation
from rag.errors import FootnoteError, UsageError
from rag.library.filters import Filters, merge_filters, parse_filters
from rag.records import Answer, Paper
from rag.text.cleaning import escape_control_chars
from rag.text.prompt_injection import paper_injections

_WIDEST = 100
PROMPT = "? "
_FILTERS = ("year", "venue", "author", "source")
_HELP = """\
Ask in plain words; a question may lean on the ones before. Ctrl-C stops an answer, Ctrl-D ends the conversation.
/year >=2023    only papers of these years; likewise /venue, /author, /source; without a value, all again
/new            forget what was said, and begin again
/save FILE      write the conversation as Markdown
/quit           end the conversation"""


def render_answer(answer: Answer) -> str:
    """The text, its footnotes, and how sure the assistant is."""
    width = _width()
    return "\n\n".join([_fill(answer.text, width), *_below(answer, width)])


def _below(answer: Answer, width: int) -> list[str]:
    """What stands below the text, in paragraphs."""
    if answer.abstained:
        return [f"The nearest papers:\n{_nearest(answer, width)}"] if answer.hits else []
    sure = f"Confidence: {answer.confidence_label} ({answer.confidence:.2f})"
    return ["\n".join(_footnotes(answer, width)), sure]


def render_paper(paper: Paper) -> str:
    """Everything that the library knows about a paper."""
    width = _width()
    facts = {
        "": ", ".join(paper.authors),
        "year": str(paper.year or ""),
        "venue": paper.venue,
        "DOI": paper.doi,
        "arXiv": paper.arxiv_id,
        "PubMed": paper.pmid,
        "link": paper.link,
        "id": paper.id,
        "source": paper.source,
    }
    lines = [_fill(paper.title, width), *(["RETRACTED"] if paper.retracted else [])]
    lines += [f"{name}: {value}" if name else value for name, value in facts.items() if value]
    told = paper_injections(paper)
    warning = _fill(
        f"Reads like an instruction to a program, so it is never quoted: “{' … '.join(told)}”",
        width,
    )
    abstract = _fill(paper.abstract, width) or "(no abstract)"
    return "\n".join(lines) + f"\n\n{abstract}" + (f"\n\n{warning}" if told else "")


def _footnotes(answer: Answer, width: int) -> Iterator[str]:
    """One note for each paper, with all the numbers that lead to it."""
    for _, citations in groupby(answer.citations, key=lambda citation: citation.paper.id):
        same = list(citations)
        paper = same[0].paper
        mark = "".join(f"[{citation.number}]" for citation in same) + " "
        text = (
            paper.title
            + (f". {paper.byline}" if paper.byline else "")
            + (" — RETRACTED" if paper.retracted else "")
        )
        yield _fill(text, width, mark, " " * len(mark))
        yield " " * len(mark) + (paper.link or f"footnote show {paper.id}")


def _nearest(answer: Answer, width: int) -> str:
    return "\n".join(_fill(hit.paper.title, width, "- ", "  ") for hit in answer.hits)


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns)


def _fill(text: str, width: int, first: str = "", others: str = "") -> str:
    """Lines of whole words: a quotation that is copied from the terminal stays literal."""
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.fill(text)


class Talk:
    """A conversation line by line: questions, and commands that begin with a slash."""

    def __init__(
        self,
        begin: Callable[[], Conversation],
        write: Callable[[str], object],
        say: Callable[[str], object],
        *,
        sentences: int | None = None,
        style: str = "auto",
    ) -> None:
        """`begin` makes a conversation, `write` takes pieces of text as they come, `say` whole messages."""
        self._begin = begin
        self._write = write
        self._say = say
        self._sentences = sentences
        self._style = style
        self._conversation = begin()
        self._filters: dict[str, str] = {}
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], object]] = {
            "new": self._new,
            "save": self._save,
            "help": self._help,
        }

    def run(self, lines: Iterable[str]) -> int:
        """Take line by line until they end or one says `/quit`; gives how many could not be done."""
        failed = 0
        for line in map(str.strip, lines):
            if line == "/quit":
                break
            try:
                self._take(line)
            except FootnoteError as error:
                failed += 1
                self._say(str(error))
        return failed

    def _take(self, line: str) -> None:
        name, _, value = line[1:].partition(" ")
        if not line.startswith("/"):
            self._answer(line) if line else None
        elif name in _FILTERS:
            self._filter(name, value.strip())
        elif name in self._commands:
            self._commands[name](value.strip())
        else:
            raise UsageError(f"no command is called /{name}; /help shows them")

    def _answer(self, question: str) -> None:
        width = _width()
        flow = _Flow(self._write, width)
        with _stopped_by_interrupt() as stop:
            options = {"sentences": self._sentences, "style": self._style, "stop": stop}
            for one in self._conversation.stream(question, **options, **self._filters):  # type: ignore[arg-type]
                if isinstance(one, str):
                    flow.add(one)
                else:
                    self._write(_ending(one, width))
                    for remark in one.notices:
                        self._say(remark)

    def _filter(self, name: str, value: str) -> None:
        parse_filters(
            merge_filters(Filters(), {name: value})
        )  # what means nothing is told now, not with the next question
        self._filters[name] = value

    def _new(self, _: str) -> None:
        self._conversation, self._filters = self._begin(), {}

    def _help(self, _: str) -> None:
        self._write(_HELP + "\n")

    def _save(self, name: str) -> None:
        """Write the conversation; a file is replaced only when it came from here."""
        if not name:
            raise UsageError("name the file: /save FILE")
        try:
            path = Path(name).expanduser()
            with path.open("w" if path in self._saved else "x", encoding="utf-8") as file:
                file.write(self._conversation.to_markdown())
        except FileExistsError:
            raise UsageError(f"{path} is there already; name another file") from None
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # no room; no text; nobody of that name has a home
            raise UsageError(
                f"{name} cannot be written: {getattr(error, 'strerror', '') or error}"
            ) from error
        self._saved.add(path)
        self._say(f"saved as {path}")


def _ending(answer: Answer, width: int) -> str:
    """What follows the text of an answer in a conversation."""
    rewritten_query = (
        [_fill(f"Read as: {escape_control_chars(answer.trace.rewritten_query)}", width)]
        if answer.trace.rewritten_query
        else []
    )
    below = _below(answer, width) if answer.claims or answer.abstained else []
    return "\n\n" + "".join(f"{part}\n\n" for part in [*below, *rewritten_query])


class _Flow:
    """Text in pieces as lines of whole words; each word is written as soon as its piece comes."""

    def __init__(self, write: Callable[[str], object], width: int) -> None:
        self._write = write
        self._width = width
        self._column = 0

    def add(self, piece: str) -> None:
        for word in piece.split():
            fits = self._column + 1 + len(word) <= self._width
            before = "" if not self._column else " " if fits else "\n"
            self._column = len(word) + (self._column + 1 if before == " " else 0)
            self._write(before + word)


@contextlib.contextmanager
def _stopped_by_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets at a terminal, where the conversation goes on; pressed again, it interrupts as ever."""
    stop = threading.Event()

    def set_stop(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if not sys.stdin.isatty() or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, set_stop)
    try:
        yield stop
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)


def typed_lines() -> Iterator[str]:
    """Lines of standard input: asked for with a prompt at a terminal, as they are from a pipe."""
    if not sys.stdin.isatty():
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(
                errors="surrogateescape"
            )  # one line that is no text must not cost the others
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401 - `input` keeps a history with it
    while True:
        try:
            line = input(PROMPT)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        yield line
