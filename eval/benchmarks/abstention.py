"""Measure how well the confidence separates answerable from unanswerable questions.

`python -m eval.benchmarks.abstention [--questions N] [--libraries DIR]`

Questions with known answers are put to libraries that hold their source and to libraries that do
not. For each kind of question, the benchmark prints the area under the ROC curve and the shares
answered and abstained at a confidence of .5. It leaves out the half of the subjects on which
`eval.training.abstention` fits the confidence.

- `squad2`: paragraphs as papers; the library holds half of the subjects.
- `scitldr`: one-line descriptions of papers. The library holds half of the papers; the others
  have similar ones in it (`neighbour`; not used for fitting).
- `foreign`: questions of each of these two sets, put to the library of the other.
- `acl`: questions of `squad2`, put to every fourth abstract of the ACL Anthology. In this larger
  library, more of a question's words occur by chance.
- `qasper`: questions about a whole paper, by readers of its abstract. Few make sense without the
  paper, so they are not used for fitting.
- `curated`: the `dev` split of the curated questions. All of them are used for fitting; `footnote
  eval --split test` shows the effect on others.
"""

import argparse
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks.collections import (
    Document,
    Row,
    build_library,
    data_folder,
    load_documents,
    read_jsonl,
    read_split,
    squad_documents,
)
from eval.benchmarks.common import add_libraries_option, curated_questions, working_folder
from eval.harness.ranking import area_under_roc
from rag import Assistant
from rag.answering.pipeline import ABSTENTION_THRESHOLD

KINDS = ("squad2", "scitldr", "neighbour", "foreign", "acl", "qasper", "curated")
# Kinds that are only reported.
NOT_FITTED = ("neighbour", "qasper")
_MAX_CHARACTERS = 2000
_SQUAD_QUESTIONS = 6_000  # roughly; spaces the questions evenly


@dataclass(frozen=True, slots=True)
class Case:
    """A question, and whether the library that it is put to answers it."""

    kind: str
    subject: str
    question: str
    answerable: bool

    @property
    def is_training(self) -> bool:
        """True if the confidence may be fitted on this case."""
        in_training_half = self.kind == "curated" or hash_bit(self.subject, "fit")
        return in_training_half and self.kind not in NOT_FITTED

    @property
    def is_reported(self) -> bool:
        """True if the case belongs to the half that is held out, or is curated."""
        return self.kind == "curated" or not hash_bit(self.subject, "fit")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case with the signals and the confidence of the assistant's answer."""

    case: Case
    signals: Mapping[str, float]
    confidence: float


Cases = Iterator[tuple[Assistant, list[Case]]]


def hash_bit(text: str, salt: str) -> bool:
    """Return a pseudo-random bit that is always the same for a text, to split texts in halves."""
    return hashlib.sha256(f"{salt}:{text}".encode()).digest()[0] % 2 == 0


# --- questions and their libraries ---------------------------------------------------------------


def squad_cases(data: Path, folder: Path, limit: int) -> Cases:
    """Yield questions about SQuAD paragraphs, half of them absent, and foreign descriptions."""
    answerable, present = [], []
    for row in _squad_rows(data):
        if not row["is_impossible"]:
            answerable.append(row)
            if _is_present(row["title"]):
                present.append(row)
    assistant, _ = build_library(folder / "half-squad2", squad_documents(present))
    cases = []
    for row in answerable[:: max(1, len(answerable) // limit)]:
        subject = row["title"]
        cases.append(Case("squad2", subject, row["question"], _is_present(subject)))
    yield assistant, cases
    foreign = []
    for row in _descriptions(data)[: limit // 4]:
        foreign.append(Case("foreign", row["_id"], row["text"], False))
    yield assistant, foreign


def scitldr_cases(data: Path, folder: Path, limit: int) -> Cases:
    """Yield descriptions of papers, half of them absent, and foreign SQuAD questions."""
    present = []
    for document in load_documents(data / "scitldr"):
        if _is_present(document.id):
            present.append(document)
    assistant, _ = build_library(folder / "half-scitldr", present)
    cases = []
    for row in _descriptions(data)[:limit]:
        answerable = _is_present(row["doc"])
        kind = "scitldr" if answerable else "neighbour"
        cases.append(Case(kind, row["doc"], row["text"], answerable))
    yield assistant, cases
    yield assistant, _foreign_squad_cases("foreign", data, max(1, 4 * _SQUAD_QUESTIONS // limit))


def acl_cases(data: Path, folder: Path, limit: int) -> Cases:
    """Yield SQuAD questions, none of which the abstracts of the ACL Anthology answer."""
    documents = []
    for row in list(read_jsonl(data / "acl" / "acl.jsonl"))[::4]:
        documents.append(Document(row["id"], row["title"], row["abstract"]))
    assistant, _ = build_library(folder / "quarter-acl", documents)
    yield assistant, _foreign_squad_cases("acl", data, max(1, 2 * _SQUAD_QUESTIONS // limit))


def qasper_cases(data: Path, folder: Path, limit: int) -> Cases:
    """Yield readers' questions about whole papers; the abstract answers few of them."""
    assistant, _ = build_library(folder / "qasper", load_documents(data / "qasper_linked"))
    cases = []
    for row in list(read_jsonl(data / "qasper_linked" / "questions.jsonl"))[:limit]:
        answerable = bool(row["evidence_in_abstract"] or row["answer_string_in_abstract"])
        cases.append(Case("qasper", row["doc"], row["text"], answerable))
    yield assistant, cases


def curated_cases() -> tuple[Assistant, list[Case]]:
    """Return the sample library and its curated questions.

    Follow-ups are left out, and so are false premises that the library contradicts: both an
    abstention and an answer are right for those.
    """
    cases = []
    for question in curated_questions("dev"):
        is_clear = question.answerable or not question.nuggets
        if is_clear and question.kind != "followup":
            case = Case("curated", question.cluster, question.question, question.answerable)
            cases.append(case)
    return Assistant(Assistant.sample().library, language_model="none"), cases


def _is_present(subject: str) -> bool:
    return hash_bit(subject, "library")


def _squad_rows(data: Path) -> list[Row]:
    return list(read_jsonl(data / "squad2" / "flat.jsonl"))


def _foreign_squad_cases(kind: str, data: Path, step: int) -> list[Case]:
    cases = []
    for row in _squad_rows(data)[::step]:
        cases.append(Case(kind, row["title"], row["question"], False))
    return cases


def _descriptions(data: Path) -> list[Row]:
    return read_split(data / "scitldr" / "queries_known_item.jsonl", "dev")


# --- asking and reporting ------------------------------------------------------------------------


def ask_cases(assistant: Assistant, cases: Iterable[Case]) -> Iterator[Outcome]:
    """Ask each question, and yield the answer's signals and confidence."""
    for case in cases:
        answer = assistant.ask(case.question[:_MAX_CHARACTERS])
        yield Outcome(case, answer.trace.signals, answer.confidence)


def collect_outcomes(options: argparse.Namespace) -> list[Outcome]:
    """Ask the questions of every kind, with the options that `add_options` defines."""
    outcomes: list[Outcome] = []
    with working_folder(options.libraries) as folder:
        for load_cases in (squad_cases, scitldr_cases, acl_cases, qasper_cases):
            for assistant, cases in load_cases(data_folder(), folder, options.questions):
                outcomes += ask_cases(assistant, cases)
    outcomes += ask_cases(*curated_cases())
    return outcomes


def select_reported(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes whose case is reported."""
    return [outcome for outcome in outcomes if outcome.case.is_reported]


def confidences(outcomes: Iterable[Outcome]) -> list[float]:
    """Return the confidence of each outcome."""
    return [outcome.confidence for outcome in outcomes]


def print_report(name: str, outcomes: Sequence[Outcome], scores: Sequence[float]) -> None:
    """Print how well scores, one per outcome, separate the answerable, overall and by kind."""
    for kind in ("all", *KINDS):
        positives: list[float] = []
        negatives: list[float] = []
        for outcome, score in zip(outcomes, scores, strict=True):
            if kind in ("all", outcome.case.kind):
                (positives if outcome.case.answerable else negatives).append(score)
        answered = _share_text(np.array(positives) >= ABSTENTION_THRESHOLD)
        abstained = _share_text(np.array(negatives) < ABSTENTION_THRESHOLD)
        has_both = positives and negatives
        area = f"{area_under_roc(positives, negatives):.3f}" if has_both else "-"
        print(f"  {name:10} {kind:9} AUC {area:6}  answered {answered:14}  abstained {abstained}")


def _share_text(hits: NDArray[np.bool_]) -> str:
    return f"{np.mean(hits):.3f} of {len(hits)}" if len(hits) else "-"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `collect_outcomes`."""
    parser.add_argument("--questions", type=int, default=1200, help="how many of each set")
    add_libraries_option(parser)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    outcomes = select_reported(collect_outcomes(parser.parse_args()))
    print(f"{len(outcomes)} cases: curated, or of subjects that the confidence was not fitted on")
    print_report("as used", outcomes, confidences(outcomes))


if __name__ == "__main__":
    main()
