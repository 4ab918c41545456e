"""What an embedding model takes and gives.

A passage and its sentences are embedded together: where the model allows it, the vector of a sentence is the mean
of its own tokens as the model saw them in the whole passage ("late chunking", Günther et al., 2024), so that one
pass serves both. How well that finds is in the line "best sentence" of `python -m eval.benchmarks.retrieval`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rag.models.vectors import Vectors


@dataclass(frozen=True, slots=True)
class PassageInput:
    """A passage under its paper's title, and the spans of its sentences, counted within `text`."""

    title: str
    text: str
    sentences: tuple[tuple[int, int], ...]

    @property
    def whole(self) -> str:
        return f"{self.title}. {self.text}" if self.text else self.title

    @property
    def offset(self) -> int:
        """Where `text` starts in `whole`."""
        return len(self.title) + 2


class Embedder(Protocol):
    """What the library needs of an embedding model. Vectors are unit vectors."""

    name: str
    fingerprint: str
    dimension: int
    max_tokens: int

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        ...

    def embed_question(self, question: str) -> Vectors:
        """One vector, (dimension,)."""
        ...

    def embed_passages(self, texts: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """For each passage its vector, (dimension,), and those of its sentences, (sentences, dimension)."""
        ...
