"""Libraries and language models that the page offers, and the assistants that serve them."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from rag import Assistant, FootnoteError, LibraryNotFound, UsageError

# Opens the library in a folder with the named language model; an empty name means the default.
OpenAssistant = Callable[[Path, str], Assistant]
SAMPLE = "Sample papers"
# Each assistant holds models of its own, some hundred MB.
MAX_OPEN_ASSISTANTS = 8
STYLES = [("Automatic", "auto"), ("Quotes only", "quote"), ("Written summary", "write")]
MODELS = [("Default", ""), ("Built-in", "bundled"), ("None (quotes only)", "none")]


class LibraryRegistry:
    """Libraries by key, with one assistant for each library and language model.

    Safe to use from several threads. Assistants are opened when they are first needed and kept;
    beyond `MAX_OPEN_ASSISTANTS`, the least recently used one is dropped.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        open_assistant: OpenAssistant,
        *,
        sample: Path | None = None,
        any_model: bool = False,
    ) -> None:
        """Offer the libraries in some folders, and the sample library, which stays read-only.

        With `any_model`, users may also name a language model that is not in `MODELS`.
        """
        self.any_model = any_model
        self._open = open_assistant
        self._own_folders = {str(folder): folder for folder in folders}
        self._folders = self._own_folders | ({str(sample): sample} if sample else {})
        self._assistants: OrderedDict[tuple[str, str], Assistant] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def libraries(self) -> list[tuple[str, str]]:
        """Name and key of each library; folders that share a name are named by their paths."""
        return [(self._display_name(key), key) for key in self._folders]

    def _display_name(self, key: str) -> str:
        if self.is_sample(key):
            return SAMPLE
        name = self._folders[key].name
        names = [folder.name for folder in self._own_folders.values()]
        if names.count(name) > 1:
            return key
        return "My library" if name == "library" else name

    def is_sample(self, library: str) -> bool:
        """Return whether a key belongs to the sample library."""
        return library not in self._own_folders

    @property
    def first(self) -> str:
        """Key of the first library that has papers, or else of the first library."""
        for key in self._folders:
            if self._has_papers(key):
                return key
        return next(iter(self._folders))

    def _has_papers(self, library: str) -> bool:
        with contextlib.suppress(FootnoteError):
            return self.assistant(library).count() > 0
        return False

    def assistant(self, library: str, model: str = "") -> Assistant:
        """Return the assistant for a library and a language model. Raises `FootnoteError`."""
        self._check_offered(library, model)
        with self._lock:
            if (library, model) not in self._assistants:
                self._assistants[library, model] = self._open_existing(library, model)
            self._assistants.move_to_end((library, model))
            if len(self._assistants) > MAX_OPEN_ASSISTANTS:
                self._assistants.popitem(last=False)
            return self._assistants[library, model]

    def _check_offered(self, library: str, model: str) -> None:
        if library not in self._folders:
            raise UsageError("this library is not available here; choose another one")
        offered = [name for _, name in MODELS]
        if not self.any_model and model not in offered:
            raise UsageError("this language model is not available here; choose another one")

    def _open_existing(self, library: str, model: str) -> Assistant:
        try:
            return self._open(self._folders[library], model)
        except LibraryNotFound:
            message = "this library has no papers yet; drop files in the Library tab to add some"
            raise UsageError(message) from None

    def import_target(self, library: str) -> tuple[str, Assistant]:
        """Return key and assistant of the library to import into, creating it if needed.

        Imports go to the given library, or to the user's first library if that is the sample.
        Raises `FootnoteError`.
        """
        key = next(iter(self._own_folders), "") if self.is_sample(library) else library
        if key not in self._own_folders:
            raise UsageError("there is no library to add to; start with footnote ui --library DIR")
        Assistant.open(self._own_folders[key]).library.close()
        return key, self.assistant(key)

    def prepare(self) -> None:
        """Load the models and the index of the first library in the background."""
        threading.Thread(target=self._prepare, daemon=True).start()

    def _prepare(self) -> None:
        # An error is reported by the first question, to the person who asks it.
        with contextlib.suppress(FootnoteError):
            assistant = self.assistant(self.first)
            for paper in assistant.papers(0, 1):
                assistant.ask(paper.title[:200], style="quote")


def open_library(folder: Path, model: str) -> Assistant:
    """Return the assistant for an existing library."""
    return Assistant.open(folder, language_model=model, create=False)


def open_registry(folders: Iterable[Path], *, any_model: bool) -> LibraryRegistry:
    """Return a registry of the libraries in some folders and the sample library.

    Without folders it offers the user's own library, which need not exist yet. Raises
    `LibraryError` for a folder without a library.
    """
    resolved = [open_library(folder, "").library.folder for folder in folders]
    sample = Assistant.sample().library.folder
    return LibraryRegistry(
        resolved or [_default_folder()], open_library, sample=sample, any_model=any_model
    )


def _default_folder() -> Path:
    """Return the folder of the user's own library, whether or not it exists."""
    try:
        return Assistant.open(create=False).library.folder
    except LibraryNotFound as error:
        return Path(error.folder)
