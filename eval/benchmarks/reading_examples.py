"""Questions with abstracts to train the reader with, and to measure it with.

Questions about ACL abstracts that are not in the curated set come with their abstract and with the
papers that retrieval ranks high for them: none of these answers. A quarter to a half of the
questions ask for a detail that their abstract lacks. They were written by a large language model
from the abstracts alone; the abstracts stay outside the repository (`eval/README.md`).

Public sets, `rank_*.jsonl` in a folder of training data, add questions about one passage each, with
the sentences that answer them. Only sets with an open licence are used.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from eval.harness.question_sets import (
    ACL_FOLDER,
    Row,
    build_acl_library,
    find_data_folder,
    load_other_abstracts,
    read_rows,
)
from rag import Assistant, Paper
from rag.config import cache_folder
from rag.errors import UsageError
from rag.text.sentences import split_sentences

_FOLDER = ACL_FOLDER.parent / "training"
# Questions that reuse words of their abstract, which retrieval mostly finds, and those that do not.
_WORDED, _REWORDED = "acl_questions.jsonl", "acl_questions_reworded.jsonl"
PUBLIC_SETS = ("qasper", "evidence_inference")
_OTHER_PAPERS = 4_000
_MAX_SENTENCES = 14
_SEED = 7
# Negatives are the best other paper and others among as many hits.
_SEARCH_DEPTH = 8
_HELD_OUT_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class ExamplePaper:
    """Abstract as sentences, which of them answer the question, and whether the abstract does.

    `labels` are empty where only the latter is known.
    """

    title: str
    sentences: tuple[str, ...]
    labels: tuple[bool, ...]
    answers: bool


@dataclass(frozen=True, slots=True)
class Example:
    """Question with papers. If there are several, the question is about the first one.

    `source` identifies the text that the question is about.
    """

    set: str
    source: str
    question: str
    papers: tuple[ExamplePaper, ...]

    @property
    def is_held_out(self) -> bool:
        """Whether the example is for testing only."""
        return is_held_out(self.source)


def is_held_out(source: str) -> bool:
    """Return True for a source whose questions are for testing only, by its digest."""
    digest = hashlib.sha256(source.encode()).digest()
    return digest[0] < _HELD_OUT_SHARE * 256


def load_examples() -> list[Example]:
    """Return all examples in random order, the same one each time.

    Raises `UsageError` if the abstracts or the public sets are missing.
    """
    pool = build_pool()
    examples = [
        *_acl_examples(_REWORDED, pool, answered_negatives=3, other_negatives=2),
        *_acl_examples(_WORDED, pool, answered_negatives=1, other_negatives=1),
    ]
    for name in PUBLIC_SETS:
        examples += public_examples(name)
    random.Random(_SEED).shuffle(examples)  # noqa: S311 - no secret
    return examples


@dataclass(frozen=True, slots=True)
class Pool:
    """Library of ACL abstracts outside the curated set, with its papers by Anthology id."""

    assistant: Assistant
    papers: Mapping[str, Paper]


def reworded_questions() -> Iterator[Row]:
    """Yield the questions about ACL abstracts that are not in the words of the abstract."""
    yield from read_rows(_FOLDER / _REWORDED)


def held_out_questions() -> Iterator[Row]:
    """Yield the questions about ACL abstracts that the reader is not trained with.

    Those that are not in the words of the abstract come first.
    """
    for file in (_REWORDED, _WORDED):
        for row in read_rows(_FOLDER / file):
            if is_held_out(row["paper"]):
                yield row


def build_pool() -> Pool:
    """Return the abstracts asked about among others, in the user's cache.

    Raises `UsageError` if the abstracts are missing.
    """
    asked: set[str] = set()
    for name in (_WORDED, _REWORDED):
        asked.update(row["paper"] for row in read_rows(_FOLDER / name))
    others = sorted(load_other_abstracts().keys() - asked)
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    ids = [*sorted(asked), *chance.sample(others, _OTHER_PAPERS)]
    folder = cache_folder() / "acl-training"
    file = find_data_folder() / "acl" / "acl.jsonl"
    library_ids, _ = build_acl_library(read_rows(file), ids, folder)
    assistant = Assistant.open(folder / "library", language_model="none", create=False)
    by_id = {paper.id: paper for paper in assistant.papers()}
    return Pool(assistant, {name: by_id[library_ids[name]] for name in asked & set(library_ids)})


def _acl_examples(
    file: str, pool: Pool, answered_negatives: int, other_negatives: int
) -> Iterator[Example]:
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    for row in read_rows(_FOLDER / file):
        paper = pool.papers.get(row["paper"])
        if paper is None:
            continue
        asked = to_example_paper(paper, row["evidence"])
        if asked.answers != row["answerable"]:
            continue
        count = answered_negatives if row["answerable"] else other_negatives
        negatives = _find_negatives(row["question"], paper, count, pool, chance)
        yield Example("acl", row["paper"], row["question"], (asked, *negatives))


def _find_negatives(
    question: str, paper: Paper, count: int, pool: Pool, chance: random.Random
) -> Iterator[ExamplePaper]:
    """Yield papers that retrieval mistakes for the one that a question is about."""
    hits = pool.assistant.search(question, k=_SEARCH_DEPTH)
    best, *others = [hit.paper for hit in hits if hit.paper.id != paper.id]
    for other in [best, *chance.sample(others, count - 1)]:
        yield to_example_paper(other, ())


def to_example_paper(paper: Paper, evidence: list[Row] | tuple[()]) -> ExamplePaper:
    """Split an abstract into sentences, and label those that overlap the evidence."""
    spans = list(split_sentences(paper.abstract))
    labels = []
    for start, end in spans:
        overlaps = [start < part["end"] and part["start"] < end for part in evidence]
        labels.append(any(overlaps))
    sentences = tuple(paper.abstract[start:end].strip() for start, end in spans)
    return ExamplePaper(paper.title, sentences, tuple(labels), any(labels))


def public_examples(name: str) -> Iterator[Example]:
    """Yield the rows of a public set, except those about papers of the curated set.

    Raises `UsageError` if the set is missing.
    """
    titles = _curated_titles()
    for row in read_public_rows(f"rank_{name}.jsonl"):
        if _normalize(row["title"] or "") not in titles:
            yield _public_example(name, row)


def read_public_rows(name: str) -> Iterator[Row]:
    """Yield the rows of a file of public training data. Raises `UsageError` if it is missing."""
    file = find_data_folder().parent / "training" / name
    if not file.is_file():
        raise UsageError(f"no public training data in {file}")
    yield from read_rows(file)


@cache
def _curated_titles() -> frozenset[str]:
    curated = set((ACL_FOLDER / "papers.txt").read_text(encoding="utf-8").split())
    titles = set()
    for row in read_rows(find_data_folder() / "acl" / "acl.jsonl"):
        if row["id"] in curated:
            titles.add(_normalize(row["title"]))
    return frozenset(titles)


def _public_example(name: str, row: Row) -> Example:
    sentences, labels = [], []
    for index, sentence in enumerate(row["sentences"][:_MAX_SENTENCES]):
        if sentence.strip():
            sentences.append(sentence)
            labels.append(index in row["answers"])
    title = row["title"] or ""
    paper = ExamplePaper(title, tuple(sentences), tuple(labels), bool(row["answers"]))
    source = title or json.dumps(row["sentences"][:2])
    return Example(name, source, row["question"], (paper,))


def _normalize(title: str) -> str:
    return " ".join(title.lower().split())
