"""Public test collections on this machine: nothing of them is shipped, and nothing is downloaded.

They are looked for in the folder `FOOTNOTE_DATA`, else in `../shared/data`. A collection is a folder with
`corpus.jsonl` {_id, title, text}, `queries.jsonl` {_id, text} and `qrels.tsv` (query, document, grade).
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag import Assistant


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the grades of the documents that answer it."""

    id: str
    text: str
    grades: dict[str, float]


def data_folder() -> Path:
    """Where the collections lie; ends the program, saying so, when they are not on this machine."""
    folder = Path(os.environ.get("FOOTNOTE_DATA") or "../shared/data")
    if not folder.is_dir():
        sys.exit(
            f"no test collections in {folder}; set FOOTNOTE_DATA to the folder that holds them"
        )
    return folder


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def queries(folder: Path, split: str) -> list[Query]:
    """The judged questions; where the collection has splits, those of one of them."""
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) > 0:
            grades[query][document] = float(grade)
    (path,) = folder.glob("queries*.jsonl")
    rows = [row for row in read_jsonl(path) if row.get("split", split) == split]
    return [
        Query(row["_id"], row["text"], grades[row["_id"]]) for row in rows if grades[row["_id"]]
    ]


def build_library(
    folder: Path, documents: Iterable[tuple[str, str, str]]
) -> tuple[Assistant, dict[str, str]]:
    """A library of (document id, title, text) and the document's id for each paper's.

    Every document gets a number as its PubMed id, so that two with one title stay two. A library that is
    already in `folder` is used again. No language model reads, for that would take a second for each question.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document_of = {}
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as lines:
        for number, (document, title, text) in enumerate(documents, 1):
            document_of[str(number)] = document
            row = {"title": title or "Untitled", "abstract": text, "pmid": str(number)}
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    assistant = Assistant.open(folder / "library", language_model="none")
    assistant.add(folder / "corpus.jsonl")
    return assistant, {paper.id: document_of[paper.pmid] for paper in assistant.papers()}
