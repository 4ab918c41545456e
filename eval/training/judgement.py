"""Fit what tells from the language model's state whether excerpts state the answer.

`python -m eval.training.judgement [--every N]`

The judgement of `rag.answering.judgement` is a logistic regression on the state of the bundled
language model after a prompt. It is fitted on the prompts of `eval.training.judgement_prompts`, and
on those of the curated questions of the split `dev`, of `sample` every N-th. The weights by which
judgement and retrieval make the confidence are fitted on the curated questions, each judged by a
model that was fitted without it. Answerable and unanswerable questions weigh the same.

The areas under the ROC curve that are printed are cross-validated in the same way, by paper. The
result is written to `rag/answering/judgement.json`. Reading the prompts takes half an hour on two
cores; what was read is kept in the user's cache.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from threading import Event

import numpy as np
from tqdm import tqdm

from eval.harness.generation_cache import CachedHiddenStateModel
from eval.harness.question_sets import QUESTION_SETS
from eval.harness.questions import Question, load_questions
from eval.harness.statistics import Values
from eval.training.judgement_prompts import build_training_prompts
from eval.training.probes import FOLDS, fit_probe, load_bundled, print_quality
from rag import Assistant
from rag.answering import judgement
from rag.answering.evidence import AbstentionSignals, estimate_confidence
from rag.answering.generation import Excerpts, judging_prompt
from rag.answering.judgement import CHOICES
from rag.answering.pipeline import GENERATION_LIMITS
from rag.answering.probe import Probe, write_probe_file
from rag.answering.prompts import load_prompt
from rag.models.language_model import GenerationLimits, Message
from rag.models.vectors import Vectors

# Chosen by cross-validation from 1, 2 and 3.
_CURATED_WEIGHT = 1.0
# Of 1,900. With none, 140 or 280 of them, the curated questions were judged about as well.
_TRAINING_PROMPTS = 400


@dataclass(frozen=True, slots=True)
class Example:
    """Question of a paper with the model's state after it, and whether the excerpts answer it.

    `confidence` is what retrieval makes of a curated question, and `reply` how probable Yes is as a
    reply, both 0..1.
    """

    paper: str
    is_answered: bool
    state: Vectors
    confidence: float = 0.0
    reply: float = 0.0


_PAPER, _IS_ANSWERED = attrgetter("paper"), attrgetter("is_answered")
_STATE, _CONFIDENCE, _REPLY = attrgetter("state"), attrgetter("confidence"), attrgetter("reply")


class RecordingModel:
    """Language model that reads prompts and writes nothing. `prompt` is the last one."""

    def __init__(self, model: CachedHiddenStateModel) -> None:
        """Read with another model."""
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.context_tokens = model.context_tokens
        self.count_tokens = model.count_tokens
        self._model = model
        self.prompt: Sequence[Message] | None = None

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield nothing."""
        yield from ()

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Remember the prompt, and answer as if the model could not tell."""
        self.prompt = messages
        return None

    def state(self, messages: Sequence[Message]) -> Vectors:
        """Return the model's state after a prompt, (width,)."""
        state: Vectors | None = self._model.hidden_state(messages, GENERATION_LIMITS, Event())
        if state is None:
            raise SystemExit(f"{self.name} does not show its state")
        return state

    def reply(self, messages: Sequence[Message]) -> float:
        """Return how probable Yes is as a reply, 0..1."""
        return self._model.choice_probability(messages, CHOICES, GENERATION_LIMITS, Event()) or 0.0


# --- examples ------------------------------------------------------------------------------------


def read_training_prompts(model: RecordingModel) -> Iterator[Example]:
    """Yield the training prompts as the model has read them."""
    for prompt in tqdm(build_training_prompts()[:_TRAINING_PROMPTS], desc="training prompts"):
        messages = judging_prompt(prompt.question, Excerpts((), prompt.excerpts))
        yield Example(prompt.paper, prompt.is_answered, model.state(messages))


def read_curated_questions(model: RecordingModel, name: str, every: int) -> Iterator[Example]:
    """Yield questions of the split `dev` with the excerpts that the assistant finds for them."""
    file, folder = QUESTION_SETS[name].prepare()
    assistant = Assistant.open(folder, language_model=model, create=False)
    for question in tqdm(list(_standalone(load_questions(file)))[::every], desc=name):
        model.prompt = None
        answer = assistant.ask(question.question)
        if model.prompt is None:  # the records answer it, or nothing was found
            continue
        confidence = estimate_confidence(AbstentionSignals(**answer.trace.signals))
        group = question.gold[0][0] if question.gold else question.question
        state, reply = model.state(model.prompt), model.reply(model.prompt)
        yield Example(group, question.answerable, state, confidence, reply)


def _standalone(questions: Iterable[Question]) -> Iterator[Question]:
    for question in questions:
        if question.split == "dev" and not question.history:
            yield question


# --- fitting -------------------------------------------------------------------------------------


def fit_state(training: Sequence[Example], curated: Sequence[Example]) -> tuple[float, Vectors]:
    """Return the intercept and the weights, (width,), of the log-odds of an answer."""
    examples = [*training, *curated]
    importance = np.repeat([1.0, _CURATED_WEIGHT], [len(training), len(curated)])
    return fit_probe(_states(examples), list(map(_IS_ANSWERED, examples)), importance)


def judge_unseen(training: Sequence[Example], curated: Sequence[Example]) -> Values:
    """Return the log-odds of each curated question, fitted without its paper, (questions,)."""
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(len(curated))
    for seen, unseen in GroupKFold(FOLDS).split(curated, groups=list(map(_PAPER, curated))):
        intercept, weights = fit_state(training, list(map(curated.__getitem__, seen)))
        scores[unseen] = intercept + _states(curated)[unseen] @ weights
    return scores


def fit_combination(examples: Sequence[Example], log_odds: Values) -> tuple[float, float, float]:
    """Return the intercept, and the weights of the log-odds of retrieval and of the judgement."""
    from sklearn.linear_model import LogisticRegression

    inputs = np.column_stack([_log_odds(map(_CONFIDENCE, examples)), log_odds])
    model = LogisticRegression(class_weight="balanced")
    model.fit(inputs, list(map(_IS_ANSWERED, examples)))
    of_retrieval, of_judgement = map(float, model.coef_[0])
    intercept = float(model.intercept_[0])
    _print_quality("both", examples, intercept + inputs @ model.coef_[0])
    # More of one must never mean less of the whole.
    return intercept, max(0.0, of_retrieval), max(0.0, of_judgement)


def _states(examples: Sequence[Example]) -> Values:
    return np.array(list(map(_STATE, examples)), np.float64)


def _log_odds(probabilities: Iterable[float]) -> Values:
    bounded = np.clip(list(probabilities), 1e-6, 1 - 1e-6)
    odds: Values = np.log(bounded / (1 - bounded))
    return odds


def _print_quality(name: str, examples: Sequence[Example], scores: Values) -> None:
    print_quality(name, list(map(_IS_ANSWERED, examples)), scores)


def main() -> None:
    """Fit both, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=10, metavar="N", help="of the set sample")
    every = parser.parse_args().every
    model = RecordingModel(load_bundled())
    training = list(read_training_prompts(model))
    curated = []
    for name, step in (("acl", 1), ("sample", every)):
        examples = list(read_curated_questions(model, name, step))
        print(f"{name}: {len(examples)} questions")
        _print_quality("retrieval", examples, _log_odds(map(_CONFIDENCE, examples)))
        _print_quality("reply", examples, _log_odds(map(_REPLY, examples)))
        _print_quality("state", examples, judge_unseen(training, examples))
        curated += examples
    print(f"both sets: {len(curated)} questions, and {len(training)} training prompts")
    unseen = judge_unseen(training, curated)
    _print_quality("state", curated, unseen)
    combination = {
        "state": fit_combination(curated, unseen),
        "reply": fit_combination(curated, _log_odds(map(_REPLY, curated))),
    }
    intercept, weights = fit_state(training, curated)
    digest = load_prompt("judge").digest
    probe = Probe(model.fingerprint, digest, intercept, weights)
    target = Path(judgement.__file__).with_suffix(".json")
    write_probe_file(target, probe, combination=combination)


if __name__ == "__main__":
    main()
