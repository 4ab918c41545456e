"""Judging whether excerpts state the answer: by the state of a model, or by its reply."""

import math
import threading

import numpy as np
import pytest
from fakes import JudgingModel, ScriptedModel
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.generation import Excerpts, judging_prompt
from rag.answering.judgement import Judgement, combine, judge, load_judgement
from rag.answering.prompts import load_prompt
from rag.models.bundled_weights import bundled_gguf
from rag.models.language_model import GenerationLimits

LIMITS = GenerationLimits(8, 60.0)
HERONS = "\n".join(
    [
        "Heron: counting boats on canals",
        "[1] Boats on canals are still counted by hand.",
        "[2] Heron counts them with a camera and misses one boat in forty.",
        "[3] It was tried on 12 canals in Friesland.",
    ]
)
probabilities = st.floats(0, 1)


class StateModel(JudgingModel):
    """Scripted model with a hidden state that a test sets."""

    def __init__(self, state, **options):
        super().__init__(**options)
        self.state = state

    def hidden_state(self, messages, limits, stop):
        self.prompts.append(list(messages))
        return self.state


def judged(model, question="How many boats does Heron miss?"):
    prompt = judging_prompt(question, Excerpts((), HERONS))
    return judge(model, prompt, LIMITS, threading.Event())


def state_with_log_odds(value):
    probe = load_judgement().probe
    weights = probe.weights
    return weights * np.float32((value - probe.intercept) / (weights @ weights))


def test_state_of_the_bundled_model_tells():
    model = StateModel(state_with_log_odds(1.5), fingerprint=load_judgement().probe.fingerprint)
    judgement = judged(model)
    assert judgement.method == "state"
    assert judgement.probability == pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-3)
    assert len(model.prompts) == 1, "the reply is not asked for"


def test_state_of_another_model_is_not_looked_at():
    model = StateModel(state_with_log_odds(9.0), judgement=0.25, fingerprint="another")
    assert judged(model) == Judgement(0.25, "reply")


def test_reply_tells_when_there_is_no_state():
    model = StateModel(None, judgement=0.75, fingerprint=load_judgement().probe.fingerprint)
    assert judged(model) == Judgement(0.75, "reply")


def test_model_that_only_writes_does_not_judge():
    assert judged(ScriptedModel("Yes")) is None


@pytest.mark.parametrize("method", ["state", "reply"])
@given(confidence=probabilities, low=probabilities, high=probabilities)
def test_confidence_and_judgement_both_raise_the_combination(method, confidence, low, high):
    low, high = sorted((low, high))
    first, second = (combine(confidence, Judgement(value, method)) for value in (low, high))
    assert 0 <= first <= second <= 1
    judgement = Judgement(confidence, method)
    assert combine(low, judgement) <= combine(high, judgement)


def test_fitted_model_is_that_of_the_bundled_language_model_and_prompt():
    probe = load_judgement().probe
    assert probe.fingerprint == bundled_gguf().fingerprint
    assert probe.prompt_digest == load_prompt("judge").digest, "fit the judgement again"


@pytest.mark.parametrize(
    ("question", "is_answered"),
    [
        ("How many boats does Heron miss?", True),
        ("On how many canals was Heron tried?", True),
        ("How much electricity does Heron's camera need?", False),
        ("Which neural network does Heron use to find boats?", False),
    ],
)
def test_bundled_model_tells_what_the_excerpts_state(bundled, question, is_answered):
    judgement = judged(bundled, question)
    assert judgement.method == "state"
    assert (judgement.probability > 0.5) == is_answered
