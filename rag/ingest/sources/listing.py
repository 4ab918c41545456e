"""Listing pages saved as text: alternating titles and abstracts, among buttons and dates."""

import re
from collections.abc import Iterator

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.page_blocks import (
    Block,
    is_abstract,
    is_boilerplate,
    pair_blocks,
)
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import LINE_TOO_LONG, Stream

# Characters. Wrapped lines are never this long, so a longer line is a whole paragraph.
_MAX_WRAPPED_LINE = 250
_MAX_PARAGRAPH_LINES = 400
_MAX_PARAGRAPH_SIZE = 400_000  # characters
_MIN_SHARE_OF_BLANK_LINES = 0.1
_NEWSLETTER = re.compile(
    r"(?:get trending papers in your email inbox(?: once a day)?!\s*)+(?=\S)", re.IGNORECASE
)
_GLUED_BUTTON = re.compile(r"Subscribe(?=[A-Z0-9\"'“‘(\[$])")
_MARKDOWN = re.compile(r"^(?:#{1,6}|\*|-|\d{1,3}[.)])\s+(?=\S)")


def _matches(_head: FileHead) -> bool:
    return False  # nothing marks a listing; `detect_format` falls back to it


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    return pair_blocks(_parse_blocks(stream), is_trusted=stream.is_format_given)


def _parse_blocks(stream: Stream) -> Iterator[Block | ParseFailure]:
    is_spaced = _has_blank_lines(stream.head_text)
    boilerplate = _BoilerplateFilter()
    paragraph = _Paragraph()
    for line in stream.lines():
        if line is None or not is_spaced or not line.strip() or paragraph.is_full:
            yield from paragraph.blocks()
            paragraph = _Paragraph()
        if line is None:
            yield ParseFailure(LINE_TOO_LONG)
        elif text := boilerplate.strip(line):
            paragraph.add(text)
    yield from paragraph.blocks()


def _has_blank_lines(head: str) -> bool:
    """Tell if blank lines separate the blocks of a page; otherwise each line is a block."""
    lines = head.split("\n")
    filled = sum(map(bool, map(str.strip, lines)))
    return len(lines) - filled >= _MIN_SHARE_OF_BLANK_LINES * filled


class _BoilerplateFilter:
    """Removal of boilerplate from lines; what counts may depend on the line before."""

    def __init__(self) -> None:
        self._is_after_boilerplate = True

    def strip(self, line: str) -> str:
        """Return a line without boilerplate, often an empty string."""
        line = line.strip()
        if newsletter := _NEWSLETTER.match(line):
            line = line[newsletter.end() :]
            self._is_after_boilerplate = True
        # Saved pages join this button to the title after it. Elsewhere a title may begin with the
        # same word.
        if self._is_after_boilerplate and (button := _GLUED_BUTTON.match(line)):
            line = line[button.end() :]
        if line:
            self._is_after_boilerplate = is_boilerplate(line)
        return "" if self._is_after_boilerplate else line


class _Paragraph:
    """Lines without a blank line between them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether the paragraph has reached a limit."""
        return len(self._lines) == _MAX_PARAGRAPH_LINES or self._size > _MAX_PARAGRAPH_SIZE

    def add(self, line: str) -> None:
        """Add a line; the first one loses its Markdown."""
        self._size += len(line)
        self._lines.append(line if self._lines else _MARKDOWN.sub("", line))

    def blocks(self) -> Iterator[Block]:
        """Yield its blocks: one per line, or a title and the text below it, or one wrapped text."""
        lines = self._lines
        if any(len(line) > _MAX_WRAPPED_LINE for line in lines):
            yield from map(Block, lines)
        elif self._starts_with_title():
            yield Block(lines[0])
            yield Block("\n".join(lines[1:]))
        elif lines:
            yield Block("\n".join(lines))

    def _starts_with_title(self) -> bool:
        lines = self._lines
        if len(lines) < 2 or not _ends_early(lines):
            return False
        return is_abstract("\n".join(lines[1:])) and not is_abstract(lines[0])


def _ends_early(lines: list[str]) -> bool:
    """Tell if the first line ends early: the next word would still have fitted on it."""
    next_word = lines[1].split(" ")[0]
    return len(lines[0]) + 1 + len(next_word) <= max(map(len, lines[1:]))


FORMAT = Format("listing", "listing page", (), _matches, _parse)
