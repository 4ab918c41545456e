"""Answer a question: retrieve papers, select evidence, judge it, generate, verify.

The evidence is known at once. Then the language model judges whether it states the answer, and
writes one; each sentence is streamed when it has been checked. The quotations follow. A model that
cannot be used never prevents an answer: sentences are quoted instead, and the trace says so.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import Any

from rag.answering.answer_models import AnswerModels
from rag.answering.computed import ComputedAnswer, answer_from_library, list_others
from rag.answering.evidence import (
    AbstentionSignals,
    EvidenceSelection,
    EvidenceWeights,
    select_evidence,
)
from rag.answering.followups import FollowUp, prefer_new_sentences
from rag.answering.generation import AnswerGenerator, Footnotes, quote_evidence
from rag.answering.judgement import combine, judge
from rag.answering.prompts import load_prompt
from rag.answering.writer_queue import WRITER_QUEUE
from rag.errors import ModelError, unknown_choice
from rag.library.filters import FILTERS, Filters, merge_filters
from rag.library.library import Library
from rag.models.language_model import GenerationLimits
from rag.models.registry import load_reader
from rag.records import Answer, Citation, Claim, Evidence, Preview, Trace, Waiting
from rag.retrieval.query_analysis import analyze_query
from rag.retrieval.retriever import RetrievalResult, Retriever
from rag.retrieval.typos import correct_typos
from rag.text.answer_form import format_answer

STYLES = ("auto", "quote", "write")
# Below this confidence, the answer is "Your library does not say".
ABSTENTION_THRESHOLD = 0.5
_NEAREST_PAPERS = 3
GENERATION_LIMITS = GenerationLimits(tokens=160, seconds=120.0)
# Below a written answer, quotations that it does not cite are shown up to this number.
_MAX_QUOTATIONS_BELOW = 2
_NO_EVIDENCE = EvidenceSelection((), (), 0.0, AbstentionSignals())


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Question with the options that affect its answer.

    `sentences` is the maximum number of quotations. `followup` is what the question means in a
    conversation, and `earlier_citations` are those of the conversation, whose numbers stay.
    Raises `UsageError` for an unknown style.
    """

    question: str
    filters: Filters = field(default_factory=Filters)
    sentences: int | None = None
    style: str = "auto"
    followup: FollowUp = field(default_factory=FollowUp)
    earlier_citations: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown_choice("style", self.style, STYLES)

    @classmethod
    def from_settings(
        cls, question: str, interpretation: str, settings: Mapping[str, Any]
    ) -> "AnswerRequest":
        """Restore a request from the settings of a trace, without the earlier citations."""
        filters = {name: settings[name] for name in FILTERS if name in settings}
        followup = FollowUp.from_settings(interpretation, settings)
        if interpretation and not followup.query:  # saved before settings held the query
            followup = FollowUp(interpretation, interpretation)
        sentences, style = settings.get("sentences"), settings.get("style", "auto")
        return cls(question, merge_filters(Filters(), filters), sentences, style, followup)

    @property
    def query(self) -> str:
        """Question as retrieval sees it."""
        return self.followup.query or self.question

    @property
    def settings(self) -> dict[str, Any]:
        """Style, and the other options that were given."""
        settings: dict[str, Any] = {"style": self.style}
        if self.sentences:
            settings["sentences"] = self.sentences
        for name in FILTERS:
            if value := getattr(self.filters, name):
                settings[name] = value
        return settings | self.followup.settings


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """Retrieved papers and selected evidence for a request, with the trace so far.

    `computed` answers a question about the library itself, such as a count; None for others.
    """

    request: AnswerRequest
    retrieval: RetrievalResult
    selection: EvidenceSelection
    trace: Trace
    computed: ComputedAnswer | None = None


class AnswerPipeline:
    """Answers questions from one library."""

    def __init__(
        self, library: Library, retriever: Retriever, models: AnswerModels, weights: EvidenceWeights
    ) -> None:
        self._library = library
        self._retriever = retriever
        self._models = models
        self._weights = weights

    def prepare(self, request: AnswerRequest, embedder: str) -> PreparedAnswer:
        """Retrieve papers and select evidence.

        Call it inside `Library.snapshot()`; the library is not needed afterwards.
        """
        started = time.perf_counter()
        self._models.preload_language_model(request.style)
        retrieval = self._retrieve(request.query, request)
        if typos := self._retriever.find_typos(retrieval):
            question = correct_typos(retrieval.question, typos)
            retrieval = self._retrieve(question, request)
        retrieved = time.perf_counter()
        paper_ids = request.followup.paper_ids
        computed = answer_from_library(
            retrieval, request.filters, self._retriever, self._library, paper_ids
        )
        if not computed and request.followup.excluded_ids:
            computed = list_others(retrieval, self._library)
        selection = _NO_EVIDENCE if computed else self._select_evidence(retrieval, request)
        signals = selection.signals
        trace = Trace(
            embedder=embedder,
            language_model="none",
            style="quote",
            prompt_digest="",
            library_digest=self._library.digest,
            rewritten_query=request.followup.interpretation,
            spelling=typos,
            settings=request.settings,
            signals={name: getattr(signals, name) for name in signals.__slots__},
            seconds={
                "retrieval": retrieved - started,
                "evidence": time.perf_counter() - retrieved,
            },
        )
        return PreparedAnswer(request, retrieval, selection, trace, computed)

    def _retrieve(self, question: str, request: AnswerRequest) -> RetrievalResult:
        return self._retriever.retrieve(
            question, filters=request.filters, scope=request.followup.scope
        )

    def _select_evidence(
        self, retrieval: RetrievalResult, request: AnswerRequest
    ) -> EvidenceSelection:
        if request.followup.query:
            retrieval = replace(retrieval, asked=request.question)
        selection = select_evidence(
            retrieval, self._library, load_reader(), request.sentences, self._weights
        )
        if request.followup.shown:
            return prefer_new_sentences(selection, request.followup, request.question)
        return selection

    def stream(
        self, prepared: PreparedAnswer, stop: threading.Event
    ) -> Iterator[Preview | Waiting | Claim | Answer]:
        """Yield a preview of the evidence, the claims as they are finished, and then the answer.

        An answer that waits for the language model yields its place in the queue. When `stop` is
        set, the answer ends early with the claims so far.
        """
        writer = _AnswerWriter(prepared, stop)
        interpretation = prepared.request.followup.interpretation
        if prepared.computed:
            if interpretation:
                yield Preview((), interpretation)
            yield from writer.compute(prepared.computed)
            yield _answer(writer)
            return
        if not _has_evidence(prepared):
            yield _abstain(writer, _no_answer(prepared))
            return
        yield Preview(prepared.selection.evidence, interpretation)
        claims = writer.write(self._models)
        if self._models.may_generate(prepared.request.style):
            yield from WRITER_QUEUE.in_turn(claims, stop)
        else:
            yield from claims
        yield _abstain(writer, writer.reason) if writer.reason else _answer(writer)


@dataclass(slots=True)
class _AnswerWriter:
    """Writes one answer: judges the evidence, yields claims, and completes confidence and trace.

    `reason` says why the library does not answer; it is empty when it does. `ranking` is the
    evidence in the order that the language model's first sentence suggests, if it wrote one.
    """

    prepared: PreparedAnswer
    stop: threading.Event
    footnotes: Footnotes = field(init=False)
    trace: Trace = field(init=False)
    confidence: float = field(init=False)
    claims: list[Claim] = field(default_factory=list)
    reason: str = ""
    ranking: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        self.footnotes = Footnotes(self.prepared.request.earlier_citations)
        self.trace = self.prepared.trace
        self.confidence = self.prepared.selection.confidence

    def write(self, models: AnswerModels) -> Iterator[Claim]:
        """Yield generated claims if the style and the model allow it, then quotations."""
        started = time.perf_counter()
        for claim in self._write(models):
            self.claims.append(claim)
            yield claim
        elapsed = time.perf_counter() - started - self.trace.seconds.get("judgement", 0.0)
        seconds = dict(self.trace.seconds) | {"generation": elapsed}
        self.trace = replace(self.trace, seconds=seconds)

    def compute(self, answer: ComputedAnswer) -> Iterator[Claim]:
        """Yield what the records of the library answer, then the sentences that it rests on."""
        self.confidence = 1.0
        self.trace = replace(self.trace, style="computed")
        for sentence in answer:
            numbers = tuple(dict.fromkeys(map(self.footnotes.cite, sentence.evidence)))
            claim = Claim(sentence.text, "computed", numbers, supported=True, score=1.0)
            self.claims.append(claim)
            yield claim

    def _write(self, models: AnswerModels) -> Iterator[Claim]:
        generator = None
        try:
            generator = self._load_generator(models)
            self._judge(generator)
            if generator and not self.reason:
                yield from self._generate(generator)
        except ModelError as error:
            self._fall_back(str(error))
            # The judgement of a model that failed is missing.
            if not self.claims:
                self.reason = _abstention_reason(self.prepared, self.confidence)
        if self.stop.is_set():
            self._fall_back("it was stopped early")
        elif not self.reason:
            yield from self._quote()
            if not self.claims:
                self.reason = self.prepared.request.followup.nothing_new

    def _load_generator(self, models: AnswerModels) -> AnswerGenerator | None:
        model = models.load_generator(self.prepared.request.style)
        if model is None:
            return None
        self.trace = replace(self.trace, language_model=model.name)
        question = self.prepared.retrieval.question
        followup = self.prepared.request.followup
        is_list = analyze_query(question).is_list_question
        return AnswerGenerator(
            model,
            models.load_verifier(model),
            GENERATION_LIMITS,
            followup.interpretation if followup.paper_ids else question,
            self.prepared.selection.for_generation(is_list),
            is_list,
        )

    def _judge(self, generator: AnswerGenerator | None) -> None:
        """Decide whether the library answers, and set `confidence` and `reason`."""
        if generator:
            started = time.perf_counter()
            judgement = judge(
                generator.model, generator.judging_prompt, GENERATION_LIMITS, self.stop
            )
            seconds = dict(self.trace.seconds) | {"judgement": time.perf_counter() - started}
            self.trace = replace(self.trace, seconds=seconds)
            if judgement is not None:
                self.confidence = combine(self.confidence, judgement)
                signals = dict(self.trace.signals) | {"judgement": judgement.probability}
                digest = load_prompt("judge").digest
                self.trace = replace(self.trace, signals=signals, prompt_digest=digest)
                if self.confidence < ABSTENTION_THRESHOLD:
                    self.reason = _not_stated(self.prepared)
                return
        self.reason = _abstention_reason(self.prepared, self.confidence)

    def _generate(self, generator: AnswerGenerator) -> Iterator[Claim]:
        names = ("judge", "list" if generator.is_list else "write")
        digest = " ".join(load_prompt(name).digest for name in names)
        self.trace = replace(self.trace, style="write", prompt_digest=digest)
        is_repetition = False
        try:
            for claim in generator.generate(self.footnotes, self.stop):
                if self._is_new(claim):
                    yield claim
                else:
                    is_repetition = True
        finally:
            left_out = dict.fromkeys(evidence.paper.id for evidence in generator.left_out)
            self.ranking = () if generator.is_list else generator.ranking
            tokens = {**generator.tokens, "dropped_sentences": generator.dropped}
            self.trace = replace(self.trace, left_out=tuple(left_out), tokens=tokens)
        if not self.claims and not self.stop.is_set() and not is_repetition:
            self._fall_back("your papers did not support the generated text")

    def _is_new(self, claim: Claim) -> bool:
        """Return False for what an earlier answer of the conversation wrote or quoted."""
        selected = map(attrgetter("sentence.text"), self.prepared.selection.evidence)
        return claim.text not in self.prepared.request.followup.shown or claim.text in selected

    def _quote(self) -> Iterator[Claim]:
        """Yield the evidence: what the written sentences cite, and the best of the rest."""
        evidence = self._ordered_evidence()
        cited = self.footnotes.cited_evidence
        shown = self.prepared.request.followup.shown
        is_written = any(claim.kind != "quoted" and not claim.heading for claim in self.claims)
        if is_written:  # it answers, so no quotation has to be shown again
            evidence = tuple(item for item in evidence if item.sentence.text not in shown)
        limit = _MAX_QUOTATIONS_BELOW if is_written else len(evidence)
        others = [item for item in evidence if item not in cited]
        quotations = filter(lambda claim: claim.kind == "quoted", self.claims)
        quoted = set(chain.from_iterable(map(attrgetter("citations"), quotations)))
        sources = []
        for item in cited:
            is_new = item.sentence.text not in shown or item in evidence
            if is_new and self.footnotes.cite(item) not in quoted:
                sources.append(item)
        below = [*sources, *others[: max(0, limit - len(cited))]]
        if below:
            yield from quote_evidence(below, self.footnotes)

    def _ordered_evidence(self) -> tuple[Evidence, ...]:
        """Return the best of `ranking`, then the selected evidence that is in it, in its order."""
        selected = self.prepared.selection.evidence
        if not self.ranking:
            return selected
        shown = self.prepared.request.followup.shown
        best = [item for item in self.ranking[:1] if item.sentence.text not in shown]
        ranked = filter(selected.__contains__, self.ranking)
        is_comparison = analyze_query(self.prepared.retrieval.question).is_comparison
        others = selected if is_comparison else ()  # the sides may be in several papers
        return tuple(dict.fromkeys([*best, *ranked, *others]))[: len(selected)]

    def _fall_back(self, reason: str) -> None:
        """Record in the trace why the answer is incomplete, or quoted instead of generated."""
        is_partial = bool(self.claims) or self.stop.is_set()
        outcome = "the answer is incomplete" if is_partial else "showing direct quotes instead"
        parts = filter(None, (self.trace.fallback, f"{outcome}: {reason}"))
        style = self.trace.style if is_partial else "quote"
        self.trace = replace(self.trace, fallback="; ".join(parts), style=style)


def _answer(writer: _AnswerWriter) -> Answer:
    claims = tuple(sorted(writer.claims, key=lambda claim: claim.kind == "quoted"))
    used = set(chain.from_iterable(map(attrgetter("citations"), claims)))
    citations = tuple(item for item in writer.footnotes.cited if item.number in used)
    return Answer(
        question=writer.prepared.request.question,
        text=format_answer(claims, citations),
        claims=claims,
        citations=citations,
        hits=writer.prepared.retrieval.hits,
        abstained=False,
        reason="",
        confidence=writer.confidence,
        trace=writer.trace,
    )


def _abstain(writer: _AnswerWriter, reason: str) -> Answer:
    return Answer(
        question=writer.prepared.request.question,
        text=f"Your library does not say. {reason}",
        claims=(),
        citations=(),
        hits=writer.prepared.retrieval.hits[:_NEAREST_PAPERS],
        abstained=True,
        reason=reason,
        confidence=writer.confidence,
        trace=writer.trace,
    )


def _has_evidence(prepared: PreparedAnswer) -> bool:
    return bool(prepared.retrieval.paper_count and prepared.selection.candidates)


def _abstention_reason(prepared: PreparedAnswer, confidence: float) -> str:
    """Say why the library does not answer; empty when it does."""
    if confidence >= ABSTENTION_THRESHOLD:
        return ""
    if missing := prepared.selection.missing:
        if prepared.request.followup.paper_ids:
            return prepared.request.followup.lacks(missing)
        matching = " that match your filters" if prepared.request.filters else ""
        return f"The closest papers{matching} {missing}."
    return _no_answer(prepared)


def _not_stated(prepared: PreparedAnswer) -> str:
    if prepared.request.followup.paper_ids:
        return prepared.request.followup.not_stated
    matching = " that match your filters" if prepared.request.filters else ""
    hint = _language_hint(prepared.request.question)
    return f"The abstracts of the closest papers{matching} do not state the answer.{hint}"


def _no_answer(prepared: PreparedAnswer) -> str:
    paper_count, has_filters = prepared.retrieval.paper_count, bool(prepared.request.filters)
    hint = _language_hint(prepared.request.question)
    if prepared.request.followup.paper_ids and paper_count:
        return prepared.request.followup.not_stated
    if not paper_count:
        return "No papers match your filters." if has_filters else "There are no papers here yet."
    if paper_count == 1:
        paper = "The only paper that matches your filters" if has_filters else "The only paper here"
        return f"{paper} does not answer this.{hint}"
    papers = "No paper that matches your filters" if has_filters else "No paper here"
    return f"{papers} answers this.{hint}"


def _language_hint(question: str) -> str:
    letters = list(filter(str.isalpha, question))
    non_latin = [char for char in letters if not char.isascii()]
    is_foreign = len(non_latin) > len(letters) / 4
    return " The bundled models read English only." if is_foreign else ""
