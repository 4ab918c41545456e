"""A file as every reader wants it: its head, its bytes, its text and its lines, never the whole of it at once.

Text is UTF-8 (or UTF-16/32 with a byte order mark); a byte that is no UTF-8 is read as Windows-1252, because
that is what spreadsheets write. Line ends of all three kinds arrive as a newline.
"""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

HEAD = 64 * 1024
MAX_LINE = (
    8 * 1024 * 1024
)  # characters; also the most that one JSON value or one XML record may take
LINE_TOO_LONG = "line longer than 8 MB"
_CHUNK = 256 * 1024
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Stream:
    """An open file; `chunks`, `text` and `lines` each begin at its beginning.

    `named` says that the user named the format, so that a reader need not doubt it.
    """

    def __init__(self, file: BinaryIO, size: int, named: bool = False) -> None:
        self.size = size
        self.named = named
        self._file = file
        self._read = 0
        self.head = file.read(HEAD)
        self._encoding = next((name for mark, name in _MARKS if self.head.startswith(mark)), "")

    @property
    def position(self) -> int:
        """Bytes read so far by the furthest reading; a file that grows meanwhile does not count."""
        return min(self._read, self.size)

    @property
    def has_wide_mark(self) -> bool:
        """Whether a byte order mark of UTF-16 or UTF-32 explains the NULs in it."""
        return bool(self._encoding)

    @property
    def head_text(self) -> str:
        """The beginning as text; a character cut in two by the end of the head is left out."""
        return self._decoder().decode(self.head).removeprefix("\ufeff")

    @property
    def head_is_utf8(self) -> bool:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(self.head)
        except UnicodeDecodeError:
            return False
        return True

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        done = 0
        while chunk := self._file.read(_CHUNK):
            done += len(chunk)
            self._read = max(self._read, done)
            yield chunk

    def text(self) -> Iterator[str]:
        decoder = self._decoder()
        first = True
        for chunk in self.chunks():
            if text := decoder.decode(chunk):
                yield text.removeprefix("\ufeff") if first else text
                first = False
        if rest := decoder.decode(b"", final=True):
            yield rest

    def lines(self) -> Iterator[str | None]:
        """Lines without their ends; None stands for a line over the limit, which is skipped and never held."""
        held: list[str] = []
        length = 0
        for text in self.text():
            for number, piece in enumerate(text.split("\n")):
                if number:
                    yield "".join(held) if length <= MAX_LINE else None
                    held, length = [], 0
                length += len(piece)
                if length <= MAX_LINE:
                    held.append(piece)
                else:
                    held = []
        if length:
            yield "".join(held) if length <= MAX_LINE else None

    def close(self) -> None:
        self._file.close()

    def _decoder(self) -> io.IncrementalNewlineDecoder:
        errors = "replace" if self._encoding else "footnote-windows"
        decoder = codecs.getincrementaldecoder(self._encoding or "utf-8")(errors)
        return io.IncrementalNewlineDecoder(decoder, translate=True)


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("footnote-windows", _as_windows)
