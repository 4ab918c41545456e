"""Asking in the page: what is shown while an answer comes, and what is kept of it.

The truth of a conversation is what `ui.services.conversations` holds; the browser only keeps its id. So a reload, a restart or a
second window show the same, and nothing that a browser sends is taken for an answer.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rag import Answer, FootnoteError
from ui.services.conversations import ConversationNotFound, History, new_id
from ui.services.library_registry import LibraryRegistry

# Each step sends the whole message to the browser, so there are at most twenty in a second.
_BETWEEN_STEPS = 0.05
# Longer than any model may write (`rag` breaks it off after 120 s); then what there is becomes the answer.
_LONGEST_SECONDS = 180.0
_MOST_SENTENCES = 20
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How a question is to be answered: from which library, by which model, in which style; filters as in `rag`.

    `sentences` is 0 for the usual number.
    """

    library: str
    model: str = ""
    style: str = "auto"
    sentences: int = 0
    year: str = ""
    venue: str = ""
    author: str = ""
    source: str = ""

    @property
    def filters(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("year", "venue", "author", "source")}


@dataclass(frozen=True, slots=True)
class View:
    """What there is to show of a conversation: answers, and perhaps a question whose answer is on its way.

    `text` is what has come of that answer; `failure` says why none came.
    """

    conversation: str = ""
    answers: tuple[Answer, ...] = ()
    asked: str = ""
    text: str = ""
    failure: str = ""

    @property
    def pending(self) -> bool:
        return bool(self.asked) and not self.failure


@dataclass(slots=True)
class ChatService:
    """All conversations of the page. Safe to use from several threads."""

    shelf: LibraryRegistry
    history: History
    _running: dict[str, threading.Event] = field(default_factory=dict)

    def view(self, conversation: str, owner: str) -> View:
        """A conversation as it was kept; an empty one when it is no longer there."""
        try:
            return (
                View(conversation, tuple(self.history.answers(conversation, owner)))
                if conversation
                else View()
            )
        except ConversationNotFound:
            return View()

    def ask(  # noqa: PLR0913, PLR0917 - who asks what, where and how
        self,
        question: str,
        conversation: str,
        owner: str,
        session: str,
        wishes: AskOptions,
        position: int | None = None,
    ) -> Iterator[View]:
        """Answer step by step; the last view is settled, and what it shows is kept.

        With a `position` the question takes the place of the one that stood there. Where others came after it, it
        begins a conversation of its own with those before it: nothing is taken away.
        """
        view = View(conversation, asked=question)
        stop = self._running[session] = threading.Event()
        overdue = threading.Timer(_LONGEST_SECONDS, stop.set)
        overdue.daemon = True
        overdue.start()
        try:
            view = self.view(conversation, owner)
            seen = len(view.answers)
            view = replace(view, answers=view.answers[:position], asked=question)
            yield view
            yield from self._steps(view, owner, wishes, stop, seen)
        except FootnoteError as error:
            yield replace(view, failure=str(error))
        except Exception as error:  # a bug: it is told where the user looks, and its traceback where it can be reported
            _LOG.exception("a question in the page")
            yield replace(view, failure=f"Footnote itself failed ({type(error).__name__}: {error})")
        finally:
            stop.set()
            overdue.cancel()
            if self._running.get(session) is stop:
                del self._running[session]

    def stop(self, session: str) -> None:
        """End the answer that a session waits for, with what there is of it."""
        if running := self._running.get(session):
            running.set()

    def _steps(
        self, view: View, owner: str, wishes: AskOptions, stop: threading.Event, seen: int
    ) -> Iterator[View]:
        talk = self.shelf.assistant(wishes.library, wishes.model).chat(view.answers)
        shown = 0.0
        sentences = min(max(int(wishes.sentences or 0), 0), _MOST_SENTENCES) or None
        options = {"sentences": sentences, "style": wishes.style, "stop": stop}
        for one in talk.stream(view.asked, **options, **wishes.filters):  # type: ignore[arg-type]
            if isinstance(one, Answer):
                yield self._settled(view, one, owner, wishes.library, seen)
                return
            view = replace(view, text=view.text + one)
            if time.monotonic() - shown >= _BETWEEN_STEPS:
                shown = time.monotonic()
                yield view

    def _settled(self, view: View, answer: Answer, owner: str, library: str, seen: int) -> View:
        """The answer in its place; what was stopped before its first sentence leaves nothing."""
        if not (answer.claims or answer.abstained):
            return replace(view, failure="Stopped before the first sentence.")
        conversation, position = view.conversation or new_id(), len(view.answers)
        if position < seen - 1:
            conversation = new_id()
            for place, before in enumerate(view.answers):
                self.history.save(conversation, owner, library, place, before)
            seen = position
        self.history.save(conversation, owner, library, position, answer, seen)
        return View(conversation, (*view.answers, answer))
