"""Tables with a header: the CSV and tab-separated exports of Zotero, Scopus, PubMed and others."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord, WrongFormat
from rag.ingest.sources.common.stream import LINE_TOO_LONG, Stream
from rag.text.cleaning import value_to_text

# All in characters. Author lists of large collaborations exceed the csv module's 131,072.
_MAX_CELL = 1_000_000
_MAX_ROW = 2 * _MAX_CELL
_MAX_HEADER = 100_000
_MAX_RETRIES = 50  # rows per file that are split at an unclosed quotation mark and read again
_DELIMITERS = (",", ";", "\t")
# Names of columns, reduced to letters and digits, best first. Two letters: Web of Science.
_COLUMNS = {
    "title": ("title", "articletitle", "documenttitle", "papertitle", "ti"),
    "abstract": ("abstract", "abstractnote", "summary", "abstracttext", "ab"),
    "authors": ("authorfullnames", "authors", "author", "authornames", "creators", "af", "au"),
    "year": ("year", "publicationyear", "pubyear", "date", "publicationdate", "published", "py"),
    "venue": (
        "sourcetitle",
        "publicationtitle",
        "journal",
        "journalbook",
        "journaltitle",
        "venue",
        "conferencename",
        "so",
    ),
    "url": ("url", "link", "articleurl", "links"),
    "doi": ("doi", "doilink", "di"),
    "arxiv_id": ("arxivid", "arxiv", "arxivnumber"),
    "pmid": ("pmid", "pubmedid", "pm"),
    "notes": ("extra", "notes"),
    "kind": ("documenttype", "publicationtype", "dt"),
}
_NOT_ALPHANUMERIC = re.compile(r"[\W_]")
_DELIMITER_NOTE = re.compile(r"\"?sep=.\"?")
# Scopus adds its own number to each full name.
_SCOPUS_NUMBER = re.compile(r"\s*\(\d{6,}\)")


@dataclass(frozen=True, slots=True)
class _Header:
    """Header of a table: the positions of recognized columns, and the number of all columns."""

    columns: dict[str, int]
    delimiter: str
    width: int


def _matches(head: FileHead) -> bool:
    """Recognize a header with a title and more. A title alone is accepted by suffix only."""
    first_line = next(filter(_is_content, head.text.split("\n")), "")
    columns = _parse_header(first_line).columns
    return "title" in columns and len(columns) > 1


def _is_content(line: str | None) -> bool:
    """Tell if a line is neither blank nor the note about the delimiter that Excel understands."""
    if line is None:
        return True
    line = line.strip()
    return bool(line) and not _DELIMITER_NOTE.fullmatch(line)


def _parse_header(line: str) -> _Header:
    """Parse a header with the delimiter that gives the most recognized columns."""
    headers = [_split_header(line, delimiter) for delimiter in _DELIMITERS]
    return max(headers, key=lambda header: len(header.columns))


def _split_header(line: str, delimiter: str) -> _Header:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    names = [_NOT_ALPHANUMERIC.sub("", cell).lower() for cell in cells]
    columns = {}
    for field, synonyms in _COLUMNS.items():
        name = next(filter(names.__contains__, synonyms), None)
        if name is not None:
            columns[field] = names.index(name)
    return _Header(columns, delimiter, len(cells))


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    lines = stream.lines()
    header = _read_header(lines)
    for row in _read_rows(lines, header.delimiter):
        if isinstance(row, ParseFailure):
            yield row
        elif any(map(str.strip, row)):
            yield _map_row(row, header)


def _read_header(lines: Iterator[str | None]) -> _Header:
    line = next(filter(_is_content, lines), None) or ""
    if len(line) > _MAX_HEADER:
        raise WrongFormat(
            f"no papers found: the first line has more than {_MAX_HEADER:,} characters"
        )
    header = _parse_header(line)
    if "title" not in header.columns:
        raise WrongFormat(
            f"no papers found: no column is called Title; the first line is '{line[:80]}'"
        )
    return header


def _map_row(row: list[str], header: _Header) -> RawRecord | ParseFailure:
    if any(map(str.strip, row[header.width :])):
        return ParseFailure(f"{len(row)} cells, but the header has {header.width}")
    cells: dict[str, object] = {}
    for field, position in header.columns.items():
        if position < len(row):
            cells[field] = row[position]
    is_retracted = "retracted" in value_to_text(cells.pop("kind", "")).lower()
    cells["authors"] = _SCOPUS_NUMBER.sub("", value_to_text(cells.get("authors")))
    return RawRecord(**cells, retracted=is_retracted)


class _LineTooLong(Exception):
    """Line longer than `MAX_LINE`."""


class _RowTooLong(Exception):
    """Row that grew beyond `_MAX_ROW` because of an unclosed quotation mark."""


class _LineFeed:
    """Lines for the csv reader. Those of the current row can be read again."""

    def __init__(self, lines: Iterator[str | None]) -> None:
        self._lines = lines
        self._lines_to_repeat: deque[str] = deque()
        self._retries_left = _MAX_RETRIES
        self._row_size = 0
        self.row_lines: list[str] = []
        self.is_at_end = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._lines_to_repeat.popleft() if self._lines_to_repeat else next(self._lines)
        except StopIteration:
            self.is_at_end = True
            raise
        if line is None:
            raise _LineTooLong
        self.row_lines.append(line)
        self._row_size += len(line)
        if self._row_size > _MAX_ROW and len(self.row_lines) > 1:
            raise _RowTooLong
        return line + "\n"

    def begin_row(self) -> None:
        """Forget the lines of the previous row."""
        self.row_lines = []
        self._row_size = 0
        self.is_at_end = False

    def repeat_row(self) -> None:
        """Queue all lines of the row except the first to be read again.

        The number of retries is limited, because they can take quadratic time.
        """
        if self._retries_left:
            self._retries_left -= 1
            self._lines_to_repeat.extendleft(reversed(self.row_lines[1:]))


def _read_rows(lines: Iterator[str | None], delimiter: str) -> Iterator[list[str] | ParseFailure]:
    """Yield rows. An unclosed quotation mark loses only its own line."""
    feed = _LineFeed(lines)
    reader = csv.reader(feed, delimiter=delimiter)
    while True:
        feed.begin_row()
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            return
        except _LineTooLong:
            yield ParseFailure(LINE_TOO_LONG)
            continue
        except (csv.Error, _RowTooLong):
            row = None
        # Within a row, the reader asks for another line only after an opening quotation mark.
        if row is not None and not feed.is_at_end:
            yield row
        elif feed.row_lines:
            yield _describe_failure(feed)
            feed.repeat_row()


def _describe_failure(feed: _LineFeed) -> ParseFailure:
    if feed.is_at_end or len(feed.row_lines) > 1:
        return ParseFailure("a quotation mark is opened and never closed")
    return ParseFailure(f"a cell longer than {_MAX_CELL:,} characters")


FORMAT = Format("csv", "CSV", (".csv", ".tsv"), _matches, _parse)
