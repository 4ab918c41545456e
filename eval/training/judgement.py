"""Fit what tells from the language model's state whether excerpts state the answer.

`python -m eval.training.judgement [--every N]`

The judgement of `rag.answering.judgement` is a logistic regression on the state of the bundled
language model after the prompts of `eval.training.judgement_prompts`. The weights by which
judgement and retrieval make the confidence are fitted on every N-th curated question of the split
`dev`, for judgements by state and by reply. Answerable and unanswerable questions weigh the same.
Areas under the ROC curve are cross-validated, by abstract and by question. The result is written to
`rag/answering/judgement.json`.

Reading the prompts takes two hours on two cores; what was read is kept in the user's cache.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.harness.generation_cache import CachedHiddenStateModel, GenerationCache, load_cached_model
from eval.harness.question_sets import QUESTION_SETS
from eval.harness.questions import load_questions
from eval.harness.ranking import area_under_roc
from eval.harness.statistics import Values
from eval.training.judgement_prompts import build_training_prompts
from rag import Assistant
from rag.answering import judgement
from rag.answering.evidence import AbstentionSignals, estimate_confidence
from rag.answering.generation import Excerpts, judging_prompt
from rag.answering.judgement import FittedJudgement
from rag.answering.pipeline import GENERATION_LIMITS
from rag.answering.prompts import load_prompt
from rag.models.language_model import ChoiceModel, GenerationLimits, Message
from rag.models.registry import BUNDLED_LANGUAGE_MODEL

_SETS = ("acl", "sample")
_FOLDS = 10
# Chosen by cross-validation, from powers of ten.
_INVERSE_REGULARIZATION = 1e-3
_COMBINATION_REGULARIZATION = 1.0


class ReplyJudge:
    """Language model that only judges, by its reply, and writes nothing."""

    def __init__(self, model: CachedHiddenStateModel) -> None:
        """Take over the model's name, fingerprint and judgements."""
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.context_tokens = model.context_tokens
        self.count_tokens = model.count_tokens
        self.choice_probability = model.choice_probability

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield nothing."""
        yield from ()


class StateJudge(ReplyJudge):
    """Language model that only judges, by its state, and writes nothing."""

    def __init__(self, model: CachedHiddenStateModel) -> None:
        """Take over the model's states too."""
        super().__init__(model)
        self.hidden_state = model.hidden_state


@dataclass(frozen=True, slots=True)
class Case:
    """Curated question: whether its library answers it, and what was made of it, both 0..1."""

    question: str
    answerable: bool
    confidence: float
    judgement: float


_QUESTION, _ANSWERABLE = attrgetter("question"), attrgetter("answerable")
_CONFIDENCE, _JUDGEMENT = attrgetter("confidence"), attrgetter("judgement")


# --- the judgement -------------------------------------------------------------------------------


def fit_judgement(model: CachedHiddenStateModel) -> FittedJudgement:
    """Fit the linear model on the states after the training prompts, and print how good it is."""
    prompts = build_training_prompts()
    states, answered, papers = [], [], []
    for prompt in tqdm(prompts, desc="reading prompts"):
        messages = judging_prompt(prompt.question, Excerpts((), prompt.excerpts))
        state = model.hidden_state(messages, GENERATION_LIMITS, Event())
        if state is None:
            raise SystemExit(f"{model.name} does not show its state")
        states.append(state)
        answered.append(prompt.is_answered)
        papers.append(prompt.paper)
    inputs = np.array(states, np.float64)
    auc = _cross_validated_auc(_state_regression(), inputs, answered, papers)
    print(f"{len(prompts)} training prompts: area under the ROC curve {auc:.3f}")
    intercept, weights = _fit_unscaled(inputs, answered)
    digest = load_prompt("judge").digest
    return FittedJudgement(model.fingerprint, digest, intercept, weights.astype(np.float32), {})


def _state_regression() -> Any:  # noqa: ANN401 - sklearn has no types
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=2000)
    return make_pipeline(StandardScaler(), regression)


def _fit_unscaled(inputs: Values, answered: Sequence[bool]) -> tuple[float, Values]:
    """Return the intercept and the weights, (width,), of the fitted model on raw states."""
    scaler, regression = _state_regression().fit(inputs, answered)
    weights = regression.coef_[0] / scaler.scale_
    intercept = float(regression.intercept_[0] - weights @ scaler.mean_)
    return intercept, weights


def _cross_validated_auc(
    model: Any,  # noqa: ANN401
    inputs: Values,
    answered: Sequence[bool],
    groups: Sequence[str],
) -> float:
    scores = _cross_validate(model, inputs, answered, groups)
    return area_under_roc(*_split_by(answered, scores))


def _cross_validate(
    model: Any,  # noqa: ANN401
    inputs: Values,
    answered: Sequence[bool],
    groups: Sequence[str],
) -> Values:
    """Return the log-odds for each input by a model fitted on other groups, (inputs,)."""
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(_FOLDS)
    scores: Values = cross_val_predict(
        model, inputs, answered, groups=groups, cv=folds, method="decision_function"
    )
    return scores


def _split_by(answered: Sequence[bool], scores: Values) -> tuple[list[float], list[float]]:
    """Return the scores of the answerable and of the other questions."""
    labels = np.array(answered)
    return scores[labels].tolist(), scores[~labels].tolist()


# --- judgement and retrieval ---------------------------------------------------------------------


def fit_combination(method: str, judge: ChoiceModel, every: int) -> tuple[float, float, float]:
    """Return intercept and weights of the log-odds of retrieval and judgement; print how good."""
    from sklearn.linear_model import LogisticRegression

    cases = []
    for name in _SETS:
        found = list(_curated_cases(name, judge, every))
        print(f"{name}: {len(found)} questions, judged by {method}")
        _print_auc("judgement", found, list(map(_JUDGEMENT, found)))
        _print_auc("retrieval", found, list(map(_CONFIDENCE, found)))
        cases += found
    inputs = _log_odds([list(map(_CONFIDENCE, cases)), list(map(_JUDGEMENT, cases))]).T
    answerable = list(map(_ANSWERABLE, cases))
    model = LogisticRegression(C=_COMBINATION_REGULARIZATION, class_weight="balanced")
    scores = _cross_validate(model, inputs, answerable, list(map(_QUESTION, cases)))
    _print_auc("both, all sets", cases, scores.tolist())
    _print_balance(answerable, scores)
    model.fit(inputs, answerable)
    return (float(model.intercept_[0]), *map(float, model.coef_[0]))  # type: ignore[return-value]


def _curated_cases(name: str, judge: ChoiceModel, every: int) -> Iterator[Case]:
    file, folder = QUESTION_SETS[name].prepare()
    assistant = Assistant.open(folder, language_model=judge, create=False)  # type: ignore[arg-type]
    questions = [item for item in load_questions(file) if item.split == "dev" and not item.history]
    for question in tqdm(questions[::every], desc=name):
        signals = dict(assistant.ask(question.question).trace.signals)
        probability = signals.pop("judgement", None)
        if probability is not None:
            confidence = estimate_confidence(AbstentionSignals(**signals))
            yield Case(question.question, question.answerable, confidence, probability)


def _log_odds(probabilities: Sequence[Sequence[float]]) -> Values:
    bounded = np.clip(np.array(probabilities), 1e-6, 1 - 1e-6)
    odds: Values = np.log(bounded / (1 - bounded))
    return odds


def _print_auc(name: str, cases: Sequence[Case], scores: Sequence[float]) -> None:
    positive, negative = _split_by(list(map(_ANSWERABLE, cases)), np.array(scores))
    print(f"  {name}: area under the ROC curve {area_under_roc(positive, negative):.3f}")


def _print_balance(answerable: Sequence[bool], scores: Values) -> None:
    positive, negative = _split_by(answerable, scores)
    answered = np.mean(np.array(positive) >= 0)
    abstained = np.mean(np.array(negative) < 0)
    balance = 2 * answered * abstained / (answered + abstained)
    print(f"  answered {answered:.2f}, abstained {abstained:.2f}, harmonic mean {balance:.2f}")


def main() -> None:
    """Fit both, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th question")
    every = parser.parse_args().every
    model = load_cached_model(BUNDLED_LANGUAGE_MODEL, GenerationCache())
    if not isinstance(model, CachedHiddenStateModel):
        raise SystemExit("the bundled language model is not installed")
    target = Path(judgement.__file__).with_suffix(".json")
    fitted = fit_judgement(model)
    by_reply = fit_combination("reply", ReplyJudge(model), every)
    uncombined = replace(fitted, combination={"reply": by_reply, "state": (0.0, 0.0, 1.0)})
    target.write_text(uncombined.to_json(), encoding="utf-8")
    judgement.load_fitted.cache_clear()
    by_state = fit_combination("state", StateJudge(model), every)
    combined = replace(fitted, combination={"reply": by_reply, "state": by_state})
    target.write_text(combined.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
