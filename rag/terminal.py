"""An answer and a paper as they are read in a terminal."""

import shutil
import textwrap
from collections.abc import Iterator
from itertools import groupby

from rag.records import Answer, Paper

_WIDEST = 100
_SURE = 0.8
_FAIRLY_SURE = 0.65


def render_answer(answer: Answer) -> str:
    """The text, its footnotes, and how sure the assistant is."""
    width = _width()
    parts = [_fill(answer.text, width)]
    if answer.abstained:
        parts += [f"The nearest papers:\n{_nearest(answer, width)}"] if answer.hits else []
        return "\n\n".join(parts)
    parts.append("\n".join(_footnotes(answer, width)))
    parts.append(f"Confidence: {confidence_in_words(answer.confidence)} ({answer.confidence:.2f})")
    return "\n\n".join(parts)


def confidence_in_words(confidence: float) -> str:
    """What a measured confidence means to a reader."""
    if confidence >= _SURE:
        return "high"
    return "fair" if confidence >= _FAIRLY_SURE else "low"


def render_paper(paper: Paper) -> str:
    """Everything that the library knows about a paper."""
    width = _width()
    facts = {
        "": ", ".join(paper.authors),
        "year": str(paper.year or ""),
        "venue": paper.venue,
        "DOI": paper.doi,
        "arXiv": paper.arxiv_id,
        "PubMed": paper.pmid,
        "link": paper.link,
        "id": paper.id,
        "source": paper.source,
    }
    lines = [_fill(paper.title, width), *(["RETRACTED"] if paper.retracted else [])]
    lines += [f"{name}: {value}" if name else value for name, value in facts.items() if value]
    return "\n".join(lines) + "\n\n" + (_fill(paper.abstract, width) or "(no abstract)")


def _footnotes(answer: Answer, width: int) -> Iterator[str]:
    """One note for each paper, with all the numbers that lead to it."""
    for _, citations in groupby(answer.citations, key=lambda citation: citation.paper.id):
        same = list(citations)
        paper = same[0].paper
        mark = "".join(f"[{citation.number}]" for citation in same) + " "
        text = paper.title + (f". {paper.byline}" if paper.byline else "") + (" — RETRACTED" if paper.retracted else "")
        yield _fill(text, width, mark, " " * len(mark))
        yield " " * len(mark) + (paper.link or f"footnote show {paper.id}")


def _nearest(answer: Answer, width: int) -> str:
    return "\n".join(_fill(hit.paper.title, width, "- ", "  ") for hit in answer.hits)


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns)


def _fill(text: str, width: int, first: str = "", others: str = "") -> str:
    """Lines of whole words: a quotation that is copied from the terminal stays literal."""
    wrapper = textwrap.TextWrapper(
        width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.fill(text)
