"""Evals tab: run evaluations on questions with known answers, and read and compare results."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio

from eval import load_scores
from rag import Assistant, FootnoteError, UsageError
from rag.text.counts import format_count
from ui.render.evaluation import (
    comparison_html,
    report_frame_html,
    summary_html,
)
from ui.render.html import error_html, notice_html
from ui.render.text import format_duration
from ui.services.evaluations import (
    RUN_ERRORS,
    EvaluationRunner,
    RunProgress,
    RunRequest,
    RunSummary,
    describe_error,
    describe_request,
)
from ui.services.library_registry import STYLES
from ui.tabs.base import Page, Tab

_CURATED, _OWN = "curated", "own"
_QUESTIONS = [
    ("Curated questions about the sample papers", _CURATED),
    ("My own questions about the library selected above", _OWN),
]
_SPLITS = [("Test set", "test"), ("Development set", "dev"), ("All", "all")]
_QUICK_SAMPLE = 10
_SAMPLES = [
    (f"Every {_QUICK_SAMPLE}th question (quick)", _QUICK_SAMPLE),
    ("Every 3rd question", 3),
    ("All questions", 1),
]
_QUESTION_RECORD = """\
{"id": "q1", "split": "dev", "kind": "base", "type": "fact", "answerable": true,
 "question": "How much memory does two-bit quantization of the cache save?",
 "gold": [["id-of-the-paper"]],
 "nuggets": [{"text": "2.6 times less", "any": ["2.6x less", "2.6 times less"],
              "numbers": ["2.6"], "vital": true}]}"""
_FILE_FORMAT = (
    "<details><summary>File format</summary><p>One JSON record per line: the question, the papers "
    "that a right answer cites (<code>gold</code>), and the facts that it states "
    f"(<code>nuggets</code>).</p><pre><code>{escape(_QUESTION_RECORD)}</code></pre></details>"
)
_HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

# Result of an event: a new value or new properties for each component that changes.
Updates = dict[Any, Any]


def load_report_html(folder: Path) -> tuple[str, str]:
    """Return summary and full report of the run in a folder.

    Raises `UsageError` when they cannot be read.
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        page = (folder / "report.html").read_text(encoding="utf-8")
        return summary_html(report), report_frame_html(page)
    except RUN_ERRORS as error:
        reason = describe_error(error, folder)
        raise UsageError(f"cannot read the report of this run: {reason}") from error


def compare_runs_html(earlier: Path, later: Path) -> str:
    """Return the comparison of the runs in two folders.

    Raises `UsageError` when one of them cannot be read.
    """
    try:
        return comparison_html(load_scores(earlier), load_scores(later))
    except RUN_ERRORS as error:
        reason = describe_error(error, earlier.parent)
        raise UsageError(f"cannot compare these runs: {reason}") from error


def run_progress_html(progress: RunProgress) -> str:
    """Return the progress of the current run, or how the last one ended."""
    if not progress.is_working:
        if not progress.message:
            return ""
        css_class = "error-notice" if progress.failed else "run-finished"
        return f'<p class="{css_class}" role="status">{escape(progress.message)}</p>'
    is_asking = bool(progress.total and progress.system)
    bar = f' max="{progress.total}" value="{progress.done}"' if is_asking else ""
    return (
        f'<div class="progress"><progress aria-label="Progress of the run"{bar}></progress> '
        f"{_progress_text(progress)}</div>"
    )


def _progress_text(progress: RunProgress) -> str:
    if not progress.total:
        return "Loading models and questions"
    if not progress.system:
        return "All questions asked; writing the report"
    if progress.is_stopping:
        return "Stopping after the current question"
    left = progress.seconds_left
    remaining = "" if left is None else f", about {format_duration(left)} left"
    return (
        f"{progress.done:,} of {progress.total:,} questions asked{remaining}. "
        f"Running: {escape(progress.system)}"
    )


def run_state_html(run: RunSummary, *, is_running: bool) -> str:
    """Return the state of a run without a report."""
    if is_running:
        return "<p>This run is in progress.</p>"
    if run.state == "damaged":
        hint = " Resume it to ask what is missing and to rewrite the report."
        return error_html(f"This run is damaged: {run.damage}.{hint if run.can_resume else ''}")
    replies = format_count(run.replies, "reply is", "replies are")
    hint = "Resume it to continue."
    if not run.can_resume:
        hint = (
            "It was not started here; to continue, run footnote eval with its options and the "
            f"folder {run.name}."
        )
    return f"<p>{escape(f'This run is unfinished; {replies} saved. {hint}')}</p>"


class EvalsTab(Tab):
    """Evals tab: form for a new run, and the finished runs."""

    title = "Evals"

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._runner = EvaluationRunner(page.runs_folder, self._open_assistant)

    def _open_assistant(self, request: RunRequest) -> Assistant:
        """Return the assistant for a run, preferably one that is open already."""
        registry = self.page.registry
        if request.library:
            return registry.assistant(request.library)
        sample = Assistant.sample()
        key = str(sample.library.folder)
        is_registered = any(key == library for _, library in registry.libraries)
        return registry.assistant(key) if is_registered else sample

    # --- components -------------------------------------------------------------------------------

    def build(self) -> None:
        """Create the form of a new run above the results of finished runs."""
        with gradio.Column(elem_classes="evals"):
            self._build_form()
            self._build_results()

    def _build_form(self) -> None:
        gradio.Markdown("## New run")
        with gradio.Row():
            with gradio.Column(min_width=280):
                self._questions = gradio.Radio(_QUESTIONS, value=_CURATED, label="Questions")
                with gradio.Column(visible=False) as self._file_panel:
                    self._file = gradio.File(
                        label="Your questions (JSON Lines)",
                        file_types=[".jsonl", ".json", ".txt"],
                        height=120,
                    )
                    gradio.HTML(_FILE_FORMAT)
                self._baselines = gradio.Checkbox(
                    label="Also test baselines and ablations (takes longer)"
                )
            with gradio.Column(min_width=280):
                self._split = gradio.Radio(_SPLITS, value="test", label="Split")
                self._every = gradio.Radio(_SAMPLES, value=_QUICK_SAMPLE, label="Sample")
                self._style = gradio.Radio(STYLES, value="auto", label="Style")
        preview = self._preview_html(RunRequest(every=_QUICK_SAMPLE), None)
        self._preview = gradio.HTML(preview)
        with gradio.Row():
            self._run_button = gradio.Button("Run", variant="primary")
            self._stop_button = gradio.Button("Stop", variant="stop", visible=False)
        self._progress = gradio.HTML()

    def _build_results(self) -> None:
        gradio.Markdown("## Runs")
        # A restarted server does not know the choices of an open page and would reject them.
        options: dict[str, Any] = {"value": None, "interactive": True, "allow_custom_value": True}
        self._runs = gradio.Dropdown([], label="Open a run", **options)
        with gradio.Row():
            self._resume_button = gradio.Button("Resume", visible=False, size="sm")
            self._download_button = gradio.DownloadButton(
                "Download report", visible=False, size="sm"
            )
            self._delete_button = gradio.Button(
                "Delete run", visible=False, variant="stop", size="sm"
            )
        with gradio.Column(visible=False) as self._confirmation:
            self._confirm_question = gradio.HTML()
            with gradio.Row():
                self._confirm_button = gradio.Button("Delete", variant="stop", size="sm")
                self._cancel_button = gradio.Button("Cancel", size="sm")
        self._summary = gradio.HTML()
        self._earlier = gradio.Dropdown(
            [], label="Compare with an earlier run", visible=False, **options
        )
        self._comparison = gradio.HTML()
        self._report = gradio.HTML()

    # --- events -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Register the events of the form and of the results."""
        # Outputs of every event that shows a run.
        self._outputs = [
            self._run_button,
            self._stop_button,
            self._progress,
            self._runs,
            self._resume_button,
            self._download_button,
            self._delete_button,
            self._confirmation,
            self._confirm_question,
            self._summary,
            self._earlier,
            self._comparison,
            self._report,
        ]
        quick = _HIDDEN | {"concurrency_limit": 4}
        self._connect_form(quick)
        self._connect_results(quick)

    def _connect_form(self, quick: dict[str, Any]) -> None:
        # In the order of the parameters of `_read_form`.
        form: list[Any] = [
            self._questions,
            self._file,
            self.page.library,
            self._split,
            self._every,
            self._baselines,
            self._style,
        ]
        watch = _HIDDEN | {"outputs": self._outputs, "concurrency_limit": None}
        show_end = quick | {
            "fn": self._show_ended_run,
            "inputs": self._runs,
            "outputs": self._outputs,
        }
        gradio.on(None, self._open_page, **watch).then(**show_end)
        gradio.on(
            [component.change for component in form if component is not self._style],
            self._update_preview,
            form,
            [self._preview, self._file_panel, self._progress],
            **quick,
        )
        self._run_button.click(self._start, form, **watch).then(**show_end)
        self._resume_button.click(self._resume, self._runs, **watch).then(**show_end)
        self._stop_button.click(self._stop, outputs=self._stop_button, queue=False, **_HIDDEN)

    def _connect_results(self, quick: dict[str, Any]) -> None:
        self._runs.input(self._show_run, self._runs, self._outputs, **quick)
        self._earlier.input(self._compare, [self._earlier, self._runs], self._comparison, **quick)
        self._delete_button.click(self._confirm_deletion, self._runs, self._outputs, **quick)
        self._cancel_button.click(
            lambda: gradio.Column(visible=False), outputs=self._confirmation, **quick
        )
        self._confirm_button.click(self._delete, self._runs, self._outputs, **quick)

    # --- form -------------------------------------------------------------------------------------

    def _update_preview(self, questions: str, *form: Any) -> Updates:  # noqa: ANN401 - as the form
        request, file = self._read_form(questions, *form)
        return {
            self._preview: self._preview_html(request, file),
            self._file_panel: gradio.Column(visible=questions == _OWN),
            self._progress: run_progress_html(self._runner.state),
        }

    def _preview_html(self, request: RunRequest, file: Path | None) -> str:
        """Return a preview of the run, or the reason why it cannot start."""
        if request.library and not file:
            return notice_html("Choose a file with your questions.")
        try:
            return notice_html(describe_request(request, file))
        except UsageError as error:
            return error_html(error)

    def _read_form(  # noqa: PLR0913, PLR0917 - the components of the form
        self,
        questions: str,
        file: str | None,
        library: str,
        split: str,
        every: int,
        baselines: bool,
        style: str,
    ) -> tuple[RunRequest, Path | None]:
        """Return the request, and the file of the user's own questions."""
        request = RunRequest(split=split, style=style, every=every, with_baselines=baselines)
        if questions == _CURATED:
            return request, None
        names = {key: name for name, key in self.page.registry.libraries}
        path = Path(file) if file else None
        own_request = replace(
            request,
            library=library,
            library_name=names.get(library, library),
            questions=path.name if path else "",
        )
        return own_request, path

    # --- current run ------------------------------------------------------------------------------

    async def _open_page(self) -> AsyncIterator[Updates]:
        """List the runs when the page is opened, and follow the current one."""
        runs = await asyncio.to_thread(self._runner.list_runs)
        progress = self._runner.state
        yield {self._runs: self._choices(runs, None)} | self._progress_updates(progress)
        if self._runner.state.is_working:
            async for updates in self._watch():
                yield updates

    async def _start(self, *form: Any) -> AsyncIterator[Updates]:  # noqa: ANN401 - as the form
        request, file = self._read_form(*form)
        async for updates in self._begin(lambda: self._runner.start(request, file)):
            yield updates

    async def _resume(self, name: str | None) -> AsyncIterator[Updates]:
        async for updates in self._begin(lambda: self._runner.resume(name or "")):
            yield updates

    async def _begin(self, begin: Callable[[], None]) -> AsyncIterator[Updates]:
        """Begin a run and follow it. On an error, show it and follow the current run, if any."""
        try:
            await asyncio.to_thread(begin)
        except FootnoteError as error:
            if not self._runner.state.is_working:
                yield {self._progress: error_html(f"Cannot run: {error}")}
                return
            gradio.Warning(escape(str(error)))
        async for updates in self._watch():
            yield updates

    async def _watch(self) -> AsyncIterator[Updates]:
        """Follow the current run until it ends, and open it first."""
        is_open = False
        async for progress in self._runner.watch():
            opened = {} if is_open else await asyncio.to_thread(self._show_run, progress.run)
            is_open = True
            yield self._progress_updates(progress) | opened

    def _show_ended_run(self, selected: str | None) -> Updates:
        """Show the results of the run that has ended, unless the user opened another one."""
        runs = self._runner.list_runs()
        if not selected or selected != self._runner.state.run:
            return {self._runs: self._choices(runs, selected)}
        is_listed = any(run.name == selected for run in runs)
        return self._show_run(selected if is_listed else None)

    def _stop(self) -> gradio.Button:
        self._runner.stop()
        return gradio.Button("Stopping…", interactive=False)

    def _progress_updates(self, progress: RunProgress) -> Updates:
        is_running = progress.is_working
        return {
            self._run_button: gradio.Button(interactive=not is_running),
            self._stop_button: gradio.Button(
                "Stop", visible=is_running, interactive=not progress.is_stopping
            ),
            self._progress: run_progress_html(progress),
        }

    # --- finished runs ----------------------------------------------------------------------------

    def _choices(self, runs: Sequence[RunSummary], selected: str | None) -> gradio.Dropdown:
        choices = [(self._label(run), run.name) for run in runs]
        is_listed = any(selected == run.name for run in runs)
        return gradio.Dropdown(choices=choices, value=selected if is_listed else None)

    def _label(self, run: RunSummary) -> str:
        is_running = self._runner.is_running(run)
        return replace(run, state="running").label if is_running else run.label

    def _show_run(self, name: str | None) -> Updates:
        """Show a run in all components of the tab; nothing if none is selected or it is gone."""
        runs = self._runner.list_runs()
        texts = (self._summary, self._comparison, self._report, self._confirm_question)
        updates: Updates = dict.fromkeys(texts, "")
        updates |= {
            self._runs: self._choices(runs, name),
            self._resume_button: gradio.Button(visible=False),
            self._download_button: gradio.DownloadButton(visible=False),
            self._delete_button: gradio.Button(visible=False),
            self._confirmation: gradio.Column(visible=False),
            self._earlier: gradio.Dropdown(visible=False, value=None),
        }
        if not name:
            return updates
        by_name = {run.name: run for run in runs}
        if name not in by_name:
            return updates | {self._summary: error_html("This run no longer exists.")}
        return updates | self._run_updates(by_name[name], runs)

    def _run_updates(self, run: RunSummary, runs: Sequence[RunSummary]) -> Updates:
        """Return the updates for one run."""
        is_running = self._runner.is_running(run)
        updates: Updates = {
            self._resume_button: gradio.Button(visible=run.can_resume and not is_running),
            self._delete_button: gradio.Button(visible=not is_running),
        }
        if is_running or run.state != "finished":
            return updates | {self._summary: run_state_html(run, is_running=is_running)}
        try:
            summary, report = load_report_html(self._runner.path(run))
        except UsageError as error:
            return updates | {self._summary: error_html(error)}
        earlier = []
        for other in runs:
            if other.started < run.started and other.state == "finished":
                earlier.append((other.label, other.name))
        return updates | {
            self._summary: summary,
            self._report: report,
            self._download_button: gradio.DownloadButton(
                value=str(self._copy_report(run)), visible=True
            ),
            self._earlier: gradio.Dropdown(choices=earlier, value=None, visible=bool(earlier)),
        }

    def _copy_report(self, run: RunSummary) -> Path:
        """Copy the report to the folder of downloads, the only one that is served."""
        copy = Path(self._download_button.GRADIO_CACHE) / "reports" / f"report-{run.name}.html"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._runner.path(run) / "report.html", copy)
        return copy

    def _compare(self, earlier: str | None, later: str | None) -> str:
        if not (earlier and later):
            return ""
        try:
            return compare_runs_html(
                self._runner.path(self._runner.find(earlier)),
                self._runner.path(self._runner.find(later)),
            )
        except UsageError as error:
            return error_html(error)

    def _confirm_deletion(self, name: str | None) -> Updates:
        try:
            run = self._runner.find(name or "")
        except FootnoteError:
            return self._show_run(name)
        question = f"Delete the run “{run.label}” and its report? This can't be undone."
        return {
            self._confirmation: gradio.Column(visible=True),
            self._confirm_question: f"<p>{escape(question)}</p>",
        }

    def _delete(self, name: str | None) -> Updates:
        try:
            self._runner.delete(name or "")
        except FootnoteError as error:
            gradio.Warning(escape(str(error)))
        return self._show_run(None)
