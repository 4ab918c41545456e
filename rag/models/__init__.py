"""Where models come from and how they run."""

from rag.models.embedder import Embedder, TextToEmbed
from rag.models.files import fingerprint, model_folder
from rag.models.language import LanguageModel, Limits, Message, Reader
from rag.models.load import load_embedder, load_language_model

__all__ = [
    "Embedder",
    "LanguageModel",
    "Limits",
    "Message",
    "Reader",
    "TextToEmbed",
    "fingerprint",
    "load_embedder",
    "load_language_model",
    "model_folder",
]
