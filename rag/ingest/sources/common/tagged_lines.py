"""Records of tagged lines, the basis of RIS and MEDLINE."""

import re
from collections.abc import Iterator

from rag.ingest.sources.common.raw_record import ParseFailure
from rag.ingest.sources.common.stream import LINE_TOO_LONG, MAX_LINE, RECORD_TOO_LONG, Stream

# Characters counted for each line besides its text: millions of empty lines fill memory, too.
_LINE_OVERHEAD = 16

TaggedLines = list[tuple[str, str]]


def parse_tagged_records(
    stream: Stream, line: re.Pattern[str], first_tag: str, last_tag: str | None = None
) -> Iterator[TaggedLines | ParseFailure]:
    """Yield the tagged lines of each record, with continuation lines joined to them.

    The groups of the pattern `line` are tag and text. A record ends before `last_tag` or the next
    `first_tag`, because the end tag is often missing.
    """
    record = _TaggedRecord()
    for content in stream.lines():
        if content is None:
            record.fail(LINE_TOO_LONG)
            continue
        match = line.match(content)
        tag, text = (match[1], match[2] or "") if match else ("", content)
        if record and tag in (first_tag, last_tag):
            yield record.finish()
            record = _TaggedRecord()
        if tag != last_tag:
            record.add(tag, text.strip())
    if record:
        yield record.finish()


class _TaggedRecord:
    """Lines of one record."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, list[str]]] = []
        self._size = 0
        self._failure = ""

    def __bool__(self) -> bool:
        return bool(self._lines or self._failure)

    def add(self, tag: str, text: str) -> None:
        """Add a line. One without a tag continues the line before it, or is blank."""
        if not tag and not text:
            return
        self._size += len(text) + _LINE_OVERHEAD
        if self._size > MAX_LINE:
            self.fail(RECORD_TOO_LONG)
        elif tag and not self._failure:
            self._lines.append((tag, [text]))
        elif self._lines:
            self._lines[-1][1].append(text)

    def fail(self, reason: str) -> None:
        """Drop the record. Only the first reason is reported."""
        self._failure = self._failure or reason
        self._lines.clear()

    def finish(self) -> TaggedLines | ParseFailure:
        """Return the lines, or the reason why there are none."""
        if self._failure:
            return ParseFailure(self._failure)
        return [(tag, "\n".join(texts)) for tag, texts in self._lines]
