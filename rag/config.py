"""Where things lie on this machine, and the few settings a user can make.

Settings come from, the later over the earlier: defaults, `config.toml` in the user's configuration folder,
environment variables (`FOOTNOTE_LIBRARY`, `FOOTNOTE_LANGUAGE_MODEL`, …), options of a command.
"""

import difflib
import json
import os
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import platformdirs

from rag.errors import FootnoteError, UsageError

DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
DEFAULT_LANGUAGE_MODEL = "bundled"
_APP = "footnote"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can set.

    `library`: the folder asked when none is named. `embedder`: the model that new libraries are made with.
    `language_model`: `embedded`, `none`, a folder, a Hugging Face id on this machine, or a server's address.
    `nli_model`: a cross-encoder for natural language inference that helps to check what was written; none by default.
    """

    library: str = ""
    embedder: str = DEFAULT_EMBEDDER
    language_model: str = DEFAULT_LANGUAGE_MODEL
    nli_model: str = ""

    @property
    def library_folder(self) -> Path:
        if self.library:
            return user_path(self.library)
        return data_folder() / "library"


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path as a user writes it, `~` included."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{os.fspath(text)}: {error}") from error


def data_folder() -> Path:
    """What the user would miss: the library, conversations, evaluations."""
    return Path(platformdirs.user_data_dir(_APP, appauthor=False))


def cache_folder() -> Path:
    """Converted models; can be deleted at any time. `FOOTNOTE_CACHE` puts it elsewhere."""
    return Path(
        os.environ.get("FOOTNOTE_CACHE") or platformdirs.user_cache_dir(_APP, appauthor=False)
    )


def config_file() -> Path:
    return (
        Path(
            os.environ.get("FOOTNOTE_CONFIG") or platformdirs.user_config_dir(_APP, appauthor=False)
        )
        / "config.toml"
    )


def load_settings() -> Settings:
    """The settings in force. Raises `UsageError` for a file that cannot be read or a name that means nothing."""
    settings = replace(Settings(), **_from_file())
    environment = {
        field.name: os.environ.get(f"FOOTNOTE_{field.name.upper()}", "")
        for field in fields(Settings)
    }
    return replace(settings, **{name: value for name, value in environment.items() if value})


def save_setting(name: str, value: str) -> None:
    """Write one setting to the user's file, which nobody else may read; an empty value takes it out."""
    check_setting(name)
    values = _from_file() | {name: value}
    lines = [f"{key} = {_toml(text)}\n" for key, text in sorted(values.items()) if text]
    file = config_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)  # the address of a server may hold a password
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise FootnoteError(f"{file} cannot be written: {error}") from error


def _toml(text: str) -> str:
    """A text as JSON writes it, which is TOML too, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _from_file() -> dict[str, str]:
    if not config_file().exists():
        return {}
    try:
        values = tomllib.loads(config_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{config_file()} cannot be read: {error}") from error
    for name, value in values.items():
        check_setting(name)
        if not isinstance(value, str):
            raise UsageError(
                f"{config_file()}: {name} must be a text in quotation marks, not {value!r}"
            )
    return values


def check_setting(name: str) -> None:
    """Raise `UsageError`, with what may have been meant, when no setting goes by that name."""
    known = [field.name for field in fields(Settings)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
        raise UsageError(f"no setting is called '{name}'; {hint}")
