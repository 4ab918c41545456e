"""Footnote answers questions from your own library of paper abstracts, and cites every sentence.

Only what a user of the library needs is exported here; everything else is in the submodules.

>>> from rag import Assistant                                   # doctest: +SKIP
>>> assistant = Assistant.open("my-library")                    # doctest: +SKIP
>>> assistant.add("papers/*.bib")                               # doctest: +SKIP
>>> print(assistant.ask("Which papers shrink the KV cache?"))   # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from rag.errors import (
    EmbedderMismatch,
    FootnoteError,
    LibraryError,
    LibraryNotFound,
    ModelError,
    ModelFailed,
    ModelTooSlow,
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
    Hit,
    Paper,
    Passage,
    Rejection,
    Sentence,
    Trace,
)

if TYPE_CHECKING:
    from rag.answering.conversation import Conversation
    from rag.assistant import Assistant
    from rag.library.filters import Filters
    from rag.library.library import Library

__all__ = [
    "AddReport",
    "Answer",
    "Assistant",
    "Citation",
    "Claim",
    "Conversation",
    "EmbedderMismatch",
    "Evidence",
    "Filters",
    "FootnoteError",
    "Hit",
    "Library",
    "LibraryError",
    "LibraryNotFound",
    "ModelError",
    "ModelFailed",
    "ModelTooSlow",
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

# Imported on first use: `import rag` stays fast.
_LAZY_MODULES = {
    "Assistant": "rag.assistant",
    "Conversation": "rag.answering.conversation",
    "Filters": "rag.library.filters",
    "Library": "rag.library.library",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attribute may be any class
    if name in _LAZY_MODULES:
        return getattr(importlib.import_module(_LAZY_MODULES[name]), name)
    raise AttributeError(f"module 'rag' has no attribute '{name}'")
