"""Reader: what of an abstract answers a question, by a cross-encoder trained by this project.

The reader reads the question together with a whole abstract and judges all sentences in one pass,
each in its context (as MultiVerS does for claims; Wadden et al., 2022). `eval.training.reader`
trains it, and `reader_model/README.md` is its model card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReaderInput:
    """Abstract with its title, as sentences."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader makes of one abstract, as log-odds.

    `relevance` is comparable between the abstracts read for one question: higher where the
    question is about the paper. `answers` says whether the abstract states the answer, and
    `sentences` whether each sentence does.
    """

    relevance: float
    answers: float
    sentences: tuple[float, ...]


class Reader(Protocol):
    """Model that reads abstracts with a question in mind. `fingerprint` identifies its weights."""

    fingerprint: str

    def read(self, question: str, abstracts: Sequence[ReaderInput]) -> list[Reading]:
        """Return a reading of each abstract."""
        ...
