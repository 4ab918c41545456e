"""Answer a question: retrieve papers, select evidence, generate, verify.

An answer is streamed claim by claim and then returned as a whole. A model that cannot be used never
prevents an answer: sentences are quoted instead, and the trace says so.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rag.answering.answer_models import AnswerModels
from rag.answering.evidence import EvidenceSelection, EvidenceWeights, select_evidence
from rag.answering.generation import AnswerGenerator, Footnotes, claim_text, quote_evidence
from rag.answering.prompts import load_prompt
from rag.errors import ModelError, unknown_choice
from rag.library.filters import FILTERS, Filters
from rag.library.library import Library
from rag.models.language_model import GenerationLimits, LanguageModel, QueryLikelihoodModel
from rag.records import Answer, Citation, Claim, Evidence, Trace
from rag.retrieval.retriever import RetrievalResult, Retriever
from rag.retrieval.typos import correct_typos

STYLES = ("auto", "quote", "write")
# Below this confidence, the answer is "Your library does not say".
ABSTENTION_THRESHOLD = 0.5
_NEAREST_PAPERS = 3
# The model gets more sentences than would be quoted, because it can ignore some.
_MAX_GENERATION_EVIDENCE = 8
GENERATION_LIMITS = GenerationLimits(tokens=256, seconds=120.0)


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Question with the options that affect its answer.

    `sentences` is the maximum number of quotations. `rewritten_query` is the stand-alone form of a
    follow-up question, and `earlier_citations` are those of a conversation, whose numbers stay.
    Raises `UsageError` for an unknown style.
    """

    question: str
    filters: Filters = field(default_factory=Filters)
    sentences: int | None = None
    style: str = "auto"
    rewritten_query: str = ""
    earlier_citations: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown_choice("style", self.style, STYLES)

    @property
    def query(self) -> str:
        """Question as retrieval sees it."""
        return self.rewritten_query or self.question

    @property
    def settings(self) -> dict[str, str | int]:
        """Style, and the other options that were given."""
        settings: dict[str, str | int] = {"style": self.style}
        if self.sentences:
            settings["sentences"] = self.sentences
        for name in FILTERS:
            if value := getattr(self.filters, name):
                settings[name] = value
        return settings


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """Retrieved papers and selected evidence for a request, with the trace so far."""

    request: AnswerRequest
    retrieval: RetrievalResult
    selection: EvidenceSelection
    trace: Trace


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
        self._models.preload_reranker()
        retrieval = self._retriever.retrieve(request.query, filters=request.filters)
        if typos := self._retriever.find_typos(retrieval):
            question = correct_typos(retrieval.question, typos)
            retrieval = self._retriever.retrieve(question, filters=request.filters)
        retrieved = time.perf_counter()
        reranker, selection, fallback = self._select_evidence(retrieval, request)
        signals = selection.signals
        trace = Trace(
            embedder=embedder,
            reranker=reranker.name if reranker else "none",
            language_model="none",
            style="quote",
            prompt_digest=load_prompt("rerank").digest if reranker else "",
            library_digest=self._library.digest,
            rewritten_query=request.rewritten_query,
            spelling=typos,
            fallback=fallback,
            settings=request.settings,
            signals={name: getattr(signals, name) for name in signals.__slots__},
            seconds={
                "retrieval": retrieved - started,
                "evidence": time.perf_counter() - retrieved,
            },
        )
        return PreparedAnswer(request, retrieval, selection, trace)

    def _select_evidence(
        self, retrieval: RetrievalResult, request: AnswerRequest
    ) -> tuple[QueryLikelihoodModel | None, EvidenceSelection, str]:
        """Return the reranker that was used, the evidence, and the fallback if there was one."""

        def select(reranker: QueryLikelihoodModel | None) -> EvidenceSelection:
            return select_evidence(
                retrieval, self._library, request.sentences, reranker, self._weights
            )

        try:
            reranker = self._models.load_reranker()
            return reranker, select(reranker), ""
        except ModelError as error:
            fallback = f"sentences were ranked without a language model: {error}"
            return None, select(None), fallback

    def stream(self, prepared: PreparedAnswer, stop: threading.Event) -> Iterator[Claim | Answer]:
        """Yield the claims as they are finished, then the answer.

        When `stop` is set, the answer ends early with the claims so far.
        """
        if reason := _abstention_reason(prepared):
            yield _abstain(prepared, reason, prepared.trace)
            return
        footnotes = Footnotes(prepared.request.earlier_citations)
        writer = _AnswerWriter(prepared, footnotes, stop)
        claims: list[Claim] = []
        started = time.perf_counter()
        for claim in writer.write(self._models):
            claims.append(claim)
            yield claim
        seconds = dict(prepared.trace.seconds) | {"generation": time.perf_counter() - started}
        trace = replace(writer.trace, seconds=seconds)
        if writer.declined_reason:
            yield _abstain(prepared, writer.declined_reason, trace)
        else:
            yield _answer(prepared, claims, footnotes, trace)


@dataclass(slots=True)
class _AnswerWriter:
    """Writes the claims of one answer, generated or quoted, and completes its trace."""

    prepared: PreparedAnswer
    footnotes: Footnotes
    stop: threading.Event
    trace: Trace = field(init=False)
    declined_reason: str = ""

    def __post_init__(self) -> None:
        self.trace = self.prepared.trace

    def write(self, models: AnswerModels) -> Iterator[Claim]:
        """Yield generated claims if the style and the model allow it, otherwise quotations."""
        has_claims = False
        try:
            if model := models.load_generator(self.prepared.request.style):
                for claim in self._generate(model, models):
                    has_claims = True
                    yield claim
        except ModelError as error:
            self._fall_back(str(error), has_claims)
        if self.stop.is_set():
            self._fall_back("it was stopped early", has_claims=True)
        elif not has_claims and not self.declined_reason:
            yield from quote_evidence(self.prepared.selection.evidence, self.footnotes)

    def _generate(self, model: LanguageModel, models: AnswerModels) -> Iterator[Claim]:
        digest = f"{self.trace.prompt_digest} {load_prompt('generate').digest}".strip()
        generator = AnswerGenerator(model, models.load_verifier(), GENERATION_LIMITS)
        self.trace = replace(
            self.trace, style="write", language_model=model.name, prompt_digest=digest
        )
        has_claims = False
        query, evidence = self.prepared.request.query, self._generation_evidence()
        try:
            for claim in generator.generate(query, evidence, self.footnotes, self.stop):
                has_claims = True
                yield claim
        finally:
            left_out = dict.fromkeys(evidence.paper.id for evidence in generator.left_out)
            tokens = {**generator.tokens, "dropped_sentences": generator.dropped}
            self.trace = replace(self.trace, left_out=tuple(left_out), tokens=tokens)
        if has_claims:
            return
        if generator.declined:
            self.declined_reason = "The closest sentences do not answer this."
        elif not self.stop.is_set():
            self._fall_back("your papers did not support the generated text", has_claims)

    def _generation_evidence(self) -> list[Evidence]:
        """Return the selected sentences and the best of the others."""
        selection = self.prepared.selection
        evidence = dict.fromkeys((*selection.evidence, *selection.candidates))
        return list(evidence)[:_MAX_GENERATION_EVIDENCE]

    def _fall_back(self, reason: str, has_claims: bool) -> None:
        """Record in the trace why the answer is incomplete, or quoted instead of generated."""
        outcome = "the answer is incomplete" if has_claims else "showing direct quotes instead"
        parts = filter(None, (self.trace.fallback, f"{outcome}: {reason}"))
        style = self.trace.style if has_claims else "quote"
        self.trace = replace(self.trace, fallback="; ".join(parts), style=style)


def _answer(
    prepared: PreparedAnswer, claims: list[Claim], footnotes: Footnotes, trace: Trace
) -> Answer:
    return Answer(
        question=prepared.request.question,
        text=" ".join(map(claim_text, claims)),
        claims=tuple(claims),
        citations=footnotes.cited,
        hits=prepared.retrieval.hits,
        abstained=False,
        reason="",
        confidence=prepared.selection.confidence,
        trace=trace,
    )


def _abstain(prepared: PreparedAnswer, reason: str, trace: Trace) -> Answer:
    return Answer(
        question=prepared.request.question,
        text=f"Your library does not say. {reason}",
        claims=(),
        citations=(),
        hits=prepared.retrieval.hits[:_NEAREST_PAPERS],
        abstained=True,
        reason=reason,
        confidence=prepared.selection.confidence,
        trace=trace,
    )


def _abstention_reason(prepared: PreparedAnswer) -> str:
    """Say why the library does not answer; empty when it does."""
    selection, has_filters = prepared.selection, bool(prepared.request.filters)
    if not prepared.retrieval.paper_count:
        return "No papers match your filters." if has_filters else "There are no papers here yet."
    if selection.evidence:
        if selection.confidence >= ABSTENTION_THRESHOLD:
            return ""
        if selection.missing:
            matching = " that match your filters" if has_filters else ""
            return f"The closest papers{matching} {selection.missing}."
    hint = _language_hint(prepared.request.question)
    return _no_answer(prepared.retrieval.paper_count, has_filters) + hint


def _no_answer(paper_count: int, has_filters: bool) -> str:
    if paper_count == 1:
        paper = "The only paper that matches your filters" if has_filters else "The only paper here"
        return f"{paper} does not answer this."
    papers = "No paper that matches your filters" if has_filters else "No paper here"
    return f"{papers} answers this."


def _language_hint(question: str) -> str:
    letters = list(filter(str.isalpha, question))
    non_latin = [char for char in letters if not char.isascii()]
    is_foreign = len(non_latin) > len(letters) / 4
    return " The bundled models read English only." if is_foreign else ""
