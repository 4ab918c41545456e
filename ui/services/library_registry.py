"""The libraries and language models on offer in the page, and the assistants that serve them."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from rag import Assistant, FootnoteError, LibraryNotFound, UsageError

# Opens the library in a folder with the language model of a name; an empty name means that of the settings.
Open = Callable[[Path, str], Assistant]
SAMPLE = "Sample papers"
# Each assistant holds models of its own, some hundred MB; who asks keeps it as long as it takes.
_MOST_OPEN = 8
STYLES = [("automatic", "auto"), ("quotations", "quote"), ("written by the model", "write")]
MODELS = [
    ("that of the settings", ""),
    ("the one that comes along", "bundled"),
    ("none: sentences are quoted", "none"),
]


class LibraryRegistry:
    """Libraries by their folders, each served by one assistant for each language model.

    Safe to use from several threads; an assistant is opened when it is first asked for, and kept.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        open_assistant: Open,
        *,
        sample: Path | None = None,
        any_model: bool = False,
    ) -> None:
        """Offer the libraries in these folders, and that of the sample papers, which nobody changes.

        With `any_model` also the language models that a user names.
        """
        self.any_model = any_model
        self._open = open_assistant
        self._own = {str(folder): folder for folder in folders}
        self._folders = self._own | ({str(sample): sample} if sample else {})
        self._assistants: OrderedDict[tuple[str, str], Assistant] = OrderedDict()
        self._opening = threading.Lock()

    @property
    def libraries(self) -> list[tuple[str, str]]:
        """Name and key of each library; two folders of one name are told apart by their paths."""
        return [(self._name(key), key) for key in self._folders]

    def _name(self, key: str) -> str:
        if self.is_sample(key):
            return SAMPLE
        name = self._folders[key].name
        if [folder.name for folder in self._own.values()].count(name) > 1:
            return key
        return "My library" if name == "library" else name

    def is_sample(self, library: str) -> bool:
        """Whether a key is that of the sample papers."""
        return library not in self._own

    @property
    def first(self) -> str:
        """The key of the library to begin with: the first that holds papers."""
        return next(
            (key for key in self._folders if self._is_filled(key)), next(iter(self._folders))
        )

    def _is_filled(self, library: str) -> bool:
        with contextlib.suppress(FootnoteError):
            return self.assistant(library).count() > 0
        return False

    def assistant(self, library: str, model: str = "") -> Assistant:
        """The assistant for the library of a key, with a language model. Raises `FootnoteError`."""
        if library not in self._folders:
            raise UsageError("this library is not on offer here; choose another one")
        if not self.any_model and model not in [name for _, name in MODELS]:
            raise UsageError("this language model is not on offer here; choose another one")
        with self._opening:
            if (library, model) not in self._assistants:
                try:
                    self._assistants[library, model] = self._open(self._folders[library], model)
                except LibraryNotFound:
                    raise UsageError(
                        "this library holds no papers yet; drop files in the tab Library to add some"
                    ) from None
            self._assistants.move_to_end((library, model))
            if len(self._assistants) > _MOST_OPEN:
                self._assistants.popitem(last=False)
            return self._assistants[library, model]

    def for_adding(self, library: str) -> tuple[str, Assistant]:
        """The library that takes papers when one is shown: itself, or the first one where that is the sample.

        Gives its key and its assistant; it is made when it is not there. Raises `FootnoteError`.
        """
        key = next(iter(self._own), "") if self.is_sample(library) else library
        if key not in self._own:
            raise UsageError(
                "there is no library to add to; name one with footnote ui --library DIR"
            )
        Assistant.open(self._own[key]).library.close()
        return key, self.assistant(key)

    def prepare(self) -> None:
        """Load the models and the index of the first library in the background, so that nobody waits for them."""
        threading.Thread(target=self._prepare, daemon=True).start()

    def _prepare(self) -> None:
        # The first question tells what is wrong, and to whom it matters.
        with contextlib.suppress(FootnoteError):
            assistant = self.assistant(self.first)
            for paper in assistant.papers(0, 1):
                assistant.ask(paper.title[:200], style="quote")


def open_library(folder: Path, model: str) -> Assistant:
    """The assistant for an existing library."""
    return Assistant.open(folder, language_model=model, create=False)


def shelf_of(folders: Iterable[Path], *, any_model: bool) -> LibraryRegistry:
    """The libraries in the folders, or the user's own where none is named, and the sample papers.

    The user's own need not be there yet. Raises `LibraryError` for another folder without a library.
    """
    named = [open_library(folder, "").library.folder for folder in folders]
    return LibraryRegistry(
        named or [_own()],
        open_library,
        sample=Assistant.sample().library.folder,
        any_model=any_model,
    )


def _own() -> Path:
    """The folder of the user's own library, there or to be made."""
    try:
        return Assistant.open(create=False).library.folder
    except LibraryNotFound as error:
        return Path(error.folder)
