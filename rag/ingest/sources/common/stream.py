"""Reading of source files as bytes, text or lines, without holding a whole file in memory.

Text is UTF-8, or UTF-16 and UTF-32 with a byte order mark. Bytes that are not valid UTF-8 are
decoded as Windows-1252, which spreadsheets write. All three kinds of line ends become a newline.
"""

import codecs
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rag.errors import SourceError
from rag.text.cleaning import escape_control_chars, printable_path

HEAD_SIZE = 64 * 1024  # bytes
MAX_LINE = 8 * 1024 * 1024  # characters; also the limit of one JSON value and one XML record
LINE_TOO_LONG = "line longer than 8 MB"
RECORD_TOO_LONG = "record longer than 8 MB"
_BLOCK_SIZE = 256 * 1024  # bytes
# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Stream:
    """Source file opened for reading. `blocks`, `text` and `lines` each start at its beginning.

    `is_format_given` means that the user named the format, so a parser should not question it.
    """

    def __init__(self, file: BinaryIO, size: int, *, is_format_given: bool = False) -> None:
        self.size = size
        self.is_format_given = is_format_given
        self._file = file
        self._bytes_read = 0
        self.head = file.read(HEAD_SIZE)
        self._wide_encoding = _detect_wide_encoding(self.head)

    @property
    def position(self) -> int:
        """Number of bytes read by the furthest iteration, at most the original size."""
        return min(self._bytes_read, self.size)

    @property
    def has_wide_encoding(self) -> bool:
        """Whether a byte order mark shows UTF-16 or UTF-32, in which NUL bytes are normal."""
        return bool(self._wide_encoding)

    @property
    def head_text(self) -> str:
        """Beginning of the file as text, without an incomplete last character."""
        return self._create_decoder().decode(self.head).removeprefix("\ufeff")

    @property
    def is_head_utf8(self) -> bool:
        """Whether the beginning of the file is valid UTF-8."""
        try:
            codecs.getincrementaldecoder("utf-8")().decode(self.head)
        except UnicodeDecodeError:
            return False
        return True

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the file in blocks."""
        self._file.seek(0)
        position = 0
        while block := self._file.read(_BLOCK_SIZE):
            position += len(block)
            self._bytes_read = max(self._bytes_read, position)
            yield block

    def text(self) -> Iterator[str]:
        """Yield the text of the file in blocks, without a byte order mark."""
        decoder = self._create_decoder()
        is_first = True
        for block in self.blocks():
            if text := decoder.decode(block):
                yield text.removeprefix("\ufeff") if is_first else text
                is_first = False
        if rest := decoder.decode(b"", final=True):
            yield rest

    def lines(self) -> Iterator[str | None]:
        """Yield the lines without their ends, and None for each line longer than `MAX_LINE`.

        A line that is too long is never held in memory.
        """
        pieces: list[str] = []
        length = 0
        for text in self.text():
            for number, piece in enumerate(text.split("\n")):
                if number:
                    yield "".join(pieces) if length <= MAX_LINE else None
                    pieces, length = [], 0
                length += len(piece)
                if length <= MAX_LINE:
                    pieces.append(piece)
                else:
                    pieces = []
        if length:
            yield "".join(pieces) if length <= MAX_LINE else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _create_decoder(self) -> io.IncrementalNewlineDecoder:
        errors = "replace" if self._wide_encoding else "footnote-windows"
        decoder = codecs.getincrementaldecoder(self._wide_encoding or "utf-8")(errors)
        return io.IncrementalNewlineDecoder(decoder, translate=True)


def open_stream(name: str, *, is_format_given: bool = False) -> Stream:
    """Open a source file; raises `SourceError` for a folder, a pipe or a device."""
    try:
        # Opening a pipe could block forever.
        mode = os.stat(name).st_mode  # noqa: PTH116 - the path as the user gave it
        if stat.S_ISDIR(mode):
            raise source_error(name, "a directory, not a file")
        if not stat.S_ISREG(mode):
            raise source_error(name, "not a regular file")
        file = Path(name).open("rb")  # noqa: SIM115 - closed with the Source
        size = os.fstat(file.fileno()).st_size
        return Stream(file, size, is_format_given=is_format_given)
    except FileNotFoundError:
        raise source_error(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unreadable_file(name, error) from error


def source_error(name: str, reason: str) -> SourceError:
    """Return an error about a path, which is made printable."""
    return SourceError(printable_path(name), reason)


def unreadable_file(name: str, error: Exception) -> SourceError:
    """Return an error with the system's reason, but without the path that Python adds to it."""
    reason = str(getattr(error, "strerror", None) or error)
    return source_error(name, f"cannot be read: {escape_control_chars(reason)}")


def _detect_wide_encoding(head: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    return ""


def _decode_as_windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("footnote-windows", _decode_as_windows)
