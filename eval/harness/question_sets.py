"""Sets of curated questions, each with the library that it is about.

The questions about ACL abstracts refer to papers of the ACL Anthology by id, and to sentences by
character span and digest. The abstracts are not shipped: they are read from the folder that
`FOOTNOTE_DATA` names, or from `../shared/data`. `papers.txt` was drawn by `draw_acl_ids`.
"""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.harness.questions import sample_questions_file
from rag.assistant import Assistant
from rag.config import cache_folder
from rag.errors import UsageError
from rag.text.cleaning import clean
from rag.text.sentences import Span, split_sentences

ACL_PAPERS = 2_000
_ACL_SEED = 2026
ACL_FOLDER = Path(__file__).parent.parent / "data" / "acl"
# From 2016 on, abstracts of the Anthology are under CC BY.
_ACL_MIN_YEAR = 2016
_MIN_ABSTRACT_CHARS, _MAX_ABSTRACT_CHARS = 500, 1_800
_MIN_SENTENCES = 4
_MIN_OTHER_CHARS, _MAX_OTHER_CHARS = 400, 2_200
_DIGEST_CHARS = 12

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Abstract:
    """Cleaned title and text of an abstract, and the spans of its sentences."""

    title: str
    text: str
    spans: tuple[Span, ...]

    @property
    def text_with_title(self) -> str:
        """Title and text."""
        return f"{self.title}. {self.text}"

    @property
    def sentences(self) -> list[str]:
        """Sentences in their order."""
        return [self.text[start:end] for start, end in self.spans]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Set of questions; `prepare` returns the file of questions and the folder of the library."""

    description: str
    prepare: Callable[[], tuple[Path, Path]]


def find_data_folder() -> Path:
    """Return the folder of public collections. Raises `UsageError` if there is none."""
    folder = Path(os.environ.get("FOOTNOTE_DATA") or "../shared/data")
    if not folder.is_dir():
        raise UsageError(
            f"no test collections in {folder}; set FOOTNOTE_DATA to the folder that holds them"
        )
    return folder


def prepare_sample() -> tuple[Path, Path]:
    """Return the questions about the sample papers, and their library."""
    return sample_questions_file(), Assistant.sample().library.folder


def prepare_acl(name: str) -> tuple[Path, Path]:
    """Return the questions of a file in `eval/data/acl` about 2,000 abstracts, and their library.

    Both are built in the user's cache. Raises `UsageError` if the abstracts are missing or are not
    those that the questions were written about.
    """
    library, library_ids, abstracts = prepare_acl_library()
    questions = library.parent / f"{name}.jsonl"
    resolve_questions(ACL_FOLDER / f"{name}.jsonl", questions, library_ids, abstracts)
    return questions, library


def prepare_acl_library() -> tuple[Path, dict[str, str], dict[str, str]]:
    """Return the library of 2,000 abstracts, and ids and abstracts by their Anthology ids.

    It is built in the user's cache. Raises `UsageError` if abstracts are missing.
    """
    file = find_data_folder() / "acl" / "acl.jsonl"
    if not file.is_file():
        raise UsageError(f"no ACL abstracts in {file}; set FOOTNOTE_DATA to the folder above acl")
    ids = (ACL_FOLDER / "papers.txt").read_text(encoding="utf-8").split()
    folder = cache_folder() / "acl-set"
    library_ids, abstracts = build_acl_library(read_rows(file), ids, folder)
    return folder / "library", library_ids, abstracts


QUESTION_SETS = {
    "sample": QuestionSet("questions about the sample papers", prepare_sample),
    "acl": QuestionSet("questions about 2,000 ACL abstracts", lambda: prepare_acl("questions")),
    "acl-sealed": QuestionSet(
        "more of them, to be used once, after tuning", lambda: prepare_acl("sealed")
    ),
}


def read_rows(file: Path) -> Iterator[Row]:
    """Yield the records of a file of JSON Lines."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def draw_acl_ids(rows: Iterator[Row]) -> list[str]:
    """Draw the ids of 2,000 abstracts at random, the same ones each time."""
    fitting = [row["id"] for row in rows if _is_fitting(row)]
    return random.Random(_ACL_SEED).sample(sorted(fitting), ACL_PAPERS)  # noqa: S311 - no secret


def _is_fitting(row: Row) -> bool:
    abstract = row["abstract"] or ""
    if not row["year"] or row["year"] < _ACL_MIN_YEAR:
        return False
    if not _MIN_ABSTRACT_CHARS <= len(abstract) <= _MAX_ABSTRACT_CHARS:
        return False
    return len(split_sentences(clean(abstract))) >= _MIN_SENTENCES


def build_acl_library(
    rows: Iterator[Row], ids: list[str], folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Add papers to a library in `folder`, and return ids and abstracts by their Anthology ids.

    A library that is already there is used again. Raises `UsageError` if a paper is missing.
    """
    wanted = set(ids)
    records = {row["id"]: row for row in rows if row["id"] in wanted}
    missing = [name for name in ids if name not in records]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(ids)} papers are missing; the first: {missing[0]}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "papers.jsonl"
    lines = [json.dumps(_library_record(records[name]), ensure_ascii=False) for name in ids]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assistant = Assistant.open(folder / "library", language_model="none")
    assistant.add(corpus)
    library_ids, abstracts = {}, {}
    for paper in assistant.papers():
        name = paper.url.rpartition("/")[2]
        library_ids[name], abstracts[name] = paper.id, paper.abstract
    return library_ids, abstracts


def _library_record(row: Row) -> dict[str, Any]:
    """Return a record for the importer; its address ends in the id by which the paper is found."""
    names = ("title", "abstract", "authors", "year", "venue")
    record = {name: row[name] for name in names}
    return record | {"url": f"https://aclanthology.org/{row['id']}"}


def load_other_abstracts() -> dict[str, Abstract]:
    """Load abstracts that are not in the curated set, by Anthology id, to train models with.

    Raises `UsageError` if there is no folder of test collections.
    """
    curated = set((ACL_FOLDER / "papers.txt").read_text(encoding="utf-8").split())
    abstracts = {}
    for row in read_rows(find_data_folder() / "acl" / "acl.jsonl"):
        text = row["abstract"] or ""
        is_open = (row["year"] or 0) >= _ACL_MIN_YEAR
        is_fitting = _MIN_OTHER_CHARS < len(text) < _MAX_OTHER_CHARS
        if row["id"] not in curated and is_open and is_fitting:
            text = clean(text)
            spans = tuple(split_sentences(text))
            abstracts[row["id"]] = Abstract(clean(row["title"]), text, spans)
    return abstracts


def resolve_questions(
    source: Path, target: Path, library_ids: Mapping[str, str], abstracts: Mapping[str, str]
) -> None:
    """Write questions with the ids of a library in place of Anthology ids.

    Evidence (paper, character span, digest of the text) is compared with the abstracts and left
    out. Raises `UsageError` if an abstract is missing or has changed.
    """
    resolved = []
    for record in read_rows(source):
        question = dict(record)
        for span in question.pop("evidence"):
            _check_evidence(question["id"], span, abstracts)
        question["gold"] = [resolve_ids(group, library_ids) for group in question["gold"]]
        resolved.append(json.dumps(question, ensure_ascii=False) + "\n")
    target.write_text("".join(resolved), encoding="utf-8")


def resolve_ids(names: list[str], library_ids: Mapping[str, str]) -> list[str]:
    """Return the library's ids of papers, without those that were merged into others.

    Raises `UsageError` if none of several papers is in the library.
    """
    ids = [library_ids[name] for name in names if name in library_ids]
    if names and not ids:
        raise UsageError(f"none of the papers {', '.join(names)} is in the library")
    return ids


def _check_evidence(question: str, span: Row, abstracts: Mapping[str, str]) -> None:
    text = abstracts.get(span["paper"], "")[span["start"] : span["end"]]
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]
    if digest != span["digest"]:
        raise UsageError(f"question {question}: the abstract of {span['paper']} has changed")
