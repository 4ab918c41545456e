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
    Hit,
    Paper,
    Passage,
    Rejection,
    Sentence,
    Trace,
)

if TYPE_CHECKING:
    from rag.answering.conversation import Conversation
    from rag.answering.evidence import EvidenceWeights
    from rag.assistant import Assistant
    from rag.config import data_folder
    from rag.library.doctor import Check, check_library
    from rag.library.filters import Filters
    from rag.library.library import Library
    from rag.models import load_language_model
    from rag.output.export import export_answer, export_conversation, export_papers
    from rag.text.cleaning import clean
    from rag.text.prompt_injection import find_injections, ngrams, paper_injections
    from rag.text.sentences import split_sentences
    from rag.verification.verifier import LexicalVerifier, Source, Support

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
    "EvidenceWeights",
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
    "ngrams",
    "find_injections",
    "paper_injections",
    "load_language_model",
    "split_sentences",
]

__version__ = "0.1.0"


# Imported when they are first used, so that `import rag` costs nothing.
_LAZY = {
    "Assistant": "rag.assistant",
    "Check": "rag.library.doctor",
    "Conversation": "rag.answering.conversation",
    "LexicalVerifier": "rag.verification.verifier",
    "Filters": "rag.library.filters",
    "Library": "rag.library.library",
    "EvidenceWeights": "rag.answering.evidence",
    "Source": "rag.verification.verifier",
    "Support": "rag.verification.verifier",
    "check_library": "rag.library.doctor",
    "clean": "rag.text.cleaning",
    "data_folder": "rag.config",
    "export_answer": "rag.output.export",
    "export_conversation": "rag.output.export",
    "export_papers": "rag.output.export",
    "ngrams": "rag.text.prompt_injection",
    "find_injections": "rag.text.prompt_injection",
    "paper_injections": "rag.text.prompt_injection",
    "load_language_model": "rag.models",
    "split_sentences": "rag.text.sentences",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rag' has no attribute '{name}'")
