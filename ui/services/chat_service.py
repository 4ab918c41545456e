"""Asking in the page: steps to show while an answer is generated, and storing the answer.

The conversation store is the primary store; the browser keeps only the id of a conversation. A
reload, a restart or a second window therefore shows the same, and a browser cannot forge an answer.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from rag import Answer, FootnoteError
from rag.library.filters import Filters
from rag.records import Preview, StreamEvent, Waiting
from ui.services.conversations import ConversationNotFound, ConversationStore, new_id
from ui.services.library_registry import LibraryRegistry

# Each step sends the whole message to the browser, so there are at most twenty per second.
_SECONDS_BETWEEN_STEPS = 0.05
# Longer than any model may generate (120 s). At this limit, the text so far becomes the answer. It
# starts again whenever an answer before this one in the queue is finished.
MAX_ANSWER_SECONDS = 180.0
MAX_SENTENCES = 20
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class AskOptions:
    """Library, language model, style and filters for a question, as in `Assistant.ask`.

    `sentences` is 0 for the default number.
    """

    library: str
    model: str = ""
    style: str = "auto"
    sentences: int = 0
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True, slots=True)
class ChatView:
    """Conversation to show: its answers, and perhaps a question that has none yet.

    `preview` is what is known before the model writes, `ahead` the number of answers before this
    one in the queue, `text` the answer so far, `failure` the reason why there will be no answer.
    """

    conversation: str = ""
    answers: tuple[Answer, ...] = ()
    question: str = ""
    preview: Preview | None = None
    ahead: int = 0
    text: str = ""
    failure: str = ""

    @property
    def is_pending(self) -> bool:
        """True while a question is being answered."""
        return bool(self.question) and not self.failure


class _Stop(threading.Event):
    """Event that stops an answer; it sets itself at the time limit."""

    def __init__(self) -> None:
        super().__init__()
        self._timer: threading.Timer | None = None

    def restart_timer(self) -> None:
        """Let the time limit begin now."""
        self.cancel_timer()
        self._timer = threading.Timer(MAX_ANSWER_SECONDS, self.set)
        self._timer.daemon = True
        self._timer.start()

    def cancel_timer(self) -> None:
        """End the time limit."""
        if self._timer is not None:
            self._timer.cancel()


@dataclass(slots=True)
class ChatService:
    """Asks questions, and shows and stores conversations. Safe to use from several threads."""

    registry: LibraryRegistry
    store: ConversationStore
    _running: dict[str, _Stop] = field(default_factory=dict)

    def view(self, conversation: str, owner: str) -> ChatView:
        """Return a stored conversation; an empty one when it no longer exists."""
        if not conversation:
            return ChatView()
        try:
            return ChatView(conversation, tuple(self.store.answers(conversation, owner)))
        except ConversationNotFound:
            return ChatView()

    def ask(  # noqa: PLR0913, PLR0917 - none can be left out
        self,
        question: str,
        conversation: str,
        owner: str,
        session: str,
        options: AskOptions,
        position: int | None = None,
    ) -> Iterator[ChatView]:
        """Answer step by step; the last view is final, and what it shows is stored.

        With a `position`, the question replaces the one there. If that would remove later
        questions, it starts a new conversation with the earlier ones instead.
        """
        view = ChatView(conversation, question=question)
        try:
            with self._stoppable(session) as stop:
                view = self.view(conversation, owner)
                stored_turns = len(view.answers)
                view = replace(view, answers=view.answers[:position], question=question)
                yield view
                yield from self._steps(view, owner, options, stop, stored_turns)
        except FootnoteError as error:
            yield replace(view, failure=str(error))
        except Exception as error:  # a bug: shown to the user, with its traceback in the log
            _LOG.exception("answering a question in the page failed")
            failure = f"internal error ({type(error).__name__}: {error}); see the terminal"
            yield replace(view, failure=failure)

    @contextlib.contextmanager
    def _stoppable(self, session: str) -> Iterator[_Stop]:
        """Register an event that stops the answer of a session."""
        stop = self._running[session] = _Stop()
        stop.restart_timer()
        try:
            yield stop
        finally:
            stop.set()
            stop.cancel_timer()
            if self._running.get(session) is stop:
                del self._running[session]

    def stop(self, session: str) -> None:
        """Stop the answer that a session is waiting for, keeping the text so far."""
        if running := self._running.get(session):
            running.set()

    def _steps(
        self,
        view: ChatView,
        owner: str,
        options: AskOptions,
        stop: _Stop,
        stored_turns: int,
    ) -> Iterator[ChatView]:
        chat = self.registry.assistant(options.library, options.model).chat(view.answers)
        last_step = 0.0
        sentences = min(max(int(options.sentences or 0), 0), MAX_SENTENCES) or None
        filters = asdict(options.filters)
        events = chat.stream(
            view.question, sentences=sentences, style=options.style, stop=stop, **filters
        )
        for event in events:
            if isinstance(event, Answer):
                yield self._store(view, event, owner, options.library, stored_turns)
                return
            view = _next_view(view, event)
            if isinstance(event, str):
                if time.monotonic() - last_step < _SECONDS_BETWEEN_STEPS:
                    continue
                last_step = time.monotonic()
            elif isinstance(event, Waiting):
                stop.restart_timer()
            yield view

    def _store(
        self, view: ChatView, answer: Answer, owner: str, library: str, stored_turns: int
    ) -> ChatView:
        """Store an answer and return the final view.

        `stored_turns` is the number of turns in the store when the question was asked.
        """
        if not (answer.claims or answer.abstained):
            return replace(view, failure="Stopped.")
        conversation, position = view.conversation or new_id(), len(view.answers)
        if position < stored_turns - 1:
            conversation = new_id()
            for number, earlier in enumerate(view.answers):
                self.store.save(conversation, owner, library, number, earlier)
            stored_turns = position
        self.store.save(conversation, owner, library, position, answer, stored_turns)
        return ChatView(conversation, (*view.answers, answer))


def _next_view(view: ChatView, event: StreamEvent) -> ChatView:
    """Return what to show after an event before the last one."""
    if isinstance(event, Preview):
        return replace(view, preview=event)
    if isinstance(event, Waiting):
        return replace(view, ahead=event.ahead)
    return replace(view, text=f"{view.text}{event}")
