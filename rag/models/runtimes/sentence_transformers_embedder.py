"""Embedding models in sentence-transformers, with their own prompts for questions and documents."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rag.models.embedder import PassageInput
from rag.models.files import fingerprint_folder
from rag.models.runtimes.quiet import quiet_libraries
from rag.models.vectors import Vectors, normalize

_BATCH_SIZE = 16
_DEFAULT_MAX_TOKENS = 512


def open_embedder(name: str, folder: Path) -> "SentenceTransformersEmbedder":
    """Load the embedding model in a folder."""
    return SentenceTransformersEmbedder(name, folder, fingerprint_folder(folder))


class SentenceTransformersEmbedder:
    """Embedder that embeds each sentence separately, because pooling differs between models."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        with quiet_libraries():
            self._model = SentenceTransformer(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        self.max_tokens = int(self._model.max_seq_length or _DEFAULT_MAX_TOKENS)
        self.dimension = int(self._model.get_embedding_dimension() or 0)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without special tokens."""
        encoded = self._model.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False
        )
        return list(map(len, encoded["input_ids"]))

    def embed_question(self, question: str) -> Vectors:
        """Return the unit vector of a question, (dimension,)."""
        vectors: Vectors = self._model.encode_query([question], show_progress_bar=False)
        return normalize(vectors[0])

    def embed_passages(self, passages: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """Return the unit vector of each passage and those of its sentences."""
        texts = [passage.text_with_title for passage in passages]
        sentence_rows = []
        for passage in passages:
            first_row = len(texts)
            texts += [passage.text[start:end] for start, end in passage.sentences]
            sentence_rows.append(slice(first_row, len(texts)))
        vectors = normalize(self._encode(texts))
        return [(vectors[row], vectors[rows]) for row, rows in enumerate(sentence_rows)]

    def _encode(self, texts: list[str]) -> Vectors:
        encoded: Vectors = self._model.encode_document(
            texts, batch_size=_BATCH_SIZE, show_progress_bar=False
        )
        return np.asarray(encoded, np.float32)
