"""Finding papers: three voices, one ranking.

Dense similarity of the best passage (Chroma proposes), full text (BM25 in SQLite), and the similarity of the
best sentence are summed. Each voice finds what another misses; the weights were chosen on the development
splits of four public collections (`python -m eval.benchmarks.retrieval`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rag.library.filters import Filters, parse_filters
from rag.library.library import Library
from rag.library.vector_index import VectorIndex
from rag.models import Embedder
from rag.models.vectors import Vectors
from rag.records import Hit, Paper, Passage
from rag.retrieval.typos import find_typos
from rag.text.terms import query_terms

# How many candidates each voice proposes; each is then scored by all of them.
_POOL = 100
_MOST_COMPARED = 20_000
FULL_TEXT_WEIGHT = 0.5
SENTENCE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """What was found for a question among so many `papers`: its vector, (dimension,), hits, and their row numbers."""

    question: str
    vector: Vectors
    papers: int
    hits: tuple[Hit, ...]
    keys: tuple[int, ...]


class Retriever:
    """Finds papers of one library. The embedder is called for when the first question comes."""

    def __init__(
        self, library: Library, index: VectorIndex, embedder: Callable[[], Embedder]
    ) -> None:
        self._library = library
        self._index = index
        self._embedder = embedder

    def retrieve(
        self, question: str, k: int = 10, filters: Filters | None = None
    ) -> RetrievalResult:
        """The best `k` papers for a question, best first; ties are broken by id. Call it inside `Library.snapshot()`."""
        condition = parse_filters(filters)
        allowed = self._library.keys(condition) if condition else None
        vector = self._embedder().embed_question(question)
        k = min(k, len(self._library))
        pool, terms = max(_POOL, k), query_terms(question)
        proposed = self._library.search_full_text(terms, pool, allowed)
        candidates = sorted(self._dense_candidates(vector, pool, allowed).union(proposed))
        scored = self._score(vector, candidates, self._library.score_full_text(terms, candidates))
        scored.sort(key=lambda one: (-one.score, one.passage.paper_id))
        best = scored[: max(0, k)]
        papers = self._library.papers_by_key(one.key for one in best)
        hits = tuple(one.hit(papers[one.key], rank) for rank, one in enumerate(best, 1))
        among = len(self._library) if allowed is None else len(allowed)
        return RetrievalResult(question, vector, among, hits, tuple(one.key for one in best))

    def find_typos(self, retrieval: RetrievalResult) -> dict[str, str]:
        """Misspelt words of a question that was retrieved for, and what they are by the papers found.

        What the embedding model knows as one token is no slip.
        """
        count = self._embedder().count_tokens
        texts = [f"{hit.paper.title}. {hit.paper.abstract}" for hit in retrieval.hits]
        return find_typos(retrieval.question, texts, lambda word: count([word]) == [1])

    def _dense_candidates(self, vector: Vectors, pool: int, allowed: list[int] | None) -> set[int]:
        if allowed is None:
            nearest = set(self._index.search(vector, pool))
        else:
            nearest = self._nearest_allowed(vector, pool, self._library.passage_keys(allowed))
        return set(self._library.passage_owners(nearest).values())

    def _nearest_allowed(self, vector: Vectors, pool: int, allowed: list[int]) -> set[int]:
        """Row numbers of the nearest passages that a filter lets through.

        Chroma's own filter takes seconds for thousands of passages. So few are compared with one by one, exactly;
        of many, enough are asked for that a sufficient share of them is allowed.
        """
        if len(allowed) <= _MOST_COMPARED:
            similarities = (
                self._library.vectors_of_passages(allowed) @ vector if allowed else np.zeros(0)
            )
            return {allowed[row] for row in np.argsort(-similarities, kind="stable")[:pool]}
        every = self._library.counts()["passages"]
        return set(self._index.search(vector, 2 * pool * every // len(allowed))) & set(allowed)

    def _score(
        self, vector: Vectors, keys: list[int], full_text: dict[int, float]
    ) -> list["_Scored"]:
        passages, vectors = self._library.passages(keys)
        best_passages = _best([key for key, _ in passages], vectors @ vector if passages else ())
        owners, vectors = self._library.sentence_vectors(keys)
        best_sentences = _best(owners, vectors @ vector if owners else ())
        strongest = max(full_text.values(), default=0.0)
        scored = []
        for key, (row, similarity) in best_passages.items():
            text = full_text.get(key, 0.0) / strongest if strongest > 0 else 0.0
            _, sentence = best_sentences.get(key, (0, similarity))
            scored.append(
                _Scored(key, passages[row][1], _share(similarity), text, _share(sentence))
            )
        return scored


def _best(owners: Sequence[int], similarities: Iterable[float]) -> dict[int, tuple[int, float]]:
    """For each paper the row of its most similar passage or sentence, and how similar that is."""
    best: dict[int, tuple[int, float]] = {}
    for row, (owner, similarity) in enumerate(zip(owners, similarities, strict=True)):
        if owner not in best or similarity > best[owner][1]:
            best[owner] = row, similarity
    return best


@dataclass(frozen=True, slots=True)
class _Scored:
    key: int
    passage: Passage
    dense: float
    full_text: float
    best_sentence: float

    @property
    def score(self) -> float:
        total = (
            self.dense + FULL_TEXT_WEIGHT * self.full_text + SENTENCE_WEIGHT * self.best_sentence
        )
        return total / (1 + FULL_TEXT_WEIGHT + SENTENCE_WEIGHT)

    def hit(self, paper: Paper, rank: int) -> Hit:
        return Hit(
            paper, self.score, rank, self.passage, self.dense, self.full_text, self.best_sentence
        )


def _share(similarity: float) -> float:
    """A cosine as a share: what points away is as unrelated as what is at a right angle."""
    return float(min(1.0, max(0.0, similarity)))
