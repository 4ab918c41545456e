"""Select the sentences that answer a question, and estimate whether the library answers it.

The reader reads the best papers, and judges each sentence, how relevant each paper is, and whether
the paper states the answer. A sentence is scored by what the reader makes of it and of its paper,
by the retrieval score of its paper, and by its similarity to the question. The confidence is a
logistic model of the best similarity, of whether the reader finds an answer, and of what the
question asks for but the papers lack; a language model's judgement of the evidence improves it.
`footnote eval` measures what each part contributes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag.library.library import Library
from rag.models.log_odds import sigmoid
from rag.models.reader import Reader, ReaderInput, Reading
from rag.models.vectors import Vectors
from rag.records import Evidence, Hit, Paper, Sentence
from rag.retrieval.query_analysis import (
    QueryAnalysis,
    analyze_query,
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
# Sentences this far below the best one, in logits, are not worth quoting.
_MAX_LOGIT_GAP = 5.0
# A name is rare when at most this many papers contain it. A question that uses it is about those
# papers, even when no sentence is similar to it.
_MAX_RARE_FREQUENCY = 3
_RARE_NAME_SIMILARITY = 0.45


@dataclass(frozen=True, slots=True)
class EvidenceWeights:
    """Weights of a logistic model of whether a sentence answers a question.

    They were fitted to the dev questions about ACL abstracts and to others that the reader was not
    trained with, and rounded (`eval/LOG.md`).
    """

    paper_score: float = 10.0
    similarity: float = 1.0
    reading: float = 0.45
    relevance: float = 0.2
    intercept: float = -7.3

    def logit(self, evidence: Evidence) -> float:
        """Return the log-odds that a sentence answers the question."""
        return (
            self.intercept
            + self.paper_score * evidence.paper_score
            + self.similarity * evidence.similarity
            + self.reading * evidence.reading
            + self.relevance * evidence.relevance
        )


@dataclass(frozen=True, slots=True)
class AbstentionSignals:
    """Inputs of the confidence, all between 0 and 1; see `eval.training.abstention`.

    `states_answer` is the probability, for the reader, that the best paper states the answer, and
    `best_sentence` is the highest similarity of a sentence to the question, and at least
    `_RARE_NAME_SIMILARITY` when the papers contain a rare name from the question. The others are 1
    when the question asks for a name, a quantity or a target that the best paper lacks.
    """

    states_answer: float = 0.0
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
    candidates = _score_sentences(abstracts, retrieval, terms, weights)
    default = _DEFAULT_LIST_SENTENCES if query.is_list_question else _DEFAULT_SENTENCES
    limit = max_sentences or default
    likely = _without_weak(candidates, weights)
    if query.is_list_question:
        selected = _best_of_each_paper(likely)
    else:
        selected = list(dict.fromkeys([*_best_of_named_papers(candidates, query), *likely]))
    selected = selected[:limit]
    best = next(
        (item for item in abstracts if selected and item.hit.paper == selected[0].paper), None
    )
    states_answer = _states_answer(best, reader, retrieval.asked) if best else 0.0
    signals, missing = _assess_answerability(retrieval, selected, states_answer, terms, query)
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
    inputs = [_reader_input(hit.paper, sentences) for hit, sentences, _ in found]
    readings = reader.read(retrieval.question, inputs)
    abstracts = []
    for (hit, sentences, vectors), reading in zip(found, readings, strict=True):
        abstracts.append(_ReadAbstract(hit, sentences, vectors, reading))
    return abstracts


def _reader_input(paper: Paper, sentences: Iterable[Sentence]) -> ReaderInput:
    return ReaderInput(paper.title, tuple(sentence.text for sentence in sentences))


def _states_answer(best: _ReadAbstract, reader: Reader, asked: str) -> float:
    """Return how probable the reader finds it that the best abstract answers what was asked.

    A question that was completed from its conversation would be answered by its first part.
    """
    reading = best.reading
    if asked:
        (reading,) = reader.read(asked, [_reader_input(best.hit.paper, best.sentences)])
    return sigmoid(reading.answers)


def _without_injections(
    sentences: Sequence[Sentence], vectors: Vectors
) -> tuple[list[Sentence], Vectors]:
    kept = [row for row, sentence in enumerate(sentences) if not is_injection(sentence.text)]
    return [sentences[row] for row in kept], vectors[kept]


def _score_sentences(
    abstracts: Sequence[_ReadAbstract],
    retrieval: RetrievalResult,
    terms: _QuestionTerms,
    weights: EvidenceWeights,
) -> list[Evidence]:
    """Score the sentences of the best papers, and sort them."""
    most_relevant = max((item.reading.relevance for item in abstracts), default=0.0)
    scored = []
    for item in abstracts:
        similarities = _similarities(item.vectors, retrieval.vector)
        judged = zip(item.sentences, similarities, item.reading.sentences, strict=True)
        for sentence, similarity, reading in judged:
            features = _extract_features(sentence, similarity, item.hit, terms)
            relevance = item.reading.relevance - most_relevant
            evidence = replace(features, reading=reading, relevance=relevance)
            scored.append(replace(evidence, score=sigmoid(weights.logit(evidence))))
    return sorted(scored, key=lambda e: (-e.score, e.paper.id, e.sentence.start))


def _similarities(vectors: Vectors, vector: Vectors) -> list[float]:
    """Return the cosines of (sentences, dimension) vectors with a (dimension,) vector."""
    return [float(similarity) for similarity in vectors @ vector] if len(vectors) else []


def _extract_features(
    sentence: Sentence, similarity: float, hit: Hit, terms: _QuestionTerms
) -> Evidence:
    return Evidence(
        sentence,
        hit.paper,
        score=0.0,
        similarity=max(0.0, similarity),
        term_overlap=terms.share(terms.find_in(sentence.text)),
        paper_score=hit.score,
    )


def _without_weak(candidates: Iterable[Evidence], weights: EvidenceWeights) -> list[Evidence]:
    """Return the candidates that are not far behind the best one."""
    logits = {evidence: weights.logit(evidence) for evidence in candidates}
    floor = max(logits.values(), default=0.0) - _MAX_LOGIT_GAP
    return [evidence for evidence in logits if logits[evidence] >= floor]


def _best_of_named_papers(candidates: Iterable[Evidence], query: QueryAnalysis) -> list[Evidence]:
    """Return the best sentence of each paper that a comparison names."""
    if not query.is_comparison:
        return []
    best: dict[str, Evidence] = {}
    for evidence in candidates:
        if not title_names(evidence.paper.title).isdisjoint(query.names):
            best.setdefault(evidence.paper.id, evidence)
    return list(best.values())


def _best_of_each_paper(evidence: Iterable[Evidence]) -> list[Evidence]:
    """Return the best sentence of each paper; the best papers come first."""
    best: dict[str, Evidence] = {}
    for item in evidence:
        best.setdefault(item.paper.id, item)
    return sorted(best.values(), key=lambda item: -item.paper_score)


def _assess_answerability(
    retrieval: RetrievalResult,
    selected: Sequence[Evidence],
    states_answer: float,
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
        states_answer=states_answer,
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
_INTERCEPT = -4.69
_WEIGHTS = AbstentionSignals(
    states_answer=2.64,
    best_sentence=8.93,
    missing_name=-2.24,
    missing_quantity=-3.56,
    missing_target=-2.48,
)


def estimate_confidence(signals: AbstentionSignals) -> float:
    """Return the probability that the library answers a question: a logistic model of signals."""
    weighted = 0.0
    for name in AbstentionSignals.__slots__:
        weighted += getattr(_WEIGHTS, name) * getattr(signals, name)
    return sigmoid(_INTERCEPT + weighted)
