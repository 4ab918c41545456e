"""Papers, answers and conversations as Markdown, with untrusted text escaped."""

import re
from collections.abc import Iterable, Sequence

from rag.records import Answer, Citation, Claim, Hit, Paper
from rag.text.answer_form import evidence_by_paper, separator, written_claims

# Characters that are markup anywhere in a text, and those that would make its start a list.
_ACTIVE = re.compile(r"([\\`*_\[\]<>#|!]|&(?=#?\w+;))|^([-+]|\d+(?=[.)]))")


def escape_markdown(text: str) -> str:
    """Escape untrusted text: no link, image, heading, entity or other markup remains in it."""
    return _ACTIVE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    # In "1." at the start, the dot is escaped: "1\.".
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"


def papers_to_markdown(papers: Iterable[Paper]) -> str:
    """Return the papers as a list, one item per line."""
    return "".join(map(_paper_item, papers))


def _paper_item(paper: Paper) -> str:
    byline = f" — {escape_markdown(paper.byline)}" if paper.byline else ""
    venue = f". {escape_markdown(paper.venue)}" if paper.venue else ""
    return f"- {_title(paper)}{byline}{venue}.{_retraction(paper)}{_link(paper)}\n"


def answer_to_markdown(answer: Answer) -> str:
    """Return question, answer, evidence and footnotes."""
    question = " ".join(answer.question.split())  # a blank line would end the bold text
    text = _abstention(answer) if answer.abstained else _body(answer)
    parts = [f"**{escape_markdown(question)}**\n"]
    if answer.trace.rewritten_query:
        rewritten_query = " ".join(answer.trace.rewritten_query.split())
        parts.append(f"*Interpreted as: {escape_markdown(rewritten_query)}*\n")
    parts += [f"{text}\n", *map(_footnote, answer.citations)]
    return "\n".join(parts).rstrip() + "\n"


def conversation_to_markdown(answers: Iterable[Answer]) -> str:
    """Return all questions and answers, followed by their footnotes, each once."""
    body: list[str] = []
    footnotes: dict[str, str] = {}
    for answer in answers:
        for line in answer_to_markdown(answer).splitlines():
            # Brackets in untrusted text are escaped, so only a footnote starts like this.
            if line.startswith("[^"):
                footnotes[line.partition(":")[0]] = line
            else:
                body.append(line)
        body.append("")
    text = "\n".join(body).rstrip() + "\n"
    return "\n".join([text, *footnotes.values()]).rstrip() + "\n"


def _abstention(answer: Answer) -> str:
    text = escape_markdown(answer.text)
    return "\n".join([f"{text}\n", *map(_nearest_item, answer.hits)]) if answer.hits else text


def _nearest_item(hit: Hit) -> str:
    return f"- {_title(hit.paper)}"


def _body(answer: Answer) -> str:
    """Return the written claims and below them the quotations, as `Answer.text` has them."""
    written = written_claims(answer.claims)
    text = "".join(map(_written, written, [None, *written]))
    evidence = map(_quotations, evidence_by_paper(answer.claims, answer.citations))
    return "\n\n".join(filter(None, (text, *evidence)))


def _written(claim: Claim, previous: Claim | None) -> str:
    heading = f"- **{escape_markdown(claim.heading)}**: " if claim.heading else ""
    references = "".join(map("[^{}]".format, claim.citations))
    return f"{separator(claim, previous)}{heading}{escape_markdown(claim.shown_text)}{references}"


def _quotations(citations: Sequence[Citation]) -> str:
    """Return the title of a paper and its quotations as a list."""
    paper = citations[0].paper
    byline = f" ({escape_markdown(paper.byline)})" if paper.byline else ""
    lines = [f"**{escape_markdown(paper.title)}**{byline}{_retraction(paper)}\n"]
    for citation in citations:
        lines.append(f"- {_quotation(citation)}[^{citation.number}]")
    return "\n".join(lines)


def _footnote(citation: Citation) -> str:
    paper = citation.paper
    byline = f" {escape_markdown(paper.byline)}." if paper.byline else ""
    source = f"{_title(paper)}.{byline}{_retraction(paper)}{_link(paper)}"
    return f"[^{citation.number}]: {source} {_quotation(citation)}".rstrip()


def _quotation(citation: Citation) -> str:
    """Return the quotation; a footnote to the record of a paper has none."""
    return f"“{escape_markdown(citation.quote)}”" if citation.quote else ""


def _title(paper: Paper) -> str:
    return f"*{escape_markdown(paper.title)}*"


def _retraction(paper: Paper) -> str:
    return " **Retracted.**" if paper.retracted else ""


def _link(paper: Paper) -> str:
    return f" <{paper.link}>" if paper.link else ""
