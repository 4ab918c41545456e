"""Reading: which sentences of the papers found bear on the question, and whether anything answers it.

A sentence is scored by how well its paper was found, by the share of the question's words that it holds (rare words
weigh more), and by its similarity to the question. The sentence that opens an abstract states the problem more often
than the answer. Of the sentences chosen the one comes first after which a language model finds the question likeliest
(the idea of unsupervised passage re-ranking, Sachan et al., 2022). Whether to answer is told by a logistic model of
what was found and of what the question asks for and the papers lack. What each ingredient brings is measured by
`footnote eval`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag.answering.prompts import load_prompt, neutralize_markers
from rag.errors import ModelFailed
from rag.library import Library
from rag.models.language_model import QueryLikelihoodModel
from rag.records import Evidence, Hit, Paper, Sentence
from rag.retrieval.query_analysis import QueryAnalysis, analyze_query, own_names, tells_where
from rag.retrieval.retriever import RetrievalResult
from rag.text.prompt_injection import is_injection
from rag.text.sentences import split_sentences
from rag.text.terms import content_terms, index_text

_PAPERS_READ = 8
# Sentences that the language model reads at most, to find the first among them.
_READ_BY_MODEL = 6
_SENTENCES = 3
_SENTENCES_OF_SEVERAL = 5
# How much it counts, when several papers are wanted, that a sentence brings in what its title names.
_OWN_NAME = 0.5
# A sentence so much less likely than the best (in logits) is not worth quoting.
_FLOOR = 3.0
# How much it counts that a sentence holds words of the question which those chosen before do not.
_NEW_WORDS = 2.0
# A name is rare that so few papers bear; who calls a paper by it means that paper, however unlike the question reads.
_RARE = 3
_NAMED = 0.45


@dataclass(frozen=True, slots=True)
class EvidenceWeights:
    """What makes a sentence likely to hold the answer: a logistic model of `Evidence`, its weights rounded.

    `likelihood` only tells which of the sentences chosen comes first.
    """

    paper_score: float = 7.0
    term_overlap: float = 2.0
    similarity: float = 1.0
    is_first_sentence: float = -1.2
    is_availability_statement: float = -4.0
    offset: float = -6.6
    likelihood: float = 1.0

    def logit(self, evidence: Evidence) -> float:
        """The log-odds that the sentence answers, as far as they are known without a language model."""
        return (
            self.offset
            + self.paper_score * evidence.paper_score
            + self.term_overlap * evidence.term_overlap
            + self.similarity * evidence.similarity
            + self.is_first_sentence * evidence.is_first_sentence
            + self.is_availability_statement * evidence.is_availability_statement
        )


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision to answer rests on, all in 0..1; see `python -m eval.benchmarks.abstention`.

    How similar the best sentence of the papers found is to the question, at least `_NAMED` where they bear a rare name
    that it calls them by; and what the question asks for and the paper that answers best lacks: some name, a figure,
    the very thing.
    """

    best_sentence: float = 0.0
    name_missing: float = 0.0
    figure_missing: float = 0.0
    thing_missing: float = 0.0


@dataclass(frozen=True, slots=True)
class EvidenceSelection:
    """Sentences that bear on the question, best first; how likely they answer it (0..1); what they lack, in words.

    `considered` are all that were weighed, best first.
    """

    evidence: tuple[Evidence, ...]
    considered: tuple[Evidence, ...]
    confidence: float
    signals: Signals
    lacking: str = ""


def select_evidence(
    retrieval: RetrievalResult,
    library: Library,
    most: int | None = None,
    reranker: QueryLikelihoodModel | None = None,
    weights: EvidenceWeights | None = None,
) -> EvidenceSelection:
    """Read the papers found and keep at most `most` sentences; 3 by default, 5 when several papers are asked for.

    Raises `ModelFailed` when the reader breaks off.
    """
    asked, words = analyze_query(retrieval.question), _Words(retrieval.question, library)
    weights = weights or EvidenceWeights()
    if asked.asks_reason:  # the problem answers, as well as what is done about it
        weights = replace(weights, is_first_sentence=0.0)
    weighed = _weigh(retrieval, library, words, asked, weights)
    if asked.several:
        chosen = _one_of_each(weighed, most or _SENTENCES_OF_SEVERAL, weights)
    else:
        first = _one_of_each_called(weighed, asked) if asked.compares else []
        chosen = _choose(weighed, words, first[: most or _SENTENCES], most or _SENTENCES, weights)
    signals, lacking = _judge(retrieval, chosen, words, asked)
    if reranker and len(chosen) > 1 and not asked.several:
        chosen = _answer_first(reranker, retrieval.question, chosen, weights)
    return EvidenceSelection(tuple(chosen), tuple(weighed), confidence(signals), signals, lacking)


def _weigh(
    retrieval: RetrievalResult,
    library: Library,
    words: "_Words",
    asked: QueryAnalysis,
    weights: EvidenceWeights,
) -> list[Evidence]:
    """Every sentence of the papers read, best first; what gives orders to programs is no evidence of anything."""
    keys = retrieval.keys[:_PAPERS_READ]
    sentences = library.sentences_of(keys)
    weighed: list[Evidence] = []
    for key, hit in zip(keys, retrieval.hits, strict=False):
        own, vectors = sentences.get(key, ([], None))
        if vectors is not None and own:
            similarities = (vectors @ retrieval.vector).tolist()
            weighed += [
                _weight(one, similarity, hit, words, asked)
                for one, similarity in zip(own, similarities, strict=True)
                if not is_injection(one.text)
            ]
    return _ranked(weighed, weights)


def _weight(
    sentence: Sentence, similarity: float, hit: Hit, words: "_Words", asked: QueryAnalysis
) -> Evidence:
    # An abstract of one sentence has no opening: that sentence is all there is. Where code can be had names the method
    # and says nothing about it.
    opens = not hit.paper.abstract[: sentence.start].strip() and sentence.end < len(
        hit.paper.abstract.rstrip()
    )
    return Evidence(
        sentence,
        hit.paper,
        score=0.0,
        similarity=max(0.0, similarity),
        term_overlap=words.share(words.in_text(sentence.text)),
        paper_score=hit.score,
        is_first_sentence=opens,
        is_availability_statement=tells_where(sentence.text) and not asked.where,
    )


def _ranked(weighed: Iterable[Evidence], weights: EvidenceWeights) -> list[Evidence]:
    scored = [replace(one, score=_sigmoid(weights.logit(one))) for one in weighed]
    return sorted(scored, key=lambda one: (-one.score, one.paper.id, one.sentence.start))


def _answer_first(
    reranker: QueryLikelihoodModel,
    question: str,
    chosen: Sequence[Evidence],
    weights: EvidenceWeights,
) -> list[Evidence]:
    """The sentences chosen in another order: by their scores and the question's likelihood after each."""
    first, rest = chosen[:_READ_BY_MODEL], chosen[_READ_BY_MODEL:]
    prompt = load_prompt("rerank")
    contexts = [
        prompt.render(
            title=neutralize_markers(one.paper.title),
            sentence=neutralize_markers(one.sentence.text),
        )[0][1]
        for one in first
    ]
    try:
        told = reranker.question_likelihood(contexts, neutralize_markers(question))
    except (
        RuntimeError
    ) as error:  # what OpenVINO and PyTorch raise for whatever goes wrong while they run
        raise ModelFailed(reranker.name, str(error)) from error
    means = [sum(tokens) / max(1, len(tokens)) for tokens in told]
    logits = {
        one: weights.logit(one) + weights.likelihood * mean
        for one, mean in zip(first, means, strict=True)
    }
    return [*sorted(first, key=lambda one: -logits[one]), *rest]


class _Words:
    """The question's words, each weighing as much as it is rare in the library."""

    def __init__(self, question: str, library: Library) -> None:
        terms = set(content_terms(question))
        self._frequencies = frequencies = library.document_frequencies(terms)
        papers = len(library)
        self._weights = {
            term: math.log(
                1 + (papers - frequencies.get(term, 0) + 0.5) / (frequencies.get(term, 0) + 0.5)
            )
            for term in sorted(terms)
        }
        self._total = sum(self._weights.values())

    def name_in(self, asked: QueryAnalysis, papers: Iterable[Paper]) -> bool:
        """Whether a rare name of the question stands in one of the papers: "What does FreeU do?" is about FreeU."""
        rare = {term for term in self._weights if self._frequencies.get(term, 0) <= _RARE}
        named = {term for name in asked.names for term in content_terms(name)} & rare
        return any(
            named & set(index_text(f"{paper.title}. {paper.abstract}").split()) for paper in papers
        )

    def in_text(self, text: str) -> frozenset[str]:
        """Those of the question's words that the text holds."""
        return frozenset(self._weights.keys() & set(index_text(text).split()))

    def share(self, terms: Iterable[str]) -> float:
        """The weight of some of the question's words, of all of them."""
        return sum(self._weights[term] for term in terms) / self._total if self._total else 0.0


def _choose(
    weighed: Sequence[Evidence],
    words: _Words,
    first: Sequence[Evidence],
    most: int,
    weights: EvidenceWeights,
) -> list[Evidence]:
    """After the `first` the best sentences one by one, those preferred that add words of the question."""
    logits = {one: weights.logit(one) for one in weighed[: 4 * most]}
    holds = {one: words.in_text(one.sentence.text) for one in logits}
    best = max(logits.values(), default=0.0)
    chosen = list(first)
    left = [one for one, logit in logits.items() if logit >= best - _FLOOR and one not in chosen]
    covered = frozenset[str]().union(*(words.in_text(one.sentence.text) for one in chosen))
    while left and len(chosen) < most:
        pick = max(
            left, key=lambda one: logits[one] + _NEW_WORDS * words.share(holds[one] - covered)
        )
        chosen.append(pick)
        covered |= holds[pick]
        left.remove(pick)
    return chosen


def _one_of_each_called(weighed: Iterable[Evidence], asked: QueryAnalysis) -> list[Evidence]:
    """The best sentence of each paper that the question calls by its name."""
    called: dict[str, Evidence] = {}
    for one in weighed:
        if own_names(one.paper.title) & set(asked.names):
            called.setdefault(one.paper.id, one)
    return list(called.values())


def _one_of_each(
    weighed: Iterable[Evidence], most: int, weights: EvidenceWeights
) -> list[Evidence]:
    """One sentence of each of the papers found best: one that tells what the paper is about, at its best by name."""
    logits = {one: weights.logit(one) + _OWN_NAME * _brings_in_own_name(one) for one in weighed}
    best_of_paper: dict[str, Evidence] = {}
    for one in sorted(logits, key=lambda one: -logits[one]):
        best_of_paper.setdefault(one.paper.id, one)
    best = max(logits.values(), default=0.0)
    kept = [one for one in best_of_paper.values() if logits[one] >= best - _FLOOR]
    return sorted(kept, key=lambda one: -one.paper_score)[:most]


def _brings_in_own_name(one: Evidence) -> bool:
    before = one.paper.abstract[: one.sentence.start]
    return any(
        name in one.sentence.text and name not in before for name in own_names(one.paper.title)
    )


def _judge(
    retrieval: RetrievalResult, chosen: Sequence[Evidence], words: _Words, asked: QueryAnalysis
) -> tuple[Signals, str]:
    """The signals, and what the question asks for and the papers lack, as part of a sentence; empty when unknown."""
    if not chosen:
        return Signals(), ""
    papers = list({one.paper.id: one.paper for one in chosen}.values())
    texts = [f"{paper.title}. {paper.abstract}" for paper in papers]
    # What is asked of one thing must stand in one paper; a comparison may find its sides in several.
    about = " ".join(texts if asked.compares or asked.several else texts[:1])
    terms, sentences = (
        set(index_text(about).split()),
        [about[start:end] for start, end in split_sentences(about)],
    )
    names = asked.names_missing(terms, about)
    signals = Signals(
        best_sentence=max(
            [hit.best_sentence for hit in retrieval.hits] + [_NAMED] * words.name_in(asked, papers)
        ),
        name_missing=float(bool(names)),
        figure_missing=float(asked.figure_missing(sentences)),
        thing_missing=float(asked.thing_missing(terms, sentences)),
    )
    elsewhere = bool(names) and not asked.names_missing(
        set(index_text(" ".join(texts)).split()), " ".join(texts)
    )
    return signals, _lacking(names, elsewhere, signals, asked)


def _lacking(names: Sequence[str], elsewhere: bool, signals: Signals, asked: QueryAnalysis) -> str:
    thing = " ".join(asked.thing)
    if names:
        together = " together with the rest" if elsewhere or len(names) < len(asked.names) else ""
        return f"do not mention {' or '.join(names)}{together}"
    if signals.figure_missing:
        return f"give no figure for “{thing}”" if thing else "give no figure"
    if asked.where and signals.thing_missing:
        return "do not tell where it can be had"
    return f"do not mention “{thing}”" if signals.thing_missing else ""


# Fitted by `python -m eval.benchmarks.abstention`, which prints these lines.
_INTERCEPT = -5.40
_WEIGHTS = Signals(
    best_sentence=12.60, name_missing=-2.15, figure_missing=-4.44, thing_missing=-3.41
)


def confidence(signals: Signals) -> float:
    """How likely the library answers the question: a logistic model of the signals."""
    return _sigmoid(
        _INTERCEPT
        + sum(getattr(_WEIGHTS, name) * getattr(signals, name) for name in Signals.__slots__)
    )


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
