"""Records as HTML, each on one line, for the chat, its sources and the library.

Untrusted text goes through `ui.render.mathematics`. Links lead into the page, or to http and https.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import TYPE_CHECKING

from rag import AddReport, Answer, Citation, Claim, Evidence, Paper, Trace
from rag.records import Preview
from rag.text.answer_form import evidence_by_paper, written_claims
from rag.text.counts import format_count
from rag.text.prompt_injection import paper_injections
from ui.render.mathematics import escape_text, plain_text, prose_html, strip_invisible
from ui.render.text import format_megabytes

if TYPE_CHECKING:
    from rag.library.doctor import Check

_MATCHED_BY = {"doi": "DOI", "arxiv": "arXiv ID", "pmid": "PubMed ID", "title": "title"}
_MAX_MERGES = 20
_MAX_REJECTIONS = 50
# No user information before the host, so that a link leads to the host that it shows.
_WEB_ADDRESS = re.compile(r"https?://(?:www\.)?([^\s/?#@\\]+(?:[/?#]\S*)?)", re.IGNORECASE)
_MAX_LINK_CHARS = 80
# How claims of a status came about, in the words of the badge.
_ORIGINS = {
    "checked": "written by the model, checked against the quotes",
    "computed": "computed from your library",
    "quoted": "quoted",
}
_LIST_ITEM = '<li dir="auto">{}</li>'
_RETRACTED = ' <strong class="retracted">Retracted</strong>'
_NO_ABSTRACT = "No abstract: the paper can be found by its title but never quoted."
_INJECTION = "Looks like an order to a program, never quoted or given to a model:"


# --- messages -------------------------------------------------------------------------------------


def waiting_html() -> str:
    """Return the message that the chat shows before an answer begins."""
    return '<div class="answer pending"><p class="fine-print">Searching your library</p></div>'


def partial_answer_html(text: str, preview: Preview | None = None, ahead: int = 0) -> str:
    """Return an answer that is still being written: its text so far, above the evidence.

    Before the text begins, the reader sees how many answers are `ahead` in the queue.
    """
    place = f"{format_count(ahead, 'answer')} before yours" if ahead else "Writing the answer"
    written = f'<p class="fine-print">{place}</p>'
    if text:
        lines = map(prose_html, filter(None, text.split("\n")))
        written = f'<div class="written">{"".join(map("<p>{}</p>".format, lines))}</div>'
    query = _rewritten_query_html(preview.rewritten_query) if preview else ""
    evidence = _preview_html(preview.evidence) if preview else ""
    return f'<div class="answer pending">{query}{written}{evidence}</div>'


def _preview_html(evidence: Iterable[Evidence]) -> str:
    papers: dict[str, list[Evidence]] = {}
    for item in evidence:
        papers.setdefault(item.paper.id, []).append(item)
    html = ""
    for items in papers.values():
        quotes = [f"“{prose_html(item.sentence.text)}”" for item in items]
        paper = items[0].paper
        title = f'<span class="title">{prose_html(paper.title)}</span>{_byline_html(paper)}'
        html += _quotations_html(title, quotes)
    return f'<div class="evidence">{html}</div>' if html else ""


def failed_answer_html(message: str) -> str:
    """Return the message that the chat shows when an answer failed."""
    return (
        '<div class="answer failed"><p class="answer-status">No answer</p>'
        f'<p>{escape_text(message)}</p><p class="fine-print">You can ask again.</p></div>'
    )


def error_html(error: object) -> str:
    """Return an error message."""
    return f'<p class="error-notice" role="alert">{escape_text(str(error))}</p>'


def notice_html(text: str) -> str:
    """Return a message that is not an error."""
    return f'<p class="notice" role="status">{escape_text(text)}</p>'


# --- answers --------------------------------------------------------------------------------------


def answer_html(answer: Answer) -> str:
    """Return the answer, or the closest matches when the library does not answer.

    Each footnote links to its sentence among the sources (`#s-3`).
    """
    if answer.abstained:
        return _abstention_html(answer)
    linked: set[int] = set()
    text = _written_html(answer, linked) + _evidence_html(answer, linked) or "<p>No answer.</p>"
    confidence = f"Confidence: {answer.confidence_label}"
    is_written = any(claim.kind == "generated" for claim in answer.claims)
    method = f"written by {answer.trace.language_model}" if is_written else ""
    return (
        f'<div class="answer">{_rewritten_query_html(answer.trace.rewritten_query)}{text}'
        f"{_notices_html(answer)}{_fine_print_html(answer.trace, confidence, method)}</div>"
    )


def _abstention_html(answer: Answer) -> str:
    matches = ""
    for hit in answer.hits:
        matches += f"<li>{_card_link(hit.paper)}</li>"
    closest = f'<p>Closest matches:</p><ul class="closest">{matches}</ul>' if matches else ""
    reason = f"<p>{escape_text(answer.reason)}</p>" if answer.reason else ""
    return (
        f'<div class="answer abstained">{_rewritten_query_html(answer.trace.rewritten_query)}'
        '<p class="answer-status">Your library does not say.</p>'
        f"{reason}{closest}{_notices_html(answer)}{_fine_print_html(answer.trace)}</div>"
    )


def _written_html(answer: Answer, linked: set[int]) -> str:
    """Return the written claims as paragraphs and lists, and below them how they came about."""
    citations = {citation.number: citation for citation in answer.citations}
    written = written_claims(answer.claims)
    html = ""
    for is_list, claims in groupby(written, key=lambda claim: bool(claim.heading)):
        texts = []
        for claim in claims:
            cited = [citations[number] for number in claim.citations if number in citations]
            texts.append(_claim_html(claim, cited, linked))
        if is_list:
            html += f"<ul>{''.join(map(_LIST_ITEM.format, texts))}</ul>"
        else:
            html += f'<p dir="auto">{" ".join(texts)}</p>'
    statuses = dict.fromkeys(map(_claim_status, written))
    return html + _badges_html(filter(_ORIGINS.get, statuses))


def _claim_html(claim: Claim, citations: Sequence[Citation], linked: set[int]) -> str:
    heading = f"<strong>{prose_html(claim.heading)}</strong>: " if claim.heading else ""
    is_retracted = any(citation.paper.retracted for citation in citations)
    return "".join(
        (
            heading,
            prose_html(claim.shown_text),
            _footnotes_html(citations, linked),
            "" if claim.supported else f" {_badge_html('unsupported', 'unsupported')}",
            _RETRACTED if is_retracted else "",
        )
    )


def _evidence_html(answer: Answer, linked: set[int]) -> str:
    """Return the quotations below the titles of their papers."""
    html = ""
    for citations in evidence_by_paper(answer.claims, answer.citations):
        quotes = []
        for citation in citations:
            footnote = _footnotes_html([citation], linked)
            quote = f"“{prose_html(citation.quote)}”" if citation.quote else ""
            quotes.append(f"{quote}{footnote}")
        html += _quotations_html(_card_link(citations[0].paper), quotes)
    return f'<div class="evidence">{_badges_html(["quoted"])}{html}</div>' if html else ""


def _quotations_html(title: str, quotes: Iterable[str]) -> str:
    items = "".join(map(_LIST_ITEM.format, quotes))
    return f'<p class="evidence-title">{title}</p><ul>{items}</ul>'


def _footnotes_html(citations: Sequence[Citation], linked: set[int]) -> str:
    """Link to the sources. Of each number, the first footnote is the target of the link back."""
    links = []
    for citation in citations:
        number = citation.number
        anchor = "" if number in linked else f' id="n-{number}"'
        linked.add(number)
        title = escape(_paper_title(citation.paper))
        links.append(f'<a class="footnote"{anchor} href="#s-{number}" title="{title}">{number}</a>')
    return f'<sup class="footnotes">{", ".join(links)}</sup>' if links else ""


def _paper_title(paper: Paper) -> str:
    return " — ".join(filter(None, (plain_text(paper.title), plain_text(paper.byline))))


def _claim_status(claim: Claim) -> str:
    if not claim.supported:
        return "unsupported"
    return {"generated": "checked", "extracted": "quoted"}.get(claim.kind, claim.kind)


def _badges_html(statuses: Iterable[str]) -> str:
    """Return a line that says where the text above or below comes from."""
    badges = " ".join(_badge_html(status, _ORIGINS[status]) for status in statuses)
    return f'<p class="badges">{badges}</p>' if badges else ""


def _badge_html(status: str, text: str) -> str:
    return f'<span class="badge {status}">{text}</span>'


def _card_link(paper: Paper) -> str:
    title = prose_html(paper.title)
    link = f'<a class="card-link" href="#p-{escape_text(paper.id)}">{title}</a>'
    return f"{link}{_byline_html(paper)}"


def _byline_html(paper: Paper) -> str:
    byline = f" — {prose_html(paper.byline)}" if paper.byline else ""
    return f"{byline}{_retraction_html(paper)}"


def _retraction_html(paper: Paper) -> str:
    return _RETRACTED if paper.retracted else ""


def _rewritten_query_html(query: str) -> str:
    return f'<p class="notice">Interpreted as: {escape_text(query)}</p>' if query else ""


def _notices_html(answer: Answer) -> str:
    html = ""
    for notice in answer.notices:
        html += f'<p class="notice">{escape_text(notice[:1].upper() + notice[1:])}</p>'
    return html


def _fine_print_html(trace: Trace, confidence: str = "", method: str = "") -> str:
    """Return confidence, time and model on one line."""
    seconds = f"{sum(trace.seconds.values()):.1f} s" if trace.seconds else ""
    parts = filter(None, (confidence, seconds, method))
    return f'<p class="fine-print">{" · ".join(map(escape_text, parts))}</p>'


# --- sources --------------------------------------------------------------------------------------


def sources_html(answers: Sequence[Answer]) -> str:
    """Return the papers behind a conversation as cards, those of the newest answer first.

    `answers` are in the order of the conversation. Each paper has one card (`p-ID`) and each
    footnote one anchor (`s-3`).
    """
    if not answers:
        hint = "Sources appear here, with quoted sentences highlighted."
        return f'<p class="sources-empty">{hint}</p>'
    papers: dict[str, Paper] = {}
    for answer in answers:
        papers |= _answer_papers(answer)
    newest_ids = list(_answer_papers(answers[-1]))
    cards = _cards(papers, answers, open_ids=newest_ids[:1])
    newest = "".join(map(cards.pop, newest_ids))
    earlier = "".join(cards.values())
    if earlier:
        earlier = f"<h3>Earlier in this conversation</h3>{earlier}"
    heading = "Closest matches" if answers[-1].abstained else "Sources"
    return f'<section class="sources"><h2>{heading}</h2>{newest}{earlier}</section>'


def _answer_papers(answer: Answer) -> dict[str, Paper]:
    """Return the papers of an answer: the cited ones by number, then the closest matches."""
    citations = sorted(answer.citations, key=attrgetter("number"))
    papers = {citation.paper.id: citation.paper for citation in citations}
    if answer.abstained:
        papers |= {hit.paper.id: hit.paper for hit in answer.hits}
    return papers


def _cards(
    papers: Mapping[str, Paper], answers: Sequence[Answer], open_ids: Collection[str]
) -> dict[str, str]:
    """Return a card for each paper, by id, with every citation of it in the conversation."""
    citations: dict[int, Citation] = {}
    for answer in answers:
        citations |= {citation.number: citation for citation in answer.citations}
    paper_citations = defaultdict(list)
    for number in sorted(citations):
        paper_citations[citations[number].paper.id].append(citations[number])
    statuses = _paper_statuses(answers, citations)
    cards = {}
    for paper_id, paper in papers.items():
        is_open = paper_id in open_ids
        cards[paper_id] = _card(
            paper, paper_citations[paper_id], statuses[paper_id], is_open=is_open
        )
    return cards


def _paper_statuses(
    answers: Sequence[Answer], citations: Mapping[int, Citation]
) -> Mapping[str, Collection[str]]:
    """Return how each paper was used, by id: the statuses of the claims that cite it."""
    statuses: dict[str, dict[str, None]] = defaultdict(dict)  # used as ordered sets
    for claim in chain.from_iterable(map(attrgetter("claims"), answers)):
        for number in filter(citations.__contains__, claim.citations):
            statuses[citations[number].paper.id][_claim_status(claim)] = None
    return statuses


def _card(
    paper: Paper, citations: Sequence[Citation], statuses: Collection[str], *, is_open: bool
) -> str:
    numbers = " ".join(f"[{citation.number}]" for citation in citations)
    byline = prose_html(paper.byline)
    parts = [
        f'<span class="numbers">{numbers}</span>' if numbers else "",
        f'<span class="title">{prose_html(paper.title)}</span>',
        f'<span class="byline">{byline}</span>' if byline else "",
        _retraction_html(paper).strip(),
        *map(_badge_html, statuses, statuses),
    ]
    summary = " ".join(filter(None, parts))
    return (
        f'<details class="card" id="p-{escape_text(paper.id)}"{" open" if is_open else ""}>'
        f"<summary>{summary}</summary>{_card_body(paper, citations)}</details>"
    )


def _card_body(paper: Paper, citations: Sequence[Citation]) -> str:
    authors = prose_html(", ".join(paper.authors))
    parts = [str(paper.year or ""), prose_html(paper.venue), *_links(paper)]
    metadata = " · ".join(filter(None, parts))
    return "".join(
        (
            '<div class="body">',
            f'<p class="authors">{authors}</p>' if authors else "",
            f'<p class="paper-metadata">{metadata}</p>' if metadata else "",
            *_abstracts_html(paper, citations),
            "</div>",
        )
    )


def _abstracts_html(paper: Paper, citations: Sequence[Citation]) -> Iterator[str]:
    """Yield the abstract, then earlier versions of it that were quoted."""
    versions = dict.fromkeys([paper.abstract, *(citation.paper.abstract for citation in citations)])
    for abstract in versions:
        if abstract != paper.abstract:
            yield '<p class="notice">The abstract has changed since. As quoted:</p>'
        quoted = [citation for citation in citations if citation.paper.abstract == abstract]
        if marked := _highlight(abstract, quoted):
            yield f'<p class="abstract" dir="auto">{marked}</p>'
        else:
            yield f'<p class="notice">{_NO_ABSTRACT}</p>'
    if injections := paper_injections(paper):
        sentences = prose_html(" … ".join(injections))
        yield f'<p class="notice paper-warning">{_INJECTION} “{sentences}”</p>'


def _highlight(abstract: str, citations: Iterable[Citation]) -> str:
    pieces: list[str] = []
    position = 0
    for group in _group_overlapping(citations):
        start, end = group[0].start, _group_end(group)
        pieces += [prose_html(abstract[position:start]), _mark(abstract[start:end], group)]
        position = end
    return "".join([*pieces, prose_html(abstract[position:])])


def _group_overlapping(citations: Iterable[Citation]) -> list[list[Citation]]:
    """Group the citations that share characters of the abstract, in its order."""
    groups: list[list[Citation]] = []
    for citation in sorted(citations, key=attrgetter("start", "number")):
        if groups and citation.start < _group_end(groups[-1]):
            groups[-1].append(citation)
        else:
            groups.append([citation])
    return groups


def _group_end(group: Sequence[Citation]) -> int:
    return max(citation.end for citation in group)


def _mark(text: str, citations: Sequence[Citation]) -> str:
    """Highlight a text, with an anchor for each citation and links back to the answer."""
    anchors, links = [], []
    for citation in citations:
        number = citation.number
        anchors.append(f'<span class="anchor" id="s-{number}" tabindex="-1"></span>')
        link = f'<a class="back-link" href="#n-{number}" title="Back to the answer">↩ {number}</a>'
        links.append(f" {link}")
    opening = f'<mark id="s-{citations[0].number}" tabindex="-1">'
    return f"{opening}{''.join(anchors[1:])}{prose_html(text)}</mark>{''.join(links)}"


# --- papers ---------------------------------------------------------------------------------------


def paper_html(paper: Paper) -> str:
    """Return a paper with all its metadata and its abstract."""
    metadata = {
        "Authors": prose_html(", ".join(paper.authors)),
        "Year": str(paper.year or ""),
        "Venue": prose_html(paper.venue),
        "DOI": escape_text(paper.doi),
        "arXiv": escape_text(paper.arxiv_id),
        "PubMed": escape_text(paper.pmid),
        "Link": ", ".join(_links(paper)),
        "ID": escape_text(paper.id),
        "Source file": escape_text(_file_name(paper.source)),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in metadata.items() if text)
    return (
        '<article class="paper">'
        f"<h3>{prose_html(paper.title)}{_retraction_html(paper)}</h3>"
        f'<dl class="paper-metadata">{rows}</dl>{"".join(_abstracts_html(paper, ()))}</article>'
    )


def _links(paper: Paper) -> list[str]:
    """Return links to the DOI, arXiv, PubMed and the paper's own URL, each address once."""
    without_url = replace(paper, url="")
    without_doi = replace(without_url, doi="")
    without_arxiv = replace(without_doi, arxiv_id="")
    addresses: dict[str, str] = {}
    for variant in (without_url, without_doi, without_arxiv, paper):
        if match := _WEB_ADDRESS.fullmatch(strip_invisible(variant.link)):
            addresses.setdefault(match[1], match[0])
    return [_link_html(address, text) for text, address in addresses.items()]


def _link_html(address: str, text: str) -> str:
    if len(text) > _MAX_LINK_CHARS:
        text = text[:_MAX_LINK_CHARS] + "…"
    attributes = 'target="_blank" rel="noopener noreferrer"'
    return f'<a href="{escape(address)}" {attributes}>{escape(text)}</a>'


def _file_name(path: str) -> str:
    """Return the last part of a POSIX or Windows path: the page does not reveal folders."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


# --- reports --------------------------------------------------------------------------------------


def add_report_html(report: AddReport) -> str:
    """Return the outcome of an import: counts, duplicates, flagged sentences, skipped records."""
    records = format_count(report.read, "record")
    papers = format_count(report.papers, "paper")
    text = (
        f"{records} read: {report.added:,} added, {report.updated:,} updated, "
        f"{report.merged:,} merged, {report.unchanged:,} unchanged, "
        f"{len(report.rejected):,} skipped. {papers} in the library."
    )
    if report.without_abstract:
        text += f" Without an abstract (never quoted): {report.without_abstract:,}."
    tables = f"{_merges_html(report)}{_flagged_html(report)}{_rejections_html(report)}"
    return f'<div class="report"><p>{text}</p>{tables}</div>'


def _merges_html(report: AddReport) -> str:
    # Merging identical records changes nothing.
    merges = [merge for merge in report.merges if merge.matched_by != "record"]
    absorbed = zip(report.absorbed, repeat("; two papers became one"))
    rows = []
    for merge, note in chain(zip(merges, repeat("")), absorbed):
        matched_by = _MATCHED_BY.get(merge.matched_by, escape_text(merge.matched_by))
        place = _record_cells(merge.source, merge.record)
        rows.append((prose_html(merge.title), *place, matched_by + note))
    columns = ("Paper", "File", "Record", "Matched by")
    return table_html("Duplicates merged", columns, rows, max_rows=_MAX_MERGES)


def _flagged_html(report: AddReport) -> str:
    rows = []
    for paper in report.flagged:
        rows.append((prose_html(paper.title), prose_html(" … ".join(paper.sentences))))
    caption = "Sentences that look like orders to a program (never quoted or given to a model)"
    return table_html(caption, ("Paper", "Sentences"), rows, max_rows=_MAX_MERGES)


def _rejections_html(report: AddReport) -> str:
    rows = []
    for rejection in report.rejected:
        cells = _record_cells(rejection.source, rejection.record)
        rows.append((*cells, escape_text(rejection.reason)))
    return table_html("Skipped", ("File", "Record", "Reason"), rows, max_rows=_MAX_REJECTIONS)


def _record_cells(source: str, record: int) -> tuple[str, str]:
    return escape_text(_file_name(source)), f"{record:,}" if record else "whole file"


def health_html(checks: "Iterable[Check]", papers: int, size_bytes: int) -> str:
    """Return the size of a library and the results of its checks."""
    rows = []
    for check in checks:
        css_class, status = ("ok", "OK") if check.ok else ("bad", "Problem")
        fix = f"<code>{escape_text(check.fix)}</code>" if check.fix else ""
        badge = f'<span class="{css_class}">{status}</span>'
        rows.append((escape_text(check.name), badge, escape_text(check.detail), fix))
    table = table_html("Checks", ("Check", "Status", "Details", "Fix"), rows)
    size = f"{format_count(papers, 'paper')}, {format_megabytes(size_bytes)}"
    return f'<div class="report"><p>{size}</p>{table}</div>'


def table_html(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    max_rows: int | None = None,
) -> str:
    """Return a table of cells that are HTML already; the first cell of a row is its header.

    Without rows there is no table. A note counts the rows beyond `max_rows`.
    """
    if not rows:
        return ""
    header = "".join(map('<th scope="col">{}</th>'.format, columns))
    body = "".join(map(_table_row, rows[:max_rows]))
    hidden = len(rows) - len(rows[:max_rows])
    note = f'<p class="more">and {hidden:,} more</p>' if hidden else ""
    return (
        f"<table><caption>{caption}</caption><thead><tr>{header}</tr></thead>"
        f"<tbody>{body}</tbody></table>{note}"
    )


def _table_row(cells: Sequence[str]) -> str:
    header, *others = cells
    columns = "".join(map("<td>{}</td>".format, others))
    return f'<tr><th scope="row">{header}</th>{columns}</tr>'
