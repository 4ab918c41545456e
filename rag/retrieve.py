"""Finding papers: three voices, one ranking.

Dense similarity of the best passage (Chroma proposes), full text (BM25 in SQLite), and the similarity of the
best sentence are summed. Each voice finds what another misses; the weights were chosen on the development
splits of four public collections (`python -m eval.retrieval`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rag.index import PassageIndex
from rag.library import Condition, Library, parse_filters
from rag.models import Embedder, Vectors
from rag.records import Filters, Hit, Paper, Passage
from rag.terms import query_terms

# How many candidates each voice proposes; the full text's scores are known for more, so that a paper that
# the vectors propose is rarely without one.
_POOL = 100
_SCORED_BY_FULL_TEXT = 400
FULL_TEXT_WEIGHT = 0.5
SENTENCE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found for a question: its vector, (dimension,), and hits with their papers' row numbers."""

    question: str
    vector: Vectors
    hits: tuple[Hit, ...]
    keys: tuple[int, ...]


class Retriever:
    """Finds papers of one library. The embedder is called for when the first question comes."""

    def __init__(self, library: Library, index: PassageIndex, embedder: Callable[[], Embedder]) -> None:
        self._library = library
        self._index = index
        self._embedder = embedder

    def retrieve(self, question: str, k: int = 10, filters: Filters | None = None) -> Retrieval:
        """The best `k` papers for a question, best first; ties are broken by id."""
        condition = parse_filters(filters)
        vector = self._embedder().embed_question(question)
        full_text = self._library.search_full_text(query_terms(question), _SCORED_BY_FULL_TEXT, condition)
        candidates = self._dense_candidates(vector, condition) | set(list(full_text)[:_POOL])
        scored = self._score(vector, sorted(candidates), full_text)
        scored.sort(key=lambda one: (-one.score, one.paper.id))
        best = scored[: max(0, k)]
        hits = tuple(one.hit(rank) for rank, one in enumerate(best, 1))
        return Retrieval(question, vector, hits, tuple(one.key for one in best))

    def _dense_candidates(self, vector: Vectors, condition: Condition | None) -> set[int]:
        allowed = None if condition is None else self._library.passage_keys(condition)
        found = self._index.search(vector, _POOL, allowed)
        return set(self._library.passage_owners(found).values())

    def _score(self, vector: Vectors, keys: list[int], full_text: dict[int, float]) -> list["_Scored"]:
        papers = self._library.papers_by_key(keys)
        passages = self._library.passages_of(keys)
        vectors = self._library.passage_vectors(keys)
        sentences = self._library.sentence_vectors(keys)
        strongest = max(full_text.values(), default=0.0)
        scored = []
        for key in keys:
            if key not in papers or key not in passages:
                continue  # removed by another process since it was proposed
            similarities = vectors[key] @ vector
            best = int(np.argmax(similarities))
            dense = _share(similarities[best])
            sentence = _share((sentences[key] @ vector).max()) if len(sentences[key]) else dense
            text = full_text.get(key, 0.0) / strongest if strongest > 0 else 0.0
            scored.append(_Scored(key, papers[key], passages[key][best][1], dense, text, sentence))
        return scored


@dataclass(frozen=True, slots=True)
class _Scored:
    key: int
    paper: Paper
    passage: Passage
    dense: float
    full_text: float
    best_sentence: float

    @property
    def score(self) -> float:
        total = self.dense + FULL_TEXT_WEIGHT * self.full_text + SENTENCE_WEIGHT * self.best_sentence
        return total / (1 + FULL_TEXT_WEIGHT + SENTENCE_WEIGHT)

    def hit(self, rank: int) -> Hit:
        return Hit(self.paper, self.score, rank, self.passage, self.dense, self.full_text, self.best_sentence)


def _share(similarity: float) -> float:
    """A cosine as a share: what points away is as unrelated as what is at a right angle."""
    return float(min(1.0, max(0.0, similarity)))
