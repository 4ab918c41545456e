"""The records that everything passes around: plain, frozen, standard library only.

Character spans are half-open `[start, end)` offsets into `Paper.abstract`; scores are unitless.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

_SURE = 0.8
_FAIRLY_SURE = 0.65
_UNSAFE_IN_ADDRESS = re.compile(r"[<>{}\"\\\s]")


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper as the library knows it.

    `id` is empty until the library has given one. `source` names the file the paper first came from.
    `year` is that of publication, or of the preprint where nothing else is known.
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
        """Where the paper can be read: its own address, or one made from its identifiers.

        Percent-encoded where a character would end an address in Markdown, HTML or BibTeX; old DOIs hold `<` and `>`.
        """
        made = {
            f"https://doi.org/{self.doi}": self.doi,
            f"https://arxiv.org/abs/{self.arxiv_id}": self.arxiv_id,
            f"https://pubmed.ncbi.nlm.nih.gov/{self.pmid}/": self.pmid,
        }
        address = self.url or next((link for link, known in made.items() if known), "")
        return _UNSAFE_IN_ADDRESS.sub(lambda found: quote(found[0]), address)

    @property
    def byline(self) -> str:
        """Authors and year as a reader expects them: `Okafor et al., 2021`; empty when both are unknown."""
        names = self.authors[0] if len(self.authors) == 1 else " and ".join(self.authors)
        if len(self.authors) > 2:
            names = f"{self.authors[0]} et al."
        return ", ".join(str(part) for part in (names, self.year) if part)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of an abstract, whole sentences only: the unit that Chroma holds."""

    id: str
    paper_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """The unit of evidence: `text == abstract[start:end]`."""

    paper_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A paper that was found, with its fused score and the scores it was made of, all in 0..1."""

    paper: Paper
    score: float
    rank: int
    passage: Passage
    dense: float = 0.0
    full_text: float = 0.0
    best_sentence: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence judged by how well it bears on the question, and what the score was made of.

    `similarity` to the question, the weighted share of the question's words in it (`term_overlap`), and `paper_score`, the score of its
    paper, are in 0..1. `is_first_sentence`: it opens the abstract; `is_availability_statement`: it tells where code or data can be had.
    """

    sentence: Sentence
    paper: Paper
    score: float
    similarity: float
    term_overlap: float
    paper_score: float
    is_first_sentence: bool = False
    is_availability_statement: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A footnote: `quote == paper.abstract[start:end]`, always."""

    number: int
    paper: Paper
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an answer, and the numbers of the citations that carry it.

    `note` says when the language model wrote something else here, and why that was not kept.
    """

    text: str
    kind: Literal["quoted", "generated"]
    citations: tuple[int, ...]
    supported: bool
    score: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """How an answer came about, so that it can be repeated and compared.

    `style` is the one that was used, `settings` are those that were asked for (style, sentences, filters). `reranker`
    and `language_model` name the models that ranked the sentences and that wrote, `none` where none did. `rewritten_query` is
    the stand-alone form of a question that leaned on earlier ones, `spelling` holds its misspelt words and what they
    were taken for. `fallback` says which part did not work and what
    was done instead. `left_out` are ids of papers whose evidence did not fit into the model's context.
    Seconds are wall-clock, per stage; signals are what the confidence was made of.
    """

    embedder: str
    language_model: str
    style: str
    prompt_digest: str
    library_digest: str
    reranker: str = "none"
    rewritten_query: str = ""
    fallback: str = ""
    spelling: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_out: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    signals: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    tokens: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        names = (
            "embedder",
            "reranker",
            "language_model",
            "style",
            "prompt_digest",
            "library_digest",
        )
        return {name: getattr(self, name) for name in (*names, "rewritten_query", "fallback")} | {
            "spelling": dict(self.spelling),
            "left_out": list(self.left_out),
            "settings": dict(self.settings),
            "signals": {name: round(value, 4) for name, value in self.signals.items()},
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "tokens": dict(self.tokens),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The same shape whether a language model wrote, or sentences were quoted, or the library does not say."""

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
        """What the measured confidence means to a reader."""
        if self.confidence >= _SURE:
            return "high"
        return "fair" if self.confidence >= _FAIRLY_SURE else "low"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of how it came about: words read otherwise, what failed, what was not shown."""
        dropped = self.trace.tokens.get("dropped_sentences", 0)
        sentences, were = (
            ("1 sentence", "was") if dropped == 1 else (f"{dropped} sentences", "were")
        )
        left_out = f"{sentences} of the language model had no support in the sources and {were} left out or replaced"
        spelling = ", ".join(f"“{slip}” as “{word}”" for slip, word in self.trace.spelling.items())
        said = (
            f"read {spelling}" if spelling else "",
            self.trace.fallback,
            left_out if dropped else "",
        )
        return tuple(remark for remark in said if remark)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the shape is part of the public interface."""
        return {
            "question": self.question,
            "text": self.text,
            "abstained": self.abstained,
            "reason": self.reason,
            "confidence": round(self.confidence, 4),
            "claims": [asdict(claim) | {"score": round(claim.score, 4)} for claim in self.claims],
            "citations": [_citation_dict(citation) for citation in self.citations],
            "hits": [
                {
                    "paper_id": h.paper.id,
                    "title": h.paper.title,
                    "score": round(h.score, 4),
                    "rank": h.rank,
                }
                for h in self.hits
            ],
            "trace": self.trace.to_dict(),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_markdown(self) -> str:
        """The answer with Markdown footnotes, ready for notes or a manuscript."""
        question = " ".join(self.question.split())  # an empty line would end the bold
        lines = [f"**{escape_markdown(question)}**", "", self._markdown_body(), ""]
        for citation in self.citations:
            paper = citation.paper
            byline = f" {escape_markdown(paper.byline)}." if paper.byline else ""
            title = f"*{escape_markdown(paper.title)}*"
            retracted = " **Retracted.**" if paper.retracted else ""
            link = f" <{paper.link}>" if paper.link else ""
            lines.append(
                f"[^{citation.number}]: {title}.{byline}{retracted}{link} “{escape_markdown(citation.quote)}”"
            )
        return "\n".join(lines).rstrip() + "\n"

    def _markdown_body(self) -> str:
        if self.abstained:
            nearest = "".join(f"\n- *{escape_markdown(hit.paper.title)}*" for hit in self.hits)
            return escape_markdown(self.text) + ("\n" + nearest if nearest else "")
        return " ".join(
            escape_markdown(f"“{claim.text}”" if claim.kind == "quoted" else claim.text)
            + "".join(f"[^{number}]" for number in claim.citations)
            for claim in self.claims
        )


_MARKDOWN_ACTIVE = re.compile(r"([\\`*_\[\]<>#|!]|&(?=#?\w+;))|^([-+]|\d+(?=[.)]))")


def escape_markdown(text: str) -> str:
    """Text of strangers as text: nothing in it is a link, an image, a heading, an entity or mark-up."""
    return _MARKDOWN_ACTIVE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    number = (
        found[0] if found[0].isdigit() else ""
    )  # "1." at the start would be a list: it becomes "1\\."
    return f"{number}\\" if number else f"\\{found[0]}"


def _citation_dict(citation: Citation) -> dict[str, Any]:
    return {
        "number": citation.number,
        "paper_id": citation.paper.id,
        "title": citation.paper.title,
        "authors": list(citation.paper.authors),
        "year": citation.paper.year,
        "url": citation.paper.link,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
    }


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that could not become a paper. `record` counts from 1 in its file; 0 means the file as a whole."""

    source: str
    record: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.source}, record {self.record}" if self.record else self.source
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Merge:
    """Two records that proved to be one paper, and what proved it.

    `by` is `doi`, `arxiv`, `pmid`, `title`, or `record` for the very same record again.
    """

    paper_id: str
    title: str
    source: str
    record: int
    by: str


@dataclass(frozen=True, slots=True)
class Flagged:
    """Sentences of a paper that read like instructions to a program: shown as such, never quoted."""

    paper_id: str
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of every record: `read == added + updated + merged + unchanged + len(rejected)`.

    A record replaces what the same source said of its paper before (`updated`), or fills the gaps of a paper known
    from elsewhere (`merges`). `absorbed` are papers that a record proved to be another one of the library, `flagged`
    those whose new text reads in part like instructions to a program.
    """

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    papers: int = 0
    merges: tuple[Merge, ...] = ()
    absorbed: tuple[Merge, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    flagged: tuple[Flagged, ...] = ()
    without_abstract: int = 0

    @property
    def merged(self) -> int:
        return len(self.merges)

    def to_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "added": self.added,
            "updated": self.updated,
            "merged": self.merged,
            "unchanged": self.unchanged,
            "rejected": [asdict(rejection) for rejection in self.rejected],
            "papers": self.papers,
            "without_abstract": self.without_abstract,
            "merges": [asdict(merge) for merge in self.merges],
            "absorbed": [asdict(merge) for merge in self.absorbed],
            "flagged": [asdict(flagged) for flagged in self.flagged],
        }


@dataclass(frozen=True, slots=True)
class Filters:
    """Which papers may be found. An empty field does not filter.

    `year` is a year or a comparison or a range: `2023`, `>=2023`, `<2020`, `2019-2022`. `venue`, `author` and
    `source` match a part of the name, whatever the case. `added_since` is an ISO date, `2026-01-31`.
    """

    year: str = ""
    venue: str = ""
    author: str = ""
    source: str = ""
    added_since: str = ""

    def __bool__(self) -> bool:
        return any((self.year, self.venue, self.author, self.source, self.added_since))


def paper_dict(paper: Paper) -> dict[str, Any]:
    """Plain data for JSON Lines: what `footnote add` reads back."""
    return {
        key: value for key, value in asdict(paper).items() if value not in ("", None, (), False)
    }
