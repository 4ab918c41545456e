"""Stand-ins for models: fast, deterministic, and honest about what they are."""

import hashlib

import numpy as np

from rag.text.terms import content_terms


class HashEmbedder:
    """Texts that share words point the same way: a bag of hashed words, 64 dimensions, one token for each word."""

    name = "hash"
    fingerprint = "hash-1"
    dimension = 64
    max_tokens = 40

    def __init__(self):
        self.embedded = 0

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def embed_question(self, question):
        return self._vector(question)

    def embed_passages(self, texts):
        self.embedded += len(texts)
        return [
            (
                self._vector(text.whole),
                np.stack([self._vector(text.text[start:end]) for start, end in text.sentences])
                if text.sentences
                else np.zeros((0, self.dimension), np.float32),
            )
            for text in texts
        ]

    def _vector(self, text):
        vector = np.full(self.dimension, 1e-3, np.float32)
        for term in content_terms(text):
            digest = hashlib.sha256(term.encode()).digest()
            vector[digest[0] % self.dimension] += 1
        return vector / np.linalg.norm(vector)


class OtherEmbedder(HashEmbedder):
    """Another model, of another dimension."""

    name = "other"
    fingerprint = "other-1"
    dimension = 32
