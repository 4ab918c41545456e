"""What it takes to verify a generated sentence against the quotations that it cites.

Numbers and names are checked exactly (`details`). On the meaning, the entailment model was trained:
it tells whether excerpts support a statement. `rag.answering.support` makes the decision of these.
When in doubt, a sentence counts as unsupported. Little is lost then, because the quotation is shown
instead. `python -m eval.benchmarks.support` measures both checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rag.models.reader import Reader, ReaderInput
from rag.verification.details import find_unsupported_detail, is_copy, without_marks


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


def entailment_log_odds(model: Reader, sentence: str, sources: Sequence[Source]) -> float:
    """Return the log-odds, by the entailment model, that sources, at least one, entail a sentence.

    Titles are given to the model only where all sources have the same one.
    """
    titles = {source.context for source in sources}
    title = titles.pop() if len(titles) == 1 else ""
    excerpts = ReaderInput(title, tuple(source.text for source in sources))
    (reading,) = model.read(without_marks(sentence), [excerpts])
    return reading.answers


def check_details(sentence: str, sources: Sequence[Source]) -> Support | None:
    """Return what can be told without the meaning; None if the meaning decides.

    A copy is supported. A sentence is not if it is too short to check, or if it has a number or a
    name that the sources lack.
    """
    quotations, contexts = [], []
    for source in sources:
        quotations.append(source.text)
        contexts.append(f"{source.context}. {source.question}")
    if is_copy(sentence, quotations):
        return Support(True, 1.0, "")
    if not sources:
        return Support(False, 0.0, "no source was cited")
    years = [str(source.year) for source in sources if source.year]
    reason = find_unsupported_detail(sentence, [*quotations, *years], contexts)
    return Support(False, 0.0, reason) if reason else None
