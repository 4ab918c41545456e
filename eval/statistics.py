"""Intervals and tests for scores per question. Everything is seeded: the same scores give the same figures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 10_000
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(scores: ArrayLike) -> Interval:
    """Mean of the scores, (questions,), with its percentile bootstrap interval."""
    values = np.asarray(scores, float)
    generator = np.random.default_rng(_SEED)
    means = np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def sign_flip(scores: ArrayLike, others: ArrayLike) -> float:
    """Two-sided p of a paired randomisation test (Smucker et al., 2007) that two systems score alike."""
    differences = np.asarray(scores, float) - np.asarray(others, float)
    generator = np.random.default_rng(_SEED)
    flipped = _flipped_means(differences, generator)
    return float((np.sum(np.abs(flipped) >= abs(differences.mean()) - 1e-12) + 1) / (_RESAMPLES + 1))


def _flipped_means(differences: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    return np.array([(differences * generator.choice((-1, 1), len(differences))).mean() for _ in range(_RESAMPLES)])
