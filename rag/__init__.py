"""Footnote: answers from your own library of paper abstracts, a footnote for every sentence.

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
    from rag.chat import Conversation
    from rag.config import data_folder
    from rag.export import export_answer, export_conversation, export_papers
    from rag.health import Check, check_library
    from rag.instructions import grams, instructions_in, instructions_of
    from rag.library import Library
    from rag.models import load_language_model
    from rag.read import SentenceWeights
    from rag.text.clean import clean
    from rag.text.sentences import split_sentences
    from rag.verify import LexicalVerifier, Source, Support

__all__ = [
    "AddReport",
    "Answer",
    "Assistant",
    "Check",
    "Citation",
    "Claim",
    "Conversation",
    "EmbedderMismatch",
    "Evidence",
    "Filters",
    "FootnoteError",
    "Hit",
    "LexicalVerifier",
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
    "SentenceWeights",
    "Source",
    "SourceError",
    "Support",
    "Trace",
    "UsageError",
    "check_library",
    "clean",
    "data_folder",
    "export_answer",
    "export_conversation",
    "export_papers",
    "grams",
    "instructions_in",
    "instructions_of",
    "load_language_model",
    "split_sentences",
]

__version__ = "0.1.0"


# Imported when they are first used, so that `import rag` costs nothing.
_LAZY = {
    "Assistant": "rag.assistant",
    "Check": "rag.health",
    "Conversation": "rag.chat",
    "LexicalVerifier": "rag.verify",
    "Library": "rag.library",
    "SentenceWeights": "rag.read",
    "Source": "rag.verify",
    "Support": "rag.verify",
    "check_library": "rag.health",
    "clean": "rag.text.clean",
    "data_folder": "rag.config",
    "export_answer": "rag.export",
    "export_conversation": "rag.export",
    "export_papers": "rag.export",
    "grams": "rag.instructions",
    "instructions_in": "rag.instructions",
    "instructions_of": "rag.instructions",
    "load_language_model": "rag.models",
    "split_sentences": "rag.text.sentences",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rag' has no attribute '{name}'")
