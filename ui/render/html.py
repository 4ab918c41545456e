"""Records as HTML, each on one line, for the chat, its sources and the library.

Everything that a stranger wrote goes through `ui.render.mathematics`; links lead into the page, or to http and https.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from rag import AddReport, Answer, Citation, Claim, Paper, Trace, paper_injections
from ui.render.mathematics import escaped, plain_text, prose_html, visible

if TYPE_CHECKING:
    from rag import Check

_BADGES = {"quoted": "quoted", "checked": "written and checked", "unsupported": "unsupported"}
_PROOFS = {"doi": "DOI", "arxiv": "arXiv number", "pmid": "PubMed number", "title": "title"}
_MOST_MERGES = 20
_MOST_REJECTIONS = 50
# A host without a name before it: what looks like the host is the host.
_ADDRESS = re.compile(r"https?://(?:www\.)?([^\s/?#@\\]+(?:[/?#]\S*)?)", re.IGNORECASE)
_LONGEST_ADDRESS = 80
_NO_ABSTRACT = "No abstract: found by its title, never quoted."
_INSTRUCTION = "Reads like an instruction to a program, so it is never quoted:"


def pieces_html(text: str) -> str:
    """The text of an answer while it comes."""
    return f'<div class="answer pending">{prose_html(text)}</div>'


def failure_html(message: str) -> str:
    """What stands in place of an answer that failed."""
    return (
        '<div class="answer failed"><p class="verdict">This question was not answered.</p>'
        f'<p>{escaped(message)}</p><p class="about">It can be asked again.</p></div>'
    )


def waiting_html() -> str:
    """What stands there before the first of it comes."""
    return '<div class="answer pending"><p class="about">Looking in your library</p></div>'


def problem_html(problem: object) -> str:
    """What went wrong, where it was tried."""
    return f'<p class="problem" role="alert">{escaped(str(problem))}</p>'


def remark_html(remark: str) -> str:
    """What there is to know."""
    return f'<p class="remark" role="status">{escaped(remark)}</p>'


def answer_html(answer: Answer) -> str:
    """The answer with a link from each footnote to its sentence (`#s-3`), or what comes nearest where there is none."""
    if answer.abstained:
        return _abstention(answer)
    sentences = " ".join(_sentences(answer)) or "Nothing was said."
    sure = f"Confidence: {answer.confidence_label} ({answer.confidence:.2f})"
    made = (
        f"written by {answer.trace.language_model}" if answer.trace.style == "write" else "quoted"
    )
    return f'<div class="answer"><p dir="auto">{sentences}</p>{_remarks(answer)}{_about(answer.trace, sure, made)}</div>'


def _sentences(answer: Answer) -> Iterator[str]:
    """The claims; the place where a footnote is first cited is where the way back from its sentence leads."""
    notes = {citation.number: citation for citation in answer.citations}
    met: set[int] = set()
    for claim in answer.claims:
        numbers = [number for number in claim.citations if number in notes]
        links = ", ".join(
            _link_to_note(notes[number], first=number not in met) for number in numbers
        )
        met.update(numbers)
        words = f"“{prose_html(claim.text)}”" if claim.kind == "quoted" else prose_html(claim.text)
        marks = f'<sup class="marks">{links}</sup>' if links else ""
        verdict = _verdict(claim)
        badge = f" {_badge(verdict, verdict)}" if verdict != "quoted" else ""
        withdrawn = next(
            (one for number in numbers if (one := notes[number].paper).retracted), None
        )
        yield words + marks + badge + (_retracted(withdrawn) if withdrawn else "")


def _link_to_note(citation: Citation, first: bool) -> str:
    place = f' id="n-{citation.number}"' if first else ""
    title = escape(_titled(citation.paper))
    return (
        f'<a class="mark"{place} href="#s-{citation.number}" title="{title}">{citation.number}</a>'
    )


def _titled(paper: Paper) -> str:
    return " — ".join(filter(None, (plain_text(paper.title), plain_text(paper.byline))))


def _verdict(claim: Claim) -> str:
    if not claim.supported:
        return "unsupported"
    return "quoted" if claim.kind == "quoted" else "checked"


def _badge(verdict: str, words: str) -> str:
    return f'<span class="badge {verdict}">{words}</span>'


def _abstention(answer: Answer) -> str:
    nearest = "".join(f"<li>{_link_to_card(hit.paper)}</li>" for hit in answer.hits)
    shown = f'<p>The nearest papers:</p><ul class="nearest">{nearest}</ul>' if nearest else ""
    reason = f"<p>{escaped(answer.reason)}</p>" if answer.reason else ""
    chance = f"Chance that the library answers: {answer.confidence:.2f}"
    return (
        '<div class="answer abstained"><p class="verdict">Your library does not say.</p>'
        f"{reason}{shown}{_remarks(answer)}{_about(answer.trace, chance)}</div>"
    )


def _link_to_card(paper: Paper) -> str:
    byline = f" — {prose_html(paper.byline)}" if paper.byline else ""
    link = f'<a class="near" href="#p-{escaped(paper.id)}">{prose_html(paper.title)}</a>'
    return f"{link}{byline}{_retracted(paper)}"


def _retracted(paper: Paper) -> str:
    return ' <strong class="retracted">Retracted</strong>' if paper.retracted else ""


def _remarks(answer: Answer) -> str:
    rewritten_query = (
        [f"Read as: {answer.trace.rewritten_query}"] if answer.trace.rewritten_query else []
    )
    told = [*rewritten_query, *(remark[:1].upper() + remark[1:] for remark in answer.remarks)]
    return "".join(f'<p class="remark">{escaped(remark)}</p>' for remark in told)


def _about(trace: Trace, *said: str) -> str:
    """The small print: how sure, how long it took, and what made it."""
    seconds = [f"{sum(trace.seconds.values()):.1f} s"] if trace.seconds else []
    reranker = [f"read with {trace.reranker}"] if trace.reranker != "none" else []
    return f'<p class="about">{" · ".join(map(escaped, [*said[:1], *seconds, *said[1:], *reranker]))}</p>'


def sources_html(answers: Sequence[Answer]) -> str:
    """The papers behind a conversation, its answers in the order in which they were given, as cards.

    Those of the newest answer come first. Each paper has one card (`p-ID`), each footnote one place (`s-3`).
    """
    if not answers:
        return '<p class="empty">The papers behind each answer will stand here, with the quoted sentences marked.</p>'
    papers = {paper.id: paper for answer in answers for paper in _papers(answer)}
    above = [paper.id for paper in _papers(answers[-1])]
    cards = _cards(papers, answers, opened=above[:1])
    newest = "".join(cards.pop(key) for key in above)
    earlier = "".join(["<h3>Earlier in this conversation</h3>", *cards.values()] if cards else [])
    heading = "Nearest papers" if answers[-1].abstained else "Sources"
    return f'<section class="sources"><h2>{heading}</h2>{newest}{earlier}</section>'


def _papers(answer: Answer) -> list[Paper]:
    """What an answer leads to, each paper once: those cited, by number, or the nearest."""
    cited = [one.paper for one in sorted(answer.citations, key=lambda one: one.number)]
    nearest = [hit.paper for hit in answer.hits] if answer.abstained else []
    return list({paper.id: paper for paper in [*cited, *nearest]}.values())


def _cards(
    papers: Mapping[str, Paper], answers: Sequence[Answer], opened: Sequence[str]
) -> dict[str, str]:
    """A card for each paper, by its id, with everything that the conversation cites of it."""
    notes = {citation.number: citation for answer in answers for citation in answer.citations}
    verdicts: dict[str, list[str]] = {key: [] for key in papers}
    for claim in (claim for answer in answers for claim in answer.claims):
        for number in filter(notes.__contains__, claim.citations):
            verdicts[notes[number].paper.id].append(_verdict(claim))
    cited: dict[str, list[Citation]] = {key: [] for key in papers}
    for number in sorted(notes):
        cited[notes[number].paper.id].append(notes[number])
    return {
        key: _card(paper, cited[key], list(dict.fromkeys(verdicts[key])), is_open=key in opened)
        for key, paper in papers.items()
    }


def _card(
    paper: Paper, citations: Sequence[Citation], verdicts: Iterable[str], *, is_open: bool
) -> str:
    numbers = " ".join(f"[{citation.number}]" for citation in citations)
    parts = [
        f'<span class="numbers">{numbers}</span>' if numbers else "",
        f'<span class="title">{prose_html(paper.title)}</span>',
        f'<span class="byline">{prose_html(paper.byline)}</span>' if paper.byline else "",
        _retracted(paper).strip(),
        *(_badge(verdict, _BADGES[verdict]) for verdict in verdicts),
    ]
    head = f'<details class="card" id="p-{escaped(paper.id)}"{" open" if is_open else ""}>'
    return f"{head}<summary>{' '.join(filter(None, parts))}</summary>{_body(paper, citations)}</details>"


def _body(paper: Paper, citations: Sequence[Citation]) -> str:
    authors = (
        f'<p class="authors">{prose_html(", ".join(paper.authors))}</p>' if paper.authors else ""
    )
    facts = [str(paper.year or ""), prose_html(paper.venue), *_links(paper)]
    shown = f'<p class="facts">{" · ".join(filter(None, facts))}</p>' if any(facts) else ""
    return f'<div class="body">{authors}{shown}{"".join(_abstracts(paper, citations))}</div>'


def _abstracts(paper: Paper, citations: Sequence[Citation]) -> Iterator[str]:
    """The abstract, and below it any other wording of it that was quoted: a paper may be updated meanwhile."""
    for wording in dict.fromkeys([paper.abstract, *(one.paper.abstract for one in citations)]):
        if wording != paper.abstract:
            yield '<p class="remark">Its abstract has changed since. As it was quoted:</p>'
        marked = _highlighted(wording, [one for one in citations if one.paper.abstract == wording])
        yield (
            f'<p class="abstract" dir="auto">{marked}</p>'
            if marked
            else f'<p class="remark">{_NO_ABSTRACT}</p>'
        )
    if told := paper_injections(paper):
        yield f'<p class="remark warning">{_INSTRUCTION} “{prose_html(" … ".join(told))}”</p>'


def _highlighted(abstract: str, citations: Iterable[Citation]) -> str:
    pieces, position = [], 0
    for together in _overlapping(citations):
        start, end = together[0].start, max(one.end for one in together)
        pieces += [prose_html(abstract[position:start]), _marked(abstract[start:end], together)]
        position = end
    return "".join([*pieces, prose_html(abstract[position:])])


def _overlapping(citations: Iterable[Citation]) -> list[list[Citation]]:
    """The citations in the order of the abstract; those that share characters of it together."""
    groups: list[list[Citation]] = []
    for citation in sorted(citations, key=lambda one: (one.start, one.number)):
        if groups and citation.start < max(one.end for one in groups[-1]):
            groups[-1].append(citation)
        else:
            groups.append([citation])
    return groups


def _marked(text: str, citations: Sequence[Citation]) -> str:
    """The text highlighted, with a place for each number, and the ways back to where the answer cites it."""
    first, *others = [citation.number for citation in citations]
    places = "".join(
        f'<span class="place" id="s-{number}" tabindex="-1"></span>' for number in others
    )
    back = "".join(
        f' <a class="back" href="#n-{number}" title="Back to the answer">↩ {number}</a>'
        for number in (first, *others)
    )
    return f'<mark id="s-{first}" tabindex="-1">{places}{prose_html(text)}</mark>{back}'


def _links(paper: Paper) -> list[str]:
    """Where the paper can be read, each address once."""
    known = (
        replace(paper, url=""),
        replace(paper, url="", doi=""),
        replace(paper, url="", doi="", arxiv_id=""),
        paper,
    )
    addresses: dict[str, str] = {}
    for one in known:
        if found := _ADDRESS.fullmatch(visible(one.link)):
            addresses.setdefault(found[1], found[0])
    return [_link(address, shown) for shown, address in addresses.items()]


def _link(address: str, shown: str) -> str:
    shown = shown if len(shown) <= _LONGEST_ADDRESS else shown[:_LONGEST_ADDRESS] + "…"
    return (
        f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">{escape(shown)}</a>'
    )


def paper_html(paper: Paper) -> str:
    """One paper in full, as the library knows it."""
    facts = {
        "Authors": prose_html(", ".join(paper.authors)),
        "Year": str(paper.year or ""),
        "Venue": prose_html(paper.venue),
        "DOI": escaped(paper.doi),
        "arXiv": escaped(paper.arxiv_id),
        "PubMed": escaped(paper.pmid),
        "Read it": ", ".join(_links(paper)),
        "Id": escaped(paper.id),
        "From": escaped(_file_name(paper.source)),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items() if value)
    return (
        f'<article class="paper"><h3>{prose_html(paper.title)}{_retracted(paper)}</h3><dl class="facts">{listed}</dl>'
        f"{''.join(_abstracts(paper, ()))}</article>"
    )


def counted(number: int, one: str, several: str = "") -> str:
    """`1 paper`, `1,204 papers`, `2 replies`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _file_name(source: str) -> str:
    """The name without the folders, of either kind of path: they are the reader's own business."""
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]


def added_html(report: AddReport) -> str:
    """What became of the records of an addition: counts, what proved to be one paper, and what was not taken."""
    counts = [f"{report.added:,} added", f"{report.updated:,} updated", f"{report.merged:,} merged"]
    counts += [f"{report.unchanged:,} unchanged", f"{len(report.rejected):,} rejected"]
    without = f" Without an abstract, found by title and never quoted: {report.without_abstract:,}."
    told = f"{counted(report.read, 'record')} read: {', '.join(counts)}. {counted(report.papers, 'paper')} in the library."
    return (
        f'<div class="report"><p>{told}{without if report.without_abstract else ""}</p>'
        f"{_merges_html(report)}{_flagged_html(report)}{_rejections_html(report)}</div>"
    )


def _merges_html(report: AddReport) -> str:
    """The same record again is no news; records that proved to be one paper are."""
    merges = [(one, "") for one in report.merges if one.by != "record"]
    merges += [(one, "; two papers became one") for one in report.absorbed]
    rows = [
        (
            prose_html(one.title),
            *_place(one.source, one.record),
            _PROOFS.get(one.by, escaped(one.by)) + more,
        )
        for one, more in merges
    ]
    return _table(
        "Taken for one paper", ("Paper", "File", "Record", "Proved by"), rows, _MOST_MERGES
    )


def _flagged_html(report: AddReport) -> str:
    rows = [
        (prose_html(one.title), prose_html(" … ".join(one.sentences))) for one in report.flagged
    ]
    return _table(
        "Read like instructions to a program, so never quoted",
        ("Paper", "Sentences"),
        rows,
        _MOST_MERGES,
    )


def _rejections_html(report: AddReport) -> str:
    rows = [(*_place(one.source, one.record), escaped(one.reason)) for one in report.rejected]
    return _table("Not taken", ("File", "Record", "Why"), rows, _MOST_REJECTIONS)


def _place(source: str, record: int) -> tuple[str, str]:
    return escaped(_file_name(source)), f"{record:,}" if record else "the whole file"


def health_html(checks: "Iterable[Check]", papers: int, size_bytes: int) -> str:
    """How large a library is, and what was found when it was checked."""
    rows = [
        (
            escaped(check.name),
            f'<span class="{"ok" if check.ok else "bad"}">{"ok" if check.ok else "bad"}</span>',
            escaped(check.seen),
            f"<code>{escaped(check.mend)}</code>" if check.mend else "",
        )
        for check in checks
    ]
    table = _table("Checks", ("What", "State", "Seen", "What mends it"), rows, len(rows))
    return f'<div class="report"><p>{counted(papers, "paper")}, {size_bytes / 1e6:,.0f} MB</p>{table}</div>'


def _table(caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> str:
    """Rows of HTML under their names, the first of each naming the row; nothing where there are none."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for first, *others in rows[:most]
    )
    more = f'<p class="more">and {len(rows) - most:,} more</p>' if len(rows) > most else ""
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
