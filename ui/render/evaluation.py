"""HTML of evaluation runs: the summary of a report, and the comparison of two runs."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from eval import MetricComparison, compare, verdict
from rag.text.counts import format_count
from ui.render.html import error_html, table_html
from ui.render.mathematics import prose_html
from ui.render.text import (
    format_interval,
    format_number,
    format_p_value,
)

if TYPE_CHECKING:
    from eval.harness.comparison import QuestionScores

# Headline metrics of a report that the summary shows, followed by the CRAG score.
_HEADLINE_METRICS = (
    "nugget recall",
    "right paper cited",
    "correct-abstention rate",
    "answer rate",
)
_CRAG_SCORE = "CRAG score"
_MAX_WORST_ANSWERS = 5
_MAX_EXCERPT_CHARS = 280
_ABSTENTION = "Your library does not say."
_SETTINGS = {
    "language_model": "language model",
    "style": "style",
    "footnote": "Footnote version",
}
# Inside a frame, links out of a report lead nowhere, and links within it need the frame's URL.
_OUTGOING_LINK = re.compile(r'<a href="(?!#)[^"]*">(.*?)</a>', re.DOTALL)
_INTERNAL_HREF = '<a href="#'
_FRAME_HREF = '<a href="about:srcdoc#'


# --- report ---------------------------------------------------------------------------------------


def summary_html(report: Mapping[str, Any]) -> str:
    """Return the key figures of a report, and the worst answers with the cause of each error."""
    manifest = report["manifest"]
    questions = format_count(manifest["count"], "question")
    papers = format_count(manifest["papers"], "paper")
    about = (
        f"{questions} (split {manifest['split']} of {manifest['questions']}); {papers}, "
        f"language model {manifest['language_model']}, style {manifest['style']}."
    )
    return (
        f'<div class="run"><p class="fine-print">{escape(about)}</p>'
        f"{_failures_html(report)}{_headline_html(report)}{_worst_answers_html(report)}</div>"
    )


def _failures_html(report: Mapping[str, Any]) -> str:
    failed = report["failed"]
    if not failed:
        return ""
    replies = format_count(len(failed), "reply", "replies")
    return error_html(f"{replies} failed; the first: {failed[0]['error']}")


def _headline_html(report: Mapping[str, Any]) -> str:
    headline = {figure["name"]: figure for figure in report["headline"]}
    rows = []
    for name in _HEADLINE_METRICS:
        if name in headline:
            rows.append(_metric_row(name, headline[name]["description"], headline[name]))
    crag_score = next(iter(report["table"]["cells"][_CRAG_SCORE].values()))
    if crag_score:
        description = report["metrics"][_CRAG_SCORE]["description"]
        rows.append(_metric_row(_CRAG_SCORE, description, crag_score))
    caption = "Scores of the assistant: means with 95% intervals"
    return _scrollable_table(caption, ("Metric", "Mean", "Questions"), rows)


def _metric_row(name: str, description: str, figure: Mapping[str, Any]) -> tuple[str, ...]:
    interval = format_interval(figure["low"], figure["high"])
    return (
        f"{escape(name)}<br><small>{escape(description)}</small>",
        f"<strong>{format_number(figure['mean'])}</strong><br><small>{interval}</small>",
        f"{figure['n']:,}",
    )


def _worst_answers_html(report: Mapping[str, Any]) -> str:
    causes = {cause["name"]: cause["description"] for cause in report["errors"]["causes"]}
    items = ""
    for answer in report["worst"][:_MAX_WORST_ANSWERS]:
        items += _worst_answer_html(answer, causes)
    answers = f"<ol>{items}</ol>" if items else "<p>No wrong answers.</p>"
    return f'<section class="worst-answers"><h3>Worst answers</h3>{answers}</section>'


def _worst_answer_html(answer: Mapping[str, Any], causes: Mapping[str, str]) -> str:
    """Return a question with the expected answer, the answer, and the cause of the error."""
    history = ""
    if answer["history"]:
        questions = _excerpt_html(" · ".join(answer["history"]))
        history = f'<div class="history">After: {questions}</div>'
    cause = answer["error_cause"]
    details = {
        "Expected": _excerpt_html(_expected_answer(answer)),
        "Answer": _excerpt_html(_given_answer(answer) or "nothing"),
        "Cause": f"<strong>{escape(cause)}</strong>. {escape(causes.get(cause, ''))}",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in details.items())
    question = f'<div class="question">{_excerpt_html(answer["question"])}</div>'
    return f'<li class="worst-answer">{history}{question}<dl>{rows}</dl></li>'


def _given_answer(answer: Mapping[str, Any]) -> str:
    if answer["abstained"]:
        return _ABSTENTION
    return " ".join(map(itemgetter("text"), answer["statements"]))


def _expected_answer(answer: Mapping[str, Any]) -> str:
    vital_nuggets = filter(itemgetter("vital"), answer["nuggets"])
    nuggets = "; ".join(map(itemgetter("text"), vital_nuggets))
    if answer["answerable"]:
        return nuggets
    return f"{_ABSTENTION} Or a correction: {nuggets}" if nuggets else _ABSTENTION


def _excerpt_html(text: str) -> str:
    """Return untrusted text as HTML, shortened at a word."""
    if len(text) > _MAX_EXCERPT_CHARS:
        text = text[:_MAX_EXCERPT_CHARS].rsplit(" ", 1)[0] + " …"
    return prose_html(text)


def report_frame_html(page: str) -> str:
    """Return a report in a sandboxed frame: without scripts, and without links that leave it."""
    page = _OUTGOING_LINK.sub(r"\1", page).replace(_INTERNAL_HREF, _FRAME_HREF)
    return (
        '<section><h3>Full report</h3><iframe class="report-frame" sandbox="" '
        'title="Report of the evaluation" width="100%" height="900" '
        f'srcdoc="{escape(page, quote=True)}"></iframe></section>'
    )


# --- comparison -----------------------------------------------------------------------------------


def comparison_html(
    earlier: tuple[Mapping[str, Any], "Sequence[QuestionScores]"],
    later: tuple[Mapping[str, Any], "Sequence[QuestionScores]"],
) -> str:
    """Compare the manifests and scores of two runs, metric by metric."""
    (manifest, scores), (later_manifest, later_scores) = earlier, later
    get_id = attrgetter("id")
    shared = len(set(map(get_id, scores)).intersection(map(get_id, later_scores)))
    if not shared:
        return "<p>These runs have no questions in common.</p>"
    if manifest.get("questions_digest") == later_manifest.get("questions_digest"):
        questions = f"Both runs asked the same {format_count(shared, 'question')}."
    else:
        questions = (
            f"The runs asked different questions: {len(scores):,} and {len(later_scores):,}. "
            f"They share {shared:,}; only those are compared."
        )
    rows = list(map(_comparison_row, compare(scores, later_scores)))
    caption = "Differences with 95% intervals; p adjusted for the number of metrics (Holm)"
    columns = ("Metric", "Questions", "Earlier", "Later", "Difference", "p", "The later run is")
    changes = "; ".join(_changes(manifest, later_manifest)) or "neither library nor settings"
    return (
        f'<div class="comparison"><p>{questions}</p><p>What changed: {escape(changes)}.</p>'
        f"{_scrollable_table(caption, columns, rows)}</div>"
    )


def _changes(manifest: Mapping[str, Any], later: Mapping[str, Any]) -> list[str]:
    """Return the changes of settings and library, which may explain those of the scores."""
    changes = []
    for key, name in _SETTINGS.items():
        if manifest.get(key) != later.get(key):
            changes.append(f"{name}: {manifest.get(key)}, then {later.get(key)}")
    if manifest.get("library_digest") != later.get("library_digest"):
        counts = f"{manifest.get('papers')} papers, then {later.get('papers')}"
        changes.append(f"library: {counts}, not the same ones")
    return changes


def _comparison_row(comparison: MetricComparison) -> tuple[str, ...]:
    difference = format_number(comparison.difference, signed=True)
    interval = format_interval(comparison.low, comparison.high, signed=True)
    result = verdict(comparison)
    if result in ("better", "worse"):
        result = f'<strong class="{result}">{result}</strong>'
    return (
        escape(comparison.metric),
        f"{comparison.questions:,}",
        format_number(comparison.first),
        format_number(comparison.second),
        f"{difference}<br><small>{interval}</small>",
        escape(format_p_value(comparison.p_holm)),
        result,
    )


def _scrollable_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = table_html(caption, columns, rows)
    region = f'role="region" aria-label="{caption}" tabindex="0"'
    return f'<div class="scroll-region" {region}>{table}</div>'
