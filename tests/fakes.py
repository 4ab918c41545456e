"""Fake models: fast, deterministic, with the interface of the real ones."""

import hashlib
import itertools

import numpy as np

from rag.models.runtimes.streaming import stream_from_thread
from rag.text.terms import content_terms
from rag.verification.details import check_details
from rag.verification.verifier import Support


class HashEmbedder:
    """Bag of hashed words in 64 dimensions: texts that share words have similar vectors."""

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
        return [(self._vector(text.text_with_title), self._sentences(text)) for text in texts]

    def _sentences(self, text):
        vectors = np.zeros((len(text.sentences), self.dimension), np.float32)
        for row, (start, end) in enumerate(text.sentences):
            vectors[row] = self._vector(text.text[start:end])
        return vectors

    def _vector(self, text):
        vector = np.full(self.dimension, 1e-3, np.float32)
        for term in content_terms(text):
            digest = hashlib.sha256(term.encode()).digest()
            vector[digest[0] % self.dimension] += 1
        return vector / np.linalg.norm(vector)


class OtherEmbedder(HashEmbedder):
    """Second embedding model, with another number of dimensions."""

    name = "other"
    fingerprint = "other-1"
    dimension = 32


class ScriptedModel:
    """Language model that writes a script, in a thread like real models; a word is a token.

    `reply` is a text, its pieces, or a function from the messages to pieces. An exception among
    the pieces is raised. `prompts` collects the messages that it gets.
    """

    name = "scripted"

    def __init__(self, reply="", fingerprint="scripted-1", context_tokens=8192):
        self.reply = reply
        self.fingerprint = fingerprint
        self.context_tokens = context_tokens
        self.prompts = []

    def count_tokens(self, messages):
        return sum(len(message.content.split()) for message in messages)

    def stream(self, messages, limits, stop):
        self.prompts.append(list(messages))
        pieces = self.reply(messages) if callable(self.reply) else self.reply
        pieces = [pieces] if isinstance(pieces, str) else pieces

        def generate(emit):
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                if not emit(piece):
                    return

        return stream_from_thread(self.name, generate, limits, stop, on_close=lambda: None)


def repeat_forever(*pieces):
    """Repeat the pieces without end, until the consumer stops."""
    return itertools.cycle(pieces)


class JudgingModel(ScriptedModel):
    """Scripted model that also judges evidence: with a probability, or with an error."""

    def __init__(self, reply="", judgement=1.0, **options):
        super().__init__(reply, **options)
        self.judgement = judgement

    def choice_probability(self, messages, choices, limits, stop):
        self.prompts.append(list(messages))
        if isinstance(self.judgement, Exception):
            raise self.judgement
        return self.judgement


class WordVerifier:
    """Verifier for which the meaning is clear if the sources have half of a sentence's words."""

    def check(self, sentence, sources):
        if verdict := check_details(sentence, sources):
            return verdict
        words = set(content_terms(sentence))
        known = content_terms(" ".join(f"{source.text} {source.context}" for source in sources))
        share = len(words.intersection(known)) / len(words)
        return Support(share >= 0.5, share, "" if share >= 0.5 else "the source does not say this")
