"""Tables with a header line: the CSV and tab-separated exports of Zotero, Scopus, Web of Science, PubMed and others."""

import csv
import re
from collections import deque
from collections.abc import Iterator

from rag.ingest.sources.paper import Draft, Flaw, NotPapers
from rag.ingest.sources.stream import LINE_TOO_LONG, Stream
from rag.text.cleaning import value_to_text

_MAX_CELL = 1_000_000  # author lists of large collaborations go beyond the csv module's 131,072
_MAX_ROW = 2 * _MAX_CELL
_LONGEST_HEADER = 100_000  # characters
_DELIMITERS = (",", ";", "\t")
# Names of columns, letters and digits only, the best first; two letters are the tags of Web of Science.
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
# Scopus adds its own number to each of the full names.
_SCOPUS_NUMBER = re.compile(r"\s*\(\d{6,}\)")

Header = dict[str, int]


def header_of(line: str) -> tuple[Header, str]:
    """Which column holds what, and the delimiter under which most columns are known; empty where none is."""
    found = (_columns(line, delimiter) for delimiter in _DELIMITERS)
    return max(zip(found, _DELIMITERS, strict=True), key=lambda pair: len(pair[0]))


def _columns(line: str, delimiter: str) -> Header:
    names = [
        re.sub(r"[\W_]", "", name).lower()
        for name in next(csv.reader([line], delimiter=delimiter), [])
    ]
    return {
        field: names.index(known[0])
        for field, synonyms in _COLUMNS.items()
        if (known := [name for name in synonyms if name in names])
    }


def is_preamble(line: str) -> bool:
    """An empty line, or Excel's remark about the delimiter, before the header."""
    return not line.strip() or bool(re.fullmatch(r"\"?sep=.\"?", line.strip()))


def read(stream: Stream) -> Iterator[Draft | Flaw]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    lines = stream.lines()
    head = next((line for line in lines if line is None or not is_preamble(line)), None) or ""
    if len(head) > _LONGEST_HEADER:
        raise NotPapers(
            f"no papers found in it: its first line has more than {_LONGEST_HEADER:,} characters"
        )
    columns, delimiter = header_of(head)
    if "title" not in columns:
        raise NotPapers(
            f"no papers found in it: no column is called Title; its first line is '{head[:80]}'"
        )
    width = len(next(csv.reader([head], delimiter=delimiter)))
    for row in _rows(lines, delimiter):
        if isinstance(row, Flaw):
            yield row
        elif any(map(str.strip, row)):
            yield _draft(row, columns, width)


def _draft(row: list[str], columns: Header, width: int) -> Draft | Flaw:
    if any(cell.strip() for cell in row[width:]):
        return Flaw(f"{len(row)} cells where the header has {width}")
    cells: dict[str, object] = {field: row[at] for field, at in columns.items() if at < len(row)}
    retracted = "retracted" in value_to_text(cells.pop("kind", "")).lower()
    cells["authors"] = _SCOPUS_NUMBER.sub("", value_to_text(cells.get("authors")))
    return Draft(**cells, retracted=retracted)


class _Overlong(Exception):
    """A line that is too long was met."""


class _Unclosed(Exception):
    """A row grew without end."""


class _Feed:
    """Lines for the csv reader, remembered until their row is whole."""

    def __init__(self, lines: Iterator[str | None]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._chances = 50
        self._size = 0
        self.of_row: list[str] = []
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._again.popleft() if self._again else next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        if line is None:
            raise _Overlong
        self.of_row.append(line)
        self._size += len(line)
        if self._size > _MAX_ROW and len(self.of_row) > 1:
            raise _Unclosed
        return line + "\n"

    def begin_row(self) -> None:
        self.of_row = []
        self._size = 0
        self.ended = False

    def take_back(self) -> None:
        """All lines of the row but its first are to be read again: not without end, for that could take for ever."""
        if self._chances:
            self._chances -= 1
            self._again.extendleft(reversed(self.of_row[1:]))


def _rows(lines: Iterator[str | None], delimiter: str) -> Iterator[list[str] | Flaw]:
    """Rows; a quotation mark that is never closed costs the line it stands in, not all that follow."""
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter)
    while True:
        feed.begin_row()
        try:
            row = next(reader)
        except StopIteration:
            return
        except _Overlong:
            yield Flaw(LINE_TOO_LONG)
            continue
        except (csv.Error, _Unclosed):
            row = []
        # The reader asks for another line within a row only when a quotation mark is open.
        if row and not feed.ended:
            yield row
        elif feed.of_row and (not row or feed.ended):
            yield Flaw(
                "a quotation mark is opened and never closed"
                if feed.ended or len(feed.of_row) > 1
                else "a cell too long"
            )
            feed.take_back()
