"""Reading: which sentences of the papers found bear on the question, and whether anything answers it.

A sentence is scored by how well its paper was found, by the share of the question's words that it holds (rare words
weigh more), by its similarity to the question, and by how likely a language model finds the question after it (the
idea of unsupervised passage re-ranking, Sachan et al., 2022). The sentence that opens an abstract states the problem
more often than the answer. Whether to answer is told by a logistic model of what was found and of what the question
asks for and the papers lack. What each ingredient brings is measured by `python -m eval.answers`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag.errors import ModelFailed
from rag.library import Library
from rag.models.language import Reader
from rag.prompts import defused, load_prompt
from rag.question import Asked, tells_where, understand
from rag.records import Evidence, Hit, Paper, Sentence
from rag.retrieve import Retrieval
from rag.text.sentences import split_sentences
from rag.text.terms import content_terms, index_text

_PAPERS_READ = 8
# Sentences that the language model reads; more of them cost time and change nothing.
_READ_BY_MODEL = 6
_SENTENCES = 3
_SENTENCES_OF_SEVERAL = 5
# Of one paper at most so many sentences, when the question wants several papers.
_PER_PAPER_OF_SEVERAL = 1
# A sentence so much less likely than the best (in logits) is not worth quoting.
_FLOOR = 2.0
# How much it counts that a sentence holds words of the question which those chosen before do not.
_NEW_WORDS = 2.0
# A name is rare that so few papers bear; who calls a paper by it means that paper, however unlike the question reads.
_RARE = 3
_NAMED = 0.45


@dataclass(frozen=True, slots=True)
class SentenceWeights:
    """What makes a sentence likely to hold the answer: a logistic model of `Evidence`, its weights rounded.

    `typical` stands for a likelihood that no model has told.
    """

    found: float = 7.0
    words: float = 2.0
    similarity: float = 1.0
    likelihood: float = 1.0
    opening: float = -1.2
    offset: float = -4.0
    typical: float = -2.6

    def logit(self, evidence: Evidence) -> float:
        """The log-odds that the sentence answers."""
        likelihood = self.typical if evidence.likelihood is None else evidence.likelihood
        return (
            self.offset
            + self.found * evidence.found
            + self.words * evidence.words
            + self.similarity * evidence.similarity
            + self.likelihood * likelihood
            + self.opening * evidence.opening
        )


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision to answer rests on, all in 0..1; see `python -m eval.abstention`.

    How similar the best sentence of the papers found is to the question, at least `_NAMED` where they bear a rare name
    that it calls them by; and what the question asks for and the papers chosen lack: names (a share of them), a figure,
    the very thing.
    """

    best_sentence: float = 0.0
    names_missing: float = 0.0
    figure_missing: float = 0.0
    thing_missing: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Sentences that bear on the question, best first; how likely they answer it (0..1); what they lack, in words.

    `considered` are all that were weighed, best first.
    """

    evidence: tuple[Evidence, ...]
    considered: tuple[Evidence, ...]
    confidence: float
    signals: Signals
    lacking: str = ""


def read(
    retrieval: Retrieval,
    library: Library,
    most: int | None = None,
    reader: Reader | None = None,
    weights: SentenceWeights | None = None,
) -> Reading:
    """Read the papers found and keep at most `most` sentences; 3 by default, 5 when several papers are asked for.

    Raises `ModelFailed` when the reader breaks off.
    """
    asked, words = understand(retrieval.question), _Words(retrieval.question, library)
    weights = weights or SentenceWeights()
    weighed = _weigh(retrieval, library, words, asked, weights)
    if reader and weighed:
        weighed = _read_by_model(reader, retrieval.question, weighed)
        # What the model did not read is taken to be no likelier than the least likely that it did.
        weights = replace(weights, typical=min(one.likelihood for one in weighed if one.likelihood is not None))
        weighed = _ranked(weighed, weights)
    chosen = _choose(weighed, asked, words, most, weights)
    signals = _signals(retrieval, chosen, words, asked)
    return Reading(tuple(chosen), tuple(weighed), confidence(signals), signals, _lacking(chosen, signals, asked))


def _weigh(
    retrieval: Retrieval, library: Library, words: "_Words", asked: Asked, weights: SentenceWeights
) -> list[Evidence]:
    """Every sentence of the papers read, best first."""
    keys = retrieval.keys[:_PAPERS_READ]
    sentences = library.sentences_of(keys)
    weighed: list[Evidence] = []
    for key, hit in zip(keys, retrieval.hits, strict=False):
        own, vectors = sentences.get(key, ([], None))
        if vectors is not None and own:
            similarities = (vectors @ retrieval.vector).tolist()
            weighed += [_weight(one, sim, hit, words, asked) for one, sim in zip(own, similarities, strict=True)]
    return _ranked(weighed, weights)


def _weight(sentence: Sentence, similarity: float, hit: Hit, words: "_Words", asked: Asked) -> Evidence:
    # An abstract of one sentence has no opening: that sentence is all there is.
    opens = not hit.paper.abstract[: sentence.start].strip() and sentence.end < len(hit.paper.abstract.rstrip())
    return Evidence(
        sentence,
        hit.paper,
        score=0.0,
        similarity=max(0.0, similarity),
        words=words.share(words.in_text(sentence.text)),
        found=hit.score,
        opening=opens or (tells_where(sentence.text) and not asked.where),
    )


def _ranked(weighed: Iterable[Evidence], weights: SentenceWeights) -> list[Evidence]:
    scored = [replace(one, score=_sigmoid(weights.logit(one))) for one in weighed]
    return sorted(scored, key=lambda one: (-one.score, one.paper.id, one.sentence.start))


def _read_by_model(reader: Reader, question: str, weighed: list[Evidence]) -> list[Evidence]:
    """The sentences, the first of them with the question's likelihood after each."""
    first, rest = weighed[:_READ_BY_MODEL], weighed[_READ_BY_MODEL:]
    prompt = load_prompt("read")
    contexts = [
        prompt.render(title=defused(one.paper.title), sentence=defused(one.sentence.text))[0][1] for one in first
    ]
    try:
        told = reader.question_likelihood(contexts, defused(question))
    except RuntimeError as error:  # what OpenVINO and PyTorch raise for whatever goes wrong while they run
        raise ModelFailed(reader.name, str(error)) from error
    means = [sum(tokens) / max(1, len(tokens)) for tokens in told]
    return [*(replace(one, likelihood=mean) for one, mean in zip(first, means, strict=True)), *rest]


class _Words:
    """The question's words, each weighing as much as it is rare in the library."""

    def __init__(self, question: str, library: Library) -> None:
        terms = set(content_terms(question))
        self._frequencies = frequencies = library.document_frequencies(terms)
        papers = len(library)
        self._weights = {
            term: math.log(1 + (papers - frequencies.get(term, 0) + 0.5) / (frequencies.get(term, 0) + 0.5))
            for term in sorted(terms)
        }
        self._total = sum(self._weights.values())

    def name_in(self, asked: Asked, papers: Iterable[Paper]) -> bool:
        """Whether a rare name of the question stands in one of the papers: "What does FreeU do?" is about FreeU."""
        rare = {term for term in self._weights if self._frequencies.get(term, 0) <= _RARE}
        named = {term for name in asked.names for term in content_terms(name)} & rare
        return any(named & set(index_text(f"{paper.title}. {paper.abstract}").split()) for paper in papers)

    def in_text(self, text: str) -> frozenset[str]:
        """Those of the question's words that the text holds."""
        return frozenset(self._weights.keys() & set(index_text(text).split()))

    def share(self, terms: Iterable[str]) -> float:
        """The weight of some of the question's words, of all of them."""
        return sum(self._weights[term] for term in terms) / self._total if self._total else 0.0


def _choose(
    weighed: Sequence[Evidence], asked: Asked, words: _Words, most: int | None, weights: SentenceWeights
) -> list[Evidence]:
    """The best sentences one after the other, those preferred that add words of the question; few of one paper."""
    most = most or (_SENTENCES_OF_SEVERAL if asked.several else _SENTENCES)
    per_paper = _PER_PAPER_OF_SEVERAL if asked.several else most
    logits = {one: weights.logit(one) for one in weighed[: 4 * most]}
    holds = {one: words.in_text(one.sentence.text) for one in logits}
    best = max(logits.values(), default=0.0)
    left = [one for one, logit in logits.items() if logit >= best - _FLOOR]
    chosen: list[Evidence] = []
    covered: frozenset[str] = frozenset()
    while left and len(chosen) < most:
        pick = max(left, key=lambda one: logits[one] + _NEW_WORDS * words.share(holds[one] - covered))
        chosen.append(pick)
        covered |= holds[pick]
        full = sum(one.paper.id == pick.paper.id for one in chosen) >= per_paper
        left = [one for one in left if one is not pick and not (full and one.paper.id == pick.paper.id)]
    return chosen


def _signals(retrieval: Retrieval, chosen: Sequence[Evidence], words: _Words, asked: Asked) -> Signals:
    if not chosen:
        return Signals()
    papers = list({one.paper.id: one.paper for one in chosen}.values())
    texts = [f"{paper.title}. {paper.abstract}" for paper in papers]
    sentences = [paper.abstract[start:end] for paper in papers for start, end in split_sentences(paper.abstract)]
    return Signals(
        best_sentence=max([hit.best_sentence for hit in retrieval.hits] + [_NAMED] * words.name_in(asked, papers)),
        names_missing=len(_names_missing(asked, texts)) / max(1, len(asked.names)),
        figure_missing=float(asked.figure_missing(sentences)),
        thing_missing=float(asked.thing_missing(set(index_text(" ".join(texts)).split()), sentences)),
    )


def _names_missing(asked: Asked, texts: Sequence[str]) -> tuple[str, ...]:
    """The names that no paper holds together with the others; a comparison may find them in several papers."""
    together = [" ".join(texts)] if asked.compares or asked.several else texts
    return min((asked.names_missing(set(index_text(text).split()), text) for text in together), key=len)


def _lacking(chosen: Sequence[Evidence], signals: Signals, asked: Asked) -> str:
    """What the question asks for and the papers chosen lack, as part of a sentence; empty when nothing is known of."""
    thing = " ".join(asked.thing)
    if signals.names_missing:
        texts = list(dict.fromkeys(f"{one.paper.title}. {one.paper.abstract}" for one in chosen))
        missing = _names_missing(asked, texts)
        together = " together with the rest" if len(missing) < len(asked.names) else ""
        return f"do not mention {' or '.join(missing)}{together}"
    if signals.figure_missing:
        return f"give no figure for “{thing}”" if thing else "give no figure"
    if asked.where and signals.thing_missing:
        return "do not tell where it can be had"
    return f"do not mention “{thing}”" if signals.thing_missing else ""


# Fitted by `python -m eval.abstention`, which prints these lines.
_INTERCEPT = -4.32
_WEIGHTS = Signals(best_sentence=10.56, names_missing=-3.32, figure_missing=-5.29, thing_missing=-2.98)


def confidence(signals: Signals) -> float:
    """How likely the library answers the question: a logistic model of the signals."""
    return _sigmoid(_INTERCEPT + sum(getattr(_WEIGHTS, name) * getattr(signals, name) for name in Signals.__slots__))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
