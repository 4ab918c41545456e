"""Errors that Footnote raises on purpose. Each message says what is wrong and the way out.

FootnoteError
├── UsageError          invalid argument or setting
├── SourceError         file that cannot be read as a source of papers
├── LibraryError        library that cannot be opened, read or written
│   ├── LibraryNotFound     no library in the folder
│   ├── EmbedderMismatch    library built with another embedding model
│   └── PaperNotFound       no paper with that name
└── ModelError          model that cannot be used
    ├── ModelUnavailable    missing, or does not load
    ├── ModelFailed         stopped with an error
    └── ModelTooSlow        ran out of time

Any other exception that escapes is a bug and keeps its traceback.
"""

import shlex
from collections.abc import Iterable


class FootnoteError(Exception):
    """Base class of every error that Footnote raises on purpose."""


class UsageError(FootnoteError):
    """Invalid argument or setting."""


def unknown_choice(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """Return the error for a name that is not one of the choices."""
    return UsageError(f"unknown {kind} '{name}'; choose from: {', '.join(choices)}")


class SourceError(FootnoteError):
    """File that cannot be read as a source of papers."""

    def __init__(self, source: str, reason: str) -> None:
        # File names may contain bytes that are not text and cannot be printed.
        source = "".join("�" if "\ud800" <= char <= "\udfff" else char for char in source)
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class LibraryError(FootnoteError):
    """Library that cannot be opened, read or written."""


class LibraryNotFound(LibraryError):
    """No library in the folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        command = f"footnote add PATH --library {shlex.quote(self.folder)}"
        return f"no library in {self.folder}; create one with: {command}"


class EmbedderMismatch(LibraryError):
    """Library whose embedding model is not the requested one."""

    def __init__(self, stored: str, requested: str) -> None:
        super().__init__(stored, requested)
        self.stored = stored
        self.requested = requested

    def __str__(self) -> str:
        hint = " (same name, different weights)" if self.stored == self.requested else ""
        return (
            f"the library was built with the embedding model '{self.stored}', "
            f"not '{self.requested}'{hint}; embed its papers again with: "
            f"footnote reindex --embedder {self.requested}"
        )


class PaperNotFound(LibraryError):
    """No paper with that name in the library."""

    def __init__(self, name: str, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(name, suggestions)
        self.name = name
        self.suggestions = suggestions

    def __str__(self) -> str:
        if self.suggestions:
            hint = f"did you mean one of: {', '.join(self.suggestions)}?"
        else:
            hint = "list the papers with: footnote list"
        return f"no paper '{self.name}' in the library; {hint}"


class ModelError(FootnoteError):
    """Model that cannot be used. Answers fall back to quotations where they can."""


class ModelUnavailable(ModelError):
    """Model that is missing or does not load."""


class ModelFailed(ModelError):
    """Model that stopped with an error."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(model, reason)
        self.model = model
        self.reason = reason

    def __str__(self) -> str:
        return f"the language model '{self.model}' failed: {self.reason}"


class ModelTooSlow(ModelError):
    """Model that did not finish in time."""

    def __init__(self, model: str, seconds: float) -> None:
        super().__init__(model, seconds)
        self.model = model
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the language model '{self.model}' took longer than {self.seconds:g} s"
