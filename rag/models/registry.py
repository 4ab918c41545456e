"""Registry of model runtimes: choose the module that opens a model of a given name.

To add a runtime, write a module in `rag/models/runtimes/` with a function
`open_language_model(name) -> LanguageModel` or `open_embedder(name, folder) -> Embedder`, and add
it to a table below.
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from rag.config import DEFAULT_EMBEDDER
from rag.errors import FootnoteError, ModelUnavailable
from rag.models.embedder import Embedder
from rag.models.files import (
    describe_load_failure,
    find_embedder_folder,
    is_mean_pooled_encoder,
    reject_pickled_weights,
)
from rag.models.language_model import LanguageModel
from rag.models.reader import Reader

NO_LANGUAGE_MODEL = "none"
BUNDLED_LANGUAGE_MODEL = "bundled"

_LOG = logging.getLogger("footnote")
_Source = TypeVar("_Source", str, Path)


@dataclass(frozen=True, slots=True)
class Runtime(Generic[_Source]):
    """Runtime with a title for messages, a test for what it can open, and its module."""

    title: str
    recognizes: Callable[[_Source], bool]
    module: str

    def load(self) -> ModuleType:
        """Import the runtime's module, and with it the libraries that it needs."""
        _LOG.debug("loading %s", self.title)
        return importlib.import_module(f"rag.models.runtimes.{self.module}")


def is_server(name: str) -> bool:
    """Return True for the address of a server."""
    return name.startswith(("http://", "https://"))


def is_gguf_file(name: str) -> bool:
    """Return True for the path of a GGUF file."""
    return name.lower().endswith(".gguf")


# The first runtime that recognizes a name opens the model.
LANGUAGE_MODEL_RUNTIMES: tuple[Runtime[str], ...] = (
    Runtime("the bundled model", lambda name: name == BUNDLED_LANGUAGE_MODEL, "bundled_lm"),
    Runtime("a server", is_server, "server_lm"),
    Runtime("a GGUF file", is_gguf_file, "gguf_lm"),
    Runtime("OpenVINO", lambda name: Path(name, "openvino_model.xml").exists(), "openvino_lm"),
    Runtime("transformers", lambda name: True, "transformers_lm"),
)
# When the libraries of a runtime fail, the next one that recognizes the folder takes over.
EMBEDDER_RUNTIMES: tuple[Runtime[Path], ...] = (
    Runtime("OpenVINO", is_mean_pooled_encoder, "openvino_embedder"),
    Runtime("sentence-transformers", lambda folder: True, "sentence_transformers_embedder"),
)


def load_language_model(name: str) -> LanguageModel | None:
    """Load a language model by name; return None for `none`. Nothing is downloaded.

    `name` is `bundled`, the address of an OpenAI-compatible server (`http://…` or `https://…`, with
    `#model` at the end if it has several), a GGUF file, a folder with `openvino_model.xml`, any
    other model folder, or a Hugging Face id that was downloaded. Raises `ModelUnavailable`.
    """
    if name == NO_LANGUAGE_MODEL:
        return None
    try:
        runtime = next(each for each in LANGUAGE_MODEL_RUNTIMES if each.recognizes(name))
        model: LanguageModel = runtime.load().open_language_model(name)
        return model
    except FootnoteError:
        raise
    except Exception as error:  # a library may raise anything over a broken file
        reason = describe_load_failure(error)
        raise ModelUnavailable(f"cannot load the language model '{name}': {reason}") from error


@cache
def load_reader() -> Reader:
    """Load the reader that is shipped, once."""
    runtime = importlib.import_module("rag.models.runtimes.openvino_reader")
    reader: Reader = runtime.open_reader()
    return reader


@cache
def load_entailment_model() -> Reader:
    """Load the model that says whether excerpts support a statement, once.

    It reads the statement in place of a question, and `answers` are the log-odds of support.
    """
    runtime = importlib.import_module("rag.models.runtimes.openvino_reader")
    model: Reader = runtime.open_reader(runtime.ENTAILMENT_FOLDER)
    return model


def load_embedder(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """Load an embedding model by name. Nothing is downloaded.

    `name` is the default model, a model folder, or a Hugging Face id that was downloaded. Models
    with mean pooling run in OpenVINO, all others in sentence-transformers. Raises
    `ModelUnavailable`.
    """
    folder = find_embedder_folder(name)
    reject_pickled_weights(name, folder, "embedding")
    try:
        return _open_embedder(name, folder)
    except Exception as error:  # a library may raise anything over a broken file
        reason = describe_load_failure(error)
        raise ModelUnavailable(
            f"cannot load the embedding model '{name}' from {folder}: {reason}"
        ) from error


def _open_embedder(name: str, folder: Path) -> Embedder:
    """Open an embedding model in the first runtime whose libraries can run it."""
    runtimes = [runtime for runtime in EMBEDDER_RUNTIMES if runtime.recognizes(folder)]
    for runtime, fallback in pairwise(runtimes):
        try:
            return _open_embedder_in(runtime, name, folder)
        except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for everything
            message = "%s cannot run %s (%s); using %s instead"
            _LOG.warning(message, runtime.title, name, error, fallback.title)
    return _open_embedder_in(runtimes[-1], name, folder)


def _open_embedder_in(runtime: Runtime[Path], name: str, folder: Path) -> Embedder:
    embedder: Embedder = runtime.load().open_embedder(name, folder)
    return embedder
