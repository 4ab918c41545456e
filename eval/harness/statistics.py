"""Intervals and tests for scores per question. Everything is seeded: the same scores give the same figures.

Questions that belong together, such as a question and its variants, form a cluster: they are drawn and flipped as
one (Miller, "Adding Error Bars to Evals", 2024). The order of the questions and the names of clusters do not count.
Wrong input (no scores, scores that are not finite, lists that do not fit) raises `ValueError`.
"""

import math
from collections.abc import Callable, Hashable, Sequence, Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Clusters = Sequence[Hashable] | None

_RESAMPLES = 10_000
_SEED = 20_260_101
_BLOCK = 200_000  # numbers drawn at once: they stay in the cache, and memory does not grow with the questions
_ROUNDING = 1e-12
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference between two systems with its 95 % interval, and the two-sided p that there is none."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] p {self.p:.4f}"


def bootstrap(scores: ArrayLike, clusters: Clusters = None) -> Interval:
    """Mean of the scores, (questions,), with its percentile bootstrap interval.

    Whole clusters are drawn, and the mean is over the questions in them. `clusters` has a label per score; without it
    each score stands alone. A single cluster tells nothing of the spread: its interval has no width.
    """
    return _interval(_table((_values(scores), clusters)), _mean)


def harmonic(
    first: ArrayLike,
    second: ArrayLike,
    clusters_first: Clusters = None,
    clusters_second: Clusters = None,
) -> Interval:
    """Harmonic mean of two means over different questions, with its interval; 0 when either mean is 0.

    No score may be negative. The clusters of both are drawn together, and a label that both use is one cluster. A
    draw that leaves one of the means without questions does not count.
    """
    one, other = _values(first), _values(second)
    if min(one.min(), other.min()) < 0:
        raise ValueError("a harmonic mean takes no negative scores")
    return _interval(_table((one, clusters_first), (other, clusters_second)), _harmonic)


def paired(scores: ArrayLike, others: ArrayLike, clusters: Clusters = None) -> Difference:
    """Mean of scores - others on the same questions: `bootstrap` of the differences and the p of `sign_flip`."""
    table = _table((_differences(scores, others), clusters))
    interval = _interval(table, _mean)
    return Difference(interval.mean, interval.low, interval.high, _flip_p(table[:, 0]))


def sign_flip(scores: ArrayLike, others: ArrayLike, clusters: Clusters = None) -> float:
    """Two-sided p of a paired randomisation test (Smucker et al., 2007) that two systems score alike.

    A flip swaps the systems on a whole cluster; p is (b + 1) / (m + 1) if b of m flips are as extreme as what was seen.
    """
    return _flip_p(_table((_differences(scores, others), clusters))[:, 0])


def non_inferior(
    scores: ArrayLike, baseline: ArrayLike, margin: float, clusters: Clusters = None
) -> bool:
    """Whether the mean is no worse than the baseline's, or a loss beyond `margin`, 0 or more, is ruled out.

    False only if the mean difference is negative and the lower end of its 95 % interval is below -margin.
    """
    if not margin >= 0:
        raise ValueError(f"the margin must be 0 or more, not {margin}")
    gain = bootstrap(_differences(scores, baseline), clusters)
    return gain.mean >= -_ROUNDING or gain.low >= -margin - _ROUNDING


def wilson(successes: int, n: int) -> Interval:
    """Share of successes among `n` independent trials with its score interval (Wilson, 1927)."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    share, spread = successes / n, _NORMAL_975**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = _NORMAL_975 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # The share lies within by definition; only rounding would put it outside.
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def rule_of_three(n: int) -> float:
    """Upper 95 % bound of the share of failures when none of `n` trials failed: 3 / n, at most 1."""
    if n < 1:
        raise ValueError("without trials nothing is known of failures")
    return min(1.0, 3 / n)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values adjusted for being several (Holm, 1979), in the order given."""
    if not all(0 <= p <= 1 for p in ps):
        raise ValueError("p values lie between 0 and 1")
    adjusted, so_far = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = so_far
    return adjusted


def risk_coverage(confidences: ArrayLike, losses: ArrayLike) -> list[tuple[float, float]]:
    """Coverage, in (0, 1], and selective risk, the mean loss of what is covered (Geifman and El-Yaniv, 2017).

    One point for each distinct confidence taken as a threshold, coverage rising: questions with the same confidence
    are covered together, as no threshold parts them.
    """
    sure, lost = _values(confidences), _values(losses)
    _same_length(sure, lost)
    order = np.lexsort((lost, -sure))
    covered = np.arange(1, len(sure) + 1)
    risks = np.cumsum(lost[order]) / covered
    last_alike = np.append(np.diff(sure[order]) != 0, True)
    return list(
        zip((covered[last_alike] / len(sure)).tolist(), risks[last_alike].tolist(), strict=True)
    )


def aurc(confidences: ArrayLike, losses: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean of the risks with each question's confidence as the threshold.

    Without ties these are the risks at the coverages 1/n, 2/n, ..., 1. With ties, each of t questions alike counts
    the risk of covering all t of them: a point of `risk_coverage` weighs t/n. All alike, the area is the mean loss.
    """
    coverages, risks = np.array(risk_coverage(confidences, losses)).T
    return float(np.diff(coverages, prepend=0.0) @ risks)


def _values(scores: ArrayLike) -> Values:
    values = np.asarray(scores, float)
    if not values.size:
        raise ValueError("there are no scores")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("scores must be finite numbers, one for each question")
    return values


def _same_length(one: Sized, other: Sized) -> None:
    if len(one) != len(other):
        raise ValueError(f"the lists must be of one length, not {len(one)} and {len(other)}")


def _differences(scores: ArrayLike, others: ArrayLike) -> Values:
    ours, theirs = _values(scores), _values(others)
    _same_length(ours, theirs)
    return ours - theirs


def _table(*samples: tuple[Values, Clusters]) -> Values:
    """For each cluster the sum and the number of its scores in each sample: (clusters, 2 * samples).

    Scores are added, and rows stand, in the order of their values: shuffled questions give the same table.
    """
    labels = [
        [object() for _ in values] if clusters is None else clusters for values, clusters in samples
    ]
    codes = {
        label: code
        for code, label in enumerate(dict.fromkeys(label for some in labels for label in some))
    }
    columns = []
    for (values, _), some in zip(samples, labels, strict=True):
        _same_length(values, some)
        order = np.argsort(values)
        cluster = np.array([codes[label] for label in some])[order]
        columns += [
            np.bincount(cluster, values[order], len(codes)),
            np.bincount(cluster, minlength=len(codes)),
        ]
    return np.column_stack(columns).astype(float)[np.lexsort(columns)]


def _mean(totals: Values) -> Values:
    return totals[..., 0] / totals[..., 1]


def _harmonic(totals: Values) -> Values:
    one, other = _mean(totals), _mean(totals[..., 2:])
    both = np.maximum(one + other, np.finfo(float).tiny)  # two means of 0 give 0 / tiny, not 0 / 0
    return 2.0 * one * other / both


def _interval(table: Values, statistic: Callable[[Values], Values]) -> Interval:
    """The statistic of the sums of the table's columns, and its percentiles over draws of as many rows."""
    clusters, generator = len(table), np.random.default_rng(_SEED)
    sums = np.concatenate(
        [_counts(generator, draws, clusters) @ table for draws in _blocks(clusters)]
    )
    sums = sums[(sums[:, 1::2] > 0).all(axis=1)]
    low, high = np.percentile(statistic(sums), [2.5, 97.5])
    return Interval(float(statistic(table.sum(axis=0))), float(low), float(high))


def _counts(generator: np.random.Generator, draws: int, clusters: int) -> NDArray[np.intp]:
    """How often each cluster comes up in each draw, (draws, clusters): multinomial, and faster than drawing it so."""
    cells = (
        generator.integers(0, clusters, (draws, clusters)) + np.arange(draws)[:, None] * clusters
    )
    return np.bincount(cells.ravel(), minlength=draws * clusters).reshape(draws, clusters)


def _flip_p(sums: Values) -> float:
    """Two-sided p of the sums of differences, (clusters,). Only their sizes matter: swapped systems have the same p."""
    sizes, generator = np.sort(np.abs(sums)), np.random.default_rng(_SEED)
    kept = [
        generator.integers(0, 2, (flips, len(sizes)), np.int8) @ sizes
        for flips in _blocks(len(sizes))
    ]
    flipped = np.abs(2 * np.concatenate(kept) - sizes.sum())
    extreme = np.sum(flipped >= abs(sums.sum()) - _ROUNDING * sizes.sum())
    return float((extreme + 1) / (_RESAMPLES + 1))


def _blocks(clusters: int) -> list[int]:
    rows = max(1, _BLOCK // clusters)
    return [min(rows, _RESAMPLES - start) for start in range(0, _RESAMPLES, rows)]
