"""Judge with a language model whether excerpts state the answer to a question.

A model that has read a question knows more about that than its next word tells, and a linear model
on its hidden state can read it (Slobodkin et al., 2023, "The Curious Case of Hallucinatory
(Un)answerability"). `eval.training.judgement` fits one for the bundled language model and writes
`judgement.json`. Another language model is asked for Yes or No.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal

import numpy as np

from rag.models.language_model import (
    ChoiceModel,
    GenerationLimits,
    HiddenStateModel,
    LanguageModel,
    Message,
)
from rag.models.vectors import Vectors

CHOICES = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Judgement:
    """How probable it is that excerpts state the answer, 0..1, by a language model.

    `method` says whether its hidden state told (`state`) or its reply (`reply`).
    """

    probability: float
    method: Literal["state", "reply"]


def judge(
    model: LanguageModel, prompt: Sequence[Message], limits: GenerationLimits, stop: Event
) -> Judgement | None:
    """Return what a language model makes of a prompt that asks for Yes or No.

    None when the model cannot tell, and after a stop. Raises `ModelError` when it fails.
    """
    fitted = load_fitted()
    if isinstance(model, HiddenStateModel) and model.fingerprint == fitted.fingerprint:
        state = model.hidden_state(prompt, limits, stop)
        if state is not None:
            return Judgement(_sigmoid(fitted.log_odds(state)), "state")
    if isinstance(model, ChoiceModel) and not stop.is_set():
        probability = model.choice_probability(prompt, CHOICES, limits, stop)
        if probability is not None:
            return Judgement(probability, "reply")
    return None


def combine(confidence: float, judgement: Judgement) -> float:
    """Return the probability that the library answers, 0..1, by a logistic model of both log-odds.

    `confidence` is what retrieval makes of the question, 0..1.
    """
    intercept, of_confidence, of_judgement = load_fitted().combination[judgement.method]
    return _sigmoid(
        intercept
        + of_confidence * _logit(confidence)
        + of_judgement * _logit(judgement.probability)
    )


@dataclass(frozen=True, slots=True)
class FittedJudgement:
    """Linear model on the hidden states of the language model with this fingerprint.

    `weights` are (width,). `combination` holds for each method the intercept and the weights of
    the log-odds of confidence and judgement. `prompt_digest` tells which prompt the states are of.
    """

    fingerprint: str
    prompt_digest: str
    intercept: float
    weights: Vectors
    combination: Mapping[str, tuple[float, float, float]]

    def log_odds(self, state: Vectors) -> float:
        """Return the log-odds that the excerpts state the answer, after a state, (width,)."""
        return self.intercept + float(self.weights @ state)

    def to_json(self) -> str:
        """Return the content of `judgement.json`."""
        weights = base64.b64encode(self.weights.astype("<f4").tobytes()).decode()
        values = {
            "fingerprint": self.fingerprint,
            "prompt_digest": self.prompt_digest,
            "intercept": self.intercept,
            "combination": dict(self.combination),
            "weights": weights,
        }
        return json.dumps(values, indent=1) + "\n"


@cache
def load_fitted() -> FittedJudgement:
    """Return the fitted model that is shipped."""
    path = Path(__file__).with_suffix(".json")
    values = json.loads(path.read_text(encoding="utf-8"))
    weights = np.frombuffer(base64.b64decode(values.pop("weights")), "<f4")
    return FittedJudgement(weights=weights, **values)


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
