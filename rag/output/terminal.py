"""Answers and papers as plain text, wrapped to the width of the terminal."""

import shutil
import textwrap
from collections.abc import Iterator
from itertools import groupby

from rag.records import Answer, Citation, Paper
from rag.text.prompt_injection import paper_injections

_MAX_WIDTH = 100


def render_answer(answer: Answer) -> str:
    """Return the text of an answer, its footnotes and its confidence."""
    return "\n\n".join([wrap(answer.text), *answer_details(answer)])


def answer_details(answer: Answer) -> list[str]:
    """Return the paragraphs below the text: footnotes and confidence, or the closest papers."""
    if answer.abstained:
        titles = [wrap(hit.paper.title, "- ", "  ") for hit in answer.hits]
        return ["\n".join(["Closest matches:", *titles])] if titles else []
    footnotes = "\n".join(_footnotes(answer))
    return [footnotes, f"Confidence: {answer.confidence_label} ({answer.confidence:.2f})"]


def _footnotes(answer: Answer) -> Iterator[str]:
    """Yield the lines of the footnotes; neighbouring footnotes of one paper share an entry."""
    for _, group in groupby(answer.citations, key=_paper_id):
        citations = list(group)
        paper = citations[0].paper
        numbers = "".join(f"[{citation.number}]" for citation in citations) + " "
        indent = " " * len(numbers)
        byline = f". {paper.byline}" if paper.byline else ""
        retraction = " — RETRACTED" if paper.retracted else ""
        yield wrap(f"{paper.title}{byline}{retraction}", numbers, indent)
        yield indent + (paper.link or f"footnote show {paper.id}")


def _paper_id(citation: Citation) -> str:
    return citation.paper.id


def render_paper(paper: Paper) -> str:
    """Return a paper with all its fields and its abstract."""
    fields = {
        "year": str(paper.year or ""),
        "venue": paper.venue,
        "DOI": paper.doi,
        "arXiv": paper.arxiv_id,
        "PubMed": paper.pmid,
        "link": paper.link,
        "id": paper.id,
        "source": paper.source,
    }
    lines = [wrap(paper.title)]
    if paper.retracted:
        lines.append("RETRACTED")
    if paper.authors:
        lines.append(", ".join(paper.authors))
    lines += [f"{name}: {value}" for name, value in fields.items() if value]
    paragraphs = ["\n".join(lines), wrap(paper.abstract) or "(no abstract)"]
    if injections := " … ".join(paper_injections(paper)):
        warning = "Reads like an instruction to a program, so it is never quoted"
        paragraphs.append(wrap(f"{warning}: “{injections}”"))
    return "\n\n".join(paragraphs)


def terminal_width() -> int:
    """Return the width of the terminal in characters, at most 100."""
    return min(_MAX_WIDTH, shutil.get_terminal_size().columns)


def wrap(text: str, first_indent: str = "", indent: str = "") -> str:
    """Break a text into lines between words only: a quotation copied from the screen is literal."""
    return textwrap.fill(
        text,
        terminal_width(),
        initial_indent=first_indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
