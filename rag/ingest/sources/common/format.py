"""Description of a file format, which each format's module provides as `FORMAT`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import Stream


@dataclass(frozen=True, slots=True)
class FileHead:
    """Beginning of a file as text, without space around it, and the lower-case suffix of its name.

    Formats are detected from the text; the suffix only breaks ties.
    """

    text: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Format:
    """File format of papers.

    `name` is the value of `--format`, `title` a name for messages. `matches` recognizes the format;
    markup formats are only tried on files that begin with `<`, all others only on other files.
    `max_size` is in bytes, for a format that must be read as a whole.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    matches: Callable[[FileHead], bool]
    parse: Callable[[Stream], Iterator[RawRecord | ParseFailure]]
    is_markup: bool = False
    max_size: int | None = None
