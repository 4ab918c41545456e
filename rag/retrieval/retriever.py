"""Retrieve papers for a question by fusing several retrieval signals into one ranking.

Dense search (Chroma) and full-text search (BM25 in SQLite) propose candidates. Every signal in
`SIGNALS` then scores every candidate, and the weighted mean ranks them. The weights were chosen on
the development splits of four public collections (`python -m eval.benchmarks.retrieval`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rag.library.filters import Condition, Filters, join_conditions, parse_filters
from rag.models.embedder import Embedder
from rag.models.vectors import Vectors
from rag.records import Hit, Paper, Passage
from rag.retrieval.typos import find_typos
from rag.text.terms import query_terms

if TYPE_CHECKING:
    from rag.library.library import Library
    from rag.library.vector_index import VectorIndex

# Limit for dense search and for full-text search each.
_CANDIDATES_PER_SEARCH = 100
_MAX_EXACT_PASSAGES = 20_000


@dataclass(frozen=True, slots=True)
class Candidates:
    """Papers to rank for a question, and the inputs of the signals. `keys` are row numbers.

    `vector` is the embedded question, of shape (dimension,), and `terms` are its search terms.
    `best_passages` maps a key to the passage most similar to the question and its cosine.
    """

    library: "Library"
    vector: Vectors
    terms: list[str]
    keys: list[int]
    best_passages: dict[int, tuple[Passage, float]]


@dataclass(frozen=True, slots=True)
class Signal:
    """Retrieval signal: a way to score candidates.

    `score` returns a value between 0 and 1 by key; a missing key counts as 0.
    """

    name: str
    weight: float
    score: Callable[[Candidates], dict[int, float]]


def _score_dense(candidates: Candidates) -> dict[int, float]:
    """Score by the cosine of the best passage."""
    scores = {}
    for key, (_, similarity) in candidates.best_passages.items():
        scores[key] = _clip(similarity)
    return scores


def _score_full_text(candidates: Candidates) -> dict[int, float]:
    """Score by BM25, relative to the best candidate."""
    scores = candidates.library.score_full_text(candidates.terms, candidates.keys)
    maximum = max(scores.values(), default=0.0)
    if maximum <= 0:
        return {}
    return {key: score / maximum for key, score in scores.items()}


def _score_best_sentence(candidates: Candidates) -> dict[int, float]:
    """Score by the cosine of the best sentence, or of the best passage where there is none."""
    scores = _score_dense(candidates)
    owners, vectors = candidates.library.sentence_vectors(candidates.keys)
    if owners:
        for key, (_, similarity) in _best_per_paper(owners, vectors @ candidates.vector).items():
            scores[key] = _clip(similarity)
    return scores


SIGNALS = (
    Signal("dense", 1.0, _score_dense),
    Signal("full_text", 0.5, _score_full_text),
    Signal("best_sentence", 0.5, _score_best_sentence),
)
_TOTAL_WEIGHT = sum(signal.weight for signal in SIGNALS)


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Hits for a question, best first, and their row numbers `keys`.

    `vector` is the embedded question, of shape (dimension,). `paper_count` is the number of papers
    that pass the filters. `asked` is the question as the user asked it, if it was completed from a
    conversation.
    """

    question: str
    vector: Vectors
    paper_count: int
    hits: tuple[Hit, ...]
    keys: tuple[int, ...]
    asked: str = ""


class Retriever:
    """Find papers of one library. The embedder is loaded for the first question."""

    def __init__(
        self, library: "Library", index: "VectorIndex", load_embedder: Callable[[], Embedder]
    ) -> None:
        self._library = library
        self._index = index
        self._load_embedder = load_embedder

    def retrieve(
        self,
        question: str,
        k: int = 10,
        filters: Filters | None = None,
        scope: Condition | None = None,
    ) -> RetrievalResult:
        """Return the `k` best papers for a question, best first; ties are broken by paper id.

        `scope` restricts the papers in addition to the filters of the user. Call it inside
        `Library.snapshot()`.
        """
        condition = join_conditions([parse_filters(filters), scope])
        allowed = self._library.paper_keys(condition) if condition else None
        paper_count = len(self._library) if allowed is None else len(allowed)
        vector = self._load_embedder().embed_question(question)
        k = max(0, min(k, len(self._library)))
        candidates = self._find_candidates(
            question, vector, max(_CANDIDATES_PER_SEARCH, k), allowed
        )
        ranked = _rank(candidates)[:k]
        keys = tuple(paper.key for paper in ranked)
        papers = self._library.papers_by_key(keys)
        hits = []
        for rank, paper in enumerate(ranked, 1):
            hits.append(paper.to_hit(papers[paper.key], rank))
        return RetrievalResult(question, vector, paper_count, tuple(hits), keys)

    def find_typos(self, retrieval: RetrievalResult) -> dict[str, str]:
        """Map misspelt words of a question to words of the retrieved papers.

        A word that is a single token of the embedding model counts as spelt correctly.
        """
        count_tokens = self._load_embedder().count_tokens
        texts = [f"{hit.paper.title}. {hit.paper.abstract}" for hit in retrieval.hits]
        return find_typos(retrieval.question, texts, lambda word: count_tokens([word]) == [1])

    def _find_candidates(
        self, question: str, vector: Vectors, size: int, allowed: list[int] | None
    ) -> Candidates:
        terms = query_terms(question)
        dense = self._search_dense(vector, size, allowed)
        keys = sorted(dense.union(self._library.search_full_text(terms, size, allowed)))
        return Candidates(self._library, vector, terms, keys, self._best_passages(vector, keys))

    def _search_dense(self, vector: Vectors, size: int, allowed: list[int] | None) -> set[int]:
        if allowed is None:
            nearest = set(self._index.search(vector, size))
        else:
            nearest = self._search_allowed(vector, size, self._library.passage_keys(allowed))
        return set(self._library.passage_papers(nearest).values())

    def _search_allowed(self, vector: Vectors, size: int, allowed: list[int]) -> set[int]:
        """Return the nearest of the passages that pass a filter.

        Chroma's own filter takes seconds for thousands of passages. Instead, up to
        `_MAX_EXACT_PASSAGES` are compared exactly; for more, the search returns so many passages
        that enough of them are allowed.
        """
        if not allowed:
            return set()
        if len(allowed) > _MAX_EXACT_PASSAGES:
            passages = self._library.counts()["passages"]
            nearest = self._index.search(vector, 2 * size * passages // len(allowed))
            return set(nearest).intersection(allowed)
        similarities = self._library.passage_vectors(allowed) @ vector
        nearest_rows = np.argsort(-similarities, kind="stable")[:size]
        return {allowed[row] for row in nearest_rows}

    def _best_passages(self, vector: Vectors, keys: list[int]) -> dict[int, tuple[Passage, float]]:
        passages, vectors = self._library.passages(keys)
        if not passages:
            return {}
        owners = [key for key, _ in passages]
        best = {}
        for key, (row, similarity) in _best_per_paper(owners, vectors @ vector).items():
            best[key] = passages[row][1], similarity
        return best


@dataclass(frozen=True, slots=True)
class _RankedPaper:
    """Candidate with its fused score and its score by signal."""

    key: int
    passage: Passage
    score: float
    signals: dict[str, float]

    def to_hit(self, paper: Paper, rank: int) -> Hit:
        return Hit(
            paper,
            self.score,
            rank,
            self.passage,
            dense=self.signals["dense"],
            full_text=self.signals["full_text"],
            best_sentence=self.signals["best_sentence"],
        )


def _rank(candidates: Candidates) -> list[_RankedPaper]:
    """Return the candidates that have a passage, best first."""
    signal_scores = [(signal, signal.score(candidates)) for signal in SIGNALS]
    ranked = []
    for key, (passage, _) in candidates.best_passages.items():
        total = 0.0
        signals = {}
        for signal, scores in signal_scores:
            signals[signal.name] = scores.get(key, 0.0)
            total += signal.weight * signals[signal.name]
        ranked.append(_RankedPaper(key, passage, total / _TOTAL_WEIGHT, signals))
    ranked.sort(key=lambda paper: (-paper.score, paper.passage.paper_id))
    return ranked


def _best_per_paper(
    owners: Sequence[int], similarities: Iterable[float]
) -> dict[int, tuple[int, float]]:
    """Return for each paper the row of its most similar passage or sentence, and its cosine."""
    best: dict[int, tuple[int, float]] = {}
    for row, (owner, similarity) in enumerate(zip(owners, similarities, strict=True)):
        if owner not in best or similarity > best[owner][1]:
            best[owner] = row, similarity
    return best


def _clip(similarity: float) -> float:
    """Clip a cosine to 0…1, because a negative one means no more than "unrelated"."""
    return float(min(1.0, max(0.0, similarity)))
