"""Select the sentences that answer a question, and estimate whether the library answers it.

The reader reads the best papers, and judges each sentence and how relevant each paper is. A
sentence is scored by that, by the retrieval score of its paper, by the share of the question's
terms in it (rare terms weigh more), and by its similarity to the question. The confidence is a
logistic model of the best similarity and of what the question asks for but the papers lack; a
language model's judgement of the evidence improves it. `footnote eval` measures what each part
contributes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag.answering.log_odds import sigmoid
from rag.library.library import Library
from rag.models.reader import Reader, ReaderInput, Reading
from rag.models.vectors import Vectors
from rag.records import Evidence, Hit, Paper, Sentence
from rag.retrieval.query_analysis import (
    QueryAnalysis,
    analyze_query,
    is_availability_statement,
    title_names,
)
from rag.retrieval.retriever import RetrievalResult
from rag.text.prompt_injection import is_injection
from rag.text.sentences import split_sentences
from rag.text.terms import content_terms, index_text

MAX_EVIDENCE_PAPERS = 8
_DEFAULT_SENTENCES = 3
_DEFAULT_LIST_SENTENCES = 5
# The language model gets more sentences than would be quoted, because it can ignore some. Every
# sentence costs a quarter of a second on two cores.
_MAX_GENERATION_EVIDENCE = 8
_MAX_SENTENCES_OF_BEST_PAPER = 6
# Bonus, in logits, for the first sentence that uses a name from its paper's title.
_INTRODUCTION_BONUS = 0.5
# Sentences this far below the best one, in logits, are not worth quoting.
_MAX_LOGIT_GAP = 5.0
# Bonus, in logits, for a sentence with all terms of the question, when none of them is covered yet.
_NEW_TERMS_BONUS = 2.0
# A name is rare when at most this many papers contain it. A question that uses it is about those
# papers, even when no sentence is similar to it.
_MAX_RARE_FREQUENCY = 3
_RARE_NAME_SIMILARITY = 0.45


@dataclass(frozen=True, slots=True)
class EvidenceWeights:
    """Weights of a logistic model of whether a sentence answers a question.

    Those of the reader are 1, because it was trained to return log-odds. The others were fitted
    before there was a reader, and rounded.
    """

    paper_score: float = 7.0
    term_overlap: float = 2.0
    similarity: float = 1.0
    reading: float = 1.0
    relevance: float = 1.0
    is_availability_statement: float = -4.0
    intercept: float = -6.6

    def logit(self, evidence: Evidence) -> float:
        """Return the log-odds that a sentence answers the question."""
        return (
            self.intercept
            + self.paper_score * evidence.paper_score
            + self.term_overlap * evidence.term_overlap
            + self.similarity * evidence.similarity
            + self.reading * evidence.reading
            + self.relevance * evidence.relevance
            + self.is_availability_statement * evidence.is_availability_statement
        )


@dataclass(frozen=True, slots=True)
class AbstentionSignals:
    """Inputs of the confidence, all between 0 and 1; see `eval.training.abstention`.

    `best_sentence` is the highest similarity of a sentence to the question, and at least
    `_RARE_NAME_SIMILARITY` when the papers contain a rare name from the question. The others are 1
    when the question asks for a name, a quantity or a target that the best paper lacks.
    """

    best_sentence: float = 0.0
    missing_name: float = 0.0
    missing_quantity: float = 0.0
    missing_target: float = 0.0


@dataclass(frozen=True, slots=True)
class EvidenceSelection:
    """Sentences selected for an answer, best first.

    `candidates` are all scored sentences, best first. `confidence` is the probability, between 0
    and 1, that the library answers the question. `missing` says what the papers lack, as the end
    of a sentence that starts with "the papers"; it is empty when that is unknown.
    """

    evidence: tuple[Evidence, ...]
    candidates: tuple[Evidence, ...]
    confidence: float
    signals: AbstentionSignals
    missing: str = ""

    def for_generation(self, is_list: bool) -> list[Evidence]:
        """Return the sentences for the language model, best first.

        The best paper comes nearly whole, because sentences out of context are misunderstood. A
        list question gets the selected sentence of each paper instead.
        """
        if is_list:
            return list(self.evidence)
        best = self.candidates[0].paper
        of_best_paper = [item for item in self.candidates if item.paper.id == best.id]
        ordered = [*of_best_paper[:_MAX_SENTENCES_OF_BEST_PAPER], *self.evidence]
        evidence = dict.fromkeys([*ordered, *self.candidates])
        return list(evidence)[:_MAX_GENERATION_EVIDENCE]


def select_evidence(
    retrieval: RetrievalResult,
    library: Library,
    reader: Reader,
    max_sentences: int | None = None,
    weights: EvidenceWeights | None = None,
) -> EvidenceSelection:
    """Select at most `max_sentences` sentences: 3 by default, 5 if a list is asked for."""
    query = analyze_query(retrieval.question)
    terms = _QuestionTerms(retrieval.question, library)
    weights = weights or EvidenceWeights()
    abstracts = _read_abstracts(retrieval, library, reader)
    candidates = _score_sentences(abstracts, retrieval, terms, query, weights)
    default = _DEFAULT_LIST_SENTENCES if query.is_list_question else _DEFAULT_SENTENCES
    limit = max_sentences or default
    if query.is_list_question:
        selected = _select_one_per_paper(candidates, limit, weights)
    else:
        named = _best_of_named_papers(candidates, query)[:limit]
        selected = _select_diverse(candidates, terms, named, limit, weights)
    signals, missing = _assess_answerability(retrieval, selected, terms, query)
    return EvidenceSelection(
        tuple(selected), tuple(candidates), estimate_confidence(signals), signals, missing
    )


class _QuestionTerms:
    """Terms of a question, weighted by how rare they are in the library."""

    def __init__(self, question: str, library: Library) -> None:
        terms = sorted(set(content_terms(question)))
        self._frequencies = library.document_frequencies(terms)
        self._weights: dict[str, float] = {}
        for term in terms:
            frequency = self._frequencies.get(term, 0)
            odds = (len(library) - frequency + 0.5) / (frequency + 0.5)
            self._weights[term] = math.log(1 + odds)
        self._total = sum(self._weights.values())

    def find_in(self, text: str) -> frozenset[str]:
        """Return the terms that a text contains."""
        return frozenset(self._weights.keys() & _index_terms(text))

    def share(self, terms: frozenset[str]) -> float:
        """Return the weight of the given terms as a share of the total."""
        if not self._total:
            return 0.0
        weight = 0.0
        for term in filter(terms.__contains__, self._weights):
            weight += self._weights[term]
        return weight / self._total

    def has_rare_name(self, query: QueryAnalysis, papers: Iterable[Paper]) -> bool:
        """Return True when a paper contains a rare name of the question.

        "What does FreeU do?" is about the paper on FreeU.
        """
        names = self._weights.keys() & content_terms(" ".join(query.names))
        rare_names = set()
        for name in names:
            if self._frequencies.get(name, 0) <= _MAX_RARE_FREQUENCY:
                rare_names.add(name)
        return any(not rare_names.isdisjoint(_index_terms(_paper_text(paper))) for paper in papers)


def _index_terms(text: str) -> set[str]:
    return set(index_text(text).split())


def _paper_text(paper: Paper) -> str:
    return f"{paper.title}. {paper.abstract}"


@dataclass(frozen=True, slots=True)
class _ReadAbstract:
    """Abstract of a hit with the vectors of its sentences, (n, dimension), and its reading."""

    hit: Hit
    sentences: Sequence[Sentence]
    vectors: Vectors
    reading: Reading


def _read_abstracts(
    retrieval: RetrievalResult, library: Library, reader: Reader
) -> list[_ReadAbstract]:
    """Let the reader read the abstracts of the best papers, without prompt injections."""
    keys = retrieval.keys[:MAX_EVIDENCE_PAPERS]
    sentences_by_key = library.sentences(keys)
    found = []
    for key, hit in zip(keys, retrieval.hits, strict=False):
        if key in sentences_by_key:
            found.append((hit, *_without_injections(*sentences_by_key[key])))
    inputs = []
    for hit, sentences, _ in found:
        texts = tuple(sentence.text for sentence in sentences)
        inputs.append(ReaderInput(hit.paper.title, texts))
    readings = reader.read(retrieval.question, inputs)
    abstracts = []
    for (hit, sentences, vectors), reading in zip(found, readings, strict=True):
        abstracts.append(_ReadAbstract(hit, sentences, vectors, reading))
    return abstracts


def _without_injections(
    sentences: Sequence[Sentence], vectors: Vectors
) -> tuple[list[Sentence], Vectors]:
    kept = [row for row, sentence in enumerate(sentences) if not is_injection(sentence.text)]
    return [sentences[row] for row in kept], vectors[kept]


def _score_sentences(
    abstracts: Sequence[_ReadAbstract],
    retrieval: RetrievalResult,
    terms: _QuestionTerms,
    query: QueryAnalysis,
    weights: EvidenceWeights,
) -> list[Evidence]:
    """Score the sentences of the best papers, and sort them."""
    most_relevant = max((item.reading.relevance for item in abstracts), default=0.0)
    scored = []
    for item in abstracts:
        similarities = _similarities(item.vectors, retrieval.vector)
        judged = zip(item.sentences, similarities, item.reading.sentences, strict=True)
        for sentence, similarity, reading in judged:
            features = _extract_features(sentence, similarity, item.hit, terms, query)
            relevance = item.reading.relevance - most_relevant
            evidence = replace(features, reading=reading, relevance=relevance)
            scored.append(replace(evidence, score=sigmoid(weights.logit(evidence))))
    return sorted(scored, key=lambda e: (-e.score, e.paper.id, e.sentence.start))


def _similarities(vectors: Vectors, vector: Vectors) -> list[float]:
    """Return the cosines of (sentences, dimension) vectors with a (dimension,) vector."""
    return [float(similarity) for similarity in vectors @ vector] if len(vectors) else []


def _extract_features(
    sentence: Sentence, similarity: float, hit: Hit, terms: _QuestionTerms, query: QueryAnalysis
) -> Evidence:
    is_availability = is_availability_statement(sentence.text) and not query.asks_availability
    return Evidence(
        sentence,
        hit.paper,
        score=0.0,
        similarity=max(0.0, similarity),
        term_overlap=terms.share(terms.find_in(sentence.text)),
        paper_score=hit.score,
        is_availability_statement=is_availability,
    )


def _select_diverse(
    candidates: Sequence[Evidence],
    terms: _QuestionTerms,
    selected: Iterable[Evidence],
    limit: int,
    weights: EvidenceWeights,
) -> list[Evidence]:
    """Add the best candidates to those `selected`, preferring ones that add question terms."""
    selected = list(selected)
    covered: set[str] = set()
    for evidence in selected:
        covered |= terms.find_in(evidence.sentence.text)
    best_candidates = candidates[: 4 * limit]
    logits = dict(zip(best_candidates, map(weights.logit, best_candidates), strict=True))
    floor = max(logits.values(), default=0.0) - _MAX_LOGIT_GAP
    remaining: dict[Evidence, frozenset[str]] = {}
    for evidence, logit in logits.items():
        if logit >= floor and evidence not in selected:
            remaining[evidence] = terms.find_in(evidence.sentence.text)
    while remaining and len(selected) < limit:
        gains = {}
        for evidence, contained in remaining.items():
            gains[evidence] = logits[evidence] + _NEW_TERMS_BONUS * terms.share(contained - covered)
        best = max(gains, key=gains.__getitem__)
        selected.append(best)
        covered |= remaining.pop(best)
    return selected


def _best_of_named_papers(candidates: Iterable[Evidence], query: QueryAnalysis) -> list[Evidence]:
    """Return the best sentence of each paper that a comparison names."""
    if not query.is_comparison:
        return []
    best: dict[str, Evidence] = {}
    for evidence in candidates:
        if not title_names(evidence.paper.title).isdisjoint(query.names):
            best.setdefault(evidence.paper.id, evidence)
    return list(best.values())


def _select_one_per_paper(
    candidates: Iterable[Evidence], limit: int, weights: EvidenceWeights
) -> list[Evidence]:
    """Select the best sentence of each of the best papers, preferably one that introduces it."""
    logits = {}
    for evidence in candidates:
        bonus = _INTRODUCTION_BONUS if _introduces_name(evidence) else 0.0
        logits[evidence] = weights.logit(evidence) + bonus
    floor = max(logits.values(), default=0.0) - _MAX_LOGIT_GAP
    best: dict[str, Evidence] = {}
    for evidence in sorted(logits, key=lambda e: -logits[e]):
        if logits[evidence] >= floor:
            best.setdefault(evidence.paper.id, evidence)
    return sorted(best.values(), key=lambda e: -e.paper_score)[:limit]


def _introduces_name(evidence: Evidence) -> bool:
    """Return True for the first sentence that uses a name from its paper's title."""
    before = evidence.paper.abstract[: evidence.sentence.start]
    text = evidence.sentence.text
    return any(name in text and name not in before for name in title_names(evidence.paper.title))


def _assess_answerability(
    retrieval: RetrievalResult,
    selected: Sequence[Evidence],
    terms: _QuestionTerms,
    query: QueryAnalysis,
) -> tuple[AbstentionSignals, str]:
    """Return the signals and, in words, what the question asks for but the papers lack."""
    if not selected:
        return AbstentionSignals(), ""
    papers = list(dict.fromkeys(evidence.paper for evidence in selected))
    all_text = " ".join(map(_paper_text, papers))
    # The sides of a comparison may be in several papers; otherwise one paper has to have it all.
    spans_papers = query.is_comparison or query.is_list_question
    text = all_text if spans_papers else _paper_text(papers[0])
    text_terms = _index_terms(text)
    sentences = [text[start:end] for start, end in split_sentences(text)]
    similarities = [hit.best_sentence for hit in retrieval.hits]
    if terms.has_rare_name(query, papers):
        similarities.append(_RARE_NAME_SIMILARITY)
    missing_names = query.missing_names(text_terms, text)
    signals = AbstentionSignals(
        best_sentence=max(similarities),
        missing_name=float(bool(missing_names)),
        missing_quantity=float(query.lacks_quantity(sentences)),
        missing_target=float(query.lacks_target(text_terms, sentences)),
    )
    return signals, _describe_missing(query, signals, missing_names, all_text)


def _describe_missing(
    query: QueryAnalysis, signals: AbstentionSignals, missing_names: Sequence[str], text: str
) -> str:
    """Say what the papers lack; `text` is the text of all of them."""
    target = " ".join(query.answer_target)
    if missing_names:
        is_partial = len(missing_names) < len(query.names)
        is_elsewhere = is_partial or not query.missing_names(_index_terms(text), text)
        context = " in this context" if is_elsewhere else ""
        return f"do not mention {' or '.join(missing_names)}{context}"
    if signals.missing_quantity:
        return f"give no figure for “{target}”" if target else "give no figure"
    if signals.missing_target and query.asks_availability:
        return "do not say where to find it"
    return f"do not mention “{target}”" if signals.missing_target else ""


# Printed by `python -m eval.training.abstention`, which fits them.
_INTERCEPT = -5.40
_WEIGHTS = AbstentionSignals(
    best_sentence=12.60, missing_name=-2.15, missing_quantity=-4.44, missing_target=-3.41
)


def estimate_confidence(signals: AbstentionSignals) -> float:
    """Return the probability that the library answers a question: a logistic model of signals."""
    weighted = 0.0
    for name in AbstentionSignals.__slots__:
        weighted += getattr(_WEIGHTS, name) * getattr(signals, name)
    return sigmoid(_INTERCEPT + weighted)
