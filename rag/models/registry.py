"""Registry of model runtimes: which module opens a model, by the name that a user gives it.

To add a runtime, write a module in `rag/models/runtimes/` with a function
`open_language_model(name) -> LanguageModel` or `open_embedder(name, folder) -> Embedder`, and add
its row to a table below.
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from rag.config import DEFAULT_EMBEDDER
from rag.errors import FootnoteError, ModelUnavailable
from rag.models.embedder import Embedder
from rag.models.files import (
    find_embedder_folder,
    is_mean_pooled_encoder,
    load_failure_reason,
    reject_pickled_weights,
)
from rag.models.language_model import LanguageModel

NO_LANGUAGE_MODEL = "none"
BUNDLED_LANGUAGE_MODEL = "bundled"

_LOG = logging.getLogger("footnote")
_Source = TypeVar("_Source", str, Path)


@dataclass(frozen=True, slots=True)
class Runtime(Generic[_Source]):
    """Row of a table: a runtime, the names or folders it opens, and its module."""

    title: str
    recognizes: Callable[[_Source], bool]
    module: str

    def load(self) -> ModuleType:
        """Import the runtime's module, and with it the libraries that it needs."""
        _LOG.debug("loading %s", self.title)
        return importlib.import_module(f"rag.models.runtimes.{self.module}")


# The first row that recognizes a name opens it.
LANGUAGE_MODEL_RUNTIMES: tuple[Runtime[str], ...] = (
    Runtime("the bundled model", lambda name: name == BUNDLED_LANGUAGE_MODEL, "bundled_lm"),
    Runtime("a server", lambda name: name.startswith(("http://", "https://")), "server_lm"),
    Runtime("OpenVINO", lambda name: Path(name, "openvino_model.xml").exists(), "openvino_lm"),
    Runtime("transformers", lambda name: True, "transformers_lm"),
)
# Where the libraries of one row fail, the next row that recognizes the folder takes over.
EMBEDDER_RUNTIMES: tuple[Runtime[Path], ...] = (
    Runtime("OpenVINO", is_mean_pooled_encoder, "openvino_embedder"),
    Runtime("sentence-transformers", lambda folder: True, "sentence_transformers_embedder"),
)


def load_language_model(name: str) -> LanguageModel | None:
    """Return the language model of that name, or None for `none`. Nothing is downloaded.

    `name` is `bundled`, the address of an OpenAI-compatible server (`http://…` or `https://…`, with
    `#model` at the end where it has several), a folder with `openvino_model.xml`, any other model
    folder, or a Hugging Face id that was downloaded. Raises `ModelUnavailable`.
    """
    if name == NO_LANGUAGE_MODEL:
        return None
    try:
        runtime = next(row for row in LANGUAGE_MODEL_RUNTIMES if row.recognizes(name))
        model: LanguageModel = runtime.load().open_language_model(name)
        return model
    except FootnoteError:
        raise
    except Exception as error:  # a library may raise anything over a broken file
        reason = load_failure_reason(error)
        raise ModelUnavailable(f"the language model '{name}' does not load: {reason}") from error


def load_embedder(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """Return the embedding model of that name. Nothing is downloaded.

    `name` is the default model, a model folder, or a Hugging Face id that was downloaded. Models
    with mean pooling run in OpenVINO, all others in sentence-transformers. Raises
    `ModelUnavailable`.
    """
    folder = find_embedder_folder(name)
    reject_pickled_weights(name, folder, "embedding")
    try:
        return _open_embedder(name, folder)
    except Exception as error:  # a library may raise anything over a broken file
        reason = load_failure_reason(error)
        raise ModelUnavailable(
            f"the embedding model '{name}' in {folder} does not load: {reason}"
        ) from error


def _open_embedder(name: str, folder: Path) -> Embedder:
    """Open an embedding model in the first runtime whose libraries can run it."""
    rows = [row for row in EMBEDDER_RUNTIMES if row.recognizes(folder)]
    for row, fallback in pairwise(rows):
        try:
            return _open_embedder_in(row, name, folder)
        except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for everything
            message = "%s cannot run %s (%s); using %s instead"
            _LOG.warning(message, row.title, name, error, fallback.title)
    return _open_embedder_in(rows[-1], name, folder)


def _open_embedder_in(runtime: Runtime[Path], name: str, folder: Path) -> Embedder:
    embedder: Embedder = runtime.load().open_embedder(name, folder)
    return embedder
