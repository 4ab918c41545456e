"""What a system replied to a question, as plain data: all that metrics look at, and that a run keeps.

Rows of a run are scored from these again at any time, without a model and without the library that was asked.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rag import Answer


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence or quotation of a reply, and the numbers of the footnotes that it cites."""

    text: str
    kind: str
    cites: tuple[int, ...]
    supported: bool = True


@dataclass(frozen=True, slots=True)
class Footnote:
    """What a number stands for: a passage of a paper, `literal` when it stands there just so."""

    number: int
    paper: str
    quote: str
    literal: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: what was said, the ids of the papers found, best first, and the confidence in 0..1.

    `rewritten_query` is the stand-alone form of a follow-up. `error` says why there is no reply: such a row scores 0.
    """

    said: tuple[Statement, ...] = ()
    footnotes: tuple[Footnote, ...] = ()
    found: tuple[str, ...] = ()
    abstained: bool = False
    confidence: float = 0.0
    rewritten_query: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        return " ".join(one.text for one in self.said)

    @property
    def cited(self) -> tuple[str, ...]:
        """Ids of the papers that sentences cite, each once, in the order of citing."""
        papers = {one.number: one.paper for one in self.footnotes}
        return tuple(
            dict.fromkeys(
                papers[number] for said in self.said for number in said.cites if number in papers
            )
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reply_of(answer: Answer) -> Reply:
    """The reply that an answer of the assistant is."""
    said = () if answer.abstained else answer.claims
    return Reply(
        said=tuple(
            Statement(claim.text, claim.kind, claim.citations, claim.supported) for claim in said
        ),
        footnotes=tuple(
            Footnote(
                c.number, c.paper.id, c.quote, c.quote == c.paper.abstract[c.start : c.end] != ""
            )
            for c in answer.citations
        ),
        found=tuple(hit.paper.id for hit in answer.hits),
        abstained=answer.abstained,
        confidence=round(answer.confidence, 6),
        rewritten_query=answer.trace.rewritten_query,
    )


def reply_from(row: Mapping[str, Any]) -> Reply:
    """The reply that `to_dict` gave."""
    said = tuple(Statement(**(one | {"cites": tuple(one["cites"])})) for one in row["said"])
    footnotes = tuple(Footnote(**one) for one in row["footnotes"])
    return Reply(
        **(dict(row) | {"said": said, "footnotes": footnotes, "found": tuple(row["found"])})
    )
