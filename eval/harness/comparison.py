"""Compare two runs, and gate a change against a stored baseline.

Only the assistant's scores are compared, on the questions that both runs have. Differences come
with cluster-bootstrap intervals and p values of sign-flip tests, adjusted for the number of metrics
after Holm.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from eval.harness.metrics import METRICS, Direction, Metric
from eval.harness.statistics import (
    PairedScores,
    holm_adjust,
    is_non_inferior,
    paired_difference,
)
from rag.errors import UsageError

# Increase it when the names or the meaning of saved scores change, to refuse older runs.
FORMAT_VERSION = 3
SIGNIFICANCE_LEVEL = 0.05
NO_DIFFERENCE = "no clear difference"
_row_id = attrgetter("id")
# The gate fails if a gated metric fell and its 95 % interval does not exclude a larger drop.
_MAX_DROP = 0.05


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """The assistant's scores for one question, and the cluster that the question belongs to."""

    id: str
    cluster: str
    scores: Mapping[str, float | None]
    failed: bool


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """A metric in two runs: means over the shared questions, and the difference second - first.

    `low` and `high` bound its 95 % interval; `p_holm` is `p` adjusted for the number of metrics.
    """

    metric: str
    direction: Direction
    questions: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float = 1.0


def verdict(comparison: MetricComparison) -> str:
    """Return what a difference means: "better", "worse", "higher", "lower" or no clear difference.

    A significant difference in a metric without a better direction is only higher or lower.
    """
    if comparison.p_holm >= SIGNIFICANCE_LEVEL or not comparison.difference:
        return NO_DIFFERENCE
    change = "higher" if comparison.difference > 0 else "lower"
    if comparison.direction == "neither":
        return change
    return "better" if change == comparison.direction else "worse"


# --- saved scores -------------------------------------------------------------------------------


def load_scores(path: Path) -> tuple[dict[str, Any], list[QuestionScores]]:
    """Return the manifest and the assistant's scores of a run's folder or a baseline file.

    Raises `UsageError` if there are none, or if another version of Footnote wrote them.
    """
    file = path / "scores.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {data['format_version']}")
        return data["manifest"], [QuestionScores(**row) for row in data["rows"]]
    except FileNotFoundError:
        raise UsageError(
            f"no finished run in {path}; footnote eval makes one, and "
            "footnote eval gate --update makes a baseline"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is damaged or was written by an earlier version of Footnote; "
            "run footnote eval again, or footnote eval gate --update for a baseline"
        ) from error


def save_scores(path: Path, manifest: Mapping[str, Any], rows: Iterable[QuestionScores]) -> None:
    """Write the assistant's scores to a file that `load_scores` reads, with six decimals."""
    records = []
    for row in rows:
        records.append(asdict(row) | {"scores": _round_scores(row.scores)})
    data = {"format_version": FORMAT_VERSION, "manifest": dict(manifest), "rows": records}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _round_scores(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    rounded: dict[str, float | None] = {}
    for name, value in scores.items():
        rounded[name] = None if value is None else round(value, 6)
    return rounded


# --- comparing and gating -----------------------------------------------------------------------


def compare(
    first: Sequence[QuestionScores],
    second: Sequence[QuestionScores],
    metrics: Iterable[Metric] = METRICS,
) -> list[MetricComparison]:
    """Compare the second run with the first in every metric that both have.

    A metric that is not among `metrics` has no better direction.
    Raises `UsageError` if the runs share no question.
    """
    pairs = _match_rows(first, second)
    if not pairs:
        raise UsageError("the two runs have no question in common")
    directions = {metric.name: metric.direction for metric in metrics}
    comparisons = []
    for name in pairs[0][0].scores:
        if name in pairs[0][1].scores:
            paired = _pair_scores(name, pairs)
            if paired.clusters:
                direction = directions.get(name, "neither")
                comparisons.append(_compare_metric(name, direction, paired))
    return _adjust_p_values(comparisons)


def _compare_metric(name: str, direction: Direction, paired: PairedScores) -> MetricComparison:
    difference = paired_difference(paired.second, paired.first, paired.clusters)
    count = len(paired.clusters)
    return MetricComparison(
        metric=name,
        direction=direction,
        questions=count,
        first=sum(paired.first) / count,
        second=sum(paired.second) / count,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
        p=difference.p,
    )


def _adjust_p_values(comparisons: Sequence[MetricComparison]) -> list[MetricComparison]:
    p_values = [comparison.p for comparison in comparisons]
    adjusted = []
    for comparison, p_holm in zip(comparisons, holm_adjust(p_values), strict=True):
        adjusted.append(replace(comparison, p_holm=p_holm))
    return adjusted


def gate(
    baseline: Sequence[QuestionScores],
    new: Sequence[QuestionScores],
    metrics: Sequence[Metric] = METRICS,
) -> list[str]:
    """Return the reasons why a change must not be merged, one line each; empty if it may be."""
    reasons = [*_missing_questions(baseline, new), *_failed_questions(new)]
    for metric in metrics:
        if metric.must_be_zero:
            reasons.extend(_nonzero_scores(metric.name, new))
    for metric in metrics:
        if metric.gated:
            reasons.extend(_regression(metric.name, baseline, new))
    return reasons


def _missing_questions(
    baseline: Iterable[QuestionScores], new: Iterable[QuestionScores]
) -> list[str]:
    missing = sorted(set(map(_row_id, baseline)).difference(map(_row_id, new)))
    if not missing:
        return []
    return [f"questions of the baseline not asked: {len(missing)} (first: {missing[0]})"]


def _failed_questions(rows: Iterable[QuestionScores]) -> list[str]:
    failed = [row.id for row in rows if row.failed]
    return [f"questions failed: {len(failed)} (first: {failed[0]})"] if failed else []


def _nonzero_scores(metric: str, rows: Iterable[QuestionScores]) -> list[str]:
    nonzero = [row.id for row in rows if row.scores.get(metric)]
    if not nonzero:
        return []
    return [f"{metric}: must be 0, but is not in {len(nonzero)} answers (first: {nonzero[0]})"]


def _regression(
    metric: str, baseline: Iterable[QuestionScores], new: Iterable[QuestionScores]
) -> list[str]:
    old_scores, new_scores, clusters = _pair_scores(metric, _match_rows(baseline, new))
    if not clusters or is_non_inferior(new_scores, old_scores, _MAX_DROP, clusters):
        return []
    change = paired_difference(new_scores, old_scores, clusters)
    interval = f"[{-change.high:.3f}, {-change.low:.3f}]"
    return [f"{metric}: worse than the baseline by {-change.mean:.3f} {interval}"]


def _match_rows(
    first: Iterable[QuestionScores], second: Iterable[QuestionScores]
) -> list[tuple[QuestionScores, QuestionScores]]:
    """Return the rows of both runs for the questions that they share."""
    second_by_id = {row.id: row for row in second}
    pairs = []
    for row in first:
        if row.id in second_by_id:
            pairs.append((row, second_by_id[row.id]))
    return pairs


def _pair_scores(
    metric: str, pairs: Iterable[tuple[QuestionScores, QuestionScores]]
) -> PairedScores:
    """Return the scores of a metric where it applies to both rows."""
    paired = PairedScores([], [], [])
    for first_row, second_row in pairs:
        first, second = first_row.scores.get(metric), second_row.scores.get(metric)
        if first is not None and second is not None:
            paired.first.append(first)
            paired.second.append(second)
            paired.clusters.append(first_row.cluster)
    return paired
