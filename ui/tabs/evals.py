"""The tab "Evals": questions with known answers are put to the assistant, and one sees what came of it."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio

from eval import Compared, compare, load_scores
from rag import Assistant, FootnoteError, UsageError
from ui.render.html import counted, problem_html, remark_html
from ui.render.mathematics import prose_html
from ui.services.evaluations import (
    ALONE,
    DAMAGE,
    Evaluations,
    Job,
    Kept,
    State,
    asks,
    in_words,
    number,
)
from ui.services.library_registry import STYLES, LibraryRegistry

# What an event gives: a new value, or new properties, for each component that changes.
Updates = dict[Any, Any]


# --- what is shown -----------------------------------------------------------------------------------------------

# Metrics that are better when lower, and those of which neither can be said; of the others higher is better.
_LOWER = (
    "contradicted",
    "invalid citations",
    "quotations not literal",
    "sentences without footnote",
)
_NEITHER = ("copied", "words")
_SIGNIFICANT = 0.05
_FIRST = ("facts", "right paper", "refused", "answered")
_WORTH = (
    "What a reply is worth to its reader, −1 to 1: the share of the facts; 0 for not answering; −1 for an answer "
    "without any fact, without a right paper, or where there is none."
)
_WORST = 5
_LONGEST = 280  # characters of what was expected and said
# Links in a report that lead out of it, to where a frame has nothing; and those inside, which in a frame need its name.
_LINK_OUT = re.compile(r'<a href="(?!#)[^"]*">(.*?)</a>', re.S)
_LINK_IN = '<a href="#'


def progress_html(state: State) -> str:
    """How the run at work gets on, or how the last one ended."""
    if not state.working:
        kind = "problem" if state.failed else "ended"
        return (
            f'<p class="{kind}" role="status">{escape(state.message)}</p>' if state.message else ""
        )
    if not state.total:
        bar, words = "", "Getting models and questions ready"
    elif not state.system:
        bar, words = "", "All questions are asked; making the report"
    else:
        bar = f' max="{state.total}" value="{state.done}"'
        whom = "the assistant" if state.system in ALONE else f"“{escape(state.system)}”"
        words = (
            f"{state.done:,} of {state.total:,} questions asked{_left(state.left)}. At work: {whom}"
        )
    words = "Stopping after the question in hand" if state.stopping and state.system else words
    return f'<div class="progress"><progress aria-label="Progress of the run"{bar}></progress> {words}</div>'


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f", about {max(5, round(seconds / 5) * 5)} s left"
    return f", about {round(seconds / 60)} min left"


def state_html(kept: Kept, at_work: bool) -> str:
    """What there is to say of a run without a report."""
    if at_work:
        return "<p>This run is at work.</p>"
    if kept.state == "damaged":
        again = " “Go on” asks what is missing and makes the report anew." if kept.can_go_on else ""
        return problem_html(f"This run is damaged: {kept.trouble}.{again}")
    kept_so_far = f"This run is unfinished; {counted(kept.replies, 'reply', 'replies')} are kept."
    how = "“Go on” takes it up where it stopped."
    elsewhere = f"It was not begun here; footnote eval takes it up, with its own options and the folder {kept.name}."
    return f"<p>{escape(f'{kept_so_far} {how if kept.can_go_on else elsewhere}')}</p>"


def look_html(path: Path) -> tuple[str, str]:
    """The summary and the report of the run in a folder. Raises `UsageError` when they cannot be read."""
    try:
        summary = summary_html(json.loads((path / "report.json").read_text(encoding="utf-8")))
        return summary, frame_html((path / "report.html").read_text(encoding="utf-8"))
    except DAMAGE as error:
        raise UsageError(
            f"The report of this run cannot be read: {in_words(error, path)}."
        ) from error


def summary_html(report: Mapping[str, Any]) -> str:
    """What matters most in the figures of a report: the headline metrics, and the worst answers with their blame."""
    about = report["about"]
    asked = (
        f"{counted(about['count'], 'question')} (split {about['split']} of {about['questions']})"
    )
    whom = f"{counted(about['papers'], 'paper')}, language model {about['language_model']}, style {about['style']}"
    failed = [one["error"] for one in report["failed"]]
    trouble = (
        f"{counted(len(failed), 'reply', 'replies')} failed; the first: {failed[0]}"
        if failed
        else ""
    )
    lead = f'<p class="about">{escape(f"{asked}; {whom}.")}</p>{problem_html(trouble) if trouble else ""}'
    return f'<div class="run">{lead}{_headline(report)}{_worst(report)}</div>'


def _headline(report: Mapping[str, Any]) -> str:
    told = {one["name"]: one for one in report["headline"]}
    worth = next(iter(report["table"]["cells"]["worth"].values()))
    lines = [told[name] for name in _FIRST if name in told]
    lines += [worth | {"name": "worth", "text": _WORTH}] if worth else []
    rows = [
        (
            f"{escape(one['name'])}<br><small>{escape(one['text'])}</small>",
            f"<strong>{number(one['mean'])}</strong><br><small>{number(one['low'])} to {number(one['high'])}</small>",
            f"{one['n']:,}",
        )
        for one in lines
    ]
    return _table(
        "The assistant in figures: means with 95 % intervals", ("Metric", "Mean", "Questions"), rows
    )


def _worst(report: Mapping[str, Any]) -> str:
    blames = {one["name"]: one["text"] for one in report["blame"]["misses"]}
    items = "".join(_miss(one, blames) for one in report["worst"][:_WORST])
    shown = (
        f"<ol>{items}</ol>"
        if items
        else "<p>No question that came back with a reply missed anything.</p>"
    )
    return f'<section class="worst"><h3>Worst answers</h3>{shown}</section>'


def _miss(one: Mapping[str, Any], blames: Mapping[str, str]) -> str:
    """A question with what was expected, what was said, and where it got lost."""
    before = (
        f'<div class="before">After: {_prose(" · ".join(one["history"]))}</div>'
        if one["history"]
        else ""
    )
    said = (
        "Your library does not say."
        if one["abstained"]
        else " ".join(said["text"] for said in one["said"])
    )
    pairs = (
        ("Expected", _prose(_expected(one))),
        ("Statement", _prose(said or "nothing")),
        (
            "To blame",
            f"<strong>{escape(one['blame'])}</strong>. {escape(blames.get(one['blame'], ''))}",
        ),
    )
    told = "".join(f"<dt>{term}</dt><dd>{words}</dd>" for term, words in pairs)
    return f'<li class="miss">{before}<div class="asked">{_prose(one["question"])}</div><dl>{told}</dl></li>'


def _expected(one: Mapping[str, Any]) -> str:
    vital = "; ".join(fact["text"] for fact in one["facts"] if fact["vital"])
    if one["answerable"]:
        return vital
    return (
        f"Your library does not say; or a correction: {vital}"
        if vital
        else "Your library does not say."
    )


def _prose(text: str) -> str:
    """A stranger's text, shortened at a word."""
    return prose_html(text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " …")


def frame_html(page: str) -> str:
    """A report in a frame that may do nothing: no script, no way out of it."""
    inside = escape(
        _LINK_OUT.sub(r"\1", page).replace(_LINK_IN, '<a href="about:srcdoc#'), quote=True
    )
    return (
        "<section><h3>The whole report</h3>"
        '<iframe class="report-frame" sandbox="" title="Report of the evaluation" width="100%" height="900" '
        f'srcdoc="{inside}"></iframe></section>'
    )


def comparison_html(earlier: Path, later: Path) -> str:
    """Whether the later of two runs is better than the earlier, metric by metric. Raises `UsageError`."""
    try:
        return _comparison(earlier, later)
    except DAMAGE as error:
        raise UsageError(
            f"These runs cannot be compared: {in_words(error, earlier.parent)}."
        ) from error


def _comparison(earlier: Path, later: Path) -> str:
    (about, before), (about_later, after) = load_scores(earlier), load_scores(later)
    shared = len({row.id for row in before} & {row.id for row in after})
    if not shared:
        return "<p>These runs have no question in common: there is nothing to compare.</p>"
    rows = [_compared(line) for line in compare(before, after)]
    caption = "Differences with 95 % intervals; p is adjusted for the number of metrics (Holm)"
    columns = ("Metric", "Questions", "Earlier", "Later", "Difference", "p", "The later run is")
    told = f"<p>{escape(_shared(about, about_later, shared, len(before), len(after)))}</p>"
    return f'<div class="comparison">{told}{_changes(about, about_later)}{_table(caption, columns, rows)}</div>'


def _shared(about: Mapping[str, Any], other: Mapping[str, Any], shared: int, *counts: int) -> str:
    if about.get("questions_digest") == other.get("questions_digest"):
        return f"Both runs asked the same {counted(shared, 'question')}."
    one, two = counts
    return f"The runs asked different questions: {one:,} and {two:,}. They share {shared:,}; only those are compared."


def _changes(about: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What else than chance may have made a difference."""
    names = {
        "language_model": "language model",
        "style": "style",
        "footnote": "version of Footnote",
    }
    said = [f"{told}: {about.get(name)}, then {other.get(name)}"
            for name, told in names.items() if about.get(name) != other.get(name)]  # fmt: skip
    if about.get("library_digest") != other.get("library_digest"):
        said.append(
            f"library: {about.get('papers')} papers, then {other.get('papers')} papers, not the same ones"
        )
    words = "; ".join(said) if said else "neither library nor settings"
    return f"<p>What changed: {escape(words)}.</p>"


def _compared(line: Compared) -> tuple[str, ...]:
    low, high = number(line.low, signed=True), number(line.high, signed=True)
    interval = f"{number(line.difference, signed=True)}<br><small>{low} to {high}</small>"
    means = number(line.one), number(line.other)
    p = "under 0.001" if line.p_holm < 0.001 else f"{line.p_holm:.3f}"
    return escape(line.metric), f"{line.questions:,}", *means, interval, p, verdict(line)


def verdict(line: Compared) -> str:
    """What a difference means, in words."""
    if line.p_holm >= _SIGNIFICANT or not line.difference:
        return "no clear difference"
    if line.metric in _NEITHER:
        return "higher" if line.difference > 0 else "lower"
    good = (line.difference > 0) != (line.metric in _LOWER)
    return (
        '<strong class="better">better</strong>' if good else '<strong class="worse">worse</strong>'
    )


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0">{table}</div>'


# --- the tab -----------------------------------------------------------------------------------------------------

_CURATED, _OWN = "curated", "own"
_QUESTIONS = [
    ("the curated ones, about the sample papers", _CURATED),
    ("my own, about the library chosen above", _OWN),
]
_SPLITS = [("test: what to expect", "test"), ("dev: for tuning", "dev"), ("all", "all")]
_QUICK = 10
_THOROUGH = [
    (f"Quick look: every {_QUICK}th question", _QUICK),
    ("Every 3rd question", 3),
    ("All", 1),
]
_LINE = """\
{"id": "q1", "split": "dev", "kind": "base", "type": "fact", "answerable": true,
 "question": "How much memory does two-bit quantization of the cache save?",
 "gold": [["id-of-the-paper"]],
 "nuggets": [{"text": "2.6 times less", "any": ["2.6x less", "2.6 times less"], "numbers": ["2.6"], "vital": true}]}"""
_HELP = (
    "<details><summary>What a line of the file holds</summary><p>One JSON record per line: the question, the papers "
    "that a right answer cites (<code>gold</code>), and the facts that it holds (<code>nuggets</code>).</p>"
    f"<pre><code>{escape(_LINE)}</code></pre></details>"
)


def evals_tab(shelf: LibraryRegistry, library: gradio.Dropdown, folder: Path) -> None:
    """Build the tab inside a running `with gradio.Tab("Evals")`.

    `library` is the dropdown that all tabs share; own questions are put to the library chosen there. `folder` holds one
    folder per run.
    """
    _Tab(Evaluations(folder, partial(_assistant, shelf)), shelf, library)


def _assistant(shelf: LibraryRegistry, job: Job) -> Assistant:
    """The assistant that a run is put to: one that the page has already, where it can be."""
    if job.library:
        return shelf.assistant(job.library)
    sample = Assistant.sample()
    key = str(sample.library.folder)
    return shelf.assistant(key) if any(key == known for _, known in shelf.libraries) else sample


class _Tab:
    """The components of the tab and what happens between them."""

    def __init__(
        self, evaluations: Evaluations, shelf: LibraryRegistry, library: gradio.Dropdown
    ) -> None:
        self._evaluations = evaluations
        self._shelf = shelf
        self._library = library
        with gradio.Column(elem_classes="evals"):
            self._build_form()
            self._build_look()
        self._wire()

    def _build_form(self) -> None:
        gradio.Markdown("## New run")
        with gradio.Row():
            with gradio.Column(min_width=280):
                self._questions = gradio.Radio(_QUESTIONS, value=_CURATED, label="Questions")
                with gradio.Column(visible=False) as self._own:
                    self._file = gradio.File(
                        label="Your questions, as JSON Lines",
                        file_types=[".jsonl", ".json", ".txt"],
                        height=120,
                    )
                    gradio.HTML(_HELP)
                self._rivals = gradio.Checkbox(
                    label="Ask trivial rivals, and the assistant with one ingredient less, too (takes longer)"
                )
            with gradio.Column(min_width=280):
                self._split = gradio.Radio(
                    _SPLITS, value="test", label="Which part of the questions"
                )
                self._every = gradio.Radio(_THOROUGH, value=_QUICK, label="How thorough")
                self._style = gradio.Radio(STYLES, value="auto", label="Answers are")
        self._note = gradio.HTML(self._noted(Job(every=_QUICK), None))
        with gradio.Row():
            self._run = gradio.Button("Run", variant="primary")
            self._stop = gradio.Button("Stop", variant="stop", visible=False)
        self._progress = gradio.HTML()

    def _build_look(self) -> None:
        gradio.Markdown("## Runs")
        # A server that was started anew does not know the choices of a page that was left open, and would refuse them.
        chosen: dict[str, Any] = {"value": None, "interactive": True, "allow_custom_value": True}
        self._runs = gradio.Dropdown([], label="Look at a run", **chosen)
        with gradio.Row():
            self._go_on = gradio.Button("Go on", visible=False, size="sm")
            self._download = gradio.DownloadButton("Download the report", visible=False, size="sm")
            self._delete = gradio.Button(
                "Delete this run", visible=False, variant="stop", size="sm"
            )
        with gradio.Column(visible=False) as self._sure:
            self._doomed = gradio.HTML()
            with gradio.Row():
                self._really = gradio.Button("Delete it", variant="stop", size="sm")
                self._keep = gradio.Button("Keep it", size="sm")
        self._summary = gradio.HTML()
        self._earlier = gradio.Dropdown(
            [], label="Compare with an earlier run", visible=False, **chosen
        )
        self._comparison = gradio.HTML()
        self._report = gradio.HTML()

    # --- the events --------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        form: list[Any] = [
            self._questions,
            self._file,
            self._library,
            self._split,
            self._every,
            self._rivals,
            self._style,
        ]
        shown = [
            self._run,
            self._stop,
            self._progress,
            self._runs,
            self._go_on,
            self._download,
            self._delete,
        ]
        shown += [
            self._sure,
            self._doomed,
            self._summary,
            self._earlier,
            self._comparison,
            self._report,
        ]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        quick = hidden | {"concurrency_limit": 4}
        watching = hidden | {"outputs": shown, "concurrency_limit": None}
        ended: dict[str, Any] = {
            "fn": self._look_at_end,
            "inputs": self._runs,
            "outputs": shown,
            **quick,
        }
        gradio.on(None, self._open, **watching).then(**ended)
        gradio.on(
            [part.change for part in form[:-1]],
            self._preview,
            form,
            [self._note, self._own, self._progress],
            **quick,
        )
        self._run.click(self._start, form, **watching).then(**ended)
        self._go_on.click(self._resume, self._runs, **watching).then(**ended)
        self._stop.click(self._end, outputs=self._stop, **hidden, queue=False)
        self._runs.input(self._look, self._runs, shown, **quick)
        self._earlier.input(self._compare, [self._earlier, self._runs], self._comparison, **quick)
        self._delete.click(self._ask_whether, self._runs, shown, **quick)
        self._keep.click(lambda: gradio.Column(visible=False), outputs=self._sure, **quick)
        self._really.click(self._remove, self._runs, shown, **quick)

    def _preview(self, questions: str, file: str | None, *others: Any) -> Updates:  # noqa: ANN401 - as the form has them
        job, path = self._wanted(questions, file, *others)
        return {
            self._note: self._noted(job, path),
            self._own: gradio.Column(visible=questions == _OWN),
            self._progress: progress_html(self._evaluations.state),
        }

    def _noted(self, job: Job, questions: Path | None) -> str:
        """What a run would ask, or why it cannot."""
        if job.library and not questions:
            return remark_html("Choose a file with your questions.")
        try:
            return remark_html(asks(job, questions))
        except UsageError as error:
            return problem_html(str(error))

    def _wanted(  # noqa: PLR0913, PLR0917 - as the form has them
        self,
        questions: str,
        file: str | None,
        library: str,
        split: str,
        every: int,
        rivals: bool,
        style: str = "auto",
    ) -> tuple[Job, Path | None]:
        """What the form asks for, and the file of the user's own questions."""
        job = Job(split=split, style=style, every=every, rivals=rivals)
        if questions == _CURATED:
            return job, None
        name = next((name for name, key in self._shelf.libraries if key == library), library)
        path = Path(file) if file else None
        return replace(
            job, library=library, library_name=name, questions=path.name if path else ""
        ), path

    async def _open(self) -> AsyncIterator[Updates]:
        """What somebody sees who opens the page: the runs, and how the one at work gets on."""
        listed = await asyncio.to_thread(self._evaluations.listed)
        yield {self._runs: self._choices(listed, None)} | self._state_shown(self._evaluations.state)
        if self._evaluations.state.working:
            async for updates in self._watched():
                yield updates

    async def _start(self, *form: Any) -> AsyncIterator[Updates]:  # noqa: ANN401 - as the form has them
        job, questions = self._wanted(*form)
        async for updates in self._begun(lambda: self._evaluations.start(job, questions)):
            yield updates

    async def _resume(self, name: str | None) -> AsyncIterator[Updates]:
        async for updates in self._begun(lambda: self._evaluations.go_on(name or "")):
            yield updates

    async def _begun(self, begin: Callable[[], None]) -> AsyncIterator[Updates]:
        """Begin a run and watch it; when that is refused, say why, and watch the one at work if there is one."""
        try:
            await asyncio.to_thread(begin)
        except FootnoteError as error:
            if not self._evaluations.state.working:
                yield {self._progress: problem_html(f"Nothing was run: {error}")}
                return
            gradio.Warning(escape(str(error)))
        async for updates in self._watched():
            yield updates

    async def _watched(self) -> AsyncIterator[Updates]:
        """The run at work until it ends."""
        chosen = False
        async for state in self._evaluations.watch():
            looked = {} if chosen else await asyncio.to_thread(self._look, state.run)
            chosen = True
            yield self._state_shown(state) | looked

    def _look_at_end(self, chosen: str | None) -> Updates:
        """What came of the run that has ended; who looks at another one meanwhile goes on looking at that."""
        listed = self._evaluations.listed()
        if chosen and chosen == self._evaluations.state.run:
            return self._look(chosen if any(kept.name == chosen for kept in listed) else None)
        return {self._runs: self._choices(listed, chosen)}

    def _end(self) -> gradio.Button:
        self._evaluations.stop()
        return gradio.Button("Stopping", interactive=False)

    def _state_shown(self, state: State) -> Updates:
        return {
            self._run: gradio.Button(interactive=not state.working),
            self._stop: gradio.Button(
                "Stop", visible=state.working, interactive=not state.stopping
            ),
            self._progress: progress_html(state),
        }

    # --- looking, comparing, deleting --------------------------------------------------------------------------

    def _choices(self, listed: Sequence[Kept], chosen: str | None) -> gradio.Dropdown:
        choices = [(self._label(kept), kept.name) for kept in listed]
        return gradio.Dropdown(
            choices=choices, value=chosen if any(chosen == name for _, name in choices) else None
        )

    def _label(self, kept: Kept) -> str:
        return (
            replace(kept, state="at work").label
            if self._evaluations.is_at_work(kept)
            else kept.label
        )

    def _look(self, name: str | None) -> Updates:
        """A run in all parts of the tab; nothing where none is chosen or it is gone."""
        listed = self._evaluations.listed()
        blank: Updates = dict.fromkeys(
            (self._summary, self._comparison, self._report, self._doomed), ""
        )
        shown = blank | {
            self._runs: self._choices(listed, name),
            self._go_on: gradio.Button(visible=False),
            self._download: gradio.DownloadButton(visible=False),
            self._delete: gradio.Button(visible=False),
            self._sure: gradio.Column(visible=False),
            self._earlier: gradio.Dropdown(visible=False, value=None),
        }
        if not name:
            return shown
        kept = next((kept for kept in listed if kept.name == name), None)
        gone = {self._summary: problem_html("This run is no longer here.")}
        return shown | (self._looked(kept, listed) if kept else gone)

    def _looked(self, kept: Kept, listed: Sequence[Kept]) -> Updates:
        """What differs from run to run."""
        at_work = self._evaluations.is_at_work(kept)
        resting = {
            self._go_on: gradio.Button(visible=kept.can_go_on and not at_work),
            self._delete: gradio.Button(visible=not at_work),
        }
        if at_work or kept.state != "finished":
            return resting | {self._summary: state_html(kept, at_work)}
        try:
            summary, report = look_html(self._evaluations.path(kept))
        except UsageError as error:
            return resting | {self._summary: problem_html(str(error))}
        earlier = [
            (one.label, one.name)
            for one in listed
            if one.started < kept.started and one.state == "finished"
        ]
        return resting | {
            self._summary: summary,
            self._report: report,
            self._download: gradio.DownloadButton(value=str(self._copy(kept)), visible=True),
            self._earlier: gradio.Dropdown(choices=earlier, value=None, visible=bool(earlier)),
        }

    def _copy(self, kept: Kept) -> Path:
        """The report under a name of its own, among what browsers may fetch; the runs themselves are not."""
        copy = Path(self._download.GRADIO_CACHE) / "reports" / f"report-{kept.name}.html"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._evaluations.path(kept) / "report.html", copy)
        return copy

    def _compare(self, earlier: str | None, later: str | None) -> str:
        if not (earlier and later):
            return ""
        try:
            one, other = (
                self._evaluations.path(self._evaluations.find(name)) for name in (earlier, later)
            )
            return comparison_html(one, other)
        except UsageError as error:
            return problem_html(str(error))

    def _ask_whether(self, name: str | None) -> Updates:
        try:
            kept = self._evaluations.find(name or "")
        except FootnoteError:
            return self._look(name)
        words = f"Delete the run “{kept.label}”? Its replies and its report cannot be brought back."
        return {self._sure: gradio.Column(visible=True), self._doomed: f"<p>{escape(words)}</p>"}

    def _remove(self, name: str | None) -> Updates:
        try:
            self._evaluations.delete(name or "")
        except FootnoteError as error:
            gradio.Warning(escape(str(error)))
        return self._look(None)
