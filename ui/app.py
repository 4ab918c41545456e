"""Page with a library selector above the tabs, and with one public endpoint."""

import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio

from rag import FootnoteError
from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry
from ui.tabs.base import Page, Tab
from ui.tabs.chat import MAX_CONCURRENT_ANSWERS, ChatTab
from ui.tabs.evals import EvalsTab
from ui.tabs.library import LibraryTab

# The tabs in the order of the page.
TABS: tuple[type[Tab], ...] = (ChatTab, LibraryTab, EvalsTab)

_MAX_QUEUE = 64
# Delete uploads and downloads after a day; check every hour.
_CACHE_CHECK_SECONDS, _CACHE_MAX_AGE_SECONDS = 3_600, 86_400
# Fonts of the reader's own machine, so that nothing is downloaded.
_SANS_FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
_MONO_FONTS = ("ui-monospace", "monospace")


def theme() -> dict[str, Any]:
    """Return theme, style sheet and script of the page, for `ui.server.application.application`."""
    colors = gradio.themes.Base(
        primary_hue="teal", neutral_hue="stone", font=_SANS_FONTS, font_mono=_MONO_FONTS
    ).set(
        color_accent="*primary_700",  # dark enough to be read on white
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
    )
    folder = Path(__file__).parent
    return {
        "theme": colors,
        "css_paths": [folder / "style.css"],
        "js": (folder / "page.js").read_text(encoding="utf-8"),
    }


def build_page(
    registry: LibraryRegistry, conversations: ConversationStore, runs_folder: Path
) -> gradio.Blocks:
    """Build the page over some libraries; evaluation runs are stored in `runs_folder`."""
    blocks: gradio.Blocks = gradio.Blocks(
        title="Footnote",
        analytics_enabled=False,
        delete_cache=(_CACHE_CHECK_SECONDS, _CACHE_MAX_AGE_SECONDS),
    )
    with blocks:
        library = _build_header(registry)
        _build_tabs(Page(blocks, registry, conversations, runs_folder, library))
        gradio.api(  # type: ignore[attr-defined]
            _ask_endpoint(registry),
            api_name="ask",
            concurrency_limit=MAX_CONCURRENT_ANSWERS,
            concurrency_id="ask",
        )
    # Events that wait in the queue cannot be called in any other way.
    blocks.queue(max_size=_MAX_QUEUE, api_open=False)
    _disable_statistics(blocks)
    return blocks


def _build_header(registry: LibraryRegistry) -> gradio.Dropdown:
    with gradio.Row(elem_classes="app-header"):
        gradio.Markdown("# Footnote", elem_classes="app-title")
        account = gradio.HTML(elem_id="account", padding=False)
        library = gradio.Dropdown(
            registry.libraries,
            value=registry.first,
            label="Library",
            show_label=False,
            container=False,
            elem_id="library",
            scale=0,
            min_width=240,
        )
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gradio.on(None, _account_html, None, account, queue=False, **hidden)
    return library


def _build_tabs(page: Page) -> None:
    tabs = [tab_class(page) for tab_class in TABS]
    for tab in tabs:
        tab.build_sidebar()
    with gradio.Tabs() as page.tabs:
        for tab in tabs:
            with gradio.Tab(tab.title, id=tab.title.lower()) as tab.container:
                tab.build()
    for tab in tabs:
        tab.connect()


def _disable_statistics(blocks: gradio.Blocks) -> None:
    """Keep Gradio from recording 10,000 events and tabulating them for a dashboard closed here."""
    blocks._queue.ANALYTICS_MAX_EVENTS = 1
    blocks._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # Gradio's spelling


def _account_html(request: gradio.Request) -> str:
    """Return the user's name and a link to sign out, or nothing when sign-in is not required."""
    if not request.username:
        return ""
    return f'{escape(request.username)} <a href="/logout">Sign out</a>'


def _ask_endpoint(registry: LibraryRegistry) -> Callable[..., dict[str, Any]]:
    """Return the function behind the endpoint `ask`; its parameters are those of the endpoint."""

    def ask(
        question: str, sentences: int = 0, style: str = "auto", year: str = ""
    ) -> dict[str, Any]:
        """Answer a question from the first library with papers, as `footnote ask --json` does.

        `sentences` limits the length; 0 means the default. `year` filters: 2023, >=2023, 2019-2022.
        """
        try:
            assistant = registry.assistant(registry.first)
            answer = assistant.ask(question, sentences=sentences or None, style=style, year=year)
        except FootnoteError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        return answer.to_dict()

    return ask
