"""What can go wrong, with the values that went wrong and the way out.

FootnoteError
├── UsageError          an argument or a setting that means nothing
├── SourceError         a file that cannot be read as a source of papers
├── LibraryError        a library that cannot be opened, read or written
│   ├── LibraryNotFound     there is none in the folder
│   ├── EmbedderMismatch    made with another embedding model
│   └── PaperNotFound       no paper goes by that name
└── ModelError          a model that cannot be used
    ├── ModelUnavailable    it is not there or does not load
    ├── ModelFailed         it broke off while it worked
    └── ModelTooSlow        it did not end within its time

Anything else that escapes is a bug and keeps its traceback.
"""

import shlex
from collections.abc import Iterable


class FootnoteError(Exception):
    """Every error that Footnote raises on purpose; the message says what is wrong and what mends it."""


class UsageError(FootnoteError):
    """An argument or a setting that means nothing."""


def unknown_choice(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """Return the error for a name that is not one of the choices."""
    return UsageError(f"unknown {kind} '{name}'; choose from: {', '.join(choices)}")


class SourceError(FootnoteError):
    """A file that cannot be read as a source of papers."""

    def __init__(self, source: str, why: str) -> None:
        # A name that is no text can still be told.
        source = "".join("�" if "\ud800" <= char <= "\udfff" else char for char in source)
        super().__init__(source, why)
        self.source = source
        self.reason = why

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class LibraryError(FootnoteError):
    """A library that cannot be opened, read or written."""


class LibraryNotFound(LibraryError):
    """There is no library in the folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.folder = folder

    def __str__(self) -> str:
        return f"no library in {self.folder}; footnote add PATH --library {shlex.quote(self.folder)} makes one"


class EmbedderMismatch(LibraryError):
    """The library was made with another embedding model than the one asked for."""

    def __init__(self, made_with: str, asked_for: str) -> None:
        super().__init__(made_with, asked_for)
        self.made_with = made_with
        self.asked_for = asked_for

    def __str__(self) -> str:
        same_name = (
            " (other weights under the same name)" if self.made_with == self.asked_for else ""
        )
        return (
            f"the library was made with the embedding model '{self.made_with}', not '{self.asked_for}'{same_name}; "
            f"vectors of two models cannot be compared. To embed it again: footnote reindex --embedder {self.asked_for}"
        )


class PaperNotFound(LibraryError):
    """No paper of the library goes by that name."""

    def __init__(self, name: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(name, near)
        self.name = name
        self.near = near

    def __str__(self) -> str:
        hint = (
            f"; did you mean {', '.join(self.near)}?"
            if self.near
            else "; footnote list shows the papers"
        )
        return f"no paper '{self.name}' in the library{hint}"


class ModelError(FootnoteError):
    """A model that cannot be used; where sentences can be quoted, an answer comes without it."""


class ModelUnavailable(ModelError):
    """A model that is not there or does not load."""


class ModelFailed(ModelError):
    """A model that broke off while it worked."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(model, why)
        self.model = model
        self.reason = why

    def __str__(self) -> str:
        return f"the language model '{self.model}' failed: {self.reason}"


class ModelTooSlow(ModelError):
    """A model that did not end within its time."""

    def __init__(self, model: str, seconds: float) -> None:
        super().__init__(model, seconds)
        self.model = model
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the language model '{self.model}' took longer than {self.seconds:g} s"
