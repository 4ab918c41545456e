"""Where models come from and how they run."""

from rag.models.embedding import DEFAULT_EMBEDDER, Embedder, TextToEmbed, Vectors, load_embedder

__all__ = ["DEFAULT_EMBEDDER", "Embedder", "TextToEmbed", "Vectors", "load_embedder"]
