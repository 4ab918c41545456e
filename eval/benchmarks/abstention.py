"""When should the library be said not to answer? `python -m eval.benchmarks.abstention`.

Questions with known answers are put to libraries that hold their source and to libraries that do not. The
signals of `Answer.trace` are fitted by logistic regression on one half of the subjects and judged on the other;
the command prints the coefficients for `rag.answering.evidence`, and how well old and new separate the two kinds.

Questions: `squad2` (its paragraphs as papers; half of its subjects are left out of the library) and `scitldr`
(one-line descriptions of papers; half of the papers are left out, but their neighbours are there: that is reported,
and not fitted on), each also put to the other's library, and those of `squad2` to every fourth abstract of `acl`, for
in a larger library more of a question's words occur by chance. `qasper`, what readers of an abstract wanted to know of
its paper, is only reported, for few of these questions stand alone. And the `dev` split of the curated questions, with
five times the weight of the others, for they ask as people do and miss by a detail; all of them are fitted on, and
what comes of it for others is in `footnote eval`.
"""

import argparse
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.benchmarks.collections import build_library, data_folder, read_jsonl
from eval.harness.measures import area_under_roc
from eval.harness.questions import load_questions, sample_questions
from rag import Assistant


@dataclass(frozen=True, slots=True)
class Case:
    """A question put to a library that does or does not hold its source."""

    kind: str
    subject: str
    question: str
    answered: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A case with the signals that the assistant gave for it, and the confidence it has now."""

    case: Case
    signals: Mapping[str, float]
    confidence: float


def half(text: str, salt: str) -> bool:
    """A coin that always falls the same way for a text."""
    return hashlib.sha256(f"{salt}:{text}".encode()).digest()[0] % 2 == 0


def squad_cases(data: Path, scratch: Path, most: int) -> Iterator[tuple[Assistant, list[Case]]]:
    rows = [row for row in read_jsonl(data / "squad2" / "flat.jsonl") if not row["is_impossible"]]
    paragraphs = dict.fromkeys(
        (row["title"], row["context"]) for row in rows if half(row["title"], "library")
    )
    documents = ((str(number), *paragraph) for number, paragraph in enumerate(paragraphs))
    assistant, _ = build_library(scratch / "half-squad2", documents)
    asked = rows[:: max(1, len(rows) // most)]
    yield (
        assistant,
        [
            Case("squad2", row["title"], row["question"], half(row["title"], "library"))
            for row in asked
        ],
    )
    yield (
        assistant,
        [Case("foreign", q["_id"], q["text"], False) for q in _descriptions(data)[: most // 4]],
    )


def scitldr_cases(data: Path, scratch: Path, most: int) -> Iterator[tuple[Assistant, list[Case]]]:
    rows = list(read_jsonl(data / "scitldr" / "corpus.jsonl"))
    kept = ((row["_id"], row["title"], row["text"]) for row in rows if half(row["_id"], "library"))
    assistant, _ = build_library(scratch / "half-scitldr", kept)
    described = _descriptions(data)[:most]
    held = {q["doc"]: half(q["doc"], "library") for q in described}
    kinds = {True: "scitldr", False: "neighbour"}
    yield (
        assistant,
        [Case(kinds[held[q["doc"]]], q["doc"], q["text"], held[q["doc"]]) for q in described],
    )
    foreign = list(read_jsonl(data / "squad2" / "flat.jsonl"))[:: max(1, 4 * 6000 // most)]
    yield assistant, [Case("foreign", row["title"], row["question"], False) for row in foreign]


def acl_cases(data: Path, scratch: Path, most: int) -> Iterator[tuple[Assistant, list[Case]]]:
    rows = list(read_jsonl(data / "acl" / "acl.jsonl"))[::4]
    assistant, _ = build_library(
        scratch / "quarter-acl", ((row["id"], row["title"], row["abstract"]) for row in rows)
    )
    foreign = list(read_jsonl(data / "squad2" / "flat.jsonl"))[:: max(1, 2 * 6000 // most)]
    yield assistant, [Case("acl", row["title"], row["question"], False) for row in foreign]


def qasper_cases(data: Path, scratch: Path, most: int) -> Iterator[tuple[Assistant, list[Case]]]:
    """What readers of an abstract asked of its whole paper: the abstract answers few of their questions."""
    rows = list(read_jsonl(data / "qasper_linked" / "corpus.jsonl"))
    assistant, _ = build_library(
        scratch / "qasper", ((row["_id"], row["title"], row["text"]) for row in rows)
    )
    asked = list(read_jsonl(data / "qasper_linked" / "questions.jsonl"))[:most]
    yield assistant, [Case("qasper", row["doc"], row["text"], _in_abstract(row)) for row in asked]


def _in_abstract(row: Mapping[str, object]) -> bool:
    return bool(row["evidence_in_abstract"] or row["answer_string_in_abstract"])


def curated_cases() -> tuple[Assistant, list[Case]]:
    """The curated questions; without those whose false premise the library contradicts: both replies are right."""
    questions = [
        q for q in load_questions(sample_questions()) if q.split == "dev" and q.kind != "followup"
    ]
    clear = [q for q in questions if q.answerable or not q.nuggets]
    sample = Assistant(Assistant.sample().library, language_model="none")
    return sample, [Case("curated", q.cluster, q.question, q.answerable) for q in clear]


def _descriptions(data: Path) -> list[dict[str, str]]:
    return [
        row
        for row in read_jsonl(data / "scitldr" / "queries_known_item.jsonl")
        if row["split"] == "dev"
    ]


def judge(assistant: Assistant, cases: Iterable[Case]) -> Iterator[Judged]:
    for case in cases:
        answer = assistant.ask(case.question[:2000])
        yield Judged(case, answer.trace.signals, answer.confidence)


def fit(judged: list[Judged]) -> tuple[float, tuple[float, ...]]:
    """Intercept and weights; curated questions weigh five times as much as public ones, and both outcomes the same."""
    from sklearn.linear_model import LogisticRegression

    groups = [(one.case.kind == "curated", one.case.answered) for one in judged]
    sizes = Counter(groups)
    weights = [
        (1 + 4 * curated) * len(judged) / sizes[curated, answered] for curated, answered in groups
    ]
    model = LogisticRegression(C=10.0, max_iter=1000)
    signals = np.array([list(one.signals.values()) for one in judged])
    model.fit(signals, [one.case.answered for one in judged], weights)
    return float(model.intercept_[0]), tuple(float(weight) for weight in model.coef_[0])


def report(name: str, judged: list[Judged], scores: list[float]) -> None:
    """Print how well the scores tell answered from unanswered, in all and by kind of question."""
    for kind in ("all", "squad2", "scitldr", "neighbour", "foreign", "acl", "qasper", "curated"):
        chosen = [
            (s, one.case.answered)
            for s, one in zip(scores, judged, strict=True)
            if kind in ("all", one.case.kind)
        ]
        positive = [score for score, answered in chosen if answered]
        negative = [score for score, answered in chosen if not answered]
        kept = f"{np.mean(np.array(positive) >= 0.5):.3f} of {len(positive)}" if positive else "-"
        refused = f"{np.mean(np.array(negative) < 0.5):.3f} of {len(negative)}" if negative else "-"
        area = f"{area_under_roc(positive, negative):.3f}" if positive and negative else "-"
        print(f"  {name:10} {kind:9} AUC {area:6}  answered {kept:14}  refused {refused}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1200, help="how many of each set")
    parser.add_argument(
        "--libraries", type=Path, help="keep the libraries here, to run again without embedding"
    )
    options = parser.parse_args()
    judged: list[Judged] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.libraries or Path(scratch)
        for cases in (squad_cases, scitldr_cases, acl_cases, qasper_cases):
            for assistant, of_library in cases(data_folder(), folder, options.questions):
                judged += judge(assistant, of_library)
    judged += judge(*curated_cases())
    clear = [one for one in judged if one.case.kind not in ("neighbour", "qasper")]
    fitted_on = [
        one for one in clear if one.case.kind == "curated" or half(one.case.subject, "fit")
    ]
    held_out = [
        one for one in judged if one.case.kind == "curated" or not half(one.case.subject, "fit")
    ]
    intercept, weights = fit(fitted_on)
    new = [
        1 / (1 + np.exp(-(intercept + np.dot(weights, list(one.signals.values())))))
        for one in held_out
    ]
    print(
        f"fitted on {len(fitted_on)} cases, judged on {len(held_out)}: of other subjects, but for the curated"
    )
    report("as used", held_out, [one.confidence for one in held_out])
    report("fitted", held_out, [float(score) for score in new])
    fitted = ", ".join(
        f"{name}={weight:.2f}" for name, weight in zip(held_out[0].signals, weights, strict=True)
    )
    print(f"_INTERCEPT = {intercept:.2f}\n_WEIGHTS = Signals({fitted})")


if __name__ == "__main__":
    main()
