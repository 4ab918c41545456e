"""Run the bundled language model's GGUF file in OpenVINO, or else in transformers."""

import logging
from functools import cache
from pathlib import Path

from rag.models.files import find_bundled_gguf, fingerprint_files
from rag.models.language_model import LanguageModel

_NAME = "SmolLM2-135M-Instruct"
_LOG = logging.getLogger("footnote")


def open_language_model(_name: str) -> LanguageModel:
    """Return the bundled model. The process shares one copy, because it takes about 300 MB."""
    return open_gguf(find_bundled_gguf())


@cache
def open_gguf(weights: Path) -> LanguageModel:
    """Open the bundled model's GGUF file in the first runtime that can run it."""
    try:
        return _open_in_openvino(weights)
    except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for everything
        message = "OpenVINO cannot run %s (%s); using transformers instead, which is slower"
        _LOG.warning(message, _NAME, error)
    return _open_in_transformers(weights)


def _open_in_openvino(weights: Path) -> LanguageModel:
    from rag.models.runtimes.openvino_gguf import convert_gguf_to_openvino
    from rag.models.runtimes.openvino_lm import open_openvino_folder

    folder = convert_gguf_to_openvino(weights)
    return open_openvino_folder(_NAME, folder, fingerprint_files([weights]))


def _open_in_transformers(weights: Path) -> LanguageModel:
    from rag.models.runtimes.transformers_lm import (
        TransformersLanguageModel,
        convert_gguf_to_transformers,
    )

    folder = convert_gguf_to_transformers(weights)
    name = f"{_NAME} (transformers)"
    return TransformersLanguageModel(name, folder, fingerprint_files([weights]))
