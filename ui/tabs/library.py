"""Library tab: add, find, read, remove and export papers, and check the library.

Plain functions compute what is shown; `LibraryTab` connects them to Gradio. The browser stores
which page of the list and which paper are open, so a restart of the server loses nothing.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import gradio

from rag import Assistant, FootnoteError, Paper, PaperNotFound, UsageError
from rag.library.doctor import check_library
from rag.library.filters import Filters
from rag.output.export import export_papers
from rag.retrieval.query_analysis import MAX_QUESTION_CHARS
from rag.text.counts import format_count
from ui.render.html import error_html, health_html, notice_html, paper_html
from ui.render.mathematics import plain_text
from ui.render.text import format_megabytes
from ui.server.body_limit import MAX_UPLOAD_BYTES
from ui.services.import_queue import MAX_FILE_BYTES, MAX_FILES, ImportQueue
from ui.tabs.base import Page, Tab, filter_boxes

PAGE_SIZE = 25
# Results beyond this number are rarely relevant.
MAX_RESULTS = 50
# Label, format and file name of each export.
EXPORTS = (
    ("BibTeX", "bibtex", "papers.bib"),
    ("RIS", "ris", "papers.ris"),
    ("CSL-JSON", "csl-json", "papers.json"),
    ("JSON Lines", "jsonl", "papers.jsonl"),
)
_FORMATS = (
    "Listing pages saved as text or HTML, JSON Lines, JSON, CSV, BibTeX, RIS, PubMed (NBIB or XML) "
    "and arXiv Atom. The format is detected automatically. "
    f"At most {MAX_FILES} files at a time, {MAX_FILE_BYTES >> 20} MB each, "
    f"{MAX_UPLOAD_BYTES >> 20} MB in total."
)
_PROGRESS_SECONDS = 0.25
_HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

Update = Any  # result of an event for one component
Updates = dict[Any, Update]


# --- list -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PaperQuery:
    """Search query and filters of the list. Without a query the list holds all papers."""

    query: str = ""
    filters: Filters = field(default_factory=Filters)

    @classmethod
    def from_boxes(cls, query: str, *filters: str) -> "PaperQuery":
        """Return the query that the user typed, with the filters in the order of `FILTERS`."""
        return cls(query.strip(), Filters(*map(str.strip, filters)))

    @property
    def is_search(self) -> bool:
        """True if there is a query, so that the list holds search results."""
        return bool(self.query)

    def to_json(self) -> str:
        """Return the text that the browser stores with the list."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PaperQuery":
        """Return the query that `to_json` stored; empty text means all papers."""
        if not text:
            return cls()
        stored = json.loads(text)
        return cls(stored["query"], Filters(**stored["filters"]))


@dataclass(frozen=True, slots=True)
class PaperPage:
    """Page of the list: its papers, from position `start` (from 0) of `total`."""

    papers: tuple[Paper, ...]
    start: int
    total: int
    is_search: bool = False

    @property
    def position(self) -> str:
        """Position in words, such as `1–25 of 60, newest first`."""
        if not self.papers:
            return "No papers found"
        span = f"{self.start + 1:,}–{self.start + len(self.papers):,} of {self.total:,}"
        return f"{span} best matches" if self.is_search else f"{span}, newest first"

    @property
    def has_previous(self) -> bool:
        """True if there is a page before this one."""
        return self.start > 0

    @property
    def has_next(self) -> bool:
        """True if there is a page after this one."""
        return self.start + len(self.papers) < self.total


def load_page(assistant: Assistant, query: PaperQuery, start: int = 0) -> PaperPage:
    """Return the page at `start`, or the last page when `start` is beyond the end.

    Raises `FootnoteError`.
    """
    if query.is_search:
        papers = find_papers(assistant, query)
        start = _page_start(start, len(papers))
        page_papers = tuple(papers[start : start + PAGE_SIZE])
        return PaperPage(page_papers, start, len(papers), is_search=True)
    filters = asdict(query.filters)
    with assistant.library.snapshot():
        total = assistant.count(**filters)
        start = _page_start(start, total)
        # The library counts from the oldest paper, the list from the newest.
        first, stop = max(0, total - start - PAGE_SIZE), total - start
        oldest_first = list(assistant.papers(first, stop, **filters))
    return PaperPage(tuple(reversed(oldest_first)), start, total)


def _page_start(start: int, total: int) -> int:
    """Return the start of the existing page nearest to `start`."""
    position = min(max(0, start), max(0, total - 1))
    return position - position % PAGE_SIZE


def find_papers(assistant: Assistant, query: PaperQuery) -> list[Paper]:
    """Return all papers of the list: best matches first, or oldest first without a query."""
    filters = asdict(query.filters)
    if query.is_search:
        hits = assistant.search(query.query, MAX_RESULTS, **filters)
        return [hit.paper for hit in hits]
    return list(assistant.papers(0, None, **filters))


def paper_label(paper: Paper) -> str:
    """Return title, authors, year and venue in one line of plain text."""
    details = ", ".join(filter(None, (paper.byline, paper.venue)))
    title = f"{paper.title} — {details}" if details else paper.title
    label = plain_text(title) or paper.id
    if paper.retracted and not label.lower().startswith("retracted"):
        return f"Retracted: {label}"
    return label


def library_summary(assistant: Assistant) -> str:
    """Return the size of a library: `676 papers, 11 MB`."""
    papers = format_count(assistant.count(), "paper")
    return f"{papers}, {format_megabytes(assistant.library.size())}"


def get_paper(assistant: Assistant, paper_id: str) -> Paper:
    """Return the paper with this full id.

    Raises `PaperNotFound`, also when the id is only the beginning of another one.
    """
    paper = assistant.paper(paper_id)
    if paper.id != paper_id:
        raise PaperNotFound(paper_id)
    return paper


def write_exports(papers: list[Paper], folder: Path) -> Iterator[Path]:
    """Write the papers to a new folder inside `folder`, in each of the `EXPORTS`.

    Yields each file as soon as it is written, and none without papers. Raises `FootnoteError` when
    a file cannot be written.
    """
    if not papers:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        export_folder = Path(tempfile.mkdtemp(dir=folder, prefix="export-"))
        for _, format_name, file_name in EXPORTS:
            file = export_folder / file_name
            file.write_text(export_papers(papers, format_name), encoding="utf-8")
            yield file
    except OSError as error:
        raise FootnoteError(f"cannot export the papers: {error}") from error


# --- tab ------------------------------------------------------------------------------------------


def _html(elem_id: str) -> gradio.HTML:
    return gradio.HTML(elem_id=elem_id, padding=False)


def _message(elem_id: str) -> gradio.HTML:
    """Create a component that takes no room until it has something to show."""
    return gradio.HTML(elem_id=elem_id, padding=False, visible=False)


def _show_message(html: str) -> gradio.HTML:
    return gradio.HTML(html, visible=bool(html))


class LibraryTab(Tab):
    """Library tab: upload area, list of papers and the selected paper."""

    title = "Library"

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._imports = ImportQueue()

    # --- components -------------------------------------------------------------------------------

    def build(self) -> None:
        """Create the upload area, the list of papers and the selected paper."""
        self._build_header()
        with gradio.Row(elem_classes="library"):
            with gradio.Column(scale=2, min_width=320):
                self._build_search()
                self._build_list()
            with gradio.Column(scale=3, min_width=320):
                self._build_paper()

    def _build_header(self) -> None:
        with gradio.Row(elem_classes="library-header"):
            self._summary = _html("library-summary")
            self._check_button = gradio.Button("Check library", size="sm", scale=0, min_width=120)
        self._health = _message("library-health")
        self._upload = gradio.File(
            file_count="multiple",
            label="Add papers",
            height=140,
            elem_id="library-upload",
        )
        gradio.HTML(f"<p>{_FORMATS}</p>", elem_id="library-formats", padding=False)
        self._import_report = _message("library-report")

    def _build_search(self) -> None:
        search = gradio.Textbox(
            "",
            label="Search",
            placeholder="Search titles and abstracts",
            elem_id="library-search",
        )
        with gradio.Accordion("Filters", open=False), gradio.Row():
            filters = filter_boxes()
        # In the order of the parameters of `PaperQuery.from_boxes`.
        self._query_boxes = [search, *filters]

    def _build_list(self) -> None:
        self._export_buttons: list[gradio.DownloadButton] = []
        with gradio.Accordion("Export", open=False) as self._export_panel:
            for exports in (EXPORTS[:2], EXPORTS[2:]):
                with gradio.Row():
                    for label, _, _ in exports:
                        self._export_buttons.append(
                            gradio.DownloadButton(
                                label, size="sm", min_width=100, interactive=False
                            )
                        )
        self._notice = _message("library-notice")
        self._papers = gradio.Radio(
            [],
            label="Papers",
            elem_id="library-papers",
            elem_classes="choice-list",
            interactive=True,
        )
        button: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 90, "interactive": False}
        with gradio.Row(elem_classes="library-pages"):
            self._previous_button = gradio.Button("Newer", **button)
            self._position = _html("library-position")
            self._next_button = gradio.Button("Older", **button)
        # The query and the position of the page that the list shows now.
        self._listed_query = gradio.Textbox("", visible=False)
        self._start = gradio.Number(0, precision=0, visible=False)

    def _build_paper(self) -> None:
        self._paper = _html("library-paper")
        self._paper_id = gradio.Textbox("", visible=False)
        with gradio.Row():
            self._ask_button = gradio.Button(
                "Ask about this paper", variant="primary", size="md", visible=False
            )
            self._remove_button = gradio.Button("Remove paper", size="md", visible=False)
        with gradio.Column(visible=False, elem_id="library-confirmation") as self._confirmation:
            self._confirm_question = _html("library-confirm-question")
            with gradio.Row():
                self._confirm_button = gradio.Button("Remove", variant="stop", size="md")
                self._cancel_button = gradio.Button("Cancel", size="md")

    # --- events -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Register the events of the list, the selected paper and imports."""
        self._list_outputs = [
            self._papers,
            self._position,
            self._previous_button,
            self._next_button,
            self._listed_query,
            self._start,
            self._notice,
            self._summary,
            self._export_panel,
            *self._export_buttons,
        ]
        self._paper_outputs = [
            self._paper,
            self._paper_id,
            self._ask_button,
            self._remove_button,
            self._confirmation,
            self._confirm_question,
        ]
        # Inputs of every event that shows a page of the list.
        self._list_state = [self.page.library, self._paper_id, self._listed_query, self._start]
        refresh = _HIDDEN | {
            "fn": self._refresh_list,
            "inputs": self._list_state,
            "outputs": self._list_outputs,
        }
        self.container.select(**refresh)
        self._connect_list()
        self._connect_paper(refresh)
        self._connect_imports(refresh)

    def _connect_list(self) -> None:
        # Without triggers: when the page is opened, and when another library is selected.
        gradio.on(
            None,
            self._switch_library,
            self.page.library,
            [*self._query_boxes, *self._list_outputs, *self._paper_outputs, self._health],
            trigger_mode="always_last",
            **_HIDDEN,
        )
        turn_page = _HIDDEN | {
            "inputs": [*self._list_state, *self._query_boxes],
            "outputs": self._list_outputs,
        }
        self._previous_button.click(self._previous_page, **turn_page)
        self._next_button.click(self._next_page, **turn_page)
        search = turn_page | {"show_progress": "minimal", "show_progress_on": self._position}
        entered = [box.submit for box in self._query_boxes]
        entered += [box.blur for box in self._query_boxes]
        gradio.on(entered, self._search, trigger_mode="always_last", **search)
        self._export_panel.expand(
            self._write_exports,
            [self.page.library, self._listed_query],
            [*self._export_buttons, self._notice],
            **_HIDDEN,
        )
        self._check_button.click(
            self._check_library, self.page.library, [self._health, self._summary], **_HIDDEN
        )

    def _connect_paper(self, refresh: dict[str, Any]) -> None:
        selected = [self.page.library, self._paper_id]
        events = _HIDDEN | {"inputs": selected, "outputs": self._paper_outputs}
        self._papers.select(
            self._select_paper,
            self.page.library,
            self._paper_outputs,
            trigger_mode="always_last",
            **_HIDDEN,
        )
        self._ask_button.click(
            self._draft_question,
            [*selected, self.page.question],
            [self.page.tabs, self.page.question],
            api_visibility="private",
            queue=False,
        )
        self._remove_button.click(self._confirm_removal, **events)
        self._cancel_button.click(
            lambda: gradio.Column(visible=False), None, self._confirmation, **_HIDDEN
        )
        self._confirm_button.click(self._remove_paper, **events).then(**refresh)

    def _connect_imports(self, refresh: dict[str, Any]) -> None:
        uploaded = self._upload.upload(
            self._start_import,
            [self.page.library, self._upload],
            [self._upload, self._import_report, self.page.library],
            trigger_mode="multiple",
            queue=False,
            **_HIDDEN,
        )
        follow = _HIDDEN | {"outputs": self._import_report, "concurrency_limit": None}
        uploaded.then(self._follow_imports, trigger_mode="multiple", **follow).then(**refresh)
        # A page that is opened during an import shows its progress, too.
        gradio.on(None, self._follow_imports, **follow).then(**refresh)

    # --- list -------------------------------------------------------------------------------------

    def _switch_library(self, library: str) -> Updates:
        """Show another library, from its newest papers on."""
        cleared: Updates = dict.fromkeys(self._query_boxes, "")
        cleared |= {
            self._health: _show_message(""),
            self._papers: gradio.Radio(choices=[], value=None),
            self._position: "",
            self._summary: "",
        }
        closed = self._close_paper("Select a paper to see it here.")
        return cleared | closed | self._list_page(library, "", PaperQuery(), 0)

    def _refresh_list(self, library: str, paper_id: str, listed: str, start: float) -> Updates:
        """Show the same page of the list as it is now."""
        return self._list_page(library, paper_id, PaperQuery.from_json(listed), int(start))

    def _search(
        self, library: str, paper_id: str, listed: str, _start: float, *boxes: str
    ) -> Update:
        """Show the papers for the query, unless the list shows them already."""
        query = PaperQuery.from_boxes(*boxes)
        if query.to_json() == listed:
            return gradio.skip()
        return self._list_page(library, paper_id, query, 0)

    def _previous_page(
        self, library: str, paper_id: str, listed: str, start: float, *boxes: str
    ) -> Updates:
        query = PaperQuery.from_boxes(*boxes)
        return self._turn_page(library, paper_id, listed, int(start) - PAGE_SIZE, query)

    def _next_page(
        self, library: str, paper_id: str, listed: str, start: float, *boxes: str
    ) -> Updates:
        query = PaperQuery.from_boxes(*boxes)
        return self._turn_page(library, paper_id, listed, int(start) + PAGE_SIZE, query)

    def _turn_page(
        self, library: str, paper_id: str, listed: str, start: int, query: PaperQuery
    ) -> Updates:
        """Show another page; a changed query begins with its first one."""
        is_same_query = query.to_json() == listed
        return self._list_page(library, paper_id, query, start if is_same_query else 0)

    def _list_page(self, library: str, paper_id: str, query: PaperQuery, start: int) -> Updates:
        """Show a page of the list in all its components; an error leaves the list as it was."""
        try:
            assistant = self.page.registry.assistant(library)
            page = load_page(assistant, query, start)
            summary = library_summary(assistant)
        except FootnoteError as error:
            return {self._notice: _show_message(error_html(error))}
        choices = [(paper_label(paper), paper.id) for paper in page.papers]
        is_listed = any(paper.id == paper_id for paper in page.papers)
        previous_label, next_label = ("Previous", "Next") if page.is_search else ("Newer", "Older")
        closed = gradio.DownloadButton(value=None, interactive=False)
        updates: Updates = dict.fromkeys(self._export_buttons, closed)
        return updates | {
            self._papers: gradio.Radio(choices=choices, value=paper_id if is_listed else None),
            self._position: f"<p>{page.position}</p>",
            self._previous_button: gradio.Button(previous_label, interactive=page.has_previous),
            self._next_button: gradio.Button(next_label, interactive=page.has_next),
            self._listed_query: query.to_json(),
            self._start: page.start,
            self._notice: _show_message(""),
            self._summary: f"<p>{summary}</p>",
            self._export_panel: gradio.Accordion(
                label=f"Export {format_count(page.total, 'paper')}", open=False
            ),
        }

    def _write_exports(self, library: str, listed: str) -> Iterator[Updates]:
        """Write the exports when their panel is opened; enable each button when its file exists."""
        try:
            papers = find_papers(
                self.page.registry.assistant(library), PaperQuery.from_json(listed)
            )
            folder = Path(self._upload.GRADIO_CACHE)
            files = write_exports(papers, folder)
            for button, file in zip(self._export_buttons, files, strict=False):
                yield {button: gradio.DownloadButton(value=file, interactive=True)}
        except FootnoteError as error:
            yield {self._notice: _show_message(error_html(error))}

    def _check_library(self, library: str) -> Iterator[Updates]:
        yield {self._health: _show_message(notice_html("Checking…"))}
        try:
            assistant = self.page.registry.assistant(library)
            checks = list(check_library(assistant.library))
            health = health_html(checks, assistant.count(), assistant.library.size())
            summary = f"<p>{library_summary(assistant)}</p>"
            yield {self._health: _show_message(health), self._summary: summary}
        except FootnoteError as error:
            yield {self._health: _show_message(error_html(error))}

    # --- paper ------------------------------------------------------------------------------------

    def _select_paper(self, library: str, event: gradio.SelectData) -> Update:
        def show(_: Assistant, paper: Paper) -> Updates:
            has_abstract = bool(paper.abstract)  # a title alone answers nothing
            is_own = not self.page.registry.is_sample(library)
            return {
                self._paper: paper_html(paper),
                self._paper_id: paper.id,
                self._ask_button: gradio.Button(visible=has_abstract),
                self._remove_button: gradio.Button(visible=is_own),
                self._confirmation: gradio.Column(visible=False),
            }

        return self._with_paper(library, event.value, show)

    def _close_paper(self, notice: str) -> Updates:
        return {
            self._paper: notice_html(notice),
            self._paper_id: "",
            self._ask_button: gradio.Button(visible=False),
            self._remove_button: gradio.Button(visible=False),
            self._confirmation: gradio.Column(visible=False),
        }

    def _draft_question(
        self, library: str, paper_id: str, draft: str
    ) -> tuple[gradio.Tabs, gradio.Textbox | str]:
        """Open the chat with a question about the paper, unless another one is being typed."""
        try:
            title = plain_text(self.page.registry.assistant(library).paper(paper_id).title)
        except FootnoteError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        question = f"What does “{title}” find?"[:MAX_QUESTION_CHARS]
        return gradio.Tabs(selected="chat"), draft or question

    def _confirm_removal(self, library: str, paper_id: str) -> Update:
        def confirm(_: Assistant, paper: Paper) -> Updates:
            title = escape(plain_text(paper.title))
            question = f"<p>Remove “{title}”? You can add it again from its file.</p>"
            return {
                self._confirm_question: question,
                self._confirmation: gradio.Column(visible=True),
            }

        return self._with_paper(library, paper_id, confirm)

    def _remove_paper(self, library: str, paper_id: str) -> Update:
        def remove(assistant: Assistant, paper: Paper) -> Updates:
            if self.page.registry.is_sample(library):
                raise UsageError("the sample papers cannot be removed")
            assistant.remove(paper.id)
            return self._close_paper(f"Removed “{plain_text(paper.title)}”.")

        return self._with_paper(library, paper_id, remove)

    def _with_paper(
        self, library: str, paper_id: str, action: Callable[[Assistant, Paper], Updates]
    ) -> Update:
        """Apply an action to a paper that is still in the library."""
        try:
            assistant = self.page.registry.assistant(library)
            return action(assistant, get_paper(assistant, paper_id))
        except PaperNotFound:
            return self._close_paper("This paper is no longer in the library.")
        except FootnoteError as error:
            gradio.Warning(escape(str(error)))
            return gradio.skip()

    # --- imports ----------------------------------------------------------------------------------

    def _start_import(self, library: str, uploads: list[str] | None) -> Updates:
        """Start an import and empty the upload area, so that more files can be dropped meanwhile.

        Files dropped on the sample papers go into the user's own library, which is then shown.
        """
        try:
            target, assistant = self.page.registry.import_target(library)
            names = {key: name for name, key in self.page.registry.libraries}
            self._imports.start(assistant, names[target], list(uploads or ()))
        except FootnoteError as error:
            return {self._upload: None, self._import_report: _show_message(error_html(error))}
        report = _show_message(self._imports.html())
        return {self._upload: None, self._import_report: report, self.page.library: target}

    async def _follow_imports(self) -> AsyncIterator[gradio.HTML]:
        """Show the progress of the imports until all have ended."""
        while self._imports.is_running:
            yield _show_message(self._imports.html())
            await asyncio.sleep(_PROGRESS_SECONDS)
        yield _show_message(self._imports.html())
