"""Run the bundled language model, a GGUF file in pieces."""

from rag.models.language_model import LanguageModel
from rag.models.runtimes.gguf_lm import open_bundled


def open_language_model(_name: str) -> LanguageModel:
    """Return the bundled model."""
    return open_bundled()
