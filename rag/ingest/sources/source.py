"""Source files: opening them and reading their records as papers.

    with open_source("references.bib") as source:
        for number, outcome in source:
            ...  # a Paper, or a Rejection with the reason why it is not one

A record that cannot be read is rejected and does not affect the others.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import TracebackType

from rag.errors import unknown_choice
from rag.ingest.sources.common.format import Format
from rag.ingest.sources.common.raw_record import (
    InvalidRecord,
    ParseFailure,
    RawRecord,
    TruncatedFile,
    WrongFormat,
    build_paper,
)
from rag.ingest.sources.common.stream import Stream, open_stream, source_error
from rag.ingest.sources.registry import FORMATS, detect_format
from rag.records import Paper, Rejection
from rag.text.cleaning import escape_control_chars, printable_path

# Reading stops after this many rejected records if there are fewer valid ones.
MAX_REJECTIONS = 100_000
_MAX_REASON = 400  # characters
_MB = 1024 * 1024

_OFFICE_SUFFIXES = (".xlsx", ".docx", ".odt", ".ods")
_ZIP = b"PK\x03\x04"
_ARCHIVES = (
    _ZIP,
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)
_BINARY_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x0b\x1b\x08\x1a"))
_BINARY_SAMPLE = 4096  # bytes
_MAX_SHARE_OF_CONTROLS = 0.05


class Source:
    """Open file of papers. Iterating yields (record number, Paper or Rejection).

    Records are numbered from 1; 0 stands for the whole file.
    """

    def __init__(self, name: str, stream: Stream, format_: Format) -> None:
        self.name = printable_path(name)
        self.format = format_.name
        self.size = stream.size
        self._parse = format_.parse
        self._stream = stream
        self._rejections = 0

    @property
    def position(self) -> int:
        """Number of bytes read so far."""
        return self._stream.position

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __iter__(self) -> Iterator[tuple[int, Paper | Rejection]]:
        number = 0
        try:
            for number, record in self._read_records():
                yield number, self._convert(number, record)
        except WrongFormat as error:
            yield 0, self._reject(0, str(error))
        except (TruncatedFile, OSError) as error:
            yield number + 1, self._reject(number + 1, str(error))
        else:
            if not number:
                yield 0, self._reject(0, f"no papers found; the file was read as {self.format}")

    def _read_records(self) -> Iterator[tuple[int, RawRecord | ParseFailure]]:
        """Yield numbered records, and give up on a file that is mostly invalid.

        Reports keep every rejection in memory, so their number is limited.
        """
        self._rejections = 0
        for number, record in enumerate(self._parse(self._stream), start=1):
            if self._rejections >= MAX_REJECTIONS and 2 * self._rejections > number:
                raise TruncatedFile(
                    f"{self._rejections:,} of {number - 1:,} records are invalid; "
                    "the rest of the file was not read"
                )
            yield number, record

    def _convert(self, number: int, record: RawRecord | ParseFailure) -> Paper | Rejection:
        if isinstance(record, ParseFailure):
            return self._reject(number, record.reason)
        try:
            return build_paper(record, Path(self.name).name)
        except InvalidRecord as error:
            return self._reject(number, str(error))

    def _reject(self, number: int, reason: str) -> Rejection:
        """Reject a record. The reason may quote the file, so it is shortened and made printable."""
        self._rejections += 1
        reason = " ".join(reason.split())[:_MAX_REASON]
        return Rejection(self.name, number, escape_control_chars(reason))


def open_source(path: str | os.PathLike[str], format_name: str | None = None) -> Source:
    """Open a file of papers. Its format is detected unless it is given.

    Raises `SourceError` if the file cannot be read or is not text of a known format.
    """
    name = os.fspath(path)
    if format_name is not None and format_name not in FORMATS:
        raise source_error(name, str(unknown_choice("format", format_name, FORMATS)))
    stream = open_stream(name, is_format_given=format_name is not None)
    try:
        return Source(name, stream, _choose_format(name, stream, format_name))
    except BaseException:
        stream.close()
        raise


def _choose_format(name: str, stream: Stream, format_name: str | None) -> Format:
    if reason := _find_refusal_reason(stream, name):
        raise source_error(name, reason)
    format_ = FORMATS[format_name] if format_name else detect_format(stream, name)
    if format_ is None:
        choices = ", ".join(FORMATS)
        raise source_error(name, f"unknown format; name one with --format: {choices}")
    if format_.max_size and stream.size > format_.max_size:
        raise source_error(
            name,
            f"a {format_.title} file of more than {format_.max_size // _MB} MB; "
            "split it, or export it as JSON Lines or RIS",
        )
    return format_


def _find_refusal_reason(stream: Stream, name: str) -> str:
    """Return the reason why no parser can read a file, or an empty string for text."""
    head = stream.head
    if not head.strip():
        return "the file is empty"
    if b"%PDF-" in head[:1024]:
        return (
            "a PDF; Footnote reads abstracts: export the records from your reference manager "
            "as BibTeX, RIS or CSL-JSON"
        )
    if head.startswith(_ZIP) and PurePath(name).suffix.lower() in _OFFICE_SUFFIXES:
        return "an office document; save it as CSV or as text first"
    if head.startswith(_ARCHIVES):
        return "an archive; unpack it first"
    if not stream.has_wide_encoding and _has_binary_controls(head):
        return "a binary file, not text; Footnote reads exports of references and saved pages"
    return ""


def _has_binary_controls(head: bytes) -> bool:
    sample = head[:_BINARY_SAMPLE]
    controls = len(sample) - len(sample.translate(None, _BINARY_CONTROLS))
    return b"\x00" in head or controls > _MAX_SHARE_OF_CONTROLS * len(sample)
