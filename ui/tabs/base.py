"""Base class of the tabs, and components that several of them have."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import gradio

from rag.library.filters import FILTERS
from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry

# Labels of filters where the name does not suffice, and hints by the kind of value.
_FILTER_LABELS = {"source": "Source file"}
_FILTER_HINTS = {"YEAR": "2023 or >=2023", "TEXT": "part of the name", "DATE": "2026-01-31"}


def filter_boxes() -> list[gradio.Textbox]:
    """Create an empty box for each search filter, in the order of `FILTERS`."""
    boxes = []
    for name, definition in FILTERS.items():
        label = _FILTER_LABELS.get(name, name.replace("_", " ").capitalize())
        hint = _FILTER_HINTS.get(definition.metavar, definition.help)
        boxes.append(gradio.Textbox("", label=label, placeholder=hint, min_width=140))
    return boxes


@dataclass(slots=True)
class Page:
    """Services and components that the tabs share.

    `library` is the selector above the tabs. `ui.app` sets `tabs`. The chat sets `question`, the
    box that other tabs may fill with a draft. Both are set when a tab connects its events.
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
