"""Answers as HTML: every text of a stranger is escaped, and links lead only to http and https."""

from html import escape
from urllib.parse import urlsplit

from rag import Answer, Citation, Paper


def answer_html(answer: Answer) -> str:
    """The answer with links to the sources below it."""
    if answer.abstained:
        nearest = "".join(f"<li>{_title(hit.paper)}</li>" for hit in answer.hits)
        shown = f"<p>The nearest papers:</p><ul>{nearest}</ul>" if nearest else ""
        return f'<div class="abstained"><p>{escape(answer.text)}</p>{shown}</div>'
    sentences = " ".join(
        f"<q>{escape(claim.text)}</q>" + "".join(_mark(number) for number in claim.citations) for claim in answer.claims
    )
    sources = "".join(_source(citation) for citation in answer.citations)
    sure = f'<p class="confidence">Confidence {answer.confidence:.2f}</p>'
    return f'<p class="answer">{sentences}</p>{sure}<ol class="sources">{sources}</ol>'


def _mark(number: int) -> str:
    return f'<a class="mark" href="#source-{number}">[{number}]</a>'


def _source(citation: Citation) -> str:
    """The abstract with the quoted sentence highlighted."""
    paper = citation.paper
    before, quoted, after = (
        paper.abstract[: citation.start],
        paper.abstract[citation.start : citation.end],
        paper.abstract[citation.end :],
    )
    abstract = f"{escape(before)}<mark>{escape(quoted)}</mark>{escape(after)}"
    return f'<li id="source-{citation.number}">{_title(paper)}<p>{abstract}</p></li>'


def _title(paper: Paper) -> str:
    title = f"<strong>{escape(paper.title)}</strong>"
    if urlsplit(paper.link).scheme in ("http", "https"):
        title = f'<a href="{escape(paper.link, quote=True)}" target="_blank" rel="noopener noreferrer">{title}</a>'
    byline = f" — {escape(paper.byline)}" if paper.byline else ""
    retracted = " <em>Retracted.</em>" if paper.retracted else ""
    return f"{title}{byline}{retracted}"
