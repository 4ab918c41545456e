"""Public test collections on this machine. None is shipped, and nothing is downloaded.

They are read from the folder that `FOOTNOTE_DATA` names, or from `../shared/data`. A collection is
a folder with `corpus.jsonl` {_id, title, text}, one `queries*.jsonl` {_id, text[, split]} and
`qrels.tsv` (query, document, grade; the first line holds headings).
"""

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eval.harness.question_sets import find_data_folder
from rag import Assistant
from rag.errors import UsageError

Row = dict[str, Any]


class Document(NamedTuple):
    """A document of a collection, from which a paper is made."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and the grades of its relevant documents by id."""

    id: str
    text: str
    grades: dict[str, float]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection in the layout above, with its judged queries of one split."""

    name: str
    folder: Path
    queries: list[Query]

    @property
    def library_name(self) -> str:
        """Folder name for the library; a digest of the corpus keeps it unique."""
        digest = hashlib.sha256((self.folder / "corpus.jsonl").read_bytes()).hexdigest()
        return f"{self.folder.resolve().name}-{digest[:8]}"


def data_folder() -> Path:
    """Return the folder that holds the collections; exit with a message if there is none."""
    try:
        return find_data_folder()
    except UsageError as error:
        sys.exit(str(error))


# --- reading and writing -------------------------------------------------------------------------


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSON Lines file; blank lines are skipped."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write objects as JSON Lines, and return the path."""
    with path.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def read_split(path: Path, split: str) -> list[Row]:
    """Read the rows of one split; a row without a split belongs to every split."""
    return [row for row in read_jsonl(path) if row.get("split", split) == split]


def load_documents(folder: Path) -> list[Document]:
    """Load the documents of a collection."""
    documents = []
    for row in read_jsonl(folder / "corpus.jsonl"):
        documents.append(Document(row["_id"], row["title"], row["text"]))
    return documents


def load_queries(folder: Path, split: str) -> list[Query]:
    """Load the queries of a split that have a relevant document."""
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) > 0:
            grades[query][document] = float(grade)
    queries = []
    for row in read_split(_queries_file(folder), split):
        if row["_id"] in grades:
            queries.append(Query(row["_id"], row["text"], grades[row["_id"]]))
    return queries


def squad_documents(rows: Iterable[Row]) -> list[Document]:
    """Return the distinct paragraphs of SQuAD rows as documents, with ids from 0 in order."""
    paragraphs: dict[tuple[str, str], Document] = {}
    for row in rows:
        key = (row["title"], row["context"])
        paragraphs.setdefault(key, Document(str(len(paragraphs)), *key))
    return list(paragraphs.values())


def build_library(
    folder: Path, documents: Iterable[tuple[str, str, str]]
) -> tuple[Assistant, dict[str, str]]:
    """Build a library of documents, and map the id of each paper to that of its document.

    Each document gets a number as its PubMed id, so that documents with the same title are not
    merged. A library that is already in `folder` is used again. The assistant has no language
    model, which would take a second for each question.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, document_ids = [], {}
    for number, (document_id, title, text) in enumerate(documents, 1):
        document_ids[str(number)] = document_id
        rows.append({"title": title or "Untitled", "abstract": text, "pmid": str(number)})
    corpus = write_jsonl(folder / "corpus.jsonl", rows)
    assistant = Assistant.open(folder / "library", language_model="none")
    assistant.add(corpus)
    return assistant, {paper.id: document_ids[paper.pmid] for paper in assistant.papers()}


# --- checking a collection -----------------------------------------------------------------------


def load_collections(names: Iterable[str], split: str) -> list[Collection]:
    """Load several collections; exit with one line for each that is invalid."""
    collections, errors = [], []
    for name in names:
        try:
            collections.append(load_collection(name, split))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        sys.exit("\n".join(errors))
    return collections


def load_collection(name: str, split: str) -> Collection:
    """Load a collection by the path of its folder, or by its folder's name in the data folder.

    Raises `ValueError` with the file and the problem if the folder is not in the layout.
    """
    path = Path(name)
    is_name = path.name == name and not path.is_dir()
    folder = data_folder() / name if is_name else path
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    documents = _read_checked(folder / "corpus.jsonl", ("_id", "title", "text"))
    queries = _read_checked(_queries_file(folder), ("_id", "text"))
    _check_judgments(folder / "qrels.tsv", queries, documents)
    judged = load_queries(folder, split)
    if not judged:
        splits = {str(row["split"]) for row in queries.values() if "split" in row}
        choices = ", ".join(sorted(splits)) or "none"
        raise ValueError(
            f"{folder}: no query of split '{split}' has a relevant document; its splits: {choices}"
        )
    return Collection(name, folder, judged)


def _queries_file(folder: Path) -> Path:
    files = sorted(folder.glob("queries*.jsonl"))
    if len(files) != 1:
        names = " and ".join(file.name for file in files) or "none"
        raise ValueError(f"{folder}: expected one file queries*.jsonl, found {names}")
    return files[0]


def _read_checked(path: Path, fields: tuple[str, ...]) -> dict[str, Row]:
    """Read the rows of a file by id; check that each has all fields, and text besides its id."""
    _check_file(path)
    rows: dict[str, Row] = {}
    try:
        for row in read_jsonl(path):
            _check_row(row, fields)
            if row["_id"] in rows:
                raise ValueError(f"duplicate _id '{row['_id']}'")
            rows[row["_id"]] = row
    except ValueError as error:
        raise ValueError(f"{path}: row {len(rows) + 1}: {error}") from None
    return rows


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if not path.read_bytes().strip():
        raise ValueError(f"{path}: the file is empty")


def _check_row(row: Any, fields: tuple[str, ...]) -> None:  # noqa: ANN401 - JSON can be anything
    if not isinstance(row, dict) or not all(isinstance(row.get(field), str) for field in fields):
        raise ValueError(f"expected an object with {', '.join(fields)}, all strings")
    if not any(row[field].strip() for field in fields[1:]):
        raise ValueError(f"no text with the _id '{row['_id']}'")


def _check_judgments(path: Path, queries: Container[str], documents: Container[str]) -> None:
    _check_file(path)
    try:
        headings, *lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if _is_number(headings.split("\t")[-1]):
        raise ValueError(f"{path}: line 1 is a judgment, but must hold headings")
    for number, line in enumerate(lines, 2):
        if reason := _find_judgment_problem(line.split("\t"), queries, documents):
            raise ValueError(f"{path}: line {number}: {reason}")


def _find_judgment_problem(
    judgment: list[str], queries: Container[str], documents: Container[str]
) -> str:
    """Return the problem of a judgment, or an empty string if it is valid."""
    if len(judgment) != 3 or not _is_number(judgment[2]):
        return "expected a query, a document and a grade, separated by tabs"
    query, document, _ = judgment
    if query not in queries:
        return f"unknown query '{query}'"
    return "" if document in documents else f"unknown document '{document}'"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
