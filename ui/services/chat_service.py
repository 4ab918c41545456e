"""Asking in the page: the steps shown while an answer is generated, and what is stored of it.

The conversation store is the source of truth; the browser only keeps a conversation's id. So a
reload, a restart or a second window shows the same, and nothing that a browser sends is taken for
an answer.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rag import Answer, FootnoteError
from ui.services.conversations import ConversationNotFound, ConversationStore, new_id
from ui.services.library_registry import LibraryRegistry

# Each step sends the whole message to the browser, so there are at most twenty per second.
_SECONDS_BETWEEN_STEPS = 0.05
# Longer than any model may generate (120 s); after this, the unfinished text becomes the answer.
MAX_ANSWER_SECONDS = 180.0
MAX_SENTENCES = 20
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to answer a question: library, language model, style and filters, as in `Assistant.ask`.

    `sentences` is 0 for the default number.
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
        """Search filters by name."""
        return {name: getattr(self, name) for name in ("year", "venue", "author", "source")}


@dataclass(frozen=True, slots=True)
class ChatView:
    """What to show of a conversation: its answers, and perhaps a question that is being answered.

    `text` is the answer so far; `failure` says why there is no answer.
    """

    conversation: str = ""
    answers: tuple[Answer, ...] = ()
    question: str = ""
    text: str = ""
    failure: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether a question is still being answered."""
        return bool(self.question) and not self.failure


@dataclass(slots=True)
class ChatService:
    """All conversations of the page. Safe to use from several threads."""

    registry: LibraryRegistry
    store: ConversationStore
    _running: dict[str, threading.Event] = field(default_factory=dict)

    def view(self, conversation: str, owner: str) -> ChatView:
        """Return a stored conversation; an empty one when it no longer exists."""
        if not conversation:
            return ChatView()
        try:
            return ChatView(conversation, tuple(self.store.answers(conversation, owner)))
        except ConversationNotFound:
            return ChatView()

    def ask(  # noqa: PLR0913, PLR0917 - who asks what, where and how
        self,
        question: str,
        conversation: str,
        owner: str,
        session: str,
        options: AskOptions,
        position: int | None = None,
    ) -> Iterator[ChatView]:
        """Answer step by step; the last view is final, and what it shows is stored.

        With a `position`, the question replaces the one there. If later questions would be lost, it
        starts a new conversation with the earlier ones instead.
        """
        view = ChatView(conversation, question=question)
        try:
            with self._stoppable(session) as stop:
                view = self.view(conversation, owner)
                turns = len(view.answers)
                view = replace(view, answers=view.answers[:position], question=question)
                yield view
                yield from self._steps(view, owner, options, stop, turns)
        except FootnoteError as error:
            yield replace(view, failure=str(error))
        except Exception as error:  # a bug: shown to the user, with its traceback in the log
            _LOG.exception("answering a question in the page failed")
            failure = f"Footnote itself failed ({type(error).__name__}: {error})"
            yield replace(view, failure=failure)

    @contextlib.contextmanager
    def _stoppable(self, session: str) -> Iterator[threading.Event]:
        """Register the event that stops the answer of a session, and set it at the time limit."""
        stop = self._running[session] = threading.Event()
        time_limit = threading.Timer(MAX_ANSWER_SECONDS, stop.set)
        time_limit.daemon = True
        time_limit.start()
        try:
            yield stop
        finally:
            stop.set()
            time_limit.cancel()
            if self._running.get(session) is stop:
                del self._running[session]

    def stop(self, session: str) -> None:
        """End the answer that a session is waiting for, keeping the text so far."""
        if running := self._running.get(session):
            running.set()

    def _steps(
        self, view: ChatView, owner: str, options: AskOptions, stop: threading.Event, turns: int
    ) -> Iterator[ChatView]:
        chat = self.registry.assistant(options.library, options.model).chat(view.answers)
        last_step = 0.0
        sentences = min(max(int(options.sentences or 0), 0), MAX_SENTENCES) or None
        pieces = chat.stream(
            view.question, sentences=sentences, style=options.style, stop=stop, **options.filters
        )
        for piece in pieces:
            if isinstance(piece, Answer):
                yield self._finished(view, piece, owner, options.library, turns)
                return
            view = replace(view, text=view.text + piece)
            if time.monotonic() - last_step >= _SECONDS_BETWEEN_STEPS:
                last_step = time.monotonic()
                yield view

    def _finished(
        self, view: ChatView, answer: Answer, owner: str, library: str, turns: int
    ) -> ChatView:
        """Store an answer and return the final view; `turns` were stored when it was asked for."""
        if not (answer.claims or answer.abstained):
            return replace(view, failure="Stopped before the first sentence.")
        conversation, position = view.conversation or new_id(), len(view.answers)
        if position < turns - 1:
            conversation = new_id()
            for place, earlier in enumerate(view.answers):
                self.store.save(conversation, owner, library, place, earlier)
            turns = position
        self.store.save(conversation, owner, library, position, answer, turns)
        return ChatView(conversation, (*view.answers, answer))
