"""Confidence intervals and significance tests for scores of questions.

Questions that belong together, such as a question and its variants, form a cluster and are
resampled together (Miller, "Adding Error Bars to Evals", 2024). Results are seeded, and depend
neither on the order of the questions nor on the labels of the clusters. Invalid input (no scores,
scores that are not finite, lists of different lengths) raises `ValueError`.
"""

from collections.abc import Callable, Hashable, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
# Label of each score's cluster; None if every score is its own cluster.
Clusters = Sequence[Hashable] | None

_RESAMPLES = 10_000
_SEED = 20_260_101
# Random numbers to draw at once, so that they fit into the cache however many questions there are.
_BLOCK_SIZE = 200_000
_ROUNDING = 1e-12


class ClusteredScores(NamedTuple):
    """Scores of a metric where it applies, and the cluster of each score's question."""

    values: list[float]
    clusters: list[str]


class PairedScores(NamedTuple):
    """Scores of a metric in two runs or systems for the same questions, and their clusters."""

    first: list[float]
    second: list[float]
    clusters: list[str]


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
    """A mean difference between two systems, its 95 % interval, and the two-sided p value."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] p {self.p:.4f}"


# --- intervals ----------------------------------------------------------------------------------


def bootstrap(scores: ArrayLike, clusters: Clusters = None) -> Interval:
    """Return the mean of the scores, shape (questions,), with its percentile bootstrap interval.

    Whole clusters are drawn; the mean is over the questions in them. The interval of a single
    cluster has no width, because one cluster says nothing about the spread.
    """
    return _bootstrap_statistic(_cluster_sums((_validate(scores), clusters)), _mean)


def harmonic_interval(
    first: ArrayLike,
    second: ArrayLike,
    first_clusters: Clusters = None,
    second_clusters: Clusters = None,
) -> Interval:
    """Return the harmonic mean of two means over different questions, with its interval.

    It is 0 if either mean is 0; scores must not be negative. The clusters of both are drawn
    together, and a label that both use is one cluster. Draws that leave one of the means without
    questions are discarded.
    """
    first_values, second_values = _validate(first), _validate(second)
    if min(first_values.min(), second_values.min()) < 0:
        raise ValueError("a harmonic mean takes no negative scores")
    sums = _cluster_sums((first_values, first_clusters), (second_values, second_clusters))
    return _bootstrap_statistic(sums, _harmonic_mean)


def rule_of_three(n: int) -> float:
    """Return the 95 % upper bound of a failure rate after `n` trials without failure: 3 / n."""
    if n < 1:
        raise ValueError("a bound needs at least one trial")
    return min(1.0, 3 / n)


# --- comparisons --------------------------------------------------------------------------------


def paired_difference(
    scores: ArrayLike, baseline: ArrayLike, clusters: Clusters = None
) -> Difference:
    """Return the mean of scores - baseline on the same questions, with interval and p value.

    The interval is that of `bootstrap` on the differences, p that of `sign_flip_test`.
    """
    sums = _cluster_sums((_subtract(scores, baseline), clusters))
    interval = _bootstrap_statistic(sums, _mean)
    return Difference(interval.mean, interval.low, interval.high, _sign_flip_p(sums[:, 0]))


def sign_flip_test(scores: ArrayLike, baseline: ArrayLike, clusters: Clusters = None) -> float:
    """Return the two-sided p value of a paired randomisation test that two systems score alike.

    Smucker et al., "A comparison of statistical significance tests for information retrieval
    evaluation", 2007. A flip swaps the systems on a whole cluster; p is (b + 1) / (m + 1) if b of m
    flips are at least as extreme as the observed difference.
    """
    return _sign_flip_p(_cluster_sums((_subtract(scores, baseline), clusters))[:, 0])


def is_non_inferior(
    scores: ArrayLike, baseline: ArrayLike, margin: float, clusters: Clusters = None
) -> bool:
    """Return True unless the mean may be worse than the baseline's by more than the margin.

    False only if the mean difference is negative and the lower end of its 95 % interval is below
    -margin, which must not be positive.
    """
    if not margin >= 0:
        raise ValueError(f"the margin must be 0 or more, not {margin}")
    gain = bootstrap(_subtract(scores, baseline), clusters)
    return gain.mean >= -_ROUNDING or gain.low >= -margin - _ROUNDING


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for multiple tests, in the order given.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    p = np.asarray(p_values, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p values must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    remaining_tests = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, remaining_tests * p[order]))
    return list(map(float, adjusted))


# --- selective answering ------------------------------------------------------------------------


def risk_coverage(confidences: ArrayLike, losses: ArrayLike) -> list[tuple[float, float]]:
    """Return the risk-coverage curve: points of coverage, in (0, 1], and selective risk.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017. Risk is the
    mean loss of the covered questions. Each distinct confidence is a threshold and gives one point,
    coverage rising; questions with the same confidence are covered together.
    """
    confidence_values, loss_values = _validate(confidences), _validate(losses)
    _check_same_length(confidence_values, loss_values)
    order = np.lexsort((loss_values, -confidence_values))
    covered = np.arange(1, len(order) + 1)
    risks = np.cumsum(loss_values[order]) / covered
    is_last_of_tie = np.append(np.diff(confidence_values[order]) != 0, True)
    coverages = covered[is_last_of_tie] / len(order)
    return list(zip(coverages.tolist(), risks[is_last_of_tie].tolist(), strict=True))


def aurc(confidences: ArrayLike, losses: ArrayLike) -> float:
    """Return the area under the risk-coverage curve.

    The mean over the questions of the risk with their confidence as the threshold. Without ties
    these are the risks at the coverages 1/n, 2/n, ..., 1; if all confidences are equal, the area is
    the mean loss.
    """
    coverages, risks = np.array(risk_coverage(confidences, losses)).T
    return float(np.diff(coverages, prepend=0.0) @ risks)


# --- calibration --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Questions of similar confidence: their mean confidence, mean outcome, and number."""

    confidence: float
    outcome: float
    n: int


def calibration_bins(
    confidences: ArrayLike, outcomes: ArrayLike, count: int = 10
) -> list[CalibrationBin]:
    """Return bins of equal numbers of questions, by rising confidence; outcomes are 0 or 1.

    Bins end at the quantiles of the confidence, so that none is nearly empty. Questions with the
    same confidence share a bin, so there may be fewer bins, and of different sizes.
    """
    confidence_values, outcome_values = _validate(confidences), _validate(outcomes)
    _check_same_length(confidence_values, outcome_values)
    edges = np.unique(np.quantile(confidence_values, np.linspace(0, 1, count + 1)))
    bin_numbers = np.searchsorted(edges[1:-1], confidence_values)
    bins = []
    for number in np.unique(bin_numbers):
        inside = bin_numbers == number
        means = confidence_values[inside].mean(), outcome_values[inside].mean()
        bins.append(CalibrationBin(float(means[0]), float(means[1]), int(inside.sum())))
    return bins


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Return the mean distance of confidence and outcome over the bins, weighted by their size.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", 2015, with
    bins of equal size.
    """
    total = sum(calibration_bin.n for calibration_bin in bins)
    error = 0.0
    for calibration_bin in bins:
        gap = abs(calibration_bin.confidence - calibration_bin.outcome)
        error += calibration_bin.n / total * gap
    return error


# --- resampling ---------------------------------------------------------------------------------


def _validate(scores: ArrayLike) -> Values:
    values = np.asarray(scores, float)
    if not values.size:
        raise ValueError("there are no scores")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("scores must be finite numbers, one for each question")
    return values


def _check_same_length(first: Sized, second: Sized) -> None:
    if len(first) != len(second):
        raise ValueError(f"lists must be of the same length, not {len(first)} and {len(second)}")


def _subtract(scores: ArrayLike, baseline: ArrayLike) -> Values:
    values, baseline_values = _validate(scores), _validate(baseline)
    _check_same_length(values, baseline_values)
    return values - baseline_values


def _cluster_sums(*samples: tuple[Values, Clusters]) -> Values:
    """Return the sum and count of each cluster's scores per sample: (clusters, 2 * samples).

    Scores are added in the order of their values, and rows are sorted by value, so that shuffled
    questions give exactly the same sums.
    """
    codes: dict[Hashable, int] = {}
    coded_samples = []
    for values, clusters in samples:
        labels = _unique_labels(len(values)) if clusters is None else clusters
        _check_same_length(values, labels)
        sample_codes = [codes.setdefault(label, len(codes)) for label in labels]
        coded_samples.append((values, np.array(sample_codes)))
    columns: list[NDArray[np.generic]] = []
    for values, sample_codes_array in coded_samples:
        order = np.argsort(values)
        cluster = sample_codes_array[order]
        columns.append(np.bincount(cluster, values[order], len(codes)))
        columns.append(np.bincount(cluster, minlength=len(codes)))
    return np.column_stack(columns).astype(float)[np.lexsort(columns)]


def _unique_labels(count: int) -> Sequence[Hashable]:
    return [object() for _ in range(count)]


def _mean(sums: Values) -> Values:
    return sums[..., 0] / sums[..., 1]


def _harmonic_mean(sums: Values) -> Values:
    first, second = _mean(sums), _mean(sums[..., 2:])
    total = np.maximum(first + second, np.finfo(float).tiny)  # avoids 0 / 0 if both are 0
    return 2.0 * first * second / total


def _bootstrap_statistic(sums: Values, statistic: Callable[[Values], Values]) -> Interval:
    """Return a statistic of the column totals, and its percentiles over draws of the rows."""
    clusters, generator = len(sums), np.random.default_rng(_SEED)
    blocks = []
    for draws in _block_sizes(clusters):
        blocks.append(_draw_counts(generator, draws, clusters) @ sums)
    totals = np.concatenate(blocks)
    has_questions = (totals[:, 1::2] > 0).all(axis=1)
    low, high = np.percentile(statistic(totals[has_questions]), [2.5, 97.5])
    return Interval(float(statistic(sums.sum(axis=0))), float(low), float(high))


def _draw_counts(generator: np.random.Generator, draws: int, clusters: int) -> NDArray[np.intp]:
    """Return how often each draw holds each cluster: (draws, clusters).

    Multinomial counts, but faster than `Generator.multinomial`.
    """
    drawn = generator.integers(0, clusters, (draws, clusters))
    cells = drawn + np.arange(draws)[:, None] * clusters
    return np.bincount(cells.ravel(), minlength=draws * clusters).reshape(draws, clusters)


def _sign_flip_p(differences: Values) -> float:
    """Return the two-sided p value of a sign-flip test on the sums of each cluster, (clusters,).

    Only the absolute sums are used, so that swapped systems get exactly the same p.
    """
    magnitudes, generator = np.sort(np.abs(differences)), np.random.default_rng(_SEED)
    blocks = []
    for flips in _block_sizes(len(magnitudes)):
        blocks.append(generator.integers(0, 2, (flips, len(magnitudes)), np.int8) @ magnitudes)
    flipped = np.abs(2 * np.concatenate(blocks) - magnitudes.sum())
    tolerance = _ROUNDING * magnitudes.sum()
    extreme = np.sum(flipped >= abs(differences.sum()) - tolerance)
    return float((extreme + 1) / (_RESAMPLES + 1))


def _block_sizes(clusters: int) -> list[int]:
    """Return the numbers of resamples to draw at once."""
    rows = max(1, _BLOCK_SIZE // clusters)
    sizes = [rows] * (_RESAMPLES // rows)
    remainder = _RESAMPLES % rows
    return [*sizes, remainder] if remainder else sizes
