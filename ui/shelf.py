"""The libraries and language models on offer in the page, and the assistants that serve them."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rag import Assistant, LibraryNotFound, UsageError

# Opens the library in a folder with the language model of a name; an empty name means that of the settings.
Open = Callable[[Path, str], Assistant]
_SAMPLE = "Sample papers"


class Shelf:
    """Libraries by the name of their folder, each served by one assistant for each language model.

    Safe to use from several threads; an assistant is opened when it is first asked for, and kept.
    """

    def __init__(self, folders: Iterable[Path], open_assistant: Open) -> None:
        """Offer the libraries in these folders, the first of them first."""
        self._open = open_assistant
        self._folders = {str(folder): folder for folder in folders}
        self._assistants: dict[tuple[str, str], Assistant] = {}
        self._opening = threading.Lock()

    @property
    def libraries(self) -> list[tuple[str, str]]:
        """Name and key of each library; two folders of one name are told apart by their paths."""
        names = [folder.name for folder in self._folders.values()]
        return [(_name(folder, names), key) for key, folder in self._folders.items()]

    def assistant(self, library: str, model: str = "") -> Assistant:
        """The assistant for the library of a key, with a language model. Raises `FootnoteError`."""
        if library not in self._folders:
            raise UsageError("this library is not on offer here; choose another one")
        with self._opening:
            if (library, model) not in self._assistants:
                self._assistants[library, model] = self._open(self._folders[library], model)
            return self._assistants[library, model]


def open_library(folder: Path, model: str) -> Assistant:
    """The assistant for an existing library."""
    return Assistant.open(folder, language_model=model, create=False)


def shelf_of(folders: Iterable[Path]) -> Shelf:
    """The libraries in the folders, or the user's own where none is named; the sample papers stand beside them.

    Raises `LibraryError` for a folder without a library.
    """
    named = [open_library(folder, "").library.folder for folder in folders] or _own()
    sample = Assistant.sample().library.folder
    return Shelf([*named, sample], open_library)


def _own() -> list[Path]:
    """The folder of the user's own library, if there is one."""
    try:
        return [Assistant.open(create=False).library.folder]
    except LibraryNotFound:
        return []


def _name(folder: Path, names: list[str]) -> str:
    if folder.name == "sample-library":
        return _SAMPLE
    return folder.name if names.count(folder.name) == 1 else str(folder)
