"""Compare the fused ranking with each of its signals.

`python -m eval.benchmarks.retrieval [COLLECTION…] [--split dev] [--libraries DIR]`

A collection is the name of a folder in the data folder, or the path of any folder in the layout
that `eval.benchmarks.collections` describes; an invalid folder ends the program before anything
runs. For the fused ranking and for each of its signals, prints nDCG@10, success@1 ("first"),
MRR@10, recall@10 and recall@100 with 95 % intervals, and whether the fused ranking beats the better
of dense and full text (paired randomisation test).
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from eval.benchmarks.collections import (
    Collection,
    Query,
    build_library,
    load_collections,
    load_documents,
)
from eval.benchmarks.common import add_libraries_option, working_folder
from eval.benchmarks.tables import Columns
from eval.harness.ranking import Grades, ndcg, recall, reciprocal_rank, success
from eval.harness.statistics import bootstrap, sign_flip_test
from rag import Hit

Rankings = dict[str, list[list[str]]]

_DEFAULT_COLLECTIONS = ("scitldr", "cisi", "cacm", "med")
# Deep enough to contain nearly all of the first hundred papers of each signal.
_POOL_SIZE = 1000
_MAX_CHARACTERS = 2000
SIGNALS: dict[str, Callable[[Hit], float]] = {
    "dense": lambda hit: hit.dense,
    "full text": lambda hit: hit.full_text,
    "best sentence": lambda hit: hit.best_sentence,
    "dense + full text": lambda hit: hit.dense + 0.5 * hit.full_text,
    "fused": lambda hit: hit.score,
}
_COMPARED_METRIC = "nDCG@10"
METRICS: dict[str, Callable[[Sequence[str], Grades], float]] = {
    _COMPARED_METRIC: partial(ndcg, k=10),
    "first": partial(success, k=1),
    "MRR@10": lambda ranking, grades: reciprocal_rank(ranking[:10], grades),
    "recall@10": partial(recall, k=10),
    "recall@100": partial(recall, k=100),
}


def rank_documents(collection: Collection, library: Path) -> Rankings:
    """Return for each signal the ranked document ids of every query.

    The library is built if the folder does not hold it yet.
    """
    assistant, document_ids = build_library(library, load_documents(collection.folder))
    rankings: Rankings = {signal: [] for signal in SIGNALS}
    for query in collection.queries:
        hits = assistant.search(query.text[:_MAX_CHARACTERS], k=_POOL_SIZE)
        for signal, score in SIGNALS.items():
            ranking = [document_ids[hit.paper.id] for hit in _sort_hits(hits, score)]
            rankings[signal].append(ranking)
    return rankings


def _sort_hits(hits: Sequence[Hit], score: Callable[[Hit], float]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-score(hit), hit.paper.id))


def print_report(name: str, queries: Sequence[Query], rankings: Rankings) -> None:
    """Print one collection's table."""
    print(f"\n{name}: {len(queries)} questions")
    columns = Columns("<18", *["<22"] * len(METRICS), indent=2)
    columns.print_row("signal", *METRICS)
    grades = [query.grades for query in queries]
    compared = {}
    for signal, ranked in rankings.items():
        cells = []
        for metric, compute in METRICS.items():
            scores = list(map(compute, ranked, grades))
            cells.append(bootstrap(scores))
            if metric == _COMPARED_METRIC:
                compared[signal] = scores
        columns.print_row(signal, *cells)
    baseline = max(("dense", "full text"), key=lambda signal: sum(compared[signal]))
    fused, reference = compared["fused"], compared[baseline]
    gain = bootstrap(np.subtract(fused, reference))
    p = sign_flip_test(fused, reference)
    print(f"  fused - {baseline}: {gain} {_COMPARED_METRIC}, p = {p:.4f}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "collections",
        nargs="*",
        metavar="COLLECTION",
        default=_DEFAULT_COLLECTIONS,
        help="path of a folder, or name of a folder in the data folder",
    )
    parser.add_argument(
        "--split", default="dev", help="train, dev or test, where a collection has splits"
    )
    add_libraries_option(parser)
    options = parser.parse_args()
    collections = load_collections(options.collections, options.split)
    with working_folder(options.libraries) as folder:
        for collection in collections:
            rankings = rank_documents(collection, folder / collection.library_name)
            print_report(collection.name, collection.queries, rankings)


if __name__ == "__main__":
    main()
