"""Text of an answer: first what answers the question, then the evidence, by paper.

Terminal, page and Markdown show the same parts in the same order.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from rag.records import Citation, Claim, Paper


def format_answer(claims: Sequence[Claim], citations: Iterable[Citation]) -> str:
    """Return the written claims as a paragraph or a list, then the evidence.

    The pieces of `format_written`, one for each written claim, and of `format_evidence` add up to
    this text.
    """
    written = written_claims(claims)
    pieces = map(format_written, written, [None, *written])
    return "".join([*pieces, format_evidence(claims, citations)])


def format_written(claim: Claim, previous: Claim | None = None) -> str:
    """Return a written claim with its footnotes, as it follows the `previous` one."""
    heading = f"- {claim.heading}: " if claim.heading else ""
    footnotes = "".join(map(" [{}]".format, claim.citations))
    return f"{separator(claim, previous)}{heading}{claim.shown_text}{footnotes}"


def format_evidence(claims: Iterable[Claim], citations: Iterable[Citation]) -> str:
    """Return the quotations below the title of their paper, after a blank line if text precedes."""
    claims = list(claims)
    text = "\n\n".join(map(_format_paper, evidence_by_paper(claims, citations)))
    return f"\n\n{text}" if text and written_claims(claims) else text


def written_claims(claims: Iterable[Claim]) -> list[Claim]:
    """Return the claims that stand above the quotations, and answer."""
    return [claim for claim in claims if claim.kind != "quoted"]


def evidence_by_paper(
    claims: Iterable[Claim], citations: Iterable[Citation]
) -> list[list[Citation]]:
    """Group the quotations by paper, in the order in which the quoted claims name them.

    Citations of written claims that no quoted claim repeats come last, so that the text of every
    footnote can be read.
    """
    by_number = {citation.number: citation for citation in citations}
    quoted = [claim.citations for claim in claims if claim.kind == "quoted"]
    papers: dict[str, list[Citation]] = {}
    for number in dict.fromkeys([*chain.from_iterable(quoted), *by_number]):
        if citation := by_number.get(number):
            papers.setdefault(citation.paper.id, []).append(citation)
    return list(papers.values())


def separator(claim: Claim, previous: Claim | None) -> str:
    """Return what stands between two written claims: a space, or the end of a line of a list."""
    if previous is None:
        return ""
    if not claim.heading and not previous.heading:
        return " "
    return "\n" if claim.heading and previous.heading else "\n\n"


def paper_heading(paper: Paper) -> str:
    """Return the line above the quotations of a paper: its title and byline."""
    byline = f" ({paper.byline})" if paper.byline else ""
    return f"{paper.title}{byline}{' — RETRACTED' if paper.retracted else ''}"


def _format_paper(citations: Sequence[Citation]) -> str:
    quotations = []
    for citation in citations:
        quote = f"“{citation.quote}” " if citation.quote else ""
        quotations.append(f"{quote}[{citation.number}]")
    return "\n".join([paper_heading(citations[0].paper), *quotations])
