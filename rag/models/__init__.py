"""Where models come from and how they run."""

from rag.models.embedder import Embedder, TextToEmbed
from rag.models.files import DEFAULT_EMBEDDER, fingerprint, model_folder
from rag.models.load import load_embedder

__all__ = ["DEFAULT_EMBEDDER", "Embedder", "TextToEmbed", "fingerprint", "load_embedder", "model_folder"]
