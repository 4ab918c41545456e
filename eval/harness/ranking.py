"""Metrics of ranked and cited documents against relevance judgments.

All functions take plain ids and know nothing about questions and replies.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

# Relevance of each judged document; documents that are not listed count as 0.
Grades = Mapping[str, float]


def ndcg(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Return the normalised discounted cumulative gain at `k` with linear gain.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002. Returns 0 if
    no document is relevant.
    """
    gains = [grades.get(document, 0.0) for document in ranking[:k]]
    ideal_gains = sorted(grades.values(), reverse=True)[:k]
    ideal = _discounted_sum(ideal_gains)
    return _discounted_sum(gains) / ideal if ideal else 0.0


def _discounted_sum(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Return the share of the relevant documents among the first `k`; 0 if none is relevant."""
    relevant = _relevant_documents(grades)
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def success(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Return 1 if a relevant document is among the first `k`, else 0."""
    return 0.0 if _relevant_documents(grades).isdisjoint(ranking[:k]) else 1.0


def reciprocal_rank(ranking: Sequence[str], grades: Grades) -> float:
    """Return 1 / rank of the first relevant document; 0 if there is none in the ranking."""
    relevant = _relevant_documents(grades)
    for rank, document in enumerate(ranking, 1):
        if document in relevant:
            return 1 / rank
    return 0.0


def _relevant_documents(grades: Grades) -> set[str]:
    return {document for document, grade in grades.items() if grade > 0}


def group_recall(papers: Sequence[str], gold: Sequence[Sequence[str]]) -> float:
    """Return the share of the gold groups with at least one of the papers; 0 without gold.

    A gold group lists papers that are alternatives to each other.
    """
    if not gold:
        return 0.0
    hits = 0
    for group in gold:
        hits += not set(group).isdisjoint(papers)
    return hits / len(gold)


def group_precision(papers: Sequence[str], gold: Sequence[Sequence[str]]) -> float:
    """Return the share of the distinct papers that are in a gold group; 0 without papers."""
    distinct = set(papers)
    relevant = distinct.intersection(chain.from_iterable(gold))
    return len(relevant) / len(distinct) if distinct else 0.0


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two numbers; 0 if either is not positive."""
    if first <= 0 or second <= 0:
        return 0.0
    return 2 * first * second / (first + second)


def area_under_roc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Return the probability that a positive scores above a negative; ties count half.

    Mann and Whitney, 1947. Returns NaN if either list is empty.
    """
    from scipy.stats import rankdata

    pairs = len(positives) * len(negatives)
    if not pairs:
        return math.nan
    ranks = rankdata([*positives, *negatives])
    positive_rank_sum = float(ranks[: len(positives)].sum())
    min_rank_sum = len(positives) * (len(positives) + 1) / 2
    return (positive_rank_sum - min_rank_sum) / pairs
