"""Judge with a language model whether excerpts state the answer to a question.

Answerability can be read off the hidden state of a model that has read excerpts and question
(Slobodkin et al., 2023, "The Curious Case of Hallucinatory (Un)answerability").
`eval.training.judgement` fits a probe for the bundled language model and writes `judgement.json`.
Another language model is asked for Yes or No.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal

from rag.answering.probe import Probe, read_probe_file
from rag.models.language_model import ChoiceModel, GenerationLimits, LanguageModel, Message
from rag.models.log_odds import logit, sigmoid

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
    by_state = load_judgement().probe.read(model, prompt, limits, stop)
    if by_state is not None:
        return Judgement(by_state, "state")
    if isinstance(model, ChoiceModel) and not stop.is_set():
        by_reply = model.choice_probability(prompt, CHOICES, limits, stop)
        if by_reply is not None:
            return Judgement(by_reply, "reply")
    return None


def combine(confidence: float, judgement: Judgement) -> float:
    """Return the probability that the library answers, 0..1, by a logistic model of both log-odds.

    `confidence` is what retrieval makes of the question, 0..1.
    """
    intercept, of_confidence, of_judgement = load_judgement().combination[judgement.method]
    return sigmoid(
        intercept + of_confidence * logit(confidence) + of_judgement * logit(judgement.probability)
    )


@dataclass(frozen=True, slots=True)
class FittedJudgement:
    """Probe of the state after the prompt `judge`, and how to combine judgements with retrieval.

    `combination` holds for each method the intercept and the weights of the log-odds of retrieval
    and judgement.
    """

    probe: Probe
    combination: Mapping[str, tuple[float, float, float]]


@cache
def load_judgement() -> FittedJudgement:
    """Return the fitted judgement that is shipped."""
    probe, more = read_probe_file(Path(__file__).with_suffix(".json"))
    return FittedJudgement(probe, more["combination"])
