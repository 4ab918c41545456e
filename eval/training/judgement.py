"""Fit what tells from the language model's state whether excerpts state the answer.

`python -m eval.training.judgement [--every N] [--questions N]`

The judgement of `rag.answering.judgement` is a logistic regression on the state of the bundled
language model after a prompt. It is fitted on questions about ACL abstracts outside the curated
set, and on the curated questions of the split `dev`, of `sample` every N-th; all with the excerpts
that the assistant finds. If these lack the paper that answers, the right judgement is no. The
reader was trained with none of the questions. The weights by which judgement and retrieval make the
confidence are fitted on the curated questions, each judged by a model that was fitted without it.
Questions with and without an answer weigh the same in the first fit. In the second they weigh what
they are, nearly three to one, so that the confidence is calibrated.

The areas under the ROC curve that are printed are cross-validated in the same way, by paper. The
result is written to `rag/answering/judgement.json`. Reading the prompts takes half an hour on two
cores; what was read is kept in the user's cache.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from operator import attrgetter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.benchmarks.reading_examples import build_pool, held_out_questions, to_example_paper
from eval.harness.question_sets import QUESTION_SETS
from eval.harness.questions import Question, load_questions
from eval.harness.statistics import Values
from eval.training.probes import FOLDS, fit_probe, load_bundled, print_quality
from eval.training.recording import RecordingModel
from rag import Assistant
from rag.answering import judgement
from rag.answering.evidence import AbstentionSignals, estimate_confidence
from rag.answering.probe import Probe, write_probe_file
from rag.answering.prompts import load_prompt, neutralize_markers
from rag.models.language_model import Message
from rag.models.vectors import Vectors
from rag.records import Answer

# Chosen by cross-validation from 1, 2 and 3.
_CURATED_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Example:
    """Question of a paper with the model's state after it, and whether the excerpts answer it.

    `confidence` is what retrieval makes of the question, and `reply` how probable Yes is as a reply
    to a curated question, both 0..1.
    """

    paper: str
    is_answered: bool
    state: Vectors
    confidence: float = 0.0
    reply: float = 0.0


_PAPER, _IS_ANSWERED = attrgetter("paper"), attrgetter("is_answered")
_STATE, _CONFIDENCE, _REPLY = attrgetter("state"), attrgetter("confidence"), attrgetter("reply")


# --- examples ------------------------------------------------------------------------------------


def read_pool_questions(model: RecordingModel, count: int) -> Iterator[Example]:
    """Yield questions about other abstracts, and whether the excerpts found hold the answer."""
    pool = build_pool()
    assistant = Assistant(pool.assistant.library, language_model=model)
    rows = list(islice(held_out_questions(), count))
    for row in tqdm(rows, desc="questions about other abstracts"):
        answer, prompt = model.ask(assistant, row["question"])
        if prompt is None or row["paper"] not in pool.papers:
            continue
        abstract = to_example_paper(pool.papers[row["paper"]], row["evidence"])
        gold = compress(abstract.sentences, abstract.labels)
        is_answered = row["answerable"] and _holds_any(prompt, gold)
        yield Example(row["paper"], is_answered, model.state(prompt), _confidence(answer))


def _holds_any(prompt: Sequence[Message], texts: Iterable[str]) -> bool:
    """Return True if the excerpts in a prompt hold one of the texts."""
    return any(map(prompt[-1].content.__contains__, map(neutralize_markers, texts)))


def _confidence(answer: Answer) -> float:
    return estimate_confidence(AbstentionSignals(**answer.trace.signals))


def read_curated_questions(model: RecordingModel, name: str, every: int) -> Iterator[Example]:
    """Yield questions of the split `dev` with the excerpts that the assistant finds for them."""
    file, folder = QUESTION_SETS[name].prepare()
    assistant = Assistant.open(folder, language_model=model, create=False)
    titles = {paper.id: paper.title for paper in assistant.papers()}
    for question in tqdm(list(_standalone(load_questions(file)))[::every], desc=name):
        answer, prompt = model.ask(assistant, question.question)
        if prompt is None:
            continue
        group = question.gold[0][0] if question.gold else question.question
        gold = map(titles.__getitem__, question.gold_papers)
        is_answered = question.answerable and _holds_any(prompt, gold)
        state, reply = model.state(prompt), model.reply(prompt)
        yield Example(group, is_answered, state, _confidence(answer), reply)


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


def fit_combination(
    examples: Sequence[Example], log_odds: Values, class_weight: str | None = None
) -> tuple[float, float, float]:
    """Return the intercept, and the weights of the log-odds of retrieval and of the judgement."""
    from sklearn.linear_model import LogisticRegression

    inputs = np.column_stack([_log_odds(map(_CONFIDENCE, examples)), log_odds])
    model = LogisticRegression(class_weight=class_weight)
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
    parser.add_argument(
        "--questions", type=int, default=250, metavar="N", help="about other abstracts"
    )
    options = parser.parse_args()
    model = RecordingModel(load_bundled())
    training = list(read_pool_questions(model, options.questions))
    curated = []
    for name, step in (("acl", 1), ("sample", options.every)):
        examples = list(read_curated_questions(model, name, step))
        print(f"{name}: {len(examples)} questions")
        _print_quality("retrieval", examples, _log_odds(map(_CONFIDENCE, examples)))
        _print_quality("reply", examples, _log_odds(map(_REPLY, examples)))
        _print_quality("state", examples, judge_unseen(training, examples))
        curated += examples
    print(f"both sets: {len(curated)} questions, and {len(training)} about other abstracts")
    unseen = judge_unseen(training, curated)
    _print_quality("state", curated, unseen)
    combination = {
        "state": fit_combination(curated, unseen),
        # A reply tells little. Calibrated, it would hardly ever prevent an answer.
        "reply": fit_combination(curated, _log_odds(map(_REPLY, curated)), "balanced"),
    }
    intercept, weights = fit_state(training, curated)
    digest = load_prompt("judge").digest
    probe = Probe(model.fingerprint, digest, intercept, weights)
    target = Path(judgement.__file__).with_suffix(".json")
    write_probe_file(target, probe, combination=combination)


if __name__ == "__main__":
    main()
