"""Settings, and the folders where Footnote keeps its files.

Each source overrides the ones before it: defaults, `config.toml` in the user's configuration
folder, environment variables (`FOOTNOTE_LIBRARY`, `FOOTNOTE_LANGUAGE_MODEL`, …), command options.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import platformdirs

from rag.errors import FootnoteError, UsageError, unknown_choice

DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
DEFAULT_LANGUAGE_MODEL = "bundled"
_APP = "footnote"
# By setting: values that older versions wrote, each with its replacement.
_RENAMED_VALUES = {"language_model": {"embedded": "bundled"}}
# Settings of older versions, which are ignored.
_REMOVED = frozenset({"nli_model"})


@dataclass(frozen=True, slots=True)
class Settings:
    """User settings.

    `library`: the default library folder. `embedder`: the embedding model for new libraries.
    `language_model`: `bundled`, `none`, a folder, a GGUF file, the Hugging Face id of a downloaded
    model, or the address of a server.
    """

    library: str = ""
    embedder: str = DEFAULT_EMBEDDER
    language_model: str = DEFAULT_LANGUAGE_MODEL

    @property
    def library_folder(self) -> Path:
        """Folder of the default library."""
        if self.library:
            return expand_path(self.library)
        return data_folder() / "library"


_NAMES = tuple(field.name for field in fields(Settings))


def expand_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a user typed, with `~` expanded.

    Raises `UsageError` for the home folder of an unknown user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"cannot expand {os.fspath(text)}: {error}") from error


def data_folder() -> Path:
    """Return the folder for the library, conversations and evaluation runs."""
    return Path(platformdirs.user_data_dir(_APP, appauthor=False))


def cache_folder() -> Path:
    """Return the folder for converted models, `FOOTNOTE_CACHE` if set. It may be deleted."""
    default = platformdirs.user_cache_dir(_APP, appauthor=False)
    return Path(os.environ.get("FOOTNOTE_CACHE") or default)


def config_file() -> Path:
    """Return the path of `config.toml`, in the folder `FOOTNOTE_CONFIG` if set."""
    default = platformdirs.user_config_dir(_APP, appauthor=False)
    return Path(os.environ.get("FOOTNOTE_CONFIG") or default) / "config.toml"


def load_settings() -> Settings:
    """Return the settings from the configuration file and the environment.

    Raises `UsageError` for a file that cannot be parsed or a setting that does not exist.
    """
    values = _read_config_file() | _read_environment()
    return replace(Settings(), **_update_renamed_values(values))


def save_setting(name: str, value: str) -> None:
    """Save one setting in the user's configuration file; an empty value removes it.

    The file is readable by its owner only. Raises `FootnoteError` when it cannot be written.
    """
    check_setting(name)
    values = _update_renamed_values(_read_config_file() | {name: value})
    lines = [f"{key} = {_toml_string(text)}\n" for key, text in sorted(values.items()) if text]
    file = config_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)  # a server's address may contain a password
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise FootnoteError(f"cannot write {file}: {error}") from error


def check_setting(name: str) -> None:
    """Raise `UsageError` if no setting has this name."""
    if name not in _NAMES:
        raise unknown_choice("setting", name, _NAMES)


def _read_environment() -> dict[str, str]:
    values = {}
    for name in _NAMES:
        value = os.environ.get(f"FOOTNOTE_{name.upper()}", "")
        if value:
            values[name] = value
    return values


def _read_config_file() -> dict[str, str]:
    file = config_file()
    if not file.exists():
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    for name in _REMOVED.intersection(values):
        del values[name]
    for name, value in values.items():
        if name not in _NAMES:
            raise UsageError(f"{file}: {unknown_choice('setting', name, _NAMES)}")
        if not isinstance(value, str):
            raise UsageError(f"{file}: {name} must be a string in quotes, not {value!r}")
    return values


def _update_renamed_values(values: Mapping[str, str]) -> dict[str, str]:
    return {name: _RENAMED_VALUES.get(name, {}).get(value, value) for name, value in values.items()}


def _toml_string(text: str) -> str:
    """Quote text for TOML: the same as JSON, except for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
