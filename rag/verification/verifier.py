"""Records of verification: a sentence is checked against sources, the quotations that it cites.

Numbers and names are checked exactly (`details`). On the meaning, the entailment model was trained
(`entailment`). `rag.answering.support` makes a decision of these. When in doubt, a sentence counts
as unsupported. Little is lost then, because the quotation is shown instead.
`python -m eval.benchmarks.support` measures both checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Support:
    """Result of a check.

    `score` is the probability that the sources support the sentence, between 0 and 1. `reason`
    tells the user why they do not, and is empty when they do.
    """

    supported: bool
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Cited quotation. Names may also come from its `context`, the title, and from the `question`.

    A number may be the `year` of the paper. `log_odds` are those that the quotation answers the
    question.
    """

    text: str
    context: str = ""
    question: str = ""
    year: int | None = None
    log_odds: float = 0.0


class Verifier(Protocol):
    """Checks a sentence against the quotations that it cites."""

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources together support the sentence; the best one comes first."""
        ...
