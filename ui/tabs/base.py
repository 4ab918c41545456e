"""Common shape of the tabs; `ui.app` lists the classes in the order of the page."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import gradio

from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry


@dataclass(slots=True)
class Page:
    """Services and components that the tabs share.

    `library` is the selector above the tabs. `ui.app` sets `tabs`, the chat sets `question`, the
    box that other tabs may fill with a draft; both exist when a tab connects its events.
    """

    blocks: gradio.Blocks
    registry: LibraryRegistry
    conversations: ConversationStore
    runs_folder: Path
    library: gradio.Dropdown
    tabs: gradio.Tabs = field(init=False)
    question: gradio.Textbox = field(init=False)


class Tab(ABC):
    """Tab of the page: a title, its components and its events.

    `ui.app` calls `build_sidebar` beside the tabs, `build` inside the `container` of the tab, and
    `connect` once all tabs are built.
    """

    title: ClassVar[str]
    container: gradio.Tab

    def __init__(self, page: Page) -> None:
        self.page = page

    def build_sidebar(self) -> None:  # noqa: B027 - optional
        """Create components beside the tabs. Most tabs have none."""

    @abstractmethod
    def build(self) -> None:
        """Create the components of the tab."""

    @abstractmethod
    def connect(self) -> None:
        """Register the events of the components."""
