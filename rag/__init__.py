"""Footnote: answers from your own library of paper abstracts, a footnote for every sentence.

>>> from rag import Assistant                                   # doctest: +SKIP
>>> assistant = Assistant.open("my-library")                    # doctest: +SKIP
>>> assistant.add("papers/*.bib")                               # doctest: +SKIP
>>> print(assistant.ask("Which papers shrink the KV cache?"))   # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from rag.errors import (
    EmbedderMismatch,
    FootnoteError,
    LibraryError,
    LibraryNotFound,
    ModelUnavailable,
    PaperNotFound,
    SourceError,
    UsageError,
)
from rag.records import (
    AddReport,
    Answer,
    Citation,
    Claim,
    Evidence,
    Filters,
    Hit,
    Paper,
    Passage,
    Rejection,
    Sentence,
    Trace,
)

if TYPE_CHECKING:
    from rag.assistant import Assistant
    from rag.library import Library

__all__ = [
    "AddReport",
    "Answer",
    "Assistant",
    "Citation",
    "Claim",
    "EmbedderMismatch",
    "Evidence",
    "Filters",
    "FootnoteError",
    "Hit",
    "Library",
    "LibraryError",
    "LibraryNotFound",
    "ModelUnavailable",
    "Paper",
    "PaperNotFound",
    "Passage",
    "Rejection",
    "Sentence",
    "SourceError",
    "Trace",
    "UsageError",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class, whichever was asked for
    """Import the assistant and the library when they are first used, so that `import rag` costs nothing."""
    if name == "Assistant":
        from rag.assistant import Assistant

        return Assistant
    if name == "Library":
        from rag.library import Library

        return Library
    raise AttributeError(f"module 'rag' has no attribute '{name}'")
