"""GGUF files of language models, and the folders of their conversions."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rag.errors import ModelUnavailable
from rag.models.files import conversion_folder, fingerprint_files

# Part of the name of a converted model's folder. The version of OpenVINO is not, because newer
# versions read what older ones wrote, and the pieces may be gone by then.
CONVERSION = "openvino-language-3"
CONVERTED_MARKER = "config.json"  # written last
# Bytes on the disk per byte of the GGUF file, while it is converted: the file and two models.
CONVERSION_SPACE = 3.5


@dataclass(frozen=True, slots=True)
class GgufFile:
    """GGUF file, which `write` copies to a path. `fingerprint` identifies its weights."""

    title: str
    fingerprint: str
    size: int
    write: Callable[[Path], None]

    @property
    def is_converted(self) -> bool:
        """True when OpenVINO can load the model without the file."""
        return (conversion_folder(f"{self.fingerprint}-{CONVERSION}") / CONVERTED_MARKER).exists()


def open_gguf(file: Path) -> GgufFile:
    """Return a GGUF file on the disk. Raises `ModelUnavailable`."""
    if not file.is_file():
        raise ModelUnavailable(f"there is no GGUF file {file}")
    return GgufFile(
        file.stem,
        fingerprint_files([file]),
        file.stat().st_size,
        lambda target: _copy(file, target),
    )


def _copy(file: Path, target: Path) -> None:
    shutil.copyfile(file, target)
