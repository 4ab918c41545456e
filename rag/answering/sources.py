"""Find the sentences that a language model's draft rests on.

Small models often cite the wrong sentence, or none. What tells is how good a sentence is as
evidence for the question, and whether it has the words of the draft that the question lacks: what
the model has picked from the text. `python -m eval.training.sources` measures both.
"""

from collections.abc import Iterable, Sequence

from rag.models.log_odds import logit
from rag.records import Evidence
from rag.text.terms import content_terms

# Log-odds that a source gains when it has all new terms of a draft.
_NEW_TERMS_WEIGHT = 4.0
# Sentences this far below the best one, in log-odds, are not worth quoting beside it.
_MAX_GAP = 5.0
# New terms of a draft that a second source has to add; a number counts twice.
_MIN_FURTHER_TERMS = 2


def rank_sources(draft: str, question: str, evidence: Iterable[Evidence]) -> list[Evidence]:
    """Sort evidence by how likely a draft rests on it, best first; what is unlikely is left out."""
    values = _source_values(draft, question, evidence)
    lowest = max(values.values(), default=0.0) - _MAX_GAP
    likely = [item for item in values if values[item] >= lowest]
    return sorted(likely, key=values.__getitem__, reverse=True)


def _source_values(
    draft: str, question: str, evidence: Iterable[Evidence]
) -> dict[Evidence, float]:
    values = {}
    for item in evidence:
        share = new_terms_share(draft, question, item.sentence.text)
        values[item] = logit(item.score) + _NEW_TERMS_WEIGHT * share
    return values


def new_terms_share(draft: str, question: str, source: str) -> float:
    """Return which share of a draft's new terms, those that the question lacks, a source has."""
    new_terms = _new_terms(draft, question)
    return len(new_terms.intersection(content_terms(source))) / max(1, len(new_terms))


def choose_sources(draft: str, question: str, evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return the one or two sentences that a draft probably rests on, best first.

    The second one has at least two new terms of the draft, or a number, that the first one lacks.
    There are none when no sentence shares a term with the draft.
    """
    terms = set(content_terms(draft))
    related = [item for item in evidence if not terms.isdisjoint(content_terms(item.sentence.text))]
    if not related:
        return []
    values = _source_values(draft, question, related)
    best, *others = sorted(values, key=values.__getitem__, reverse=True)
    missing = _new_terms(draft, question).difference(content_terms(best.sentence.text))
    further: dict[Evidence, int] = {}
    for item in others:
        added = missing.intersection(content_terms(item.sentence.text))
        further[item] = len(added) + sum(any(map(str.isdigit, term)) for term in added)
    second = max(further, key=further.__getitem__, default=best)
    return [best, second] if further.get(second, 0) >= _MIN_FURTHER_TERMS else [best]


def _new_terms(draft: str, question: str) -> set[str]:
    return set(content_terms(draft)).difference(content_terms(question))
