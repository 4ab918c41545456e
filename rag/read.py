"""Reading: which sentences of the papers found bear on the question, and whether anything answers it.

A sentence is scored by its similarity to the question, by the share of the question's words that it holds
(rare words weigh more), and by how well its paper was found. The measured alternatives are in
`python -m eval.evidence`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rag.library import Library
from rag.records import Evidence, Hit, Sentence
from rag.retrieve import Retrieval
from rag.text.terms import content_terms, index_text

_PAPERS_READ = 8
LEXICAL_WEIGHT = 0.5
PAPER_WEIGHT = 1.0
_NUMBER_BONUS = 0.05
# What a question wants several papers for: one sentence of each then says more than three of one.
_ASKS_FOR_SEVERAL = re.compile(
    r"\b(which|what|list|name|any|all|find|show)\b[^.?!]{0,40}\b(papers|works|studies|methods|approaches|models|"
    r"techniques|algorithms|architectures|datasets|benchmarks|systems|strategies|ways|frameworks|libraries)\b"
    r"|\b(compare|overview|survey|summari[sz]e|papers (on|about))\b",
    re.IGNORECASE,
)
_ASKS_FOR_NUMBER = re.compile(
    r"\bhow (much|many|fast|large|big|long|often|accurate|well)\b|\bby what\b|\b(percent|percentage|speed-?ups?|"
    r"accuracy|score|number of|size|rate|factor)\b",
    re.IGNORECASE,
)
# "Code is available at …" names the paper's method and says nothing about it.
_TELLS_WHERE = re.compile(
    r"https?://|www\.|\b(code|models?|data(set)?s?) (is|are|will be) (\w+ )?available", re.IGNORECASE
)
_ASKS_WHERE = re.compile(
    r"\b(code|github|repository|website|project page|url|link|download|available)\b", re.IGNORECASE
)
_AVAILABILITY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision to answer rests on, all in 0..1; see `python -m eval.abstention`."""

    dense: float
    best_sentence: float
    words_in_paper: float
    words_in_sentence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Sentences that bear on the question, best first, and how likely they answer it (0..1)."""

    evidence: tuple[Evidence, ...]
    confidence: float
    signals: Signals


def read(retrieval: Retrieval, library: Library, most: int | None = None) -> Reading:
    """Read the papers found and keep at most `most` sentences; 3 by default, 5 when several papers are asked for."""
    words = _Words(retrieval.question, library)
    weighed = _weigh(retrieval, library, words)
    signals = _signals(retrieval, weighed, words)
    return Reading(tuple(_choose(weighed, retrieval.question, most)), confidence(signals), signals)


def weigh(retrieval: Retrieval, library: Library) -> list[Evidence]:
    """Every sentence of the papers read, best first."""
    return _weigh(retrieval, library, _Words(retrieval.question, library))


def _weigh(retrieval: Retrieval, library: Library, words: "_Words") -> list[Evidence]:
    keys = retrieval.keys[:_PAPERS_READ]
    sentences = library.sentences_of(keys)
    weighed: list[Evidence] = []
    for key, hit in zip(keys, retrieval.hits, strict=False):
        own, vectors = sentences.get(key, ([], None))
        if vectors is not None and own:
            similarities = (vectors @ retrieval.vector).tolist()
            weighed += [_weight(sentence, sim, hit, words) for sentence, sim in zip(own, similarities, strict=True)]
    weighed.sort(key=lambda one: (-one.score, one.paper.id, one.sentence.start))
    return weighed


class _Words:
    """The question's words, each weighing as much as it is rare in the library."""

    def __init__(self, question: str, library: Library) -> None:
        terms = set(content_terms(question))
        frequencies = library.document_frequencies(terms)
        papers = len(library)
        self._weights = {
            term: math.log(1 + (papers - frequencies.get(term, 0) + 0.5) / (frequencies.get(term, 0) + 0.5))
            for term in sorted(terms)
        }
        self._total = sum(self._weights.values())
        self.asks_where = bool(_ASKS_WHERE.search(question))
        self.asks_for_number = bool(_ASKS_FOR_NUMBER.search(question))

    def share_in(self, texts: Iterable[str]) -> float:
        """The weighted share of the question's words that occur in the texts."""
        if not self._total:
            return 0.0
        present = {term for text in texts for term in index_text(text).split()}
        return sum(weight for term, weight in self._weights.items() if term in present) / self._total


def _weight(sentence: Sentence, similarity: float, hit: Hit, words: _Words) -> Evidence:
    similarity, shared = max(0.0, similarity), words.share_in([sentence.text])
    total = similarity + LEXICAL_WEIGHT * shared + PAPER_WEIGHT * hit.score
    score = total / (1 + LEXICAL_WEIGHT + PAPER_WEIGHT)
    if words.asks_for_number and re.search(r"\d", sentence.text):
        score += _NUMBER_BONUS
    if _TELLS_WHERE.search(sentence.text) and not words.asks_where:
        score *= _AVAILABILITY_SHARE
    return Evidence(sentence, hit.paper, score, similarity, shared, hit.score)


def _choose(scored: list[Evidence], question: str, most: int | None) -> list[Evidence]:
    """The best sentences: few of one paper, one of each when the question asks for several papers."""
    if not scored:
        return []
    several = bool(_ASKS_FOR_SEVERAL.search(question))
    per_paper, floor = (1, 0.7) if several else (2, 0.85)
    most = most or (5 if several else 3)
    chosen: list[Evidence] = []
    for one in scored:
        of_same = sum(other.paper.id == one.paper.id for other in chosen)
        if len(chosen) < most and of_same < per_paper and one.score >= floor * scored[0].score:
            chosen.append(one)
    return chosen


def _signals(retrieval: Retrieval, weighed: list[Evidence], words: _Words) -> Signals:
    if not retrieval.hits or not weighed:
        return Signals(0.0, 0.0, 0.0, 0.0)
    best = weighed[0]
    return Signals(
        dense=max(hit.dense for hit in retrieval.hits),
        best_sentence=max(hit.best_sentence for hit in retrieval.hits),
        words_in_paper=words.share_in([best.paper.title, best.paper.abstract]),
        words_in_sentence=words.share_in([best.sentence.text]),
    )


# Fitted by `python -m eval.abstention`, which prints these lines.
_INTERCEPT = -8.54
_WEIGHTS = Signals(dense=5.87, best_sentence=4.65, words_in_paper=5.23, words_in_sentence=2.18)


def confidence(signals: Signals) -> float:
    """How likely the library bears on the question: a logistic model of the signals."""
    logit = _INTERCEPT
    for name in Signals.__slots__:
        logit += getattr(_WEIGHTS, name) * getattr(signals, name)
    return 1 / (1 + math.exp(-logit))
