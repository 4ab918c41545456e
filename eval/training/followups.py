"""Fit what tells the kind of a follow-up question from the language model's state.

`python -m eval.training.followups`

The classifier of `rag.answering.followup_kinds` is a logistic regression on the state of the
bundled language model after a question in its conversation. It is fitted on follow-ups that were
written for it, on curated dev questions, and on public questions of other fields; those stand
alone, after a conversation drawn at random. It is measured on conversations that were held out, on
public sets that were not used, and on the last questions of the dev conversations of
`eval.benchmarks.followups`, which others wrote. The result is written to
`rag/answering/followup_kinds.json`.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path

import numpy as np
from tqdm import tqdm

import eval.data
from eval.benchmarks.reading_examples import read_public_rows
from eval.harness.generation_cache import CachedHiddenStateModel
from eval.harness.question_sets import ACL_FOLDER, Row, find_data_folder, read_rows
from eval.harness.statistics import Values
from eval.training.probes import load_bundled
from eval.training.recording import read_state
from rag import Paper
from rag.answering.followup_kinds import (
    FOLLOWUP_KINDS,
    followup_prompt,
    write_classifier,
)

_FILE = Path(eval.data.__file__).parent / "training" / "followups.jsonl"
# Public questions that stand alone: used to fit, and held out.
_PUBLIC = ("covidqa", "selqa")
_HELD_OUT_PUBLIC = ("evidence_inference", "newwiki")
_QUESTIONS_PER_SET = 40
_CURATED_QUESTIONS = 80
_INVERSE_REGULARIZATION = 1e-2
_SEED = 3
_NOT_FOLLOWUPS = ("standalone", "courtesy")


@dataclass(frozen=True, slots=True)
class Example:
    """Question with its kind, after an earlier question that papers answered.

    `set` says where it comes from; `kind` is empty for a follow-up whose kind is not labelled.
    """

    set: str
    earlier: str
    papers: tuple[Paper, ...]
    question: str
    kind: str

    @property
    def is_followup(self) -> bool:
        """Whether the question needs the earlier one."""
        return self.kind not in _NOT_FOLLOWUPS


_SET, _KIND = attrgetter("set"), attrgetter("kind")


def load_examples() -> list[Example]:
    """Return all examples. Raises `UsageError` if the abstracts or the public sets are missing."""
    titles = {
        row["id"]: row["title"] for row in read_rows(find_data_folder() / "acl" / "acl.jsonl")
    }
    written = list(_read_followups(titles))
    return [*written, *_read_chats(titles), *_standalone_questions(written)]


def _papers(ids: Iterable[str], titles: dict[str, str]) -> tuple[Paper, ...]:
    return tuple(Paper(titles[id_], "") for id_ in ids)


def _read_followups(titles: dict[str, str]) -> Iterator[Example]:
    for row in read_rows(_FILE):
        papers = _papers(row["papers"], titles)
        yield Example(row["split"], row["question"], papers, row["followup"], row["kind"])


def _read_chats(titles: dict[str, str]) -> Iterator[Example]:
    for row in filter(_is_dev, read_rows(ACL_FOLDER / "chats.jsonl")):
        papers = _papers(row["first_papers"], titles)
        yield Example("conversations", row["turns"][0], papers, row["turns"][-1], "")


def _is_dev(row: Row) -> bool:
    return bool(row["split"] == "dev")


def _standalone_questions(written: Sequence[Example]) -> Iterator[Example]:
    """Yield public and curated questions after the conversations of other examples."""
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    questions = {}
    for name in (*_PUBLIC, *_HELD_OUT_PUBLIC):
        asked = list(map(itemgetter("question"), read_public_rows(f"rank_{name}.jsonl")))
        questions[name] = chance.sample(asked, _QUESTIONS_PER_SET)
    dev = filter(_is_dev, read_rows(ACL_FOLDER / "questions.jsonl"))
    curated = list(map(itemgetter("question"), dev))
    questions["curated"] = chance.sample(curated, _CURATED_QUESTIONS)
    for name, asked in questions.items():
        for question in asked:
            before = chance.choice(written)
            yield Example(name, before.earlier, before.papers, question, "standalone")


def read_states(model: CachedHiddenStateModel, examples: Sequence[Example]) -> Values:
    """Return the model's state after each example, (examples, width)."""
    states = []
    for example in tqdm(examples, desc="reading"):
        prompt = followup_prompt(example.earlier, example.papers, example.question)
        states.append(read_state(model, prompt))
    return np.array(states, np.float64)


def fit(states: Values, kinds: Sequence[str]) -> tuple[Values, Values]:
    """Return the intercepts, (kinds,), and the weights, (kinds, width)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    inputs = scaler.fit_transform(states)
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=3000).fit(inputs, kinds)
    order = list(map(list(model.classes_).index, FOLLOWUP_KINDS))
    weights = model.coef_[order] / scaler.scale_
    return model.intercept_[order] - weights @ scaler.mean_, weights


def print_quality(name: str, examples: Sequence[Example], found: Sequence[str]) -> None:
    """Print how many kinds are right, and how many follow-ups and other questions are told."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for example, kind in zip(examples, found, strict=True):
        label = "follow-ups" if example.is_followup else "others"
        total[label] += 1
        right[label] += (kind not in _NOT_FOLLOWUPS) == example.is_followup
        if example.kind:
            total["kinds"] += 1
            right["kinds"] += kind == example.kind
    shares = [f"{label} {right[label]} of {total[label]}" for label in total]
    print(f"{name}: right for {', '.join(shares)}")


def main() -> None:
    """Fit the classifier, and write it."""
    model = load_bundled()
    examples = load_examples()
    states = read_states(model, examples)
    sets, kinds = np.array(list(map(_SET, examples))), np.array(list(map(_KIND, examples)))
    fitted = ("train", *_PUBLIC, "curated")
    is_fitted = np.isin(sets, fitted)
    intercepts, weights = fit(states[is_fitted], kinds[is_fitted].tolist())
    for name in dict.fromkeys(sets[~is_fitted].tolist()):
        rows = np.flatnonzero(sets == name)
        best = np.argmax(intercepts + states[rows] @ weights.T, axis=1)
        found = list(map(FOLLOWUP_KINDS.__getitem__, best))
        print_quality(name, list(map(examples.__getitem__, rows)), found)
    write_classifier(model.fingerprint, intercepts.astype(np.float32), weights.astype(np.float32))


if __name__ == "__main__":
    main()
