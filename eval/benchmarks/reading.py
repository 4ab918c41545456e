"""Measure what the reader contributes: the right paper, the right sentence, answerability.

`python -m eval.benchmarks.reading [--split dev|test]`

The questions are the curated ones about ACL abstracts, and those about other ACL abstracts that
were held out when the reader was trained (`eval.benchmarks.reading_examples`). No language model is
used. Prints for how many of the answerable questions a right paper, and a sentence that answers,
comes first or among the first three; once by retrieval alone, once by the reader alone, and once by
all signals. Then how well answerable questions are told from others (area under the ROC curve). The
public sets ask about one passage, where only the reader chooses.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter

from eval.benchmarks.reading_examples import (
    PUBLIC_SETS,
    Example,
    build_pool,
    is_held_out,
    public_examples,
    reworded_questions,
)
from eval.benchmarks.tables import Columns
from eval.harness.question_sets import ACL_FOLDER, Row, prepare_acl_library, read_rows
from eval.harness.questions import SPLITS
from eval.harness.ranking import area_under_roc
from eval.harness.statistics import Interval, bootstrap
from rag import Assistant, Evidence
from rag.answering.evidence import EvidenceWeights
from rag.models.reader import ReaderInput
from rag.models.registry import load_reader

_ALL_SENTENCES = 1_000
_ANSWERABLE = attrgetter("answerable")
_TOP = 3
_NO_READER = replace(EvidenceWeights(), reading=0.0, relevance=0.0)
_READER_ONLY = EvidenceWeights(paper_score=0.0, similarity=0.0)
WEIGHTS = {"retrieval": _NO_READER, "reader": _READER_ONLY, "both": EvidenceWeights()}


@dataclass(frozen=True, slots=True)
class Case:
    """Question with all sentences that were read for it, and whether each of them answers.

    `papers` are the ids of the right papers. `confidence` is that the library answers, 0..1.
    """

    papers: frozenset[str]
    answerable: bool
    evidence: tuple[Evidence, ...]
    labels: tuple[bool, ...]
    confidence: float


def curated_cases(split: str) -> list[Case]:
    """Ask the curated questions about ACL abstracts that stand alone."""
    folder, library_ids, _ = prepare_acl_library()
    assistant = Assistant.open(folder, language_model="none", create=False)
    cases = []
    for row in read_rows(ACL_FOLDER / "questions.jsonl"):
        if row["split"] != split or row.get("history"):
            continue
        papers = []
        for group in row["gold"]:
            papers += [library_ids[name] for name in group if name in library_ids]
        cases.append(_ask(assistant, row, frozenset(papers), library_ids))
    return cases


def held_out_cases() -> list[Case]:
    """Ask the questions written for the reader whose papers it was not trained on."""
    pool = build_pool()
    library_ids = {name: paper.id for name, paper in pool.papers.items()}
    cases = []
    for row in reworded_questions():
        if is_held_out(row["paper"]) and row["paper"] in library_ids:
            papers = frozenset([library_ids[row["paper"]]])
            cases.append(_ask(pool.assistant, row, papers, library_ids))
    return cases


def _ask(
    assistant: Assistant, row: Row, papers: frozenset[str], library_ids: dict[str, str]
) -> Case:
    evidence = tuple(assistant.evidence(row["question"], _ALL_SENTENCES))
    answer = assistant.ask(row["question"], style="quote")
    labels = tuple(is_gold(item, row, library_ids) for item in evidence)
    return Case(papers, row["answerable"], evidence, labels, answer.confidence)


def is_gold(item: Evidence, row: Row, library_ids: dict[str, str]) -> bool:
    """Return True for a sentence that a row names as evidence; ids are those of the library."""
    for span in row["evidence"]:
        is_paper = library_ids.get(span["paper"]) == item.paper.id
        if is_paper and item.sentence.start < span["end"] and span["start"] < item.sentence.end:
            return True
    return False


# --- the right paper, the right sentence ----------------------------------------------------------


def rank_of_first(is_right: Iterable[bool]) -> int:
    """Return the rank of the first that is right, from 0; a large number if none is."""
    for rank, right in enumerate(is_right):
        if right:
            return rank
    return _ALL_SENTENCES


def sentence_ranks(cases: Sequence[Case], weights: EvidenceWeights) -> list[int]:
    """Return for each answerable question the rank of the first sentence that answers it."""
    ranks = []
    for case in filter(_ANSWERABLE, cases):
        ranks.append(rank_of_first(map(itemgetter(1), _sort(case, weights))))
    return ranks


def paper_ranks(cases: Sequence[Case], weights: EvidenceWeights) -> list[int]:
    """Return for each answerable question the rank of the first right paper, by its sentences."""
    ranks = []
    for case in filter(_ANSWERABLE, cases):
        ids: dict[str, None] = {}
        for item, _ in _sort(case, weights):
            ids[item.paper.id] = None
        ranks.append(rank_of_first(map(case.papers.__contains__, ids)))
    return ranks


def _sort(case: Case, weights: EvidenceWeights) -> list[tuple[Evidence, bool]]:
    pairs = zip(case.evidence, case.labels, strict=True)
    return sorted(pairs, key=lambda pair: -weights.logit(pair[0]))


def print_cases(title: str, cases: Sequence[Case]) -> None:
    """Print all figures of a set of questions."""
    answerable = sum(map(_ANSWERABLE, cases))
    print(f"\n{title}: {answerable} answerable questions, {len(cases) - answerable} others")
    columns = Columns("<10", "<24", "<24", "<24", "<24", indent=2)
    columns.print_row("", "right paper first", "in three", "sentence first", "in three")
    for name, weights in WEIGHTS.items():
        cells = []
        for ranks in (paper_ranks(cases, weights), sentence_ranks(cases, weights)):
            cells += [_share_within(ranks, 1), _share_within(ranks, _TOP)]
        columns.print_row(name, *cells)
    confidences: dict[bool, list[float]] = {True: [], False: []}
    for case in cases:
        confidences[case.answerable].append(case.confidence)
    auc = area_under_roc(confidences[True], confidences[False])
    print(f"  answerable or not, by the confidence: AUC {auc:.3f}")


def _share_within(ranks: Sequence[int], top: int) -> Interval:
    return bootstrap([float(rank < top) for rank in ranks])


# --- public sets ----------------------------------------------------------------------------------


def print_public(name: str, examples: Sequence[Example]) -> None:
    """Print how well the reader chooses within one passage, and whether it answers at all."""
    reader = load_reader()
    ranks = []
    scores: dict[bool, list[float]] = {True: [], False: []}
    for example in examples:
        (passage,) = example.papers
        abstract = ReaderInput(passage.title, passage.sentences)
        (reading,) = reader.read(example.question, [abstract])
        scores[passage.answers].append(reading.answers)
        if passage.answers:
            pairs = zip(reading.sentences, passage.labels, strict=True)
            ordered = sorted(pairs, key=lambda pair: -pair[0])
            ranks.append(rank_of_first(map(itemgetter(1), ordered)))
    first, in_three = _share_within(ranks, 1), _share_within(ranks, _TOP)
    auc = ""
    if scores[True] and scores[False]:
        auc = f", AUC {area_under_roc(scores[True], scores[False]):.3f}"
    print(f"{name}: {len(examples)} questions, sentence first {first}, in three {in_three}{auc}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="dev", help="of the curated questions")
    split = parser.parse_args().split
    print_cases(f"curated, {split}", curated_cases(split))
    print_cases("written for the reader, held out", held_out_cases())
    print()
    for name in PUBLIC_SETS:
        print_public(name, list(filter(attrgetter("is_held_out"), public_examples(name))))


if __name__ == "__main__":
    main()
