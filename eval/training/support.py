"""Fit what tells from the language model's state whether excerpts support a sentence.

`python -m eval.training.support [--public DIR]`

The probe of `rag.answering.support` is a logistic regression on the state of the bundled language
model after a sentence and its sources. It is fitted on sentences that the model wrote itself
(`eval.training.drafts`), on sentences that were written for this, true and false answers that look
alike, and on claims of public collections in `DIR`, all with open licences. How the probe and other
features make a probability is fitted on the model's own sentences, each judged by a probe that was
fitted without its abstract. The same is fitted with the entailment model in place of the probe, for
other language models. How many sentences for dev questions pass each threshold, and how many of
these are true, is printed. The result is written to `rag/answering/support.json`.
"""

import argparse
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from threading import Event

import numpy as np
from tqdm import tqdm

from eval.benchmarks.support_examples import DRAFTS, STATEMENTS, Statement, read_statements
from eval.harness.generation_cache import CachedHiddenStateModel
from eval.harness.question_sets import find_data_folder, read_rows
from eval.harness.statistics import Values
from eval.training.probes import FOLDS, fit_probe, load_bundled, print_quality
from rag.answering import support
from rag.answering.pipeline import GENERATION_LIMITS
from rag.answering.probe import Probe, write_probe_file
from rag.answering.prompts import load_prompt
from rag.answering.support import (
    METHODS,
    FittedSupport,
    Method,
    support_features,
    verifying_prompt,
)
from rag.models.registry import load_entailment_model
from rag.models.vectors import Vectors
from rag.text.sentences import split_sentences
from rag.verification.details import check_details
from rag.verification.entailment import entailment_log_odds
from rag.verification.verifier import Source

# Claims of each public collection, half of them true.
_PUBLIC = {
    "support_scifact_train": 60,
    "support_checkcovid": 60,
    "support_attributionbench": 60,
    "support_evidence_inference": 40,
    "support_vitaminc": 40,
}
_MAX_SOURCE_CHARS, _MAX_CLAIM_CHARS = 1_000, 350
_SEED = 5
_PRECISION = 0.85
# Chosen on the sentences for dev questions (`eval/LOG.md`).
_THRESHOLDS: dict[Method, float] = {"state": 0.85, "entailment": 0.7}
_TRIED_THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True, slots=True)
class Example:
    """Statement with its label, and the model's state after both."""

    statement: Statement
    is_supported: bool
    state: Vectors


_STATEMENT, _STATE, _LABEL = map(attrgetter, ("statement", "state", "is_supported"))


# --- statements ----------------------------------------------------------------------------------


def read_public_claims(folder: Path) -> Iterator[tuple[bool, Statement]]:
    """Yield claims of public collections, and whether their source supports them."""
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    for name, count in _PUBLIC.items():
        by_label: dict[bool, list[Statement]] = {True: [], False: []}
        for row in read_rows(folder / f"{name}.jsonl"):
            if len(row["source"]) < _MAX_SOURCE_CHARS and len(row["claim"]) < _MAX_CLAIM_CHARS:
                sources = tuple(map(Source, _split(row["source"])))
                statement = Statement(row["claim"], sources, row["source"])
                by_label[row["label"] == "supported"].append(statement)
        for label, statements in by_label.items():
            for statement in chance.sample(statements, count // 2):
                yield label, statement


def _split(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in split_sentences(text)]


# --- fitting -------------------------------------------------------------------------------------


def read_examples(
    model: CachedHiddenStateModel, labelled: Sequence[tuple[bool, Statement]]
) -> list[Example]:
    """Return statements with the model's state after each."""
    examples = []
    for label, statement in tqdm(labelled, desc="reading"):
        messages = verifying_prompt(statement.text, statement.sources)
        state = model.hidden_state(messages, GENERATION_LIMITS, Event())
        if state is None:
            raise SystemExit(f"{model.name} does not show its state")
        examples.append(Example(statement, label, state))
    return examples


def fit(examples: Sequence[Example]) -> tuple[float, Vectors]:
    """Return the intercept and the weights of the probe."""
    return fit_probe(_states(examples), list(map(_LABEL, examples)), np.ones(len(examples)))


def verify_unseen(examples: Sequence[Example], others: Sequence[Example]) -> Values:
    """Return the log-odds of each example, fitted on others and on those of other abstracts."""
    from sklearn.model_selection import GroupKFold

    groups = [example.statement.group for example in examples]
    scores = np.zeros(len(examples))
    for seen, unseen in GroupKFold(FOLDS).split(examples, groups=groups):
        intercept, weights = fit([*map(examples.__getitem__, seen), *others])
        scores[unseen] = intercept + _states(examples)[unseen] @ weights
    return scores


def _states(examples: Sequence[Example]) -> Values:
    return np.array(list(map(_STATE, examples)), np.float64)


def choose_threshold(labels: Sequence[bool], scores: Values) -> float:
    """Return the lowest log-odds at which, and above, the precision is as wanted."""
    order = np.argsort(-scores)
    precision = np.cumsum(np.array(labels)[order]) / np.arange(1, len(order) + 1)
    precise = np.flatnonzero(precision >= _PRECISION)
    return float(scores[order[precise[-1]]]) if len(precise) else float(scores.max())


def _print_passing(name: str, labels: Sequence[bool], passes: Sequence[bool]) -> None:
    """Print how many of the true and of the other sentences pass, and the precision."""
    is_true, passed = np.array(labels), np.array(passes)
    precision = is_true[passed].mean() if passed.any() else float("nan")
    print(
        f"  {name}: {passed[is_true].mean():.2f} of {is_true.sum()} true and "
        f"{passed[~is_true].mean():.2f} of {(~is_true).sum()} false sentences pass; "
        f"{precision:.3f} of those that pass are true"
    )


def _passes_details(statement: Statement) -> bool:
    verdict = check_details(statement.text, statement.sources)
    return verdict is None or verdict.supported


def _entailment(example: Example) -> float:
    statement = example.statement
    return entailment_log_odds(load_entailment_model(), statement.text, statement.sources)


def main() -> None:
    """Fit the probe, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--public", type=Path, metavar="DIR", help="folder of public claims")
    options = parser.parse_args()
    model = load_bundled()
    public_folder = options.public or find_data_folder().parent / "training"
    drafts = read_examples(model, list(read_statements(DRAFTS)))
    written = read_examples(model, list(read_statements(STATEMENTS)))
    public = read_examples(model, list(read_public_claims(public_folder)))
    print(f"{len(drafts)} drafts, {len(written)} written sentences, {len(public)} public claims")
    _describe("written sentences, probe", written, verify_unseen(written, [*drafts, *public]))
    by_state = verify_unseen(drafts, [*written, *public])
    _describe("drafts, probe", drafts, by_state)
    by_method = {"state": by_state, "entailment": np.array(list(map(_entailment, drafts)))}
    combination = {name: fit_combination(name, drafts, by_method[name]) for name in METHODS}
    intercept, weights = fit([*drafts, *written, *public])
    probe = Probe(model.fingerprint, load_prompt("verify").digest, intercept, weights)
    fitted = FittedSupport(probe, combination, _THRESHOLDS)
    dev = read_examples(model, list(read_statements(DRAFTS, "dev")))
    print_thresholds(fitted, "state", dev, probe.intercept + _states(dev) @ probe.weights)
    print_thresholds(fitted, "entailment", dev, map(_entailment, dev))
    file = Path(support.__file__).with_suffix(".json")
    write_probe_file(file, probe, combination=combination, threshold=_THRESHOLDS)


def fit_combination(method: Method, drafts: Sequence[Example], log_odds: Values) -> Sequence[float]:
    """Return intercept and weights of the features, given the log-odds of each draft by a method.

    Prints how well they tell the drafts, not seen when they were fitted.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    inputs = np.array(list(map(_features, drafts, log_odds)))
    labels = list(map(_LABEL, drafts))
    groups = [example.statement.group for example in drafts]
    folds = GroupKFold(FOLDS)
    scores = cross_val_predict(
        LogisticRegression(), inputs, labels, groups=groups, cv=folds, method="decision_function"
    )
    _describe(f"drafts, all features, {method}", drafts, scores)
    model = LogisticRegression().fit(inputs, labels)
    return float(model.intercept_[0]), *map(float, model.coef_[0])


def _features(example: Example, log_odds: float) -> list[float]:
    statement = example.statement
    return support_features(log_odds, statement.text, statement.sources)


def print_thresholds(
    fitted: FittedSupport, method: Method, examples: Sequence[Example], log_odds: Iterable[float]
) -> None:
    """Print for some thresholds how many examples pass, and how many of these are true."""
    probabilities = []
    for example, by_model in zip(examples, log_odds, strict=True):
        passes = _passes_details(example.statement)
        features = _features(example, by_model)
        probabilities.append(fitted.combine(method, features) if passes else 0.0)
    is_true = np.array(list(map(_LABEL, examples)))
    print(f"{method}: {len(examples)} sentences for dev questions, {is_true.sum()} of them true")
    for threshold in _TRIED_THRESHOLDS:
        passed = np.array(probabilities) >= threshold
        print(f"  {threshold}: {passed.sum()} pass, {is_true[passed].sum()} of them true")


def _describe(name: str, examples: Sequence[Example], scores: Values) -> None:
    """Print how well scores and rules tell true sentences."""
    labels, statements = list(map(_LABEL, examples)), list(map(_STATEMENT, examples))
    print_quality(name, labels, scores)
    form = np.array(list(map(_passes_details, statements)))
    threshold = choose_threshold(np.array(labels)[form].tolist(), scores[form])
    _print_passing("those of both checks", labels, ((scores >= threshold) & form).tolist())


if __name__ == "__main__":
    main()
