"""The tab "Library": add papers, find them, see, remove and export them; how large the library is, and how well.

What is shown is worked out by plain functions of an assistant and of values; `LibraryTab` wires them to Gradio. The
browser holds which page of the list is open and which paper: nothing here is lost when the server starts anew.
"""

import asyncio
import atexit
import json
import logging
import shutil
import tempfile
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio
from filelock import FileLock, Timeout

from rag import (
    AddReport,
    Assistant,
    FootnoteError,
    Paper,
    PaperNotFound,
    Rejection,
    UsageError,
    check_library,
    data_folder,
    export_papers,
)
from ui.mathematics import plain_text
from ui.render import added_html, health_html, paper_html
from ui.shelf import Shelf

ON_A_PAGE = 25
# So many papers are found for a search: those after them are hardly what was meant.
MOST_FOUND = 50
MOST_FILES = 20
ADDINGS_KEPT = 5
LARGEST_FILE_BYTES = 100 << 20
# Name, format and file of each export.
EXPORTS = (
    ("BibTeX", "bibtex", "papers.bib"),
    ("RIS", "ris", "papers.ris"),
    ("CSL-JSON", "csl-json", "papers.json"),
    ("JSON Lines", "jsonl", "papers.jsonl"),
)
_WHAT_CAN_BE_ADDED = (
    "Listing pages saved as text or HTML, JSON Lines, JSON, CSV, BibTeX, RIS, PubMed (NBIB or XML), arXiv Atom: "
    f"found from the content. At most {MOST_FILES} files at a time, {LARGEST_FILE_BYTES >> 20} MB each."
)
# Between two steps of the progress, and how long the end of the process waits for a batch in hand.
_STEP_SECONDS = 0.25
_FAREWELL_SECONDS = 10.0
_POLL_SECONDS = 0.2
_LOG = logging.getLogger("footnote")

Update = Any  # what a Gradio event gives for one component
Updates = dict[Any, Update]


# --- the list ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """What the list is to show, as it was typed: the papers nearest to a query, or all; filters as in `rag`."""

    query: str = ""
    year: str = ""
    venue: str = ""
    author: str = ""
    source: str = ""

    @property
    def filters(self) -> dict[str, str]:
        return {name: getattr(self, name).strip() for name in ("year", "venue", "author", "source")}

    @property
    def is_search(self) -> bool:
        return bool(self.query.strip())

    def __str__(self) -> str:
        """As one text, which the browser keeps with the list."""
        return json.dumps(astuple(self))

    @classmethod
    def of(cls, text: str) -> "Wish":
        return cls(*json.loads(text)) if text else cls()


@dataclass(frozen=True, slots=True)
class Page:
    """The papers from `start` on, of `total` in the list; `nearest` tells a search from a list of the newest."""

    papers: tuple[Paper, ...]
    start: int
    total: int
    nearest: bool = False

    @property
    def position(self) -> str:
        if not self.papers:
            return "No papers"
        span = f"{self.start + 1:,}–{self.start + len(self.papers):,}"
        return f"{span} of the {self.total:,} nearest" if self.nearest else f"{span} of {self.total:,}, newest first"

    @property
    def has_before(self) -> bool:
        return self.start > 0

    @property
    def has_after(self) -> bool:
        return self.start + len(self.papers) < self.total


def page_of(assistant: Assistant, wish: Wish, start: int = 0) -> Page:
    """A page of what is wished for; the last one when `start` is behind the end. Raises `FootnoteError`."""
    if wish.is_search:
        found = papers_of(assistant, wish)
        start = _within(start, len(found))
        return Page(tuple(found[start : start + ON_A_PAGE]), start, len(found), nearest=True)
    with assistant.library.reading():
        total = assistant.count(**wish.filters)
        start = _within(start, total)
        # The library counts from the oldest.
        newest = assistant.papers(max(0, total - start - ON_A_PAGE), total - start, **wish.filters)
        return Page(tuple(newest)[::-1], start, total)


def _within(start: int, total: int) -> int:
    """The start of a page that is there."""
    return min(max(0, start), max(0, total - 1)) // ON_A_PAGE * ON_A_PAGE


def papers_of(assistant: Assistant, wish: Wish) -> list[Paper]:
    """All papers of the list: those found, nearest first, or those that pass the filters, as they were added."""
    if wish.is_search:
        return [hit.paper for hit in assistant.search(wish.query, MOST_FOUND, **wish.filters)]
    return list(assistant.papers(0, None, **wish.filters))


def label_of(paper: Paper) -> str:
    """A paper in one line of plain text: title, who and when, where."""
    about = ", ".join(part for part in (paper.byline, paper.venue) if part)
    text = plain_text(f"{paper.title} — {about}" if about else paper.title) or paper.id
    return f"Retracted: {text}" if paper.retracted else text


def summary_of(assistant: Assistant) -> str:
    """`676 papers, 11 MB`."""
    return f"{_counted(assistant.count(), 'paper')}, {assistant.library.size() / 1e6:,.0f} MB"


def find(assistant: Assistant, paper_id: str) -> Paper:
    """The paper with exactly that id. Raises `PaperNotFound`, also where the id only begins that of another paper."""
    paper = assistant.paper(paper_id)
    if paper.id != paper_id:
        raise PaperNotFound(paper_id)
    return paper


def write_exports(papers: list[Paper], folder: Path) -> Iterator[Path]:
    """Write the papers into new files below a folder, one for each of `EXPORTS`, each when it is asked for.

    Without papers there are no files. Raises `FootnoteError` when there is no room.
    """
    if not papers:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder, prefix="export-"))
        for _, form, name in EXPORTS:
            (own / name).write_text(export_papers(papers, form), encoding="utf-8")
            yield own / name
    except OSError as error:
        raise FootnoteError(f"the papers cannot be exported: {error}") from error


# --- adding ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an adding is: bytes done and in all, records done, the seconds they took, and those since then."""

    done: int = 0
    total: int = 0
    records: int = 0
    seconds: float = 0.0
    since: float = 0.0
    waits_for: str = ""

    @property
    def seconds_left(self) -> float:
        """By the pace so far; 0 where there is none, or when it was slower than that."""
        left = self.seconds * (self.total - self.done) / self.done if self.done else 0.0
        return max(0.0, left - self.since)


def progress_html(progress: Progress, library: str) -> str:
    """One line: a bar, what is being done, and how long it may yet take."""
    bar = f' max="{progress.total}" value="{progress.done}"' if progress.done else ""
    return (
        f'<div class="progress"><progress{bar} aria-label="Adding papers"></progress> '
        f"Adding to {escape(plain_text(library))}: {_said(progress)}</div>"
    )


def _said(progress: Progress) -> str:
    if progress.waits_for:
        return f"{progress.waits_for}; waiting"
    if not progress.records:
        return "reading the files"
    left = f", about {_duration(progress.seconds_left)} left" if progress.seconds_left >= 1 else ""
    return _counted(progress.records, "record") + left


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _counted(count: int, thing: str) -> str:
    """`1 paper`, `1,204 papers`."""
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"


def _outcome(report: AddReport) -> str:
    not_taken = f", {len(report.rejected):,} not taken" if report.rejected else ""
    return f"{report.added:,} new of {_counted(report.read, 'record')}{not_taken}"


def safe_name(name: str) -> str:
    """A file's name, the same for the same file at any time, that can stand in any folder."""
    composed = unicodedata.normalize("NFC", name)
    shown = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in composed)
    return shown.lstrip(".") or "file"


def take_over(uploads: Iterable[str], folder: Path) -> tuple[list[Path], list[Rejection]]:
    """Move what was uploaded into an emptied folder, where a file's name alone tells where its records are from.

    Gives the files there, and those that were not taken. Raises `FootnoteError` when the folder cannot be written.
    """
    files: list[Path] = []
    refused: list[Rejection] = []
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a kill left there
        folder.mkdir(parents=True, exist_ok=True)
        for upload in map(Path, uploads):
            target = folder / safe_name(upload.name)
            if why := _why_not(upload, target):
                refused.append(Rejection(target.name, 0, why))
            else:
                files.append(Path(shutil.move(upload, target)))
    except OSError as error:
        raise FootnoteError(f"what was uploaded cannot be moved to {folder}: {error}") from error
    return files, refused


def _why_not(upload: Path, target: Path) -> str:
    if target.exists():
        return "another file of this name was dropped with it; rename one of them and drop it again"
    if not upload.is_file():
        return "its upload is gone: it was dropped before already, or has to be dropped again"
    if upload.stat().st_size > LARGEST_FILE_BYTES:
        return f"{upload.stat().st_size / 2**20:,.0f} MB; at most {LARGEST_FILE_BYTES >> 20} MB are taken"
    return ""


class _Leaving(Exception):
    """The process is about to end: the adding stops after the batch in hand."""


class Adding:
    """Uploaded files on their way into a library, in a thread of its own: it goes on when nobody looks any more."""

    def __init__(self, assistant: Assistant, library: str, uploads: list[str], before: "Adding | None" = None) -> None:
        """Begin, once the adding `before` has ended: files of one name would take each other's place."""
        self._assistant = assistant
        self._library = library
        self._uploads = uploads
        self._before = before
        self._began = time.monotonic()
        self._progress = Progress(waits_for="other files were dropped before") if before else Progress()
        self._outcome: AddReport | Exception | None = None
        self._ended = threading.Event()
        self._leaving = threading.Event()
        threading.Thread(target=self._work, name="footnote: adding", daemon=True).start()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def result(self) -> AddReport:
        """The report, waited for. Raises what went wrong."""
        self.wait()
        if isinstance(self._outcome, AddReport):
            return self._outcome
        raise self._outcome or _Leaving

    def html(self, *, is_open: bool = True) -> str:
        """What it has come to: a line of progress, the report, open or not, or what went wrong."""
        if isinstance(self._outcome, AddReport):
            said = f"Added to {escape(plain_text(self._library))}: {_outcome(self._outcome)}"
            shown = " open" if is_open else ""
            return f'<details class="adding"{shown}><summary>{said}</summary>{added_html(self._outcome)}</details>'
        if isinstance(self._outcome, FootnoteError):
            return problem_html(self._outcome)
        if self._outcome:
            return problem_html("The adding broke off; the terminal says why. What was added until then is kept.")
        since = time.monotonic() - self._began - self._progress.seconds
        return progress_html(replace(self._progress, since=since), self._library)

    def leave(self) -> None:
        """Stop after the batch in hand."""
        self._leaving.set()

    def wait(self, seconds: float | None = None) -> None:
        """Until it has ended, or so long."""
        self._ended.wait(seconds)

    def _work(self) -> None:
        try:
            if self._before:
                self._before.wait()
            self._before = None
            self._check_left()
            self._outcome = self._added()
        except Exception as error:  # told to whoever looks
            if not isinstance(error, FootnoteError | _Leaving):
                _LOG.exception("adding to %s broke off", self._library)
            self._outcome = error
        finally:
            self._assistant.library.close()
            self._ended.set()

    def _added(self) -> AddReport:
        if len(self._uploads) > MOST_FILES:
            raise UsageError(f"{len(self._uploads)} files were dropped; at most {MOST_FILES} are added at a time")
        folder = data_folder() / "uploads"
        with _alone(folder.with_suffix(".lock"), self._wait):
            files, refused = take_over(self._uploads, folder)
            try:
                report = self._assistant.add(*files, on_progress=self._note, on_wait=self._wait)
            finally:
                for file in files:
                    file.unlink(missing_ok=True)
        return replace(report, rejected=(*refused, *report.rejected))

    def _note(self, done: int, total: int, records: int) -> None:
        if not records:
            self._began = time.monotonic()
        self._progress = Progress(done, total, records, time.monotonic() - self._began)
        self._check_left()

    def _check_left(self) -> None:
        if self._leaving.is_set():
            raise _Leaving

    def _wait(self) -> None:
        self._progress = replace(self._progress, waits_for="another process is writing")


class Addings:
    """What was dropped, one adding after the other; the last ones are kept, so that their reports can be read.

    They stop with the process: a thread that is inside a model while Python is taken down would crash it.
    """

    def __init__(self) -> None:
        self._known: list[Adding] = []
        self._starting = threading.Lock()
        atexit.register(self.stop)

    def start(self, assistant: Assistant, library: str, uploads: list[str]) -> Adding:
        with self._starting:
            before = next((one for one in reversed(self._known) if one.running), None)
            adding = Adding(assistant, library, uploads, before)
            kept = [one for one in self._known[: 1 - ADDINGS_KEPT] if one.running]
            self._known = [*kept, *self._known[1 - ADDINGS_KEPT :], adding]
        return adding

    @property
    def running(self) -> bool:
        return any(adding.running for adding in self._known)

    def html(self) -> str:
        """What they have come to, the newest first; only its report is open."""
        return "".join(adding.html(is_open=adding is self._known[-1]) for adding in reversed(self._known))

    def stop(self) -> None:
        for adding in self._known:
            adding.leave()
        for adding in self._known:
            adding.wait(_FAREWELL_SECONDS)


@contextmanager
def _alone(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that all processes of this user respect; `on_wait` is called when another one holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as error:
        raise FootnoteError(f"{path} cannot be written: {error}") from error
    try:
        yield
    finally:
        lock.release()


# --- the tab -----------------------------------------------------------------------------------------------------


def problem_html(problem: object) -> str:
    return f'<p class="problem" role="alert">{escape(str(problem))}</p>'


def remark_html(remark: str) -> str:
    return f'<p class="remark" role="status">{escape(remark)}</p>'


def _html(name: str, value: str = "") -> gradio.HTML:
    return gradio.HTML(value, elem_id=name, padding=False)


def _told(name: str) -> gradio.HTML:
    """What takes no room until there is something to tell."""
    return gradio.HTML(elem_id=name, padding=False, visible=False)


def _tell(html: str) -> gradio.HTML:
    return gradio.HTML(html, visible=bool(html))


def library_tab(shelf: Shelf, library: gradio.Dropdown) -> "LibraryTab":
    """Build the tab inside a running `with gradio.Tab(...)`; `library` is the dropdown that all tabs share."""
    return LibraryTab(shelf, library)


class LibraryTab:
    """The components and their events.

    For the page: `chosen` holds the id of the paper that is shown, empty when none is; `ask_about` is the button for a
    question on it; `papers` is the list; `on_show` are the arguments for an event upon which the list is renewed.
    """

    def __init__(self, shelf: Shelf, library: gradio.Dropdown) -> None:
        self._shelf = shelf
        self._library = library
        self._addings = Addings()
        self._build_head()
        with gradio.Row(elem_classes="library"):
            with gradio.Column(scale=2, min_width=320):
                self._build_find()
            with gradio.Column(scale=3, min_width=320):
                self._build_paper()
        self._wire()

    # --- the parts ---------------------------------------------------------------------------------------------

    def _build_head(self) -> None:
        with gradio.Row(elem_classes="library-head"):
            self._summary = _html("library-summary")
            self._check = gradio.Button("Check", size="sm", scale=0, min_width=120)
        self._health = _told("library-health")
        self._drop = gradio.File(
            file_count="multiple",
            label="Drop files here to add their papers",
            height=140,
            elem_id="library-drop",
        )
        _html("library-formats", f"<p>{_WHAT_CAN_BE_ADDED}</p>")
        self._added = _told("library-added")

    def _build_find(self) -> None:
        self._query = gradio.Textbox(
            "", label="Search", placeholder="What they are about; empty for the newest", elem_id="library-search"
        )
        with gradio.Accordion("Filters", open=False):
            with gradio.Row():
                year = gradio.Textbox("", label="Year", placeholder="2023, >=2023, 2019-2022", min_width=100)
                venue = gradio.Textbox("", label="Venue", placeholder="part of its name", min_width=100)
            with gradio.Row():
                author = gradio.Textbox("", label="Author", placeholder="part of a name", min_width=100)
                source = gradio.Textbox("", label="Source", placeholder="part of a file's name", min_width=100)
        self._boxes = [self._query, year, venue, author, source]
        self._files: list[gradio.DownloadButton] = []
        with gradio.Accordion("Export", open=False) as self._export:
            for two in (EXPORTS[:2], EXPORTS[2:]):
                with gradio.Row():
                    self._files += [
                        gradio.DownloadButton(name, size="sm", min_width=100, interactive=False) for name, *_ in two
                    ]
        self._note = _told("library-note")
        self.papers = gradio.Radio([], label="Papers", elem_id="library-papers", interactive=True)
        with gradio.Row(elem_classes="library-pages"):
            self._before = gradio.Button("Newer", size="sm", scale=0, min_width=90, interactive=False)
            self._position = _html("library-position")
            self._after = gradio.Button("Older", size="sm", scale=0, min_width=90, interactive=False)
        # What the list shows at this moment, to tell a new wish from the same one.
        self._shown = gradio.Textbox("", visible=False)
        self._start = gradio.Number(0, precision=0, visible=False)

    def _build_paper(self) -> None:
        self._paper = _html("library-paper")
        self.chosen = gradio.Textbox("", visible=False)
        with gradio.Row():
            self.ask_about = gradio.Button("Ask about this paper", variant="primary", size="md", visible=False)
            self._remove = gradio.Button("Remove this paper", size="md", visible=False)
        with gradio.Column(visible=False, elem_id="library-sure") as self._sure:
            self._question = _html("library-question")
            with gradio.Row():
                self._really = gradio.Button("Remove", variant="stop", size="md")
                self._keep = gradio.Button("Keep", size="md")

    # --- the events --------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self._wire_list(hidden)
        self._wire_paper(hidden)
        # When the page is opened, and when another library is chosen.
        everything = [*self._boxes, *self._listing, *self._opened, self._health]
        gradio.on(None, self._switch, self._library, everything, trigger_mode="always_last", **hidden)
        dropping: dict[str, Any] = {"inputs": [self._library, self._drop], "outputs": [self._drop, self._added]}
        dropped = self._drop.upload(self._add, **dropping, trigger_mode="multiple", queue=False, **hidden)
        following = hidden | {"outputs": self._added, "concurrency_limit": None}
        dropped.then(self._follow, trigger_mode="multiple", **following).then(**self.on_show)
        # A page that is opened while papers are being added shows that, too.
        gradio.on(None, self._follow, **following).then(**self.on_show)
        self._check.click(self._check_it, self._library, [self._health, self._summary], **hidden)

    def _wire_list(self, hidden: dict[str, Any]) -> None:
        place = [self._library, self.chosen, self._shown, self._start]
        self._listing = [self.papers, self._position, self._before, self._after, self._shown, self._start, self._note]
        self._listing += [self._summary, self._export, *self._files]
        self.on_show: dict[str, Any] = hidden | {"fn": self._renew, "inputs": place, "outputs": self._listing}
        turning = hidden | {"inputs": [*place, *self._boxes], "outputs": self._listing}
        searching = turning | {"show_progress": "minimal", "show_progress_on": self._position}
        typed = [box.submit for box in self._boxes] + [box.blur for box in self._boxes]
        gradio.on(typed, self._list_anew, trigger_mode="always_last", **searching)
        self._before.click(self._turn_back, **turning)
        self._after.click(self._turn_on, **turning)
        self._export.expand(self._write_exports, [self._library, self._shown], [*self._files, self._note], **hidden)

    def _wire_paper(self, hidden: dict[str, Any]) -> None:
        self._opened = [self._paper, self.chosen, self.ask_about, self._remove, self._sure, self._question]
        here = hidden | {"inputs": [self._library, self.chosen], "outputs": self._opened}
        self.papers.select(self._choose, self._library, self._opened, trigger_mode="always_last", **hidden)
        self._remove.click(self._ask_whether, **here)
        self._keep.click(lambda: gradio.Column(visible=False), None, self._sure, **hidden)
        self._really.click(self._remove_it, **here).then(**self.on_show)

    def _switch(self, library: str) -> Updates:
        """Another library, from its newest papers on."""
        empty: Updates = dict.fromkeys(self._boxes, "") | {self._health: _tell("")}
        return empty | self._closed("Choose a paper to see it here.") | self._listed(library, "", Wish(), 0)

    def _renew(self, library: str, chosen: str, shown: str, start: float) -> Updates:
        """The same page of the list, as it is now."""
        return self._listed(library, chosen, Wish.of(shown), int(start))

    def _list_anew(self, library: str, chosen: str, shown: str, _start: float, *boxes: str) -> Update:
        """The list for what was typed; leaving a box without a change leaves the list alone."""
        wish = Wish(*boxes)
        return gradio.skip() if str(wish) == shown else self._listed(library, chosen, wish, 0)

    def _turn_back(self, library: str, chosen: str, shown: str, start: float, *boxes: str) -> Updates:
        return self._turned(library, chosen, shown, int(start) - ON_A_PAGE, Wish(*boxes))

    def _turn_on(self, library: str, chosen: str, shown: str, start: float, *boxes: str) -> Updates:
        return self._turned(library, chosen, shown, int(start) + ON_A_PAGE, Wish(*boxes))

    def _turned(self, library: str, chosen: str, shown: str, start: int, wish: Wish) -> Updates:
        return self._listed(library, chosen, wish, start if str(wish) == shown else 0)

    def _listed(self, library: str, chosen: str, wish: Wish, start: int) -> Updates:
        """A page of the list in all its parts; what cannot be listed is told, and the list stays as it was."""
        try:
            assistant = self._shelf.assistant(library)
            page, summary = page_of(assistant, wish, start), summary_of(assistant)
        except FootnoteError as error:
            return {self._note: _tell(problem_html(error))}
        choices = [(label_of(paper), paper.id) for paper in page.papers]
        still_there = chosen in [paper.id for paper in page.papers]
        shut: Updates = dict.fromkeys(self._files, gradio.DownloadButton(value=None, interactive=False))
        return shut | {
            self.papers: gradio.Radio(choices=choices, value=chosen if still_there else None),
            self._position: f"<p>{page.position}</p>",
            self._before: gradio.Button("Previous" if page.nearest else "Newer", interactive=page.has_before),
            self._after: gradio.Button("Next" if page.nearest else "Older", interactive=page.has_after),
            self._shown: str(wish),
            self._start: page.start,
            self._note: _tell(""),
            self._summary: f"<p>{summary}</p>",
            self._export: gradio.Accordion(label=f"Export {_counted(page.total, 'paper')}", open=False),
        }

    def _choose(self, library: str, event: gradio.SelectData) -> Update:
        return self._with_paper(library, event.value, self._open)

    def _open(self, _: Assistant, paper: Paper) -> Updates:
        return {
            self._paper: paper_html(paper),
            self.chosen: paper.id,
            self.ask_about: gradio.Button(visible=True),
            self._remove: gradio.Button(visible=True),
            self._sure: gradio.Column(visible=False),
        }

    def _closed(self, remark: str) -> Updates:
        """No paper is shown."""
        return {
            self._paper: remark_html(remark),
            self.chosen: "",
            self.ask_about: gradio.Button(visible=False),
            self._remove: gradio.Button(visible=False),
            self._sure: gradio.Column(visible=False),
        }

    def _ask_whether(self, library: str, chosen: str) -> Update:
        def ask(_: Assistant, paper: Paper) -> Updates:
            sure = f"<p>Remove “{escape(plain_text(paper.title))}”? It can be added again from its file.</p>"
            return {self._question: sure, self._sure: gradio.Column(visible=True)}

        return self._with_paper(library, chosen, ask)

    def _remove_it(self, library: str, chosen: str) -> Update:
        def remove(assistant: Assistant, paper: Paper) -> Updates:
            assistant.remove(paper.id)
            return self._closed(f"Removed “{plain_text(paper.title)}”.")

        return self._with_paper(library, chosen, remove)

    def _with_paper(self, library: str, paper_id: str, do: Callable[[Assistant, Paper], Updates]) -> Update:
        """Do something with a paper, if it is still there."""
        try:
            assistant = self._shelf.assistant(library)
            return do(assistant, find(assistant, paper_id))
        except PaperNotFound:
            return self._closed("This paper is no longer in the library.")
        except FootnoteError as error:
            gradio.Warning(escape(str(error)))
            return gradio.skip()

    def _add(self, library: str, uploads: list[str] | None) -> Updates:
        """Begin to add what was dropped; the zone is empty at once, so that more can be dropped meanwhile."""
        try:
            name = next((name for name, key in self._shelf.libraries if key == library), "")
            self._addings.start(self._shelf.assistant(library), name, list(uploads or ()))
        except FootnoteError as error:
            return {self._drop: None, self._added: _tell(problem_html(error))}
        return {self._drop: None, self._added: _tell(self._addings.html())}

    async def _follow(self) -> AsyncIterator[gradio.HTML]:
        """What is being added, until all of it is."""
        while self._addings.running:
            yield _tell(self._addings.html())
            await asyncio.sleep(_STEP_SECONDS)
        yield _tell(self._addings.html())

    def _write_exports(self, library: str, shown: str) -> Iterator[Updates]:
        """Write the files when somebody wants to see them; each can be had as soon as it is there."""
        try:
            papers = papers_of(self._shelf.assistant(library), Wish.of(shown))
            folder = Path(self._files[0].GRADIO_CACHE)
            for button, file in zip(self._files, write_exports(papers, folder), strict=False):
                yield {button: gradio.DownloadButton(value=file, interactive=True)}
        except FootnoteError as error:
            yield {self._note: _tell(problem_html(error))}

    def _check_it(self, library: str) -> Iterator[Updates]:
        yield {self._health: _tell(remark_html("Checking …"))}
        try:
            assistant = self._shelf.assistant(library)
            checks = list(check_library(assistant.library))
            health = health_html(checks, assistant.count(), assistant.library.size())
            yield {self._health: _tell(health), self._summary: f"<p>{summary_of(assistant)}</p>"}
        except FootnoteError as error:
            yield {self._health: _tell(problem_html(error))}
