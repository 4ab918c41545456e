"""Ask the entailment model whether sources support a sentence."""

from collections.abc import Sequence

from rag.models.reader import Reader, ReaderInput
from rag.verification.details import without_marks
from rag.verification.verifier import Source


def entailment_log_odds(model: Reader, sentence: str, sources: Sequence[Source]) -> float:
    """Return the log-odds, by the entailment model, that sources, at least one, entail a sentence.

    Titles are given to the model only where all sources have the same one.
    """
    titles = {source.context for source in sources}
    title = titles.pop() if len(titles) == 1 else ""
    excerpts = ReaderInput(title, tuple(source.text for source in sources))
    (reading,) = model.read(without_marks(sentence), [excerpts])
    return reading.answers
