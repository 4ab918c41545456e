"""Chat tab: the conversation with its sources, earlier conversations, and answer settings."""

import base64
import html
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio

from rag import FootnoteError
from rag.library.filters import Filters
from rag.output.export import export_conversation
from rag.retrieval.query_analysis import MAX_QUESTION_CHARS
from ui.render.html import (
    answer_html,
    failed_answer_html,
    partial_answer_html,
    sources_html,
    waiting_html,
)
from ui.render.mathematics import plain_text
from ui.services.chat_service import MAX_SENTENCES, AskOptions, ChatService, ChatView
from ui.services.conversations import MAX_TITLE_CHARS, ConversationNotFound, new_id
from ui.services.examples import example_questions
from ui.services.library_registry import MODELS, STYLES
from ui.tabs.base import Page, Tab, filter_boxes

# Questions beyond this number wait in the queue.
MAX_CONCURRENT_ANSWERS = 10
# Gradio encrypts what a browser stores. With a fixed key the values survive a restart.
_BROWSER_KEY = "footnote"
# Markdown syntax in a question becomes character references: the question is shown as typed.
_MARKDOWN_SYNTAX = re.compile(r"[\\`*_\[\]<>#|!&$~^{}@=:\"]|^\W|(?<=\d)[.)](?=\s)|\n")
_CHARACTER_REFERENCE = re.compile(r"&#(\d{1,4});")
_PLACEHOLDER = """\
### Ask your library
Every sentence of an answer has a footnote that you can check."""
_DOWNLOADS = (
    ("Download Markdown", "conversation.md", "markdown"),
    ("Download BibTeX", "papers.bib", "bibtex"),
)

# Properties of the question box while no answer is being generated.
_READY: dict[str, Any] = {"submit_btn": "Ask", "stop_btn": False}
_HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

# Result of an event: a new value or new properties for each component that changes.
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class _AnswerSettings:
    """Components of the answer settings."""

    model: gradio.Dropdown
    style: gradio.Radio
    sentences: gradio.Number
    filters: list[gradio.Textbox]

    @property
    def components(self) -> list[Any]:
        """All components, in the order of the parameters of `_ask_options` after the library."""
        return [self.model, self.style, self.sentences, *self.filters]


class ChatTab(Tab):
    """Chat tab, with earlier conversations in the sidebar."""

    title = "Chat"

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._service = ChatService(page.registry, page.conversations)
        # The browser stores which conversation is open and the preferences, never the answers.
        self._conversation = gradio.BrowserState(
            "", storage_key="footnote-conversation", secret=_BROWSER_KEY
        )
        self._preferences = gradio.BrowserState(
            [], storage_key="footnote-preferences", secret=_BROWSER_KEY
        )

    # --- components -------------------------------------------------------------------------------

    def build_sidebar(self) -> None:
        """Create the list of earlier conversations."""
        with gradio.Sidebar(label="Conversations", open=False, width=300):
            gradio.Markdown("## Conversations")
            self._new_button = gradio.Button("New conversation", variant="primary")
            self._search_box = gradio.Textbox(
                label="Search conversations",
                show_label=False,
                placeholder="Search conversations…",
            )
            self._conversations = gradio.Radio(
                [], label="Recent", elem_classes="choice-list", interactive=True
            )
            with gradio.Column(visible=False) as self._conversation_panel:
                self._title = gradio.Textbox(
                    label="Title", submit_btn="Rename", max_length=MAX_TITLE_CHARS, max_lines=1
                )
                self._downloads = gradio.HTML()
                self._delete_button = gradio.Button(
                    "Delete conversation", variant="stop", size="sm"
                )
                with gradio.Column(visible=False) as self._confirmation:
                    gradio.Markdown("Delete this conversation? This can't be undone.")
                    self._confirm_button = gradio.Button("Delete", variant="stop", size="sm")
                    self._cancel_button = gradio.Button("Cancel", size="sm")

    def build(self) -> None:
        """Create the conversation, with its sources beside it."""
        with gradio.Row(elem_classes="chat-layout"):
            with gradio.Column(scale=3, min_width=320):
                self._build_chat()
                with gradio.Row(elem_classes="chat-actions"):
                    self._settings = self._build_settings()
                    self._copy_button = gradio.Button(
                        "Copy answer", size="sm", scale=0, min_width=120, interactive=False
                    )
            with gradio.Column(scale=2, min_width=320):
                self._sources = gradio.HTML(sources_html(()), elem_id="sources")

    def _build_chat(self) -> None:
        self._chatbot = gradio.Chatbot(
            label="Conversation",
            show_label=False,
            elem_id="chat",
            layout="panel",
            height="",
            buttons=[],
            editable="user",
            feedback_options=None,
            sanitize_html=True,
            autoscroll=False,
            allow_tags=False,
            latex_delimiters=[],
            placeholder=_PLACEHOLDER,
        )
        self._question = self.page.question = gradio.Textbox(
            label="Your question",
            show_label=False,
            placeholder="Ask a question. Follow-ups work too.",
            autofocus=True,
            submit_btn="Ask",
            stop_btn=False,
            max_length=MAX_QUESTION_CHARS,
            max_lines=6,
            elem_id="question",
        )
        self._clipboard = gradio.Textbox(visible=False)

    def _build_settings(self) -> _AnswerSettings:
        with gradio.Accordion("Answer settings", open=False, elem_classes="answer-settings"):
            with gradio.Row():
                style = gradio.Radio(STYLES, value="auto", label="Style", scale=3, min_width=280)
                model = gradio.Dropdown(
                    MODELS,
                    value="",
                    label="Language model",
                    allow_custom_value=self.page.registry.any_model,
                    scale=2,
                    min_width=180,
                )
            with gradio.Row():
                sentences = gradio.Number(
                    0, label="Maximum sentences", precision=0, min_width=140, info="0 = automatic"
                )
                filters = filter_boxes()
        return _AnswerSettings(model, style, sentences, filters)

    # --- events -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Register the events of conversations, questions and preferences."""
        # Outputs of every event that shows a conversation.
        self._outputs: list[Any] = [
            self._conversation,
            self._conversations,
            self._chatbot,
            self._sources,
            self._question,
            self.page.library,
            self._conversation_panel,
            self._title,
            self._downloads,
            self._confirmation,
            self._copy_button,
        ]
        answers = self._connect_questions()
        self._connect_conversations(answers)
        self._connect_preferences()
        suggest: dict[str, Any] = {
            "fn": self._suggest_questions,
            "inputs": self.page.library,
            "outputs": self._chatbot,
            **_HIDDEN,
        }
        self.container.select(**suggest)
        self.page.blocks.load(**suggest)
        self.page.library.change(**suggest)

    def _connect_questions(self) -> list[Any]:
        """Connect every way to ask; return the events, so that others can cancel an answer."""
        state = [self._conversation, self._search_box]
        inputs = [*state, self.page.library, *self._settings.components]
        asking = _HIDDEN | {
            "outputs": self._outputs,
            "concurrency_limit": MAX_CONCURRENT_ANSWERS,
            "concurrency_id": "ask",
        }
        answers: list[Any] = [
            self._question.submit(self._ask, [self._question, *inputs], **asking),
            self._chatbot.example_select(self._ask_example, inputs, **asking),
            self._chatbot.retry(self._ask_again, inputs, **asking),
            self._chatbot.edit(self._ask_edited, inputs, **asking),
        ]
        self._question.stop(self._stop, queue=False, **_HIDDEN)
        self._copy_button.click(
            self._last_answer, self._conversation, self._clipboard, queue=False, **_HIDDEN
        ).then(None, self._clipboard, None, js="text => navigator.clipboard.writeText(text)")
        return answers

    def _connect_conversations(self, answers: list[Any]) -> None:
        state = [self._conversation, self._search_box]
        quick = _HIDDEN | {"outputs": self._outputs, "queue": False}
        # A selected conversation is shown at once, whichever tab is open and whatever is answered.
        show_chat: dict[str, Any] = _HIDDEN | {
            "fn": lambda: gradio.Tabs(selected=self.container.id),
            "outputs": self.page.tabs,
            "queue": False,
        }
        new = self._new_button.click(self._start, self._search_box, cancels=answers, **quick)
        new.then(**show_chat)
        # The list's own value cannot be an input: a restarted server would reject its choices.
        selected = self._conversations.select(
            self._open_selected, self._search_box, cancels=answers, **quick
        )
        selected.then(**show_chat)
        self._search_box.change(self._search, state, **quick)
        # Only events in the queue can show a warning.
        self._title.submit(self._rename, [self._title, *state], outputs=self._outputs, **_HIDDEN)
        self._delete_button.click(
            lambda: {self._confirmation: gradio.Column(visible=True)}, **quick
        )
        self._cancel_button.click(
            lambda: {self._confirmation: gradio.Column(visible=False)}, **quick
        )
        self._confirm_button.click(self._delete, state, cancels=answers, **quick)

    def _connect_preferences(self) -> None:
        settings = self._settings
        preferences: list[Any] = [
            self.page.library,
            settings.model,
            settings.style,
            settings.sentences,
        ]
        gradio.on(
            [component.change for component in preferences],
            None,
            preferences,
            self._preferences,
            js="(...values) => [values]",
            api_visibility="private",
        )
        self.page.blocks.load(
            self._restore,
            [self._conversation, self._search_box, self._preferences],
            [*self._outputs, *preferences[1:]],
            queue=False,
            **_HIDDEN,
        )

    # --- asking -----------------------------------------------------------------------------------
    # Gradio recognizes parameters for the request and the event data by their types, before a `*`.

    def _ask(
        self,
        request: gradio.Request,
        question: str,
        conversation: str,
        search: str,
        *options: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        yield from self._answer(request, question.strip(), conversation, search, options)

    def _ask_example(
        self,
        request: gradio.Request,
        event: gradio.SelectData,
        conversation: str,
        search: str,
        *options: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        yield from self._answer(request, event.value["text"], conversation, search, options)

    def _ask_again(
        self,
        request: gradio.Request,
        event: gradio.RetryData,
        conversation: str,
        search: str,
        *options: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        question, turn = _typed_question(event.value), _turn(event.index)
        yield from self._answer(request, question, conversation, search, options, turn)

    def _ask_edited(
        self,
        request: gradio.Request,
        event: gradio.EditData,
        conversation: str,
        search: str,
        *options: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        question, turn = _typed_question(event.value), _turn(event.index)
        yield from self._answer(request, question, conversation, search, options, turn)

    def _answer(  # noqa: PLR0913, PLR0917 - none can be left out
        self,
        request: gradio.Request,
        question: str,
        conversation: str,
        search: str,
        options: tuple[Any, ...],
        turn: int | None = None,
    ) -> Iterator[Updates]:
        """Yield the updates of the page while a question is answered."""
        owner, session = _owner(request), str(request.session_hash)
        if not question:
            yield {self._chatbot: _messages(self._view(conversation, owner))}
            return
        is_first = True
        for view in self._service.ask(
            question, conversation, owner, session, _ask_options(*options), turn
        ):
            if view.is_pending:
                busy = gradio.Textbox(value="", submit_btn=False, stop_btn="Stop")
                box = {self._question: busy} if is_first else {}
                yield {self._chatbot: _messages(view)} | box
                is_first = False
            else:
                # Keep what was typed meanwhile; offer a failed question again.
                value: dict[str, Any] = {"value": view.question} if view.failure else {}
                box = {self._question: gradio.Textbox(**value, **_READY)}
                yield self._conversation_updates(view, owner, search) | box

    def _stop(self, request: gradio.Request) -> None:
        self._service.stop(str(request.session_hash))

    def _suggest_questions(self, library: str) -> gradio.Chatbot:
        """Suggest questions, unless the library is empty or cannot be opened."""
        questions: list[str] = []
        with suppress(FootnoteError):
            questions = example_questions(self.page.registry.assistant(library))
        return gradio.Chatbot(examples=[{"text": question} for question in questions])

    # --- conversations ----------------------------------------------------------------------------

    def _restore(
        self, conversation: str, search: str, preferences: list[Any], request: gradio.Request
    ) -> Updates:
        """Show the last conversation and the last settings when the page is opened."""
        settings = self._settings
        allowed: dict[Any, Any] = {
            self.page.library: _values(self.page.registry.libraries),
            settings.model: _values(MODELS),
            settings.style: _values(STYLES),
            settings.sentences: range(MAX_SENTENCES + 1),
        }
        updates = {}
        for (component, values), value in zip(allowed.items(), preferences, strict=False):
            if value in values:
                updates[component] = value
        return updates | self._open(conversation, search, request)

    def _open_selected(
        self, request: gradio.Request, event: gradio.SelectData, search: str
    ) -> Updates:
        return self._open(str(event.value), search, request)

    def _open(self, conversation: str, search: str, request: gradio.Request) -> Updates:
        owner = _owner(request)
        view = self._view(conversation, owner)
        updates = self._ready_updates(view, owner, search)
        with suppress(ConversationNotFound):
            library = self.page.conversations.find(view.conversation, owner).library
            if library in _values(self.page.registry.libraries):
                updates[self.page.library] = library
        return updates

    def _start(self, search: str, request: gradio.Request) -> Updates:
        return self._ready_updates(ChatView(), _owner(request), search)

    def _search(self, conversation: str, search: str, request: gradio.Request) -> Updates:
        return {self._conversations: self._choices(conversation, _owner(request), search)}

    def _rename(
        self, title: str, conversation: str, search: str, request: gradio.Request
    ) -> Updates:
        owner = _owner(request)
        try:
            self.page.conversations.rename(conversation, owner, title)
        except FootnoteError as error:
            gradio.Warning(html.escape(str(error)))
        return self._conversation_updates(self._view(conversation, owner), owner, search)

    def _delete(self, conversation: str, search: str, request: gradio.Request) -> Updates:
        owner = _owner(request)
        with suppress(ConversationNotFound):  # deleted in another window
            self.page.conversations.delete(conversation, owner)
        return self._ready_updates(ChatView(), owner, search)

    def _last_answer(self, conversation: str, request: gradio.Request) -> str:
        answers = self._view(conversation, _owner(request)).answers
        return answers[-1].to_markdown() if answers else ""

    def _view(self, conversation: str, owner: str) -> ChatView:
        """Return a conversation, or the error that keeps it from being read."""
        try:
            return self._service.view(conversation, owner)
        except FootnoteError as error:
            return ChatView(failure=str(error))

    def _conversation_updates(self, view: ChatView, owner: str, search: str) -> Updates:
        """Show a conversation in all components of the tab."""
        summary = None
        with suppress(ConversationNotFound):  # new, or deleted meanwhile
            summary = self.page.conversations.find(view.conversation, owner)
        return {
            self._conversation: view.conversation or new_id(),
            self._conversations: self._choices(view.conversation, owner, search),
            self._chatbot: _messages(view),
            self._sources: sources_html(view.answers),
            self._conversation_panel: gradio.Column(visible=summary is not None),
            self._title: summary.title if summary else "",
            self._downloads: _downloads_html(view),
            self._confirmation: gradio.Column(visible=False),
            self._copy_button: gradio.Button(interactive=bool(view.answers)),
        }

    def _ready_updates(self, view: ChatView, owner: str, search: str) -> Updates:
        """Show a conversation that waits for a question."""
        box = {self._question: gradio.Textbox(**_READY)}
        return self._conversation_updates(view, owner, search) | box

    def _choices(self, conversation: str, owner: str, search: str) -> gradio.Radio:
        summaries = self.page.conversations.list_conversations(owner, search)
        choices = [(plain_text(summary.title), summary.id) for summary in summaries]
        selected = conversation if conversation in _values(choices) else None
        return gradio.Radio(choices=choices, value=selected)


def _ask_options(library: str, model: str, style: str, sentences: int, *filters: str) -> AskOptions:
    return AskOptions(library, model, style, sentences, Filters(*filters))


def _values(choices: list[tuple[str, str]]) -> list[str]:
    """Return the values of the choices of a component, without their labels."""
    return [value for _, value in choices]


def _owner(request: gradio.Request) -> str:
    """Return the owner of conversations: the user's name, empty where nobody signs in."""
    return request.username or ""


def _downloads_html(view: ChatView) -> str:
    """Return links that contain the conversation and its papers, so the server keeps no files."""
    links = []
    for label, file_name, format_name in _DOWNLOADS:
        text = export_conversation(view.answers, format_name)
        data = base64.b64encode(text.encode()).decode()
        links.append(
            f'<a class="conversation-download" download="{file_name}" '
            f'href="data:text/plain;base64,{data}">{label}</a>'
        )
    return " ".join(links)


def _turn(index: int | tuple[int, int]) -> int:
    """Return the turn of a message: questions and answers alternate."""
    message = index if isinstance(index, int) else index[0]
    return message // 2


def _typed_question(value: Any) -> str:  # noqa: ANN401 - as in `_message_text`
    """Return a question of the chat as it was typed."""
    text = _message_text(value)
    return _CHARACTER_REFERENCE.sub(lambda match: chr(int(match[1])), text).strip()


def _message_text(value: Any) -> str:  # noqa: ANN401 - a text, or a message with typed parts
    if isinstance(value, dict):
        value = value.get("content", value.get("text", ""))
    if isinstance(value, list):
        return "".join(map(_message_text, value))
    return str(value)


def _messages(view: ChatView) -> list[dict[str, str]]:
    """Return the messages of the Chatbot: questions, and answers as one block of HTML each."""
    messages = []
    for answer in view.answers:
        messages += [_question_message(answer.question), _reply_message(answer_html(answer))]
    if view.question:
        messages.append(_question_message(view.question))
    if view.question or view.failure:
        messages.append(_reply_message(_unfinished_html(view)))
    return messages


def _unfinished_html(view: ChatView) -> str:
    if view.failure:
        return failed_answer_html(view.failure)
    if view.text or view.preview:
        return partial_answer_html(view.text, view.preview, view.ahead)
    return waiting_html()


def _question_message(text: str) -> dict[str, str]:
    escaped = _MARKDOWN_SYNTAX.sub(lambda match: f"&#{ord(match[0])};", text)
    return {"role": "user", "content": escaped}


def _reply_message(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
