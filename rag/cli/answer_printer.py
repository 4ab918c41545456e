"""Print an answer while it is written; until the first sentence, show the evidence to read."""

import sys
from collections.abc import Callable, Iterable, Sequence

from rag.output.terminal import (
    answer_details,
    render_answer,
    render_lines,
    render_preview,
    render_rewritten_query,
)
from rag.records import Answer, Evidence, Preview, StreamEvent, Waiting
from rag.text.counts import format_count


class AnswerPrinter:
    """Prints the events of `Assistant.stream`."""

    def __init__(
        self, write: Callable[[str], object], export: Callable[[Answer], str] | None = None
    ) -> None:
        """Use `write` for text as it comes or, with `export`, for the whole answer in its format.

        At a terminal, the evidence appears on standard error meanwhile.
        """
        self._write = write
        self._export = export
        self._is_bold = sys.stdout.isatty()
        self._line = ""
        self._evidence: Sequence[Evidence] | None = None
        self._notes = _TransientText()

    def print_events(self, events: Iterable[StreamEvent]) -> Answer:
        """Print the events as they come, and return the answer, which is the last of them."""
        try:
            for event in events:
                self._print(event)
                if isinstance(event, Answer):
                    return event
        finally:
            self._notes.clear()
        raise AssertionError("a stream ends with its answer")

    def _print(self, event: StreamEvent) -> None:
        if isinstance(event, Preview):
            self._start(event)
        elif isinstance(event, Waiting):
            self._show_notes(event.ahead)
        elif isinstance(event, Answer):
            self._finish(event)
        elif self._export is None and self._evidence is not None:
            self._continue(event)

    def _start(self, preview: Preview) -> None:
        self._evidence = preview.evidence
        if self._export is None and preview.rewritten_query:
            self._write(render_rewritten_query(preview.rewritten_query) + "\n\n")
        self._show_notes()

    def _show_notes(self, ahead: int = 0) -> None:
        place = f"\n{format_count(ahead, 'answer')} before yours" if ahead else ""
        self._notes.show(render_preview(self._evidence or ()) + place)

    def _continue(self, piece: str) -> None:
        """Write a piece of text; it may continue the last line, which is wrapped already."""
        self._notes.clear()
        shown = "".join(render_lines(self._line))
        text = self._line + piece
        rendered = "\n".join(render_lines(text, bold=self._is_bold))
        self._write(rendered[len(shown) :])
        self._line = text.rpartition("\n")[2]

    def _finish(self, answer: Answer) -> None:
        self._notes.clear()
        if self._export is not None:
            self._write(self._export(answer))
        elif self._evidence is None:  # without a preview, the answer is there at once
            self._write(render_answer(answer, bold=self._is_bold) + "\n")
        else:
            self._write("\n\n".join(["", *answer_details(answer)]) + "\n")


class _TransientText:
    """Text on standard error that disappears again. Without a terminal, nothing is written."""

    def __init__(self) -> None:
        self._lines = 0

    def show(self, text: str) -> None:
        """Show a text in place of the last one."""
        self.clear()
        if sys.stderr.isatty():
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
            self._lines = text.count("\n") + 1

    def clear(self) -> None:
        """Erase the text: move the cursor up to its first line, and clear from there on."""
        if self._lines:
            sys.stderr.write(f"\033[{self._lines}F\033[J")
            sys.stderr.flush()
            self._lines = 0
