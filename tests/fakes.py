"""Stand-ins for models: fast, deterministic, and honest about what they are."""

import hashlib
import itertools

import numpy as np

from rag.models.runtimes.streaming import stream_from_thread
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


class ScriptedModel:
    """Writes what it was told to, in a thread as real models do; a word is a token.

    `reply` is a text, its pieces, or a function from the messages to pieces; an exception among them is raised.
    """

    name = "scripted"

    def __init__(self, reply="", fingerprint="scripted-1", context_tokens=8192):
        self.reply = reply
        self.fingerprint = fingerprint
        self.context_tokens = context_tokens
        self.read = []

    def count_tokens(self, messages):
        return sum(len(message.content.split()) for message in messages)

    def stream(self, messages, limits, stop):
        self.read.append(list(messages))
        pieces = self.reply(messages) if callable(self.reply) else self.reply
        pieces = [pieces] if isinstance(pieces, str) else pieces

        def generate(emit):
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                if not emit(piece):
                    return

        return stream_from_thread(self.name, generate, limits, stop, on_end=lambda: None)


def endlessly(*pieces):
    """The pieces over and over; whoever listens has to make an end."""
    return itertools.cycle(pieces)


class PickyReader:
    """Finds any question likely after texts that hold the favourite words, and unlikely after all others."""

    name = "picky"

    def __init__(self, favourite, likely=-0.5, unlikely=-40.0):
        self.favourite = favourite
        self.likely = likely
        self.unlikely = unlikely
        self.read = []

    def question_likelihood(self, contexts, question):
        self.read += contexts
        return [[self.likely if self.favourite in text else self.unlikely] * 3 for text in contexts]
