"""Where models come from and how they run."""

from rag.models.embedder import Embedder, TextToEmbed
from rag.models.files import fingerprint, model_folder
from rag.models.load import load_embedder

__all__ = ["Embedder", "TextToEmbed", "fingerprint", "load_embedder", "model_folder"]
