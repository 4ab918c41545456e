"""The page: a library to choose, and the tabs for asking it, keeping it and measuring it."""

import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio

from rag import FootnoteError
from ui.render.mathematics import plain_text
from ui.services.chat_service import ChatService
from ui.services.conversations import History
from ui.services.library_registry import LibraryRegistry
from ui.tabs.chat import AT_ONCE, LONGEST_QUESTION, ChatTab
from ui.tabs.evals import evals_tab
from ui.tabs.library import library_tab

_LONGEST_QUEUE = 64
# What is uploaded or made for downloading goes after a day; looked for every hour.
_KEEP_SECONDS = (3_600, 86_400)
# Fonts of the reader's own machine: nothing to load.
_SANS = ("ui-sans-serif", "system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")


def look() -> dict[str, Any]:
    """How the page looks, for `ui.server.application.application`."""
    theme = gradio.themes.Base(
        primary_hue="teal", neutral_hue="stone", font=_SANS, font_mono=_MONO
    ).set(
        color_accent="*primary_700",  # dark enough to be read on white
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
    )
    here = Path(__file__).parent
    return {
        "theme": theme,
        "css_paths": [here / "style.css"],
        "js": (here / "page.js").read_text(encoding="utf-8"),
    }


def build(shelf: LibraryRegistry, history: History, runs: Path) -> gradio.Blocks:
    """The page over the libraries of a shelf; evaluations are kept in the folder `runs`."""
    page: gradio.Blocks = gradio.Blocks(
        title="Footnote", analytics_enabled=False, delete_cache=_KEEP_SECONDS
    )
    with page:
        with gradio.Row(elem_classes="top"):
            gradio.Markdown("# Footnote", elem_classes="name")
            account = gradio.HTML(elem_id="account", padding=False)
            library = gradio.Dropdown(
                shelf.libraries,
                value=shelf.first,
                label="Library",
                show_label=False,
                container=False,
                elem_id="library",
                scale=0,
                min_width=240,
            )
        chat = ChatTab(ChatService(shelf, history), library)
        chat.build_list()
        with gradio.Tabs() as tabs:
            with gradio.Tab("Chat", id="chat") as chat_opened:
                chat.build_talk()
            with gradio.Tab("Library", id="library") as library_opened:
                papers = library_tab(shelf, library)
            with gradio.Tab("Evals", id="evals"):
                evals_tab(shelf, library, runs)
        chat.wire(tabs)
        papers.ask_about.click(
            _asking_about(shelf),
            [library, papers.chosen, chat.question],
            [tabs, chat.question],
            api_visibility="private",
            queue=False,
        )
        chat_opened.select(**chat.on_library)
        library_opened.select(**papers.on_show)
        page.load(
            _account, None, account, api_visibility="private", show_progress="hidden", queue=False
        )
        page.load(**chat.on_load)
        page.load(**chat.on_library)
        library.change(**chat.on_library)
        endpoint = _asker(shelf)
        gradio.api(endpoint, api_name="ask", concurrency_limit=AT_ONCE, concurrency_id="ask")  # type: ignore[attr-defined]
    page.queue(
        max_size=_LONGEST_QUEUE, api_open=False
    )  # what is to wait its turn can be asked for in no other way
    _keep_no_statistics(page)
    return page


def _keep_no_statistics(page: gradio.Blocks) -> None:
    """Gradio remembers 10,000 events, and after each one makes a table of them all, for a board that is closed here."""
    page._queue.ANALYTICS_MAX_EVENTS = 1
    page._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # its own spelling


def _account(request: gradio.Request) -> str:
    """Who is signed in, and the way out; nothing where nobody has to."""
    if not request.username:
        return ""
    return f'{escape(request.username)} <a href="/logout">Sign out</a>'


def _asking_about(shelf: LibraryRegistry) -> Callable[[str, str, str], tuple[gradio.Tabs, str]]:
    def about(library: str, paper_id: str, draft: str) -> tuple[gradio.Tabs, str]:
        """The chat, with the beginning of a question on a paper; what was being typed stays."""
        try:
            title = plain_text(shelf.assistant(library).paper(paper_id).title)
        except FootnoteError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        return gradio.Tabs(selected="chat"), draft or f"What does “{title}” find?"[
            :LONGEST_QUESTION
        ]

    return about


def _asker(shelf: LibraryRegistry) -> Any:  # noqa: ANN401 - a function, whose parameters become those of the endpoint
    def ask(
        question: str, sentences: int = 0, style: str = "auto", year: str = ""
    ) -> dict[str, Any]:
        """Answer a question from the first library that holds papers, as `footnote ask --json` prints it.

        `sentences` is 0 for the usual number; `year` filters: 2023, >=2023, 2019-2022.
        """
        try:
            assistant = shelf.assistant(shelf.first)
            return assistant.ask(
                question, sentences=sentences or None, style=style, year=year
            ).to_dict()
        except FootnoteError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return ask
