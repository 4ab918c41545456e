"""From a question to an answer: retrieve, read, write, verify.

The answer comes claim by claim, as each is finished, and then whole. A model that cannot be used costs its part of
the answer, never the answer: the trace says so, and sentences are quoted instead.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rag.answering.answer_models import AnswerModels
from rag.answering.evidence import EvidenceSelection, EvidenceWeights, select_evidence
from rag.answering.generation import AnswerGenerator, Footnotes, claim_text, quote
from rag.answering.prompts import load_prompt
from rag.errors import ModelError, UsageError
from rag.library import Library
from rag.models.language_model import GenerationLimits, QueryLikelihoodModel
from rag.records import Answer, Citation, Claim, Evidence, Filters, Trace
from rag.retrieval.retriever import RetrievalResult, Retriever
from rag.retrieval.typos import corrected

STYLES = ("auto", "quote", "write")
# Below this the library is said not to answer; the threshold of the fitted confidence.
THRESHOLD = 0.5
_NEAREST = 3
# Sentences that a model writes from: more than are quoted, for it can leave some aside.
_WRITTEN_FROM = 8
_LIMITS = GenerationLimits(tokens=256, seconds=120.0)


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A question with everything that shapes its answer.

    `rewritten_query` is its stand-alone form, when it leans on earlier questions; `given` are footnotes with numbers already.
    """

    question: str
    filters: Filters = field(default_factory=Filters)
    sentences: int | None = None
    style: str = "auto"
    rewritten_query: str = ""
    given: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise UsageError(f"no style is called '{self.style}'; there are: {', '.join(STYLES)}")

    @property
    def settings(self) -> dict[str, str | int]:
        """What was asked for besides the question, without what was left to the defaults."""
        filters = {name: getattr(self.filters, name) for name in Filters.__slots__}
        wanted = {"style": self.style, "sentences": self.sentences, **filters}
        return {name: value for name, value in wanted.items() if value}


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """What was found and read for a request, and how that went."""

    request: AnswerRequest
    retrieval: RetrievalResult
    reading: EvidenceSelection
    trace: Trace


class AnswerPipeline:
    """Answers questions to one library, with the models that play the roles of reader, writer and verifier."""

    def __init__(
        self, library: Library, retriever: Retriever, roles: AnswerModels, weights: EvidenceWeights
    ) -> None:
        self._library = library
        self._retriever = retriever
        self._roles = roles
        self._weights = weights

    def find(self, request: AnswerRequest, embedder: str) -> PreparedAnswer:
        """Retrieve and read. Call it inside `Library.snapshot()`; what follows needs the library no more."""
        started = time.perf_counter()
        self._roles.load_reranker_early()
        retrieval = self._retriever.retrieve(
            request.rewritten_query or request.question, filters=request.filters
        )
        if spelling := self._retriever.find_typos(retrieval):
            question = corrected(retrieval.question, spelling)
            retrieval = self._retriever.retrieve(question, filters=request.filters)
        retrieved = time.perf_counter()
        reranker, reading, fallback = self._read(retrieval, request)
        trace = Trace(
            embedder=embedder,
            reranker=reranker.name if reranker else "none",
            language_model="none",
            style="quote",
            prompt_digest=load_prompt("rerank").digest if reranker else "",
            library_digest=self._library.digest,
            rewritten_query=request.rewritten_query,
            spelling=spelling,
            fallback=fallback,
            settings=request.settings,
            signals={name: getattr(reading.signals, name) for name in reading.signals.__slots__},
            seconds={"retrieve": retrieved - started, "read": time.perf_counter() - retrieved},
        )
        return PreparedAnswer(request, retrieval, reading, trace)

    def _read(
        self, retrieval: RetrievalResult, request: AnswerRequest
    ) -> tuple[QueryLikelihoodModel | None, EvidenceSelection, str]:
        reranker, fallback = self._roles.reranker()
        try:
            return (
                reranker,
                select_evidence(
                    retrieval, self._library, request.sentences, reranker, self._weights
                ),
                fallback,
            )
        except ModelError as error:
            fallback = f"sentences were ranked without a language model: {error}"
            return (
                None,
                select_evidence(retrieval, self._library, request.sentences, None, self._weights),
                fallback,
            )

    def stream(self, found: PreparedAnswer, stop: threading.Event) -> Iterator[Claim | Answer]:
        """The claims as they are finished, then the answer. It ends early, with what there is, when `stop` is set."""
        if reason := _why_not(found):
            yield _abstain(found, reason, found.trace)
            return
        footnotes = Footnotes(found.request.given)
        writing = _Writing(found, footnotes, stop)
        claims: list[Claim] = []
        started = time.perf_counter()
        for claim in writing.claims(self._roles):
            claims.append(claim)
            yield claim
        seconds = dict(found.trace.seconds) | {"write": time.perf_counter() - started}
        trace = replace(writing.trace, seconds=seconds)
        yield (
            _abstain(found, writing.declined, trace)
            if writing.declined
            else _answer(found, claims, footnotes, trace)
        )


@dataclass(slots=True)
class _Writing:
    """One answer in the making: the model's sentences or quotations, and what happened on the way."""

    found: PreparedAnswer
    footnotes: Footnotes
    stop: threading.Event
    trace: Trace = field(init=False)
    declined: str = ""

    def __post_init__(self) -> None:
        self.trace = self.found.trace

    def claims(self, roles: AnswerModels) -> Iterator[Claim]:
        """Written where the style and the model allow it, else quoted."""
        written = False
        try:
            if model := roles.generator(self.found.request.style):
                for claim in self._generated(AnswerGenerator(model, roles.verifier(), _LIMITS)):
                    written = True
                    yield claim
        except ModelError as error:
            self._fall_back(str(error), written)
        if self.stop.is_set():
            self._fall_back("stopped before the answer was finished", written=True)
        elif not written and not self.declined:
            yield from quote(self.found.reading.evidence, self.footnotes)

    def _generated(self, generator: AnswerGenerator) -> Iterator[Claim]:
        digest = f"{self.trace.prompt_digest} {load_prompt('generate').digest}".strip()
        self.trace = replace(
            self.trace, style="write", language_model=generator.model.name, prompt_digest=digest
        )
        written = False
        try:
            for claim in generator.write(
                self.question, self._evidence(), self.footnotes, self.stop
            ):
                written = True
                yield claim
        finally:
            left_out = tuple(dict.fromkeys(one.paper.id for one in generator.left_out))
            tokens = {**generator.tokens, "dropped_sentences": generator.dropped}
            self.trace = replace(self.trace, left_out=left_out, tokens=tokens)
        if not written and generator.declined:
            self.declined = "The sentences nearest to the question do not answer it."
        elif not written and not self.stop.is_set():
            self._fall_back(
                f"the language model '{generator.model.name}' wrote nothing that the sources support",
                written,
            )

    @property
    def question(self) -> str:
        return self.found.request.rewritten_query or self.found.request.question

    def _evidence(self) -> list[Evidence]:
        """The sentences chosen, and the best of the others."""
        chosen = self.found.reading.evidence
        return [*chosen, *(one for one in self.found.reading.considered if one not in chosen)][
            :_WRITTEN_FROM
        ]

    def _fall_back(self, why: str, written: bool) -> None:
        rest = "the answer ends where it stopped" if written else "sentences are quoted instead"
        both = "; ".join(filter(None, (self.trace.fallback, f"{why}; {rest}")))
        style = self.trace.style if written else "quote"
        self.trace = replace(self.trace, fallback=both, style=style)


def _answer(
    found: PreparedAnswer, claims: list[Claim], footnotes: Footnotes, trace: Trace
) -> Answer:
    text = " ".join(map(claim_text, claims))
    hits, confidence = found.retrieval.hits, found.reading.confidence
    return Answer(
        found.request.question,
        text,
        tuple(claims),
        footnotes.cited,
        hits,
        False,
        "",
        confidence,
        trace,
    )


def _abstain(found: PreparedAnswer, reason: str, trace: Trace) -> Answer:
    text = f"Your library does not say. {reason}"
    nearest, confidence = found.retrieval.hits[:_NEAREST], found.reading.confidence
    return Answer(found.request.question, text, (), (), nearest, True, reason, confidence, trace)


def _why_not(found: PreparedAnswer) -> str:
    papers, passing = (
        found.retrieval.papers,
        " that pass the filters" if found.request.filters else "",
    )
    if not papers:
        return "No paper passes the filters." if passing else "It holds no papers yet."
    if found.reading.evidence and found.reading.confidence >= THRESHOLD:
        return ""
    if found.reading.evidence and found.reading.lacking:
        return f"The nearest papers{passing} {found.reading.lacking}."
    if papers == 1:
        only = "The only paper that passes the filters" if passing else "Its only paper"
        return f"{only} does not bear on the question." + _language_hint(found.request.question)
    return f"None of its {papers:,} papers{passing} bears on the question." + _language_hint(
        found.request.question
    )


def _language_hint(question: str) -> str:
    letters = [char for char in question if char.isalpha()]
    foreign = letters and sum(not char.isascii() for char in letters) > len(letters) / 4
    return " The models that come along read English only." if foreign else ""
