"""Answers as HTML: every text of a stranger is escaped, and links lead only to http and https."""

from html import escape
from itertools import groupby
from urllib.parse import urlsplit

from rag import Answer, Citation, Claim, Paper


def answer_html(answer: Answer) -> str:
    """The answer with links to the sources below it."""
    if answer.abstained:
        nearest = "".join(f"<li>{_title(hit.paper)}</li>" for hit in answer.hits)
        shown = f"<p>The nearest papers:</p><ul>{nearest}</ul>" if nearest else ""
        return f'<div class="abstained"><p>{escape(answer.text)}</p>{shown}</div>'
    sentences = " ".join(
        _words(claim) + "".join(_mark(number) for number in claim.citations) for claim in answer.claims
    )
    by_paper = groupby(answer.citations, key=lambda citation: citation.paper.id)
    sources = "".join(_source(list(citations)) for _, citations in by_paper)
    sure = f'<p class="confidence">Confidence {answer.confidence:.2f}</p>'
    return f'<p class="answer">{sentences}</p>{sure}<ul class="sources">{sources}</ul>'


def _words(claim: Claim) -> str:
    """Only what is literal stands in quotation marks."""
    return f"<q>{escape(claim.text)}</q>" if claim.kind == "quote" else escape(claim.text)


def _mark(number: int) -> str:
    return f'<a class="mark" href="#source-{number}">[{number}]</a>'


def _source(citations: list[Citation]) -> str:
    """One paper: the numbers that lead to it, and its abstract with the quoted sentences highlighted."""
    paper = citations[0].paper
    numbers = " ".join(f"[{citation.number}]" for citation in citations)
    abstract, position = "", 0
    for citation in sorted(citations, key=lambda one: one.start):
        quoted = escape(paper.abstract[citation.start : citation.end])
        abstract += escape(paper.abstract[position : citation.start])
        abstract += f'<mark id="source-{citation.number}">{quoted}</mark>'
        position = citation.end
    return f"<li><div>{numbers} {_title(paper)}</div><div>{abstract}{escape(paper.abstract[position:])}</div></li>"


def _title(paper: Paper) -> str:
    title = f"<strong>{escape(paper.title)}</strong>"
    if urlsplit(paper.link).scheme in ("http", "https"):
        title = f'<a href="{escape(paper.link, quote=True)}" target="_blank" rel="noopener noreferrer">{title}</a>'
    byline = f" — {escape(paper.byline)}" if paper.byline else ""
    retracted = " <em>Retracted.</em>" if paper.retracted else ""
    return f"{title}{byline}{retracted}"
