"""Interface of embedding models.

A passage and its sentences are embedded together. Where the model allows it, the vector of a
sentence is the mean of its tokens' vectors as computed within the whole passage ("late chunking",
Günther et al., 2024), so one forward pass serves both. The line "best sentence" of
`python -m eval.benchmarks.retrieval` shows the effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rag.models.vectors import Vectors


@dataclass(frozen=True, slots=True)
class PassageInput:
    """Passage with its paper's title, and the spans of its sentences within `text`."""

    title: str
    text: str
    sentences: tuple[tuple[int, int], ...]

    @property
    def text_with_title(self) -> str:
        """Title and text as the model reads them."""
        return f"{self.title}. {self.text}" if self.text else self.title

    @property
    def text_start(self) -> int:
        """Position of `text` in `text_with_title`."""
        return len(self.title) + 2


class Embedder(Protocol):
    """Embedding model. All vectors have unit length.

    `fingerprint` identifies the weights. `max_tokens` limits the input, special tokens included.
    """

    name: str
    fingerprint: str
    dimension: int
    max_tokens: int

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without special tokens."""
        ...

    def embed_question(self, question: str) -> Vectors:
        """Return the vector of a question, (dimension,)."""
        ...

    def embed_passages(self, passages: Sequence[PassageInput]) -> list[tuple[Vectors, Vectors]]:
        """Return the vectors of each passage, (dimension,), and its sentences, (n, dimension)."""
        ...
