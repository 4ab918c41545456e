"""Run a language model's GGUF file in OpenVINO, or else in transformers."""

import logging
import threading
from functools import cache
from pathlib import Path

from rag.errors import FootnoteError, ModelUnavailable
from rag.models.bundled_weights import bundled_gguf
from rag.models.gguf_files import GgufFile, open_gguf
from rag.models.language_model import LanguageModel

_LOG = logging.getLogger("footnote")
_LOADING = threading.Lock()


def open_language_model(name: str) -> LanguageModel:
    """Open the GGUF file at a path."""
    return open_in_first_runtime(open_gguf(Path(name).expanduser().resolve()))


def open_bundled() -> LanguageModel:
    """Return the bundled model. The process shares one copy, because it takes 3 GB."""
    with _LOADING:  # two threads would convert it twice
        return _open_bundled()


@cache
def _open_bundled() -> LanguageModel:
    return open_in_first_runtime(bundled_gguf())


def open_in_first_runtime(source: GgufFile) -> LanguageModel:
    """Open a GGUF file in the first runtime that can run it. Raises `ModelUnavailable`."""
    try:
        return _open_in_openvino(source)
    except FootnoteError:
        raise
    except Exception as error:  # a library may raise anything over a model that it does not know
        message = "OpenVINO cannot run %s (%s); using transformers instead, which is slower"
        _LOG.warning(message, source.title, error)
    try:
        return _open_in_transformers(source)
    except FootnoteError:
        raise
    except Exception as error:
        raise ModelUnavailable(
            f"neither OpenVINO nor transformers can run {source.title}: {error}; "
            "the architectures qwen2, qwen3, llama and smollm are sure to work"
        ) from error


def _open_in_openvino(source: GgufFile) -> LanguageModel:
    from rag.models.runtimes.openvino_gguf import convert_gguf_to_openvino
    from rag.models.runtimes.openvino_lm import OpenVinoLanguageModel

    folder = convert_gguf_to_openvino(source)
    return OpenVinoLanguageModel(source.title, folder, source.fingerprint)


def _open_in_transformers(source: GgufFile) -> LanguageModel:
    from rag.models.runtimes.transformers_lm import (
        TransformersLanguageModel,
        convert_gguf_to_transformers,
    )

    folder = convert_gguf_to_transformers(source)
    name = f"{source.title} (transformers)"
    return TransformersLanguageModel(name, folder, source.fingerprint)
