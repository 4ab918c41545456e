"""Does the fused ranking beat its parts? `python -m eval.retrieval [COLLECTION…] [--split dev]`.

Prints nDCG@10, right-document-first and recall@10 with 95 % intervals for the fused ranking and for each of
its voices, and whether fused beats the better of dense and full text (paired randomisation test).
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from eval.collections import Query, build_library, data_folder, queries, read_jsonl
from eval.metrics import ndcg, recall, success
from eval.statistics import bootstrap, sign_flip
from rag import Hit

_DEFAULT = ("scitldr", "cisi", "cacm", "med")
_POOL = 200
VOICES: dict[str, Callable[[Hit], float]] = {
    "dense": lambda hit: hit.dense,
    "full text": lambda hit: hit.full_text,
    "best sentence": lambda hit: hit.best_sentence,
    "dense + full text": lambda hit: hit.dense + 0.5 * hit.full_text,
    "fused": lambda hit: hit.score,
}


def rankings(folder: Path, judged: list[Query], scratch: Path) -> dict[str, list[list[str]]]:
    """For each voice, the ranked document ids of every question."""
    rows = read_jsonl(folder / "corpus.jsonl")
    assistant, document_of = build_library(scratch, ((row["_id"], row["title"], row["text"]) for row in rows))
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
    print(f"  {'voice':18} {'nDCG@10':24} {'first':24} {'recall@10':24}")
    scores = {}
    for voice, documents in ranked.items():
        pairs = list(zip(documents, judged, strict=True))
        scores[voice] = [ndcg(found, query.grades, 10) for found, query in pairs]
        first = [success(found, query.grades, 1) for found, query in pairs]
        found_at_ten = [recall(found, query.grades, 10) for found, query in pairs]
        columns = [str(bootstrap(values)) for values in (scores[voice], first, found_at_ten)]
        print(f"  {voice:18} {columns[0]:24} {columns[1]:24} {columns[2]:24}")
    better = max(("dense", "full text"), key=lambda voice: sum(scores[voice]))
    gain = bootstrap([a - b for a, b in zip(scores["fused"], scores[better], strict=True)])
    print(f"  fused - {better}: {gain} nDCG@10, p = {sign_flip(scores['fused'], scores[better]):.4f}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="*", default=_DEFAULT)
    parser.add_argument("--split", default="dev", help="where a collection has splits: train, dev or test")
    parser.add_argument("--libraries", type=Path, help="keep the libraries here, to run again without embedding")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.collections:
            folder = data_folder() / name
            judged = queries(folder, options.split)
            report(name, judged, rankings(folder, judged, (options.libraries or Path(scratch)) / name))


if __name__ == "__main__":
    main()
