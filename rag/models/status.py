"""Find out whether a language model can be used, and what it needs, without loading it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rag.errors import ModelUnavailable
from rag.models import bundled_weights
from rag.models.files import find_model_folder
from rag.models.gguf_files import CONVERSION_SPACE, GgufFile, open_gguf
from rag.models.registry import (
    BUNDLED_LANGUAGE_MODEL,
    NO_LANGUAGE_MODEL,
    is_gguf_file,
    is_server,
    load_language_model,
)

# Measured: the converted model, as OpenVINO maps it from the disk and arranges it in memory.
_MEMORY_PER_GGUF_BYTE = 2.7
_DISK_PER_GGUF_BYTE = 1.15
_MEMORY_PER_OPENVINO_BYTE = 2.3
_MEMORY_PER_HALF_BYTE = 2.2
_WEIGHTS = ("*.safetensors", "openvino_model.bin")


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Whether a language model can be used, and what it takes.

    `needs` says how much disk and memory. `problem` says what is missing, and `missing_command`,
    if it is known, brings that.
    """

    name: str
    is_ready: bool
    needs: str = ""
    problem: str = ""
    missing_command: str = ""


def describe_language_model(name: str) -> ModelStatus:
    """Describe a language model, by its name in the settings. Never raises for a wrong name."""
    if name == NO_LANGUAGE_MODEL:
        return ModelStatus(name, is_ready=True)
    if name == BUNDLED_LANGUAGE_MODEL:
        return _describe_bundled()
    try:
        if is_server(name):
            model = load_language_model(name)
            return ModelStatus(model.name if model else name, is_ready=True)
        if is_gguf_file(name):
            return _describe_gguf(open_gguf(Path(name)))
        return _describe_folder(name)
    except ModelUnavailable as error:
        return ModelStatus(name, is_ready=False, problem=str(error))


def _describe_bundled() -> ModelStatus:
    source = bundled_weights.bundled_gguf()
    damage = {} if source.is_converted else bundled_weights.find_damage()
    if not damage:
        return _describe_gguf(source)
    problem = str(bundled_weights.damaged_model(damage))
    command = bundled_weights.install_command(damage)
    return ModelStatus(source.title, False, _needs(source), problem, command)


def _describe_gguf(source: GgufFile) -> ModelStatus:
    return ModelStatus(source.title, is_ready=True, needs=_needs(source))


def _needs(source: GgufFile) -> str:
    disk = source.size * _DISK_PER_GGUF_BYTE
    needs = (
        f"{_gigabytes(disk)} of disk, {_gigabytes(source.size * _MEMORY_PER_GGUF_BYTE)} of memory"
    )
    if source.is_converted:
        return needs
    space = _gigabytes(source.size * CONVERSION_SPACE)
    return f"{needs}; its first use converts it, which takes {space} of disk for a minute"


def _describe_folder(name: str) -> ModelStatus:
    is_openvino = Path(name, "openvino_model.xml").exists()
    folder = Path(name) if is_openvino else find_model_folder(name, "language")
    disk = sum(file.stat().st_size for file in _weights(folder))
    memory = disk * (_MEMORY_PER_OPENVINO_BYTE if is_openvino else _MEMORY_PER_HALF_BYTE)
    needs = f"{_gigabytes(disk)} of disk, {_gigabytes(memory)} of memory"
    return ModelStatus(name, is_ready=True, needs=needs)


def _weights(folder: Path) -> Iterable[Path]:
    for pattern in _WEIGHTS:
        yield from folder.glob(pattern)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
