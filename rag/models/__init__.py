"""Where models come from and how they run."""

from rag.models.embedder import Embedder, PassageInput
from rag.models.files import fingerprint, model_folder
from rag.models.language_model import GenerationLimits, LanguageModel, Message, QueryLikelihoodModel
from rag.models.registry import load_embedder, load_language_model

__all__ = [
    "Embedder",
    "LanguageModel",
    "GenerationLimits",
    "Message",
    "QueryLikelihoodModel",
    "PassageInput",
    "fingerprint",
    "load_embedder",
    "load_language_model",
    "model_folder",
]
