"""Models: from a name to a model that runs."""

import logging
from functools import cache
from pathlib import Path

from rag.config import DEFAULT_EMBEDDER
from rag.errors import FootnoteError, ModelUnavailable
from rag.models.embedder import Embedder
from rag.models.files import (
    bundled_gguf,
    check_weights,
    digest_of,
    fingerprint,
    local_folder,
    model_folder,
    pools_by_mean,
    why_not_loaded,
)
from rag.models.language_model import LanguageModel

NO_LANGUAGE_MODEL = "none"
BUNDLED_LANGUAGE_MODEL = "bundled"
_EMBEDDED_NAME = "SmolLM2-135M-Instruct"
_LOG = logging.getLogger("footnote")


def load_embedder(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """The model of that name: the packaged default, a folder, or a Hugging Face id that is on this machine.

    Models that pool by the mean run in OpenVINO; all others, and those that OpenVINO cannot take, in
    sentence-transformers. Raises `ModelUnavailable`.
    """
    folder = model_folder(name)
    check_weights(name, folder, "embedding")
    try:
        return _loaded(name, folder)
    except Exception as error:  # whatever a library raises over a file that is broken
        why = why_not_loaded(error)
        raise ModelUnavailable(
            f"the embedding model '{name}' in {folder} does not load: {why}"
        ) from error


def _loaded(name: str, folder: Path) -> Embedder:
    if pools_by_mean(folder):
        try:
            from rag.models.runtimes.openvino_embedder import OpenVinoEmbedder

            return OpenVinoEmbedder(name, folder, fingerprint(folder))
        except (
            ImportError,
            RuntimeError,
        ) as error:  # OpenVINO raises RuntimeError for all its failures
            _LOG.warning("OpenVINO cannot run %s (%s); sentence-transformers does", name, error)
    from rag.models.runtimes.sentence_transformers_embedder import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder(name, folder, fingerprint(folder))


def load_language_model(name: str) -> LanguageModel | None:
    """The language model of that name; None for `none`. Nothing is downloaded.

    `embedded` is the model that comes along. `http://…` or `https://…` is an OpenAI-compatible server, with
    `#model` at the end where it has several. A folder with `openvino_model.xml` runs in OpenVINO, any other folder
    and a Hugging Face id that is on this machine in transformers. Raises `ModelUnavailable`.
    """
    if name == NO_LANGUAGE_MODEL:
        return None
    try:
        return _language_model(name)
    except FootnoteError:
        raise
    except Exception as error:  # whatever a library raises over a file that is broken
        raise ModelUnavailable(
            f"the language model '{name}' does not load: {why_not_loaded(error)}"
        ) from error


def _language_model(name: str) -> LanguageModel:
    if name == BUNDLED_LANGUAGE_MODEL:
        return _bundled(bundled_gguf())
    if name.startswith(("http://", "https://")):
        from rag.models.runtimes.server_lm import open_server

        return open_server(name)
    if (Path(name) / "openvino_model.xml").exists():
        from rag.models.runtimes.openvino_lm import open_openvino_model

        folder = Path(name).resolve()
        return open_openvino_model(folder.name, folder, fingerprint(folder))
    from rag.models.runtimes.transformers_lm import TransformersLanguageModel

    folder = local_folder(name, "language")
    return TransformersLanguageModel(name, folder, fingerprint(folder))


@cache
def _bundled(weights: Path) -> LanguageModel:
    """The model that comes along: one for all who ask for it in this process, for it holds some 300 MB."""
    try:
        from rag.models.runtimes.openvino_gguf import openvino_from_gguf
        from rag.models.runtimes.openvino_lm import open_openvino_model

        return open_openvino_model(
            _EMBEDDED_NAME, openvino_from_gguf(weights), digest_of([weights])
        )
    except (
        ImportError,
        RuntimeError,
    ) as error:  # OpenVINO raises RuntimeError for all its failures
        _LOG.warning(
            "OpenVINO cannot run %s (%s); transformers does, more slowly", _EMBEDDED_NAME, error
        )
    from rag.models.runtimes.transformers_lm import TransformersLanguageModel, folder_from_gguf

    return TransformersLanguageModel(
        f"{_EMBEDDED_NAME} (transformers)", folder_from_gguf(weights), digest_of([weights])
    )
