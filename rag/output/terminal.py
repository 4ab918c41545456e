"""Answers and papers as plain text, wrapped to the width of the terminal."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from rag.records import Answer, Citation, Evidence, Paper
from rag.text.answer_form import evidence_by_paper, paper_heading
from rag.text.cleaning import escape_control_chars
from rag.text.prompt_injection import paper_injections

_MAX_WIDTH = 100
_MAX_PREVIEWED = 3
_BOLD, _DIM, _PLAIN = "\033[1m", "\033[2m", "\033[0m"


def render_answer(answer: Answer, *, bold: bool = False) -> str:
    """Return the text of an answer, its sources and its confidence; `bold` is for titles."""
    query = answer.trace.rewritten_query
    paragraphs = [render_rewritten_query(query)] if query else []
    text = "\n".join(render_lines(answer.text, bold=bold))
    return "\n\n".join([*paragraphs, text, *answer_details(answer)])


def render_rewritten_query(query: str) -> str:
    """Return the line that shows how a follow-up question was understood."""
    return wrap(f"Interpreted as: {escape_control_chars(query)}")


def render_lines(text: str, *, bold: bool = False) -> Iterator[str]:
    """Yield the lines of an answer's text, or of a piece of it, wrapped.

    With `bold`, the titles above quotations are bold.
    """
    lines = text.split("\n")
    for previous, line, following in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        wrapped = wrap(line, "", "  " if line.startswith("- ") else "")
        is_title = not previous and following.startswith("“")
        yield f"{_BOLD}{wrapped}{_PLAIN}" if bold and is_title else wrapped


def answer_details(answer: Answer) -> list[str]:
    """Return the paragraphs below the text: sources and confidence, or the closest papers."""
    if answer.abstained:
        titles = [wrap(hit.paper.title, "- ", "  ") for hit in answer.hits]
        return ["\n".join(["Closest matches:", *titles])] if titles else []
    if not answer.claims:
        return []
    sources = "\n".join(map(_source, evidence_by_paper(answer.claims, answer.citations)))
    return [*filter(None, (sources,)), f"Confidence: {answer.confidence_label}"]


def _source(citations: Sequence[Citation]) -> str:
    """Return the line that tells where a paper can be read."""
    numbers = "".join(f"[{citation.number}]" for citation in citations)
    paper = citations[0].paper
    return f"{numbers} {paper.link or f'footnote show {paper.id}'}"


def render_preview(evidence: Iterable[Evidence]) -> str:
    """Return the best sentences below their titles, dimmed: to read until the answer is written."""
    lines = []
    for item in islice(evidence, _MAX_PREVIEWED):
        lines += [wrap(paper_heading(item.paper)), wrap(f"“{item.sentence.text}”", "  ", "  ")]
    return f"{_DIM}{chr(10).join(lines)}{_PLAIN}"


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
        warning = "Looks like an order to a program, never quoted or given to a model"
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
