"""Does the fused ranking beat its parts? `python -m eval.benchmarks.retrieval [COLLECTION…] [--split dev]`.

A collection is the name of a folder in the data folder, or the path of any folder with `corpus.jsonl` {_id, title,
text}, one `queries*.jsonl` {_id, text[, split]} and `qrels.tsv` (query, document, grade; below a line of headings).
Prints nDCG@10, right-document-first, MRR@10 and recall@10 and @100 with 95 % intervals for the fused ranking and for
each of its voices, and whether fused beats the better of dense and full text (paired randomisation test). When a
folder is not of this kind, the program ends before anything is run, saying why.
"""

import argparse
import hashlib
import math
import sys
import tempfile
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.collections import Query, build_library, data_folder, queries, read_jsonl
from eval.harness.measures import Grades, ndcg, recall, reciprocal_rank, success
from eval.harness.statistics import bootstrap, sign_flip
from rag import Hit

_DEFAULT = ("scitldr", "cisi", "cacm", "med")
# So deep that what a voice alone ranks among its first hundred is rarely cut off by the others.
_POOL = 1000
VOICES: dict[str, Callable[[Hit], float]] = {
    "dense": lambda hit: hit.dense,
    "full text": lambda hit: hit.full_text,
    "best sentence": lambda hit: hit.best_sentence,
    "dense + full text": lambda hit: hit.dense + 0.5 * hit.full_text,
    "fused": lambda hit: hit.score,
}
_COMPARED = "nDCG@10"
MEASURES: dict[str, Callable[[Sequence[str], Grades], float]] = {
    _COMPARED: lambda found, grades: ndcg(found, grades, 10),
    "first": lambda found, grades: success(found, grades, 1),
    "MRR@10": lambda found, grades: reciprocal_rank(found[:10], grades),
    "recall@10": lambda found, grades: recall(found, grades, 10),
    "recall@100": lambda found, grades: recall(found, grades, 100),
}


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder in the layout above, and its judged questions of one split."""

    name: str
    folder: Path
    judged: list[Query]

    @property
    def library(self) -> str:
        """A folder name for its library: another corpus gets another one, though its folder be called the same."""
        digest = hashlib.sha256((self.folder / "corpus.jsonl").read_bytes()).hexdigest()
        return f"{self.folder.resolve().name}-{digest[:8]}"


def load(name: str, split: str) -> Collection:
    """The collection in the folder of this path, or of this name in the data folder.

    Raises `ValueError` with the file and what is wrong with it, when the folder is not in the layout.
    """
    path = Path(name)
    folder = data_folder() / name if path.name == name and not path.is_dir() else path
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    documents = _rows(folder / "corpus.jsonl", ("_id", "title", "text"))
    asked = _rows(_queries_file(folder), ("_id", "text"))
    _check_judgments(folder / "qrels.tsv", asked, documents)
    judged = queries(folder, split)
    if not judged:
        splits = (
            ", ".join(sorted({str(row["split"]) for row in asked.values() if "split" in row}))
            or "none"
        )
        raise ValueError(
            f"{folder}: no question of split '{split}' has a relevant document; splits there: {splits}"
        )
    return Collection(name, folder, judged)


def _queries_file(folder: Path) -> Path:
    files = sorted(folder.glob("queries*.jsonl"))
    if len(files) != 1:
        there = " and ".join(file.name for file in files) or "none"
        raise ValueError(f"{folder}: there must be one file queries*.jsonl, not {there}")
    return files[0]


def _rows(path: Path, fields: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The rows of a file by their id; every row has these fields, and some text."""
    _check_file(path)
    rows: dict[str, dict[str, Any]] = {}
    try:
        for row in read_jsonl(path):
            _check_row(row, fields)
            if row["_id"] in rows:
                raise ValueError(f"a second row with the _id '{row['_id']}'")
            rows[row["_id"]] = row
    except ValueError as fault:
        raise ValueError(f"{path}: row {len(rows) + 1}: {fault}") from None
    return rows


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if not path.read_bytes().strip():
        raise ValueError(f"{path}: the file is empty")


def _check_row(row: Any, fields: tuple[str, ...]) -> None:  # noqa: ANN401
    if not isinstance(row, dict) or not all(isinstance(row.get(field), str) for field in fields):
        raise ValueError(f"not an object with {', '.join(fields)}, each of them a string")
    if not any(row[field].strip() for field in fields[1:]):
        raise ValueError(f"no text under the _id '{row['_id']}'")


def _check_judgments(path: Path, asked: Container[str], documents: Container[str]) -> None:
    _check_file(path)
    try:
        headings, *lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    if _is_number(headings.split("\t")[-1]):
        raise ValueError(f"{path}: line 1 is a judgment, and should be headings")
    for number, line in enumerate(lines, 2):
        if why := _fault(line.split("\t"), asked, documents):
            raise ValueError(f"{path}: line {number}: {why}")


def _fault(judgment: list[str], asked: Container[str], documents: Container[str]) -> str:
    """What is wrong with a judgment; empty when nothing is."""
    if len(judgment) != 3 or not _is_number(judgment[2]):
        return "not a query, a document and a grade, divided by tabs"
    if judgment[0] not in asked:
        return f"the query '{judgment[0]}' is not among the queries"
    return "" if judgment[1] in documents else f"the document '{judgment[1]}' is not in the corpus"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def load_all(names: Iterable[str], split: str) -> list[Collection]:
    """All of the collections; ends the program, with a line for each that is not in the layout."""
    loaded, faults = [], []
    for name in names:
        try:
            loaded.append(load(name, split))
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        sys.exit("\n".join(faults))
    return loaded


def rankings(folder: Path, judged: list[Query], scratch: Path) -> dict[str, list[list[str]]]:
    """For each voice, the ranked document ids of every question."""
    rows = read_jsonl(folder / "corpus.jsonl")
    assistant, document_of = build_library(
        scratch, ((row["_id"], row["title"], row["text"]) for row in rows)
    )
    ranked: dict[str, list[list[str]]] = {voice: [] for voice in VOICES}
    for query in judged:
        hits = assistant.search(query.text[:2000], k=_POOL)
        for voice, score in VOICES.items():
            best = sorted(hits, key=lambda hit: (-score(hit), hit.paper.id))
            ranked[voice].append([document_of[hit.paper.id] for hit in best])
    return ranked


def report(name: str, judged: list[Query], ranked: dict[str, list[list[str]]]) -> None:
    """Print one collection's table."""
    print(f"\n{name}: {len(judged)} questions")
    print(f"  {'voice':18} " + " ".join(f"{measure:22}" for measure in MEASURES).rstrip())
    compared = {}
    for voice, documents in ranked.items():
        pairs = list(zip(documents, judged, strict=True))
        scores = {
            name: [measure(found, q.grades) for found, q in pairs]
            for name, measure in MEASURES.items()
        }
        print(
            f"  {voice:18} "
            + " ".join(f"{bootstrap(values)!s:22}" for values in scores.values()).rstrip()
        )
        compared[voice] = scores[_COMPARED]
    better = max(("dense", "full text"), key=lambda voice: sum(compared[voice]))
    gain = bootstrap([a - b for a, b in zip(compared["fused"], compared[better], strict=True)])
    print(
        f"  fused - {better}: {gain} {_COMPARED}, p = {sign_flip(compared['fused'], compared[better]):.4f}"
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "collections",
        nargs="*",
        default=_DEFAULT,
        help="paths of folders, or names of folders in the data folder",
    )
    parser.add_argument(
        "--split", default="dev", help="where a collection has splits: train, dev or test"
    )
    parser.add_argument(
        "--libraries", type=Path, help="keep the libraries here, to run again without embedding"
    )
    options = parser.parse_args()
    collections = load_all(options.collections, options.split)
    with tempfile.TemporaryDirectory() as scratch:
        for one in collections:
            library = (options.libraries or Path(scratch)) / one.library
            report(one.name, one.judged, rankings(one.folder, one.judged, library))


if __name__ == "__main__":
    main()
