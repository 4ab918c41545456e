"""Is one run better than another, and may a change land? Paired tests on the questions that both runs got.

Only the assistant itself is compared, not its rivals. Differences come with cluster bootstrap intervals and sign-flip
p values, adjusted for the number of metrics after Holm. A gate stops what is worse than a stored baseline by more than
a margin, and whatever must be 0 and is not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.harness.metrics import GATED, ZEROS
from eval.harness.statistics import holm, non_inferior, paired
from rag import UsageError

# So much worse a gated metric may be before a change is stopped, if the interval leaves no doubt that it is worse.
MARGIN = 0.05

Scores = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a run says of one question: its scores, and the cluster that it belongs to."""

    id: str
    cluster: str
    scores: Scores
    failed: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric of two runs on so many questions: means, difference with its interval, p, and p after Holm."""

    metric: str
    questions: int
    one: float
    other: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float = 1.0


def load_scores(path: Path) -> tuple[dict[str, Any], list[Scored]]:
    """What was asked of what, and the assistant's scores: of a run's folder, or of a stored baseline."""
    file = path / "scores.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return data["about"], [Scored(**row) for row in data["rows"]]
    except FileNotFoundError:
        raise UsageError(
            f"no finished run in {path}; footnote eval makes one, and gate --update a baseline"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read as a run: {error}") from error


def save_scores(path: Path, about: Mapping[str, Any], rows: Sequence[Scored]) -> None:
    """Keep the assistant's scores, with six decimals: what `load_scores` reads."""
    data = {
        "about": dict(about),
        "rows": [asdict(row) | {"scores": _rounded(row.scores)} for row in rows],
    }
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def compare(one: Sequence[Scored], other: Sequence[Scored]) -> list[Compared]:
    """Every metric that both runs have, the second against the first."""
    before, after = {row.id: row for row in one}, {row.id: row for row in other}
    shared = [name for name in before if name in after]
    if not shared:
        raise UsageError("the two runs have no question in common")
    metrics = [name for name in before[shared[0]].scores if name in after[shared[0]].scores]
    pairs = [_pair(name, [(before[i], after[i]) for i in shared]) for name in metrics]
    found = [pair for pair in pairs if pair]
    adjusted = holm([pair.p for pair in found])
    return [
        Compared(**(asdict(pair) | {"p_holm": p})) for pair, p in zip(found, adjusted, strict=True)
    ]


def gate(baseline: Sequence[Scored], new: Sequence[Scored]) -> list[str]:
    """Why a change must not land, one line each; empty when it may."""
    missing = sorted({row.id for row in baseline} - {row.id for row in new})
    stops = (
        [f"{len(missing)} questions of the baseline were not asked, {missing[0]} first"]
        if missing
        else []
    )
    if failed := [row.id for row in new if row.failed]:
        stops.append(f"{len(failed)} questions failed, {failed[0]} first")
    for name in ZEROS:
        if faulty := [row.id for row in new if row.scores.get(name)]:
            stops.append(
                f"{name}: must be 0, and is not in {len(faulty)} answers, {faulty[0]} first"
            )
    return stops + [line for name in GATED if (line := _worse(name, baseline, new))]


def _worse(metric: str, baseline: Sequence[Scored], new: Sequence[Scored]) -> str:
    before = {row.id: row.scores.get(metric) for row in baseline}
    both = [(row, before.get(row.id), row.scores.get(metric)) for row in new]
    kept = [
        (row.cluster, old, now) for row, old, now in both if old is not None and now is not None
    ]
    if not kept:
        return ""
    clusters, olds, nows = zip(*kept, strict=True)
    if non_inferior(nows, olds, MARGIN, clusters):
        return ""
    found = paired(nows, olds, clusters)
    return f"{metric}: worse by {-found.mean:.3f} [{-found.high:.3f}, {-found.low:.3f}] than the baseline"


def _pair(metric: str, rows: Sequence[tuple[Scored, Scored]]) -> Compared | None:
    kept = [(a.cluster, x, y) for a, b in rows if (x := a.scores[metric]) is not None
            and (y := b.scores[metric]) is not None]  # fmt: skip
    if not kept:
        return None
    clusters, ones, others = zip(*kept, strict=True)
    found = paired(others, ones, clusters)
    means = sum(ones) / len(ones), sum(others) / len(others)
    return Compared(metric, len(kept), *means, found.mean, found.low, found.high, found.p)


def _rounded(scores: Scores) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in scores.items()}
