"""The tab "Library": add papers, find them, see, remove and export them; how large the library is, and how well.

What is shown is worked out by plain functions of an assistant and of values; `LibraryTab` wires them to Gradio. The
browser holds which page of the list is open and which paper: nothing here is lost when the server starts anew.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import astuple, dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio

from rag import (
    Assistant,
    FootnoteError,
    Paper,
    PaperNotFound,
    UsageError,
    check_library,
    export_papers,
)
from ui.render.html import counted, health_html, paper_html, problem_html, remark_html
from ui.render.mathematics import plain_text
from ui.services.import_queue import LARGEST_FILE_BYTES, MOST_FILES, ImportQueue
from ui.services.library_registry import LibraryRegistry

ON_A_PAGE = 25
# So many papers are found for a search: those after them are hardly what was meant.
MOST_FOUND = 50
# Name, format and file of each export.
EXPORTS = (
    ("BibTeX", "bibtex", "papers.bib"),
    ("RIS", "ris", "papers.ris"),
    ("CSL-JSON", "csl-json", "papers.json"),
    ("JSON Lines", "jsonl", "papers.jsonl"),
)
_WHAT_CAN_BE_ADDED = (
    "Listing pages saved as text or HTML, JSON Lines, JSON, CSV, BibTeX, RIS, PubMed (NBIB or XML), arXiv Atom: "
    "found from the content. "
    f"At most {MOST_FILES} files at a time, {LARGEST_FILE_BYTES >> 20} MB each, 200 MB together."
)
# Between two steps of the progress.
_STEP_SECONDS = 0.25

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
        return (
            f"{span} of the {self.total:,} nearest"
            if self.nearest
            else f"{span} of {self.total:,}, newest first"
        )

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
    with assistant.library.snapshot():
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
    return (
        f"Retracted: {text}"
        if paper.retracted and not text.lower().startswith("retracted")
        else text
    )


def summary_of(assistant: Assistant) -> str:
    """`676 papers, 11 MB`."""
    return f"{counted(assistant.count(), 'paper')}, {assistant.library.size() / 1e6:,.0f} MB"


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


# --- the tab -----------------------------------------------------------------------------------------------------


def _html(name: str, value: str = "") -> gradio.HTML:
    return gradio.HTML(value, elem_id=name, padding=False)


def _told(name: str) -> gradio.HTML:
    """What takes no room until there is something to tell."""
    return gradio.HTML(elem_id=name, padding=False, visible=False)


def _tell(html: str) -> gradio.HTML:
    return gradio.HTML(html, visible=bool(html))


def library_tab(shelf: LibraryRegistry, library: gradio.Dropdown) -> "LibraryTab":
    """Build the tab inside a running `with gradio.Tab(...)`; `library` is the dropdown that all tabs share."""
    return LibraryTab(shelf, library)


class LibraryTab:
    """The components and their events.

    For the page: `chosen` holds the id of the paper that is shown, empty when none is; `ask_about` is the button for a
    question on it; `papers` is the list; `on_show` are the arguments for an event upon which the list is renewed.
    """

    def __init__(self, shelf: LibraryRegistry, library: gradio.Dropdown) -> None:
        self._shelf = shelf
        self._library = library
        self._addings = ImportQueue()
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
            "",
            label="Search",
            placeholder="What they are about; empty for the newest",
            elem_id="library-search",
        )
        with gradio.Accordion("Filters", open=False):
            with gradio.Row():
                year = gradio.Textbox(
                    "", label="Year", placeholder="2023, >=2023, 2019-2022", min_width=100
                )
                venue = gradio.Textbox(
                    "", label="Venue", placeholder="part of its name", min_width=100
                )
            with gradio.Row():
                author = gradio.Textbox(
                    "", label="Author", placeholder="part of a name", min_width=100
                )
                source = gradio.Textbox(
                    "", label="Source", placeholder="part of a file's name", min_width=100
                )
        self._boxes = [self._query, year, venue, author, source]
        self._files: list[gradio.DownloadButton] = []
        with gradio.Accordion("Export", open=False) as self._export:
            for two in (EXPORTS[:2], EXPORTS[2:]):
                with gradio.Row():
                    self._files += [
                        gradio.DownloadButton(name, size="sm", min_width=100, interactive=False)
                        for name, *_ in two
                    ]
        self._note = _told("library-note")
        self.papers = gradio.Radio(
            [], label="Papers", elem_id="library-papers", elem_classes="list", interactive=True
        )
        with gradio.Row(elem_classes="library-pages"):
            self._before = gradio.Button(
                "Newer", size="sm", scale=0, min_width=90, interactive=False
            )
            self._position = _html("library-position")
            self._after = gradio.Button(
                "Older", size="sm", scale=0, min_width=90, interactive=False
            )
        # What the list shows at this moment, to tell a new wish from the same one.
        self._shown = gradio.Textbox("", visible=False)
        self._start = gradio.Number(0, precision=0, visible=False)

    def _build_paper(self) -> None:
        self._paper = _html("library-paper")
        self.chosen = gradio.Textbox("", visible=False)
        with gradio.Row():
            self.ask_about = gradio.Button(
                "Ask about this paper", variant="primary", size="md", visible=False
            )
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
        gradio.on(
            None, self._switch, self._library, everything, trigger_mode="always_last", **hidden
        )
        dropping: dict[str, Any] = {
            "inputs": [self._library, self._drop],
            "outputs": [self._drop, self._added, self._library],
        }
        dropped = self._drop.upload(
            self._add, **dropping, trigger_mode="multiple", queue=False, **hidden
        )
        following = hidden | {"outputs": self._added, "concurrency_limit": None}
        dropped.then(self._follow, trigger_mode="multiple", **following).then(**self.on_show)
        # A page that is opened while papers are being added shows that, too.
        gradio.on(None, self._follow, **following).then(**self.on_show)
        self._check.click(self._check_it, self._library, [self._health, self._summary], **hidden)

    def _wire_list(self, hidden: dict[str, Any]) -> None:
        place = [self._library, self.chosen, self._shown, self._start]
        self._listing = [
            self.papers,
            self._position,
            self._before,
            self._after,
            self._shown,
            self._start,
            self._note,
        ]
        self._listing += [self._summary, self._export, *self._files]
        self.on_show: dict[str, Any] = hidden | {
            "fn": self._renew,
            "inputs": place,
            "outputs": self._listing,
        }
        turning = hidden | {"inputs": [*place, *self._boxes], "outputs": self._listing}
        searching = turning | {"show_progress": "minimal", "show_progress_on": self._position}
        typed = [box.submit for box in self._boxes] + [box.blur for box in self._boxes]
        gradio.on(typed, self._list_anew, trigger_mode="always_last", **searching)
        self._before.click(self._turn_back, **turning)
        self._after.click(self._turn_on, **turning)
        self._export.expand(
            self._write_exports, [self._library, self._shown], [*self._files, self._note], **hidden
        )

    def _wire_paper(self, hidden: dict[str, Any]) -> None:
        self._opened = [
            self._paper,
            self.chosen,
            self.ask_about,
            self._remove,
            self._sure,
            self._question,
        ]
        here = hidden | {"inputs": [self._library, self.chosen], "outputs": self._opened}
        self.papers.select(
            self._choose, self._library, self._opened, trigger_mode="always_last", **hidden
        )
        self._remove.click(self._ask_whether, **here)
        self._keep.click(lambda: gradio.Column(visible=False), None, self._sure, **hidden)
        self._really.click(self._remove_it, **here).then(**self.on_show)

    def _switch(self, library: str) -> Updates:
        """Another library, from its newest papers on."""
        empty: Updates = dict.fromkeys(self._boxes, "") | {self._health: _tell("")}
        blank: Updates = {
            self.papers: gradio.Radio(choices=[], value=None),
            self._position: "",
            self._summary: "",
        }
        closed = self._closed("Choose a paper to see it here.")
        return empty | blank | closed | self._listed(library, "", Wish(), 0)

    def _renew(self, library: str, chosen: str, shown: str, start: float) -> Updates:
        """The same page of the list, as it is now."""
        return self._listed(library, chosen, Wish.of(shown), int(start))

    def _list_anew(
        self, library: str, chosen: str, shown: str, _start: float, *boxes: str
    ) -> Update:
        """The list for what was typed; leaving a box without a change leaves the list alone."""
        wish = Wish(*boxes)
        return gradio.skip() if str(wish) == shown else self._listed(library, chosen, wish, 0)

    def _turn_back(
        self, library: str, chosen: str, shown: str, start: float, *boxes: str
    ) -> Updates:
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
        shut: Updates = dict.fromkeys(
            self._files, gradio.DownloadButton(value=None, interactive=False)
        )
        return shut | {
            self.papers: gradio.Radio(choices=choices, value=chosen if still_there else None),
            self._position: f"<p>{page.position}</p>",
            self._before: gradio.Button(
                "Previous" if page.nearest else "Newer", interactive=page.has_before
            ),
            self._after: gradio.Button(
                "Next" if page.nearest else "Older", interactive=page.has_after
            ),
            self._shown: str(wish),
            self._start: page.start,
            self._note: _tell(""),
            self._summary: f"<p>{summary}</p>",
            self._export: gradio.Accordion(
                label=f"Export {counted(page.total, 'paper')}", open=False
            ),
        }

    def _choose(self, library: str, event: gradio.SelectData) -> Update:
        def show(_: Assistant, paper: Paper) -> Updates:
            return {
                self._paper: paper_html(paper),
                self.chosen: paper.id,
                self.ask_about: gradio.Button(
                    visible=bool(paper.abstract)
                ),  # a title alone answers nothing
                self._remove: gradio.Button(visible=not self._shelf.is_sample(library)),
                self._sure: gradio.Column(visible=False),
            }

        return self._with_paper(library, event.value, show)

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
            if self._shelf.is_sample(library):
                raise UsageError("the sample papers stay as they are")
            assistant.remove(paper.id)
            return self._closed(f"Removed “{plain_text(paper.title)}”.")

        return self._with_paper(library, chosen, remove)

    def _with_paper(
        self, library: str, paper_id: str, do: Callable[[Assistant, Paper], Updates]
    ) -> Update:
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
        """Begin to add what was dropped; the zone is empty at once, so that more can be dropped meanwhile.

        What is dropped on the sample papers goes into the user's own library, which is shown from then on.
        """
        try:
            target, assistant = self._shelf.for_adding(library)
            name = next(name for name, key in self._shelf.libraries if key == target)
            self._addings.start(assistant, name, list(uploads or ()))
        except FootnoteError as error:
            return {self._drop: None, self._added: _tell(problem_html(error))}
        return {self._drop: None, self._added: _tell(self._addings.html()), self._library: target}

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
