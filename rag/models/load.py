"""Embedding models: from a name to a model that runs."""

import logging
from pathlib import Path

from rag.config import DEFAULT_EMBEDDER
from rag.errors import ModelUnavailable
from rag.models.embedder import Embedder
from rag.models.files import fingerprint, model_folder, pools_by_mean

_LOG = logging.getLogger("footnote")


def load_embedder(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """The model of that name: the packaged default, a folder, or a Hugging Face id that is on this machine.

    Models that pool by the mean run in OpenVINO; all others, and those that OpenVINO cannot take, in
    sentence-transformers. Raises `ModelUnavailable`.
    """
    folder = model_folder(name)
    try:
        return _loaded(name, folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelUnavailable(f"the embedding model '{name}' in {folder} does not load: {error}") from error


def _loaded(name: str, folder: Path) -> Embedder:
    if pools_by_mean(folder):
        try:
            from rag.models.openvino_embedding import OpenVinoEmbedder

            return OpenVinoEmbedder(name, folder, fingerprint(folder))
        except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for all its failures
            _LOG.warning("OpenVINO cannot run %s (%s); sentence-transformers does", name, error)
    from rag.models.torch_embedding import TorchEmbedder

    return TorchEmbedder(name, folder, fingerprint(folder))
