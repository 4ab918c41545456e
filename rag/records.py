"""Plain records that every other module passes around: frozen, standard library only.

Character spans are half-open `[start, end)` offsets into `Paper.abstract`; scores have no unit.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

_HIGH_CONFIDENCE = 0.85
_FAIR_CONFIDENCE = 0.65
_UNSAFE_IN_URL = re.compile(r"[<>{}\"\\\s]")
_EMPTY = ("", None, (), False)


@dataclass(frozen=True, slots=True)
class Paper:
    """Paper as stored in a library.

    `id` is empty until the library assigns one. `source` names the file that the paper first came
    from. `year` is the year of publication, or of the preprint when nothing else is known.
    """

    title: str
    abstract: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str = ""
    url: str = ""
    doi: str = ""
    arxiv_id: str = ""
    pmid: str = ""
    source: str = ""
    retracted: bool = False
    id: str = ""

    @property
    def link(self) -> str:
        """Address of the paper: its own URL, or one built from its DOI, arXiv id or PubMed id.

        Characters that would end an address in Markdown, HTML or BibTeX are percent-encoded; old
        DOIs contain `<` and `>`.
        """
        address = self.url
        if not address and self.doi:
            address = f"https://doi.org/{self.doi}"
        elif not address and self.arxiv_id:
            address = f"https://arxiv.org/abs/{self.arxiv_id}"
        elif not address and self.pmid:
            address = f"https://pubmed.ncbi.nlm.nih.gov/{self.pmid}/"
        return _UNSAFE_IN_URL.sub(_percent_encode, address)

    @property
    def byline(self) -> str:
        """Authors and year, such as `Okafor et al., 2021`; empty when both are unknown."""
        names = " and ".join(self.authors)
        if len(self.authors) > 2:
            names = f"{self.authors[0]} et al."
        year = str(self.year) if self.year else ""
        return ", ".join(filter(None, (names, year)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without empty fields: one record of a JSON Lines export."""
        return {name: value for name, value in asdict(self).items() if value not in _EMPTY}


def _percent_encode(match: re.Match[str]) -> str:
    return quote(match[0])


@dataclass(frozen=True, slots=True)
class Passage:
    """Chunk of an abstract, made of whole sentences: the unit that Chroma stores."""

    id: str
    paper_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """Sentence of an abstract: `text == abstract[start:end]`."""

    paper_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """Retrieved paper with its fused score and the signals behind it, all between 0 and 1."""

    paper: Paper
    score: float
    rank: int
    passage: Passage
    dense: float = 0.0
    full_text: float = 0.0
    best_sentence: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sentence scored by how well it answers the question, with the features behind the score.

    `similarity` (to the question), `term_overlap` (weighted share of the question's terms in the
    sentence) and `paper_score` (of its paper) are between 0 and 1. `reading` holds the reader's
    log-odds that the sentence answers, and `relevance` how far its paper is behind the one that the
    reader finds most relevant (0 or less).
    """

    sentence: Sentence
    paper: Paper
    score: float
    similarity: float
    term_overlap: float
    paper_score: float
    reading: float = 0.0
    relevance: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """Footnote of an answer: `quote == paper.abstract[start:end]`, always."""

    number: int
    paper: Paper
    quote: str
    start: int
    end: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "number": self.number,
            "paper_id": self.paper.id,
            "title": self.paper.title,
            "authors": list(self.paper.authors),
            "year": self.paper.year,
            "url": self.paper.link,
            "quote": self.quote,
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an answer, with the numbers of the citations that support it.

    `kind` is `generated` for a sentence that the language model wrote, `computed` for a count or a
    field of a record, `extracted` for the few words of a quotation that answer, and `quoted` for a
    literal sentence. In an answer, quotations come last: they are the evidence. `heading` is the
    title of the paper that a line of a list is about, else empty.
    """

    text: str
    kind: Literal["quoted", "extracted", "generated", "computed"]
    citations: tuple[int, ...]
    supported: bool
    score: float
    heading: str = ""

    @property
    def shown_text(self) -> str:
        """Text as an answer shows it: words of a quotation are in quotation marks."""
        return f"“{self.text}”" if self.kind == "extracted" else self.text


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known before the language model writes: the evidence, best first.

    `rewritten_query` is the stand-alone form of a follow-up question, else empty.
    """

    evidence: tuple[Evidence, ...]
    rewritten_query: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Place of an answer in the queue for the language model: `ahead` answers come before it."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Record of how an answer was produced, so that it can be repeated and compared.

    `settings` are the options of the request (style, sentences, filters); `style` is the style
    that was actually used. `language_model` names the model that wrote the text, or is `none`.
    `rewritten_query` is the stand-alone form of a follow-up question. `spelling` maps misspelt
    words to the words they were taken for. `fallback` says which part failed and what replaced it.
    `left_out` holds ids of papers whose evidence did not fit into the model's context. `signals`
    are the inputs of the confidence, `seconds` the wall-clock time of each stage.
    """

    embedder: str
    language_model: str
    style: str
    prompt_digest: str
    library_digest: str
    rewritten_query: str = ""
    fallback: str = ""
    spelling: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_out: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    signals: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    tokens: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with numbers rounded to four digits."""
        return {
            "embedder": self.embedder,
            "language_model": self.language_model,
            "style": self.style,
            "prompt_digest": self.prompt_digest,
            "library_digest": self.library_digest,
            "rewritten_query": self.rewritten_query,
            "fallback": self.fallback,
            "spelling": dict(self.spelling),
            "left_out": list(self.left_out),
            "settings": dict(self.settings),
            "signals": _rounded(self.signals),
            "seconds": _rounded(self.seconds),
            "tokens": dict(self.tokens),
        }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def label_confidence(confidence: float) -> str:
    """Return a confidence in words: `high`, `fair` or `low`."""
    if confidence >= _HIGH_CONFIDENCE:
        return "high"
    return "fair" if confidence >= _FAIR_CONFIDENCE else "low"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to a question; the same shape whether it is generated, quoted or an abstention."""

    question: str
    text: str
    claims: tuple[Claim, ...]
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    abstained: bool
    reason: str
    confidence: float
    trace: Trace

    @property
    def confidence_label(self) -> str:
        """Confidence in words; see `label_confidence`."""
        return label_confidence(self.confidence)

    @property
    def notices(self) -> tuple[str, ...]:
        """Remarks for the user: corrected spelling, failures, and sentences that were dropped."""
        notices = []
        if self.trace.spelling:
            pairs = [f"“{typo}” as “{word}”" for typo, word in self.trace.spelling.items()]
            notices.append(f"interpreted {', '.join(pairs)}")
        if self.trace.fallback:
            notices.append(self.trace.fallback)
        if dropped := self.trace.tokens.get("dropped_sentences", 0):
            sentences = "1 generated sentence" if dropped == 1 else f"{dropped} generated sentences"
            notices.append(f"left out or replaced {sentences} that the sources do not support")
        return tuple(notices)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. The shape is part of the public interface."""
        return {
            "question": self.question,
            "text": self.text,
            "abstained": self.abstained,
            "reason": self.reason,
            "confidence": round(self.confidence, 4),
            "claims": list(map(_claim_dict, self.claims)),
            "citations": list(map(Citation.to_dict, self.citations)),
            "hits": list(map(_hit_dict, self.hits)),
            "trace": self.trace.to_dict(),
        }

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_markdown(self) -> str:
        """Return the answer as Markdown with footnotes, ready for notes or a manuscript."""
        from rag.output.markdown import answer_to_markdown

        return answer_to_markdown(self)


def _claim_dict(claim: Claim) -> dict[str, Any]:
    return asdict(claim) | {"score": round(claim.score, 4)}


def _hit_dict(hit: Hit) -> dict[str, Any]:
    return {
        "paper_id": hit.paper.id,
        "title": hit.paper.title,
        "score": round(hit.score, 4),
        "rank": hit.rank,
    }


# Yielded by `Assistant.stream` and `Conversation.stream`; the strings add up to `Answer.text`.
StreamEvent = Preview | Waiting | str | Answer


@dataclass(frozen=True, slots=True)
class Rejection:
    """Record that is not a valid paper. `record` counts from 1; 0 means the file as a whole."""

    source: str
    record: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.source}, record {self.record}" if self.record else self.source
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Merge:
    """Record that was merged into a paper, and what identified both as one paper.

    `matched_by` is `doi`, `arxiv`, `pmid`, `title`, or `record` for an identical record.
    """

    paper_id: str
    title: str
    source: str
    record: int
    matched_by: str


@dataclass(frozen=True, slots=True)
class FlaggedPaper:
    """Paper with sentences that are orders to a program: not quoted, not given to a model."""

    paper_id: str
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddReport:
    """Outcome of an `add`: `read == added + updated + merged + unchanged + len(rejected)`.

    A record updates the paper that an earlier version of the same source added (`updated`), or
    fills gaps in a paper from another source (`merges`). `absorbed` lists papers that a new record
    showed to be duplicates of another paper, `flagged` papers whose new text contains likely
    prompt injections. `papers` is the size of the library afterwards.
    """

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    papers: int = 0
    merges: tuple[Merge, ...] = ()
    absorbed: tuple[Merge, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    flagged: tuple[FlaggedPaper, ...] = ()
    without_abstract: int = 0

    @property
    def merged(self) -> int:
        """Number of records merged into papers from other sources."""
        return len(self.merges)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. The shape is part of the public interface."""
        return {
            "read": self.read,
            "added": self.added,
            "updated": self.updated,
            "merged": self.merged,
            "unchanged": self.unchanged,
            "rejected": list(map(asdict, self.rejected)),
            "papers": self.papers,
            "without_abstract": self.without_abstract,
            "merges": list(map(asdict, self.merges)),
            "absorbed": list(map(asdict, self.absorbed)),
            "flagged": list(map(asdict, self.flagged)),
        }
