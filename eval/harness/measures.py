"""Metrics as pure functions: of a ranking and its judgments, of an answer and what was expected of it."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby

Grades = Mapping[str, float]


def ndcg(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Normalised discounted cumulative gain at `k`, linear gain (Järvelin and Kekäläinen, 2002); 0 without grades."""
    gained = _discounted([grades.get(document, 0.0) for document in ranking[:k]])
    ideal = _discounted(sorted(grades.values(), reverse=True)[:k])
    return gained / ideal if ideal else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Share of the relevant documents among the first `k`; 0 when none is relevant."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:k])) / len(relevant) if relevant else 0.0


def success(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """1 when a relevant document is among the first `k`, else 0."""
    return float(any(grades.get(document, 0) > 0 for document in ranking[:k]))


def reciprocal_rank(ranking: Sequence[str], grades: Grades) -> float:
    """1 / rank of the first relevant document; 0 when none was found."""
    ranks = (rank for rank, document in enumerate(ranking, 1) if grades.get(document, 0) > 0)
    return 1 / next(ranks, math.inf)


def area_under_roc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann and Whitney, 1947)."""
    ordered = sorted([(score, 1) for score in positives] + [(score, 0) for score in negatives])
    ranks = _mean_ranks([score for score, _ in ordered])
    of_positives = sum(rank for rank, (_, positive) in zip(ranks, ordered, strict=True) if positive)
    pairs = len(positives) * len(negatives)
    return (of_positives - len(positives) * (len(positives) + 1) / 2) / pairs if pairs else math.nan


def _mean_ranks(ordered: Sequence[float]) -> list[float]:
    ranks: list[float] = []
    for _, tied in groupby(ordered):
        count = len(list(tied))
        ranks += [len(ranks) + (count + 1) / 2] * count
    return ranks


_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|%")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def fact_found(text: str, alternatives: Sequence[str], numbers: Sequence[str]) -> bool:
    """Whether an alternative stands in the text as whole words, and every number does, too.

    Case and punctuation do not count, and numbers are whole: 58 is in "58x", not in "158" or "5.8".
    """
    tokens = _tokens(text)
    spaced = f" {' '.join(tokens)} "
    numbers_there = all(f" {' '.join(_tokens(number))} " in spaced for number in numbers)
    return numbers_there and any(f" {' '.join(_tokens(one))} " in spaced for one in alternatives)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(_THOUSANDS.sub("", unicodedata.normalize("NFKC", text)).casefold())


def group_recall(cited: Sequence[str], gold: Sequence[Sequence[str]]) -> float:
    """Share of the gold groups of which a paper is cited; 0 without gold."""
    return sum(bool(set(group) & set(cited)) for group in gold) / len(gold) if gold else 0.0


def group_precision(cited: Sequence[str], gold: Sequence[Sequence[str]]) -> float:
    """Share of the distinct papers cited that are in some gold group; 0 when none is cited."""
    papers = set(cited)
    return len(papers & {name for group in gold for name in group}) / len(papers) if papers else 0.0


def harmonic_mean(one: float, other: float) -> float:
    """0 when either is."""
    return 2 * one * other / (one + other) if one > 0 and other > 0 else 0.0
