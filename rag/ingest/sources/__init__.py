"""Readers of the files that hold papers: one for each format, behind one door.

    with open_source("references.bib") as source:
        for number, outcome in source:
            ...  # a Paper, or a Rejection that says why there is none

Every record ends as one or the other; a broken one never costs the others.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from glob import escape, glob
from itertools import dropwhile
from pathlib import Path
from types import TracebackType

from rag.errors import SourceError
from rag.ingest.sources import bibtex, jsonfile, listing, markup, table, tagged, webpage
from rag.ingest.sources.detect import format_of, why_not_text
from rag.ingest.sources.paper import BrokenOff, Draft, Flaw, NotPapers, Unfit, paper_of
from rag.ingest.sources.stream import Stream
from rag.records import Paper, Rejection
from rag.text.cleaning import escape_control_chars, printable_path

# So many records that cannot be read, and more than can, are no file of papers: the rest of it is not read.
MAX_REFUSED = 100_000
_LONGEST_REASON = 400  # characters

__all__ = ["FORMATS", "Source", "expand", "open_source"]

_READERS: dict[str, Callable[[Stream], Iterator[Draft | Flaw]]] = {
    "listing": listing.read,
    "jsonl": jsonfile.read_lines,
    "json": jsonfile.read_document,
    "csv": table.read,
    "bibtex": bibtex.read,
    "ris": tagged.read_ris,
    "medline": tagged.read_medline,
    "pubmed-xml": markup.read_pubmed,
    "atom": markup.read_atom,
    "html": webpage.read,
}
FORMATS: tuple[str, ...] = tuple(_READERS)


class Source:
    """An open file of papers. Iterating yields (record number, Paper or Rejection), numbers counting from 1."""

    def __init__(self, name: str, stream: Stream, format: str) -> None:  # noqa: A002 - the word of the command line
        self.name = printable_path(name)
        self.format = format
        self.size = stream.size
        self._stream = stream
        self._refusals = 0

    @property
    def position(self) -> int:
        """Bytes read so far, for a progress bar."""
        return self._stream.position

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[tuple[int, Paper | Rejection]]:
        number = 0
        try:
            for number, record in self._numbered():
                yield number, self._outcome(number, record)
        except NotPapers as error:
            yield 0, self._refused(0, str(error))
        except (BrokenOff, OSError) as error:
            yield number + 1, self._refused(number + 1, str(error))
        else:
            if not number:
                yield 0, self._refused(0, f"no papers found in it; it was read as {self.format}")

    def _numbered(self) -> Iterator[tuple[int, Draft | Flaw]]:
        """The records; those refused are counted, for each of them is remembered in the report."""
        self._refusals = 0
        for number, record in enumerate(_READERS[self.format](self._stream), start=1):
            if self._refusals >= MAX_REFUSED and 2 * self._refusals > number:
                raise BrokenOff(
                    f"{self._refusals:,} of {number - 1:,} records cannot be read; the rest was left out"
                )
            yield number, record

    def _outcome(self, number: int, record: Draft | Flaw) -> Paper | Rejection:
        if isinstance(record, Flaw):
            return self._refused(number, record.reason)
        try:
            return paper_of(record, Path(self.name).name)
        except Unfit as error:
            return self._refused(number, str(error))

    def _refused(self, number: int, why: str) -> Rejection:
        """`why` may hold words of the file: they are to fill no screen and steer no terminal."""
        self._refusals += 1
        return Rejection(
            self.name, number, escape_control_chars(" ".join(why.split())[:_LONGEST_REASON])
        )


def open_source(path: str | os.PathLike[str], format: str | None = None) -> Source:  # noqa: A002
    """Open a file of papers, its format told from its content unless it is named; raises SourceError."""
    name = os.fspath(path)
    if format is not None and format not in FORMATS:
        raise _refusal(name, f"no format is called '{format}'; there are {', '.join(FORMATS)}")
    stream = _open(name, named=format is not None)
    try:
        return Source(name, stream, _checked_format(name, stream, format))
    except BaseException:
        stream.close()
        raise


def _open(name: str, named: bool) -> Stream:
    try:
        # Not a pipe: opening one could wait for ever.
        mode = os.stat(name).st_mode  # noqa: PTH116 - the path as the user gave it
        if stat.S_ISDIR(mode):
            raise _refusal(name, "a directory, not a file")
        if not stat.S_ISREG(mode):
            raise _refusal(name, "not a regular file")
        file = Path(name).open("rb")  # noqa: SIM115 - the Source closes it
        return Stream(file, os.fstat(file.fileno()).st_size, named)
    except FileNotFoundError:
        raise _refusal(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _refusal(name, f"cannot be read: {_told(error)}") from error


def _refusal(name: str, why: str) -> SourceError:
    return SourceError(printable_path(name), why)


def _told(error: Exception) -> str:
    """What is wrong, without the name, which is told anyway."""
    return escape_control_chars(str(getattr(error, "strerror", None) or error))


def _checked_format(name: str, stream: Stream, asked: str | None) -> str:
    if why := why_not_text(stream, name):
        raise _refusal(name, why)
    form = asked or format_of(stream, name)
    if not form:
        known = ", ".join(FORMATS)
        raise _refusal(
            name, f"its format is not recognised; Footnote reads {known}, and --format overrides"
        )
    if form == "bibtex" and stream.size > bibtex.MAX_SIZE:
        raise _refusal(
            name, "a BibTeX file of more than 64 MB; split it, or export it as JSON Lines or RIS"
        )
    return form


def expand(paths: Iterable[str]) -> list[Path | SourceError]:
    """The files that paths, folders and patterns stand for, each once; what cannot be found is a SourceError."""
    found: dict[str, Path | SourceError] = {}
    for name in paths:
        for item in _expanded(str(name)):
            key = str(item) if isinstance(item, SourceError) else os.path.realpath(item)
            found.setdefault(key, item)
    return list(found.values())


def _expanded(name: str) -> list[Path | SourceError]:
    path = Path(name)
    try:
        if path.is_dir():
            return _files_under(path)
        matches = [path] if path.exists() else _matches(name)
    except (OSError, ValueError) as error:
        return [_refusal(name, f"cannot be read: {_told(error)}")]
    if not matches:
        return [_refusal(name, "no such file")]
    return [item for match in matches for item in _files_of(match)]


def _matches(pattern: str) -> list[Path]:
    """What a pattern stands for, in order. `**` follows no link to a folder: links in a circle have no end."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return [Path(match) for match in sorted(glob(pattern))]  # noqa: PTH207 - Path.glob takes no absolute pattern
    at = parts.index("**")
    rest = list(dropwhile("**".__eq__, parts[at:]))
    tops = [top for top in _matches(str(Path(*parts[:at]))) if top.is_dir()]
    if not rest:
        return tops
    below = (Path(escape(folder), *rest) for top in tops for folder, _ in _walk(top))
    return sorted({match for further in below for match in _matches(str(further))})


def _files_of(match: Path) -> list[Path | SourceError]:
    try:
        return _files_under(match) if match.is_dir() else [match]
    except OSError as error:
        return [_refusal(str(match), f"cannot be read: {_told(error)}")]


def _files_under(folder: Path) -> list[Path | SourceError]:
    """The regular files below a folder in the order of their names, hidden ones left out."""
    found: list[Path | SourceError] = []

    def unreadable(error: OSError) -> None:
        found.append(_refusal(str(error.filename), f"cannot be read: {_told(error)}"))

    for root, files in _walk(folder, unreadable):
        for path in (Path(root, name) for name in sorted(files) if not name.startswith(".")):
            try:
                found += [path] if path.is_file() else []
            except OSError as error:
                unreadable(error)
    return found or [_refusal(str(folder), "no files in it")]


def _walk(
    folder: Path, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it with the names of their files; hidden ones, libraries and links are left out."""
    for root, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_library(Path(root, name))
        )
        yield root, files


def _is_library(folder: Path) -> bool:
    """Whether a folder is a library of ours, which is no source of papers."""
    try:
        return (folder / "library.sqlite").exists() and (folder / "write.lock").exists()
    except OSError:
        return False
