"""Replies of systems to questions, as plain data.

Metrics need nothing else of a system, so a saved run can be scored again without models.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rag.records import Answer, Citation, Claim
from rag.text.sentences import split_sentences

# Sentences before a quotation that are saved with it.
_CONTEXT_SENTENCES = 2


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence or quotation of a reply, and the numbers of the footnotes that it cites.

    `kind` is `generated` or `computed` for what the system wrote itself, `extracted` for words of a
    quotation that it put first, and `quoted` for a whole quotation.
    `heading` is the title of the paper that a line of a list is about, else empty.
    """

    text: str
    kind: str
    citations: tuple[int, ...]
    supported: bool = True
    heading: str = ""

    @property
    def is_written(self) -> bool:
        """True unless the statement is a whole quotation."""
        return self.kind != "quoted"

    @property
    def shown_text(self) -> str:
        """Text as a reader sees it, after its heading."""
        return f"{self.heading}: {self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True)
class Footnote:
    """A numbered quotation from a paper; `is_literal` if the abstract contains it unchanged.

    `quote` is `abstract[start:end]`, empty for a paper without an abstract. `title` is the paper's,
    and `before` holds the sentences before the quotation, for people who check it.
    """

    number: int
    paper_id: str
    quote: str
    is_literal: bool = True
    start: int = 0
    end: int = 0
    title: str = ""
    before: str = ""

    @property
    def span(self) -> str:
        """Place of the quotation, as `paper_id:start-end`."""
        return f"{self.paper_id}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A system's reply to a question.

    `retrieved` holds ids of papers, best first. `confidence` lies in 0..1, and `confidence_label`
    is the word that a reader sees for it. `rewritten_query` is the stand-alone form of a follow-up.
    `error` is the reason why a system failed to reply, else empty.
    """

    statements: tuple[Statement, ...] = ()
    footnotes: tuple[Footnote, ...] = ()
    retrieved: tuple[str, ...] = ()
    abstained: bool = False
    confidence: float = 0.0
    confidence_label: str = ""
    rewritten_query: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        """All statements as one text."""
        return " ".join(statement.shown_text for statement in self.statements)

    @property
    def cited_papers(self) -> tuple[str, ...]:
        """Ids of the papers that statements cite, each once, in the order of first citation."""
        paper_ids = self.paper_ids()
        cited: dict[str, None] = {}
        for statement in self.statements:
            for number in statement.citations:
                if number in paper_ids:
                    cited[paper_ids[number]] = None
        return tuple(cited)

    def paper_ids(self) -> dict[int, str]:
        """Return the paper of each footnote by the footnote's number."""
        return {footnote.number: footnote.paper_id for footnote in self.footnotes}

    @classmethod
    def from_answer(cls, answer: Answer) -> Self:
        """Build a reply from an answer of the assistant."""
        claims = () if answer.abstained else answer.claims
        return cls(
            statements=tuple(map(_build_statement, claims)),
            footnotes=tuple(map(_build_footnote, answer.citations)),
            retrieved=tuple(hit.paper.id for hit in answer.hits),
            abstained=answer.abstained,
            confidence=round(answer.confidence, 6),
            confidence_label=answer.confidence_label,
            rewritten_query=answer.trace.rewritten_query,
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a reply from a dictionary that `to_dict` returned."""
        statements = []
        for statement in fields["statements"]:
            citations = tuple(statement["citations"])
            statements.append(Statement(**(statement | {"citations": citations})))
        footnotes = [Footnote(**footnote) for footnote in fields["footnotes"]]
        tuples = {
            "statements": tuple(statements),
            "footnotes": tuple(footnotes),
            "retrieved": tuple(fields["retrieved"]),
        }
        return cls(**(dict(fields) | tuples))

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as a dictionary that JSON can hold."""
        return asdict(self)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a run's file, without lines cut off by a kill; none without a file."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _build_statement(claim: Claim) -> Statement:
    return Statement(claim.text, claim.kind, claim.citations, claim.supported, claim.heading)


def _build_footnote(citation: Citation) -> Footnote:
    """Build a footnote; an empty quotation is literal only if the paper has no abstract."""
    paper, start, end = citation.paper, citation.start, citation.end
    has_text = bool(citation.quote) == bool(paper.abstract)
    return Footnote(
        citation.number,
        paper.id,
        citation.quote,
        is_literal=has_text and citation.quote == paper.abstract[start:end],
        start=start,
        end=end,
        title=paper.title,
        before=_text_before(paper.abstract, start),
    )


def _text_before(abstract: str, start: int) -> str:
    """Return the last sentences of an abstract before a position."""
    spans = split_sentences(abstract[:start])[-_CONTEXT_SENTENCES:]
    return abstract[spans[0][0] : start].strip() if spans else ""
