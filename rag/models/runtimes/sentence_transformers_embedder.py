"""Any embedding model that sentence-transformers can load, with its own prompts for questions and documents."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from rag.models.embedder import PassageInput
from rag.models.runtimes.quiet import quiet_conversion
from rag.models.vectors import Vectors, unit

_BATCH = 16


class SentenceTransformersEmbedder:
    """See `rag.models.Embedder`. Sentences are embedded one by one, for pooling differs by model."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        with quiet_conversion():
            self._model = SentenceTransformer(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        self.max_tokens = int(self._model.max_seq_length or 512)
        self.dimension = int(self._model.get_embedding_dimension() or 0)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        encoded = self._model.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False
        )
        return [len(ids) for ids in encoded["input_ids"]]

    def embed_question(self, question: str) -> Vectors:
        """One unit vector, (dimension,)."""
        vectors: Vectors = self._model.encode_query([question], show_progress_bar=False)
        return unit(vectors[0])

    def embed_passages(self, texts: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """For each passage its unit vector and those of its sentences."""
        wholes = [text.whole for text in texts]
        sentences = [text.text[start:end] for text in texts for start, end in text.sentences]
        vectors = unit(self._encode(wholes + sentences))
        ends = len(texts) + np.cumsum([len(text.sentences) for text in texts])
        starts = [len(texts), *ends[:-1]]
        return [(vectors[i], vectors[starts[i] : ends[i]]) for i in range(len(texts))]

    def _encode(self, texts: list[str]) -> Vectors:
        encoded: Vectors = self._model.encode_document(
            texts, batch_size=_BATCH, show_progress_bar=False
        )
        return np.asarray(encoded, np.float32)
