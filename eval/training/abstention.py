"""Fit the confidence in an answer.

`python -m eval.training.abstention [--questions N] [--libraries DIR]`

The confidence is the probability that the library answers the question: a logistic regression on
the signals in `Answer.trace`. It is fitted on half of the subjects of `eval.benchmarks.abstention`,
which describes the questions, and compared on the other half with the confidence now in use.
Curated questions weigh five times as much as public ones: users word questions like these, and the
unanswerable ones differ from what the library says only by a detail. Copy the last two lines of the
output to `rag.answering.evidence`.
"""

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.benchmarks.abstention import (
    Outcome,
    add_options,
    collect_outcomes,
    confidences,
    print_report,
    select_reported,
)
from eval.harness.statistics import Values

_CURATED_WEIGHT = 5
_INVERSE_REGULARIZATION = 10.0


def fit(outcomes: Sequence[Outcome]) -> tuple[float, Values]:
    """Return the intercept and the weight of each signal, (signals,).

    Answerable and unanswerable cases have the same total weight.
    """
    from sklearn.linear_model import LogisticRegression

    groups, labels = [], []
    for outcome in outcomes:
        groups.append((outcome.case.kind == "curated", outcome.case.answerable))
        labels.append(outcome.case.answerable)
    sizes = Counter(groups)
    sample_weights = []
    for group in groups:
        is_curated, _ = group
        importance = _CURATED_WEIGHT if is_curated else 1
        sample_weights.append(importance * len(outcomes) / sizes[group])
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=1000)
    model.fit(_signals(outcomes), labels, sample_weights)
    return float(model.intercept_[0]), np.asarray(model.coef_[0], float)


def _signals(outcomes: Sequence[Outcome]) -> Values:
    """Return the signals of each outcome, (outcomes, signals)."""
    return np.array([list(outcome.signals.values()) for outcome in outcomes])


def main() -> None:
    """Fit on one half of the subjects, report on the other, and print the coefficients."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    outcomes = collect_outcomes(parser.parse_args())
    training = [outcome for outcome in outcomes if outcome.case.is_training]
    held_out = select_reported(outcomes)
    intercept, weights = fit(training)
    print(f"fitted on {len(training)} cases, judged on {len(held_out)} of other subjects; ", end="")
    print("curated questions are in both")
    probabilities = 1 / (1 + np.exp(-(intercept + _signals(held_out) @ weights)))
    print_report("as used", held_out, confidences(held_out))
    print_report("fitted", held_out, probabilities.tolist())
    arguments = map("{}={:.2f}".format, held_out[0].signals, weights)
    print(f"_INTERCEPT = {intercept:.2f}\n_WEIGHTS = AbstentionSignals({', '.join(arguments)})")


if __name__ == "__main__":
    main()
