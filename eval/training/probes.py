"""Fit probes of a language model's state, and say how good they are; shared by their trainings."""

from collections.abc import Sequence

import numpy as np

from eval.harness.generation_cache import CachedHiddenStateModel, GenerationCache, load_cached_model
from eval.harness.ranking import area_under_roc
from eval.harness.statistics import Values
from rag.models.registry import BUNDLED_LANGUAGE_MODEL
from rag.models.vectors import Vectors

FOLDS = 10
# Chosen by cross-validation, from powers of ten.
_INVERSE_REGULARIZATION = 1e-2


def load_bundled() -> CachedHiddenStateModel:
    """Load the bundled language model; what it reads and writes is kept in the user's cache."""
    model = load_cached_model(BUNDLED_LANGUAGE_MODEL, GenerationCache())
    if not isinstance(model, CachedHiddenStateModel):
        raise SystemExit("the bundled language model is not installed")
    return model


def fit_probe(states: Values, labels: Sequence[bool], importance: Values) -> tuple[float, Vectors]:
    """Return the intercept and the weights, (width,), of the log-odds of a label.

    `states` are (examples, width), `importance` is (examples,). Both labels weigh the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    inputs = scaler.fit_transform(states)
    model = LogisticRegression(
        C=_INVERSE_REGULARIZATION, max_iter=3000, class_weight="balanced"
    ).fit(inputs, labels, importance)
    weights = model.coef_[0] / scaler.scale_
    return float(model.intercept_[0] - weights @ scaler.mean_), weights.astype(np.float32)


def print_quality(name: str, labels: Sequence[bool], scores: Values) -> None:
    """Print the area under the ROC curve, and what is right at even odds, (examples,)."""
    is_true = np.array(labels)
    positive, negative = scores[is_true], scores[~is_true]
    auc = area_under_roc(positive.tolist(), negative.tolist())
    passed, stopped = np.mean(positive >= 0), np.mean(negative < 0)
    balance = 2 * passed * stopped / max(passed + stopped, 1e-9)
    print(
        f"  {name}: area under the ROC curve {auc:.3f}; of the true {passed:.2f} pass, of the "
        f"others {stopped:.2f} do not; harmonic mean {balance:.2f}"
    )
