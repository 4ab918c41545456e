"""The tab "Chat": a conversation, the sources beside it, the conversations of before, and how to answer."""

import base64
import html
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import gradio

from rag import FootnoteError, export_conversation
from ui.render.html import answer_html, failure_html, pieces_html, sources_html, waiting_html
from ui.render.mathematics import plain_text
from ui.services.chat_service import AskOptions, ChatService, View
from ui.services.conversations import ConversationNotFound, new_id
from ui.services.examples import questions_for
from ui.services.library_registry import MODELS, STYLES

LONGEST_QUESTION = 2_000
# So many questions are answered at a time; more wait in the queue.
AT_ONCE = 10
# What Markdown would read as mark-up: the browser gets it as character references, and a question as it was typed.
_MARKDOWN_ACTIVE = re.compile(r"[\\`*_\[\]<>#|!&$~^{}@=:\"]|^\W|(?<=\d)[.)](?=\s)|\n")

# The question box while nothing is being answered.
_READY: dict[str, Any] = {"submit_btn": "Ask", "stop_btn": False}
_REFERENCE = re.compile(r"&#(\d{1,4});")

# What an event gives: a new value, or new properties, for each component that changes.
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class _Settings:
    """The components of how to answer, in the order of `Wishes` after the library."""

    model: gradio.Dropdown
    style: gradio.Radio
    sentences: gradio.Number
    year: gradio.Textbox
    venue: gradio.Textbox
    author: gradio.Textbox
    source: gradio.Textbox


class ChatTab:
    """The conversation and all that belongs to it; `library` is the dropdown that all tabs share.

    Inside a running `with gradio.Blocks()` call `build_list` beside the tabs, `build_talk` in the tab, and then `wire`
    with the tabs.
    """

    def __init__(self, talks: ChatService, library: gradio.Dropdown) -> None:
        self._talks = talks
        self._library = library
        # Which conversation is open, and how to answer, is the browser's to know; what was said is not. Nothing of it
        # is secret from its own user, and a fixed key lets it survive a restart.
        self._conversation = gradio.BrowserState(
            "", storage_key="footnote-conversation", secret="footnote"
        )  # noqa: S106
        self._habits = gradio.BrowserState([], storage_key="footnote-habits", secret="footnote")  # noqa: S106

    # --- the parts ---------------------------------------------------------------------------------------------

    def build_list(self) -> None:
        """The conversations of before, in a sidebar."""
        with gradio.Sidebar(label="Conversations", open=False, width=300):
            gradio.Markdown("## Conversations")
            self._new = gradio.Button("New conversation", variant="primary")
            self._words = gradio.Textbox(label="Search conversations", placeholder="Words in them")
            self._list = gradio.Radio(
                [], label="Open a conversation", elem_classes="list", interactive=True
            )
            with gradio.Column(visible=False) as self._own:
                self._title = gradio.Textbox(
                    label="Title", submit_btn="Rename", max_length=200, max_lines=1
                )
                self._files = gradio.HTML()
                self._delete = gradio.Button("Delete", variant="stop", size="sm")
                with gradio.Column(visible=False) as self._sure:
                    gradio.Markdown("Delete this conversation? It cannot be brought back.")
                    self._really = gradio.Button("Delete it", variant="stop", size="sm")
                    self._keep = gradio.Button("Keep it", size="sm")

    def build_talk(self) -> None:
        """The conversation, and its sources beside it."""
        with gradio.Row(elem_classes="talk"):
            with gradio.Column(scale=3, min_width=320):
                self._build_chat()
                with gradio.Row(elem_classes="below"):
                    self._settings = self._build_settings()
                    self._copy = gradio.Button(
                        "Copy answer", size="sm", scale=0, min_width=120, interactive=False
                    )
            with gradio.Column(scale=2, min_width=320):
                self.sources = gradio.HTML(sources_html(()), elem_id="sources")

    def _build_chat(self) -> None:
        self.chat = gradio.Chatbot(
            label="Conversation",
            show_label=False,
            elem_id="chat",
            layout="panel",
            height="",
            buttons=[],
            editable="user",
            feedback_options=None,
            sanitize_html=True,
            allow_tags=False,
            latex_delimiters=[],
            placeholder="### Ask your library\nEvery sentence of an answer carries a footnote that you can check.",
        )
        self.question = gradio.Textbox(
            label="Your question",
            show_label=False,
            placeholder="Ask in plain words; a question may lean on the ones before",
            autofocus=True,
            submit_btn="Ask",
            stop_btn=False,
            max_length=LONGEST_QUESTION,
            max_lines=6,
            elem_id="question",
        )
        self._copied = gradio.Textbox(visible=False)

    def _build_settings(self) -> _Settings:
        with gradio.Accordion("How to answer", open=False, elem_classes="settings"):
            with gradio.Row():
                style = gradio.Radio(
                    STYLES, value="auto", label="Answers are", scale=3, min_width=280
                )
                custom = self._talks.shelf.any_model
                model = gradio.Dropdown(
                    MODELS,
                    value="",
                    label="Language model",
                    allow_custom_value=custom,
                    scale=2,
                    min_width=180,
                )
            with gradio.Row():
                sentences = gradio.Number(
                    0, label="Sentences at most", precision=0, min_width=90, info="0: as asked"
                )
                year = gradio.Textbox(label="Year", info="2023 or >=2023", min_width=110)
                venue = gradio.Textbox(label="Venue", info="part of its name", min_width=90)
                author = gradio.Textbox(label="Author", info="part of a name", min_width=90)
                source = gradio.Textbox(label="File", info="part of its name", min_width=90)
        return _Settings(model, style, sentences, year, venue, author, source)

    # --- the events --------------------------------------------------------------------------------------------

    def wire(self, tabs: gradio.Tabs) -> None:
        """What happens when; a conversation that is chosen is shown, whichever tab was open."""
        wishes = [
            self._library,
            *(getattr(self._settings, field.name) for field in fields(_Settings)),
        ]
        shown = [
            self._conversation,
            self._list,
            self.chat,
            self.sources,
            self.question,
            self._library,
        ]
        shown += [self._own, self._title, self._files, self._sure, self._copy]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        asking = hidden | {"outputs": shown, "concurrency_limit": AT_ONCE, "concurrency_id": "ask"}
        quick = hidden | {"outputs": shown, "queue": False}
        here = [self._conversation, self._words]
        asked: list[Any] = [
            self.question.submit(self._ask, [self.question, *here, *wishes], **asking),
            self.chat.example_select(self._ask_example, [*here, *wishes], **asking),
            self.chat.retry(self._ask_again, [*here, *wishes], **asking),
            self.chat.edit(self._ask_edited, [*here, *wishes], **asking),
        ]
        self.question.stop(self._stop, **hidden, queue=False)
        self._copy.click(
            self._last_answer, self._conversation, self._copied, **hidden, queue=False
        ).then(None, self._copied, None, js="text => navigator.clipboard.writeText(text)")
        to_chat: dict[str, Any] = hidden | {
            "fn": lambda: gradio.Tabs(selected="chat"),
            "outputs": tabs,
            "queue": False,
        }
        # Who turns to another conversation does not wait for the answer in this one.
        self._new.click(self._begin, self._words, **quick, cancels=asked).then(**to_chat)
        # Not the list's own value: a server that was started anew does not know its choices and would refuse it.
        self._list.select(self._open_chosen, self._words, **quick, cancels=asked).then(**to_chat)
        self._words.change(self._search, here, **quick)
        # Through the queue, for only there an event can warn.
        self._title.submit(self._rename, [self._title, *here], **hidden, outputs=shown)
        self._delete.click(lambda: {self._sure: gradio.Column(visible=True)}, **quick)
        self._keep.click(lambda: {self._sure: gradio.Column(visible=False)}, **quick)
        self._really.click(self._remove, here, **quick, cancels=asked)
        settings = self._settings
        habits = [self._library, settings.model, settings.style, settings.sentences]
        changes = [
            self._library.change,
            settings.model.change,
            settings.style.change,
            settings.sentences.change,
        ]
        gradio.on(
            changes, None, habits, self._habits, js="(...now) => [now]", api_visibility="private"
        )
        returning: dict[str, Any] = {
            "fn": self._return,
            "inputs": [*here, self._habits],
            "outputs": [*shown, *habits[1:]],
        }
        self.on_load = returning | hidden | {"queue": False}
        self.on_library = dict(fn=self._examples, inputs=self._library, outputs=self.chat, **hidden)

    # Gradio hands the request and what the event tells to the parameters of those types, before a `*`.

    def _ask(
        self,
        request: gradio.Request,
        question: str,
        conversation: str,
        words: str,
        *wishes: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        yield from self._answered(request, question.strip(), conversation, words, wishes)

    def _ask_example(
        self,
        request: gradio.Request,
        chosen: gradio.SelectData,
        conversation: str,
        words: str,
        *wishes: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        yield from self._answered(request, chosen.value["text"], conversation, words, wishes)

    def _ask_again(
        self,
        request: gradio.Request,
        place: gradio.RetryData,
        conversation: str,
        words: str,
        *wishes: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        yield from self._answered(
            request, _typed(place.value), conversation, words, wishes, _turn(place.index)
        )

    def _ask_edited(
        self,
        request: gradio.Request,
        edited: gradio.EditData,
        conversation: str,
        words: str,
        *wishes: Any,  # noqa: ANN401
    ) -> Iterator[Updates]:
        question = _typed(edited.value)
        yield from self._answered(
            request, question, conversation, words, wishes, _turn(edited.index)
        )

    def _answered(  # noqa: PLR0913, PLR0917 - what every way of asking has
        self,
        request: gradio.Request,
        question: str,
        conversation: str,
        words: str,
        wishes: tuple[Any, ...],
        position: int | None = None,
    ) -> Iterator[Updates]:
        """The steps of an answer as the page shows them."""
        owner, session = _owner(request), str(request.session_hash)
        if not question:
            yield {self.chat: _messages(self._seen(conversation, owner))}
            return
        first = True
        for view in self._talks.ask(
            question, conversation, owner, session, AskOptions(*wishes), position
        ):
            if view.pending:
                busy = (
                    {self.question: gradio.Textbox(value="", submit_btn=False, stop_btn="Stop")}
                    if first
                    else {}
                )
                yield {self.chat: _messages(view)} | busy
                first = False
            else:
                # What was typed meanwhile stays; what failed can be asked again.
                again: dict[str, Any] = {"value": view.asked} if view.failure else {}
                yield self._shown(view, owner, words) | {
                    self.question: gradio.Textbox(**again, **_READY)
                }

    def _stop(self, request: gradio.Request) -> None:
        self._talks.stop(str(request.session_hash))

    def _shown(self, view: View, owner: str, words: str) -> Updates:
        """A conversation in all parts of the tab."""
        kept = None
        with suppress(ConversationNotFound):  # it is new, or was deleted meanwhile
            kept = self._talks.history.find(view.conversation, owner)
        return {
            self._conversation: view.conversation or new_id(),
            self._list: self._choices(view.conversation, owner, words),
            self.chat: _messages(view),
            self.sources: sources_html(view.answers),
            self._own: gradio.Column(visible=kept is not None),
            self._title: kept.title if kept else "",
            self._files: _files(view),
            self._sure: gradio.Column(visible=False),
            self._copy: gradio.Button(interactive=bool(view.answers)),
        }

    def _turned_to(self, view: View, owner: str, words: str) -> Updates:
        """A conversation in which nothing is being answered, ready for a question."""
        return self._shown(view, owner, words) | {self.question: gradio.Textbox(**_READY)}

    def _choices(self, conversation: str, owner: str, words: str) -> gradio.Radio:
        listed = self._talks.history.listed(owner, words)
        choices = [(plain_text(kept.title), kept.id) for kept in listed]
        return gradio.Radio(
            choices=choices,
            value=conversation if any(conversation == c for _, c in choices) else None,
        )

    # --- the conversations -------------------------------------------------------------------------------------

    def _return(
        self, conversation: str, words: str, habits: list[Any], request: gradio.Request
    ) -> Updates:
        """What somebody sees who opens the page: the last conversation, and the settings as they were left."""
        settings = self._settings
        allowed = {
            self._library: [key for _, key in self._talks.shelf.libraries],
            settings.model: [name for _, name in MODELS],
            settings.style: [name for _, name in STYLES],
            settings.sentences: range(21),
        }
        known = {
            part: was
            for (part, values), was in zip(allowed.items(), habits, strict=False)
            if was in values
        }
        return known | self._open(conversation, words, request)

    def _open_chosen(
        self, request: gradio.Request, chosen: gradio.SelectData, words: str
    ) -> Updates:
        return self._open(str(chosen.value), words, request)

    def _open(self, conversation: str, words: str, request: gradio.Request) -> Updates:
        owner = _owner(request)
        view = self._seen(conversation, owner)
        updates = self._turned_to(view, owner, words)
        with suppress(ConversationNotFound):
            library = self._talks.history.find(view.conversation, owner).library
            offered = any(library == key for _, key in self._talks.shelf.libraries)
            updates |= {self._library: library} if offered else {}
        return updates

    def _begin(self, words: str, request: gradio.Request) -> Updates:
        return self._turned_to(View(), _owner(request), words)

    def _search(self, conversation: str, words: str, request: gradio.Request) -> Updates:
        return {self._list: self._choices(conversation, _owner(request), words)}

    def _rename(
        self, title: str, conversation: str, words: str, request: gradio.Request
    ) -> Updates:
        owner = _owner(request)
        try:
            self._talks.history.rename(conversation, owner, title)
        except FootnoteError as error:
            gradio.Warning(html.escape(str(error)))
        return self._shown(self._seen(conversation, owner), owner, words)

    def _remove(self, conversation: str, words: str, request: gradio.Request) -> Updates:
        owner = _owner(request)
        with suppress(ConversationNotFound):  # it was deleted in another window
            self._talks.history.delete(conversation, owner)
        return self._turned_to(View(), owner, words)

    def _last_answer(self, conversation: str, request: gradio.Request) -> str:
        answers = self._seen(conversation, _owner(request)).answers
        return answers[-1].to_markdown() if answers else ""

    def _seen(self, conversation: str, owner: str) -> View:
        """A conversation; where it cannot be read, why."""
        try:
            return self._talks.view(conversation, owner)
        except FootnoteError as error:
            return View(failure=str(error))

    def _examples(self, library: str) -> gradio.Chatbot:
        """Questions to begin with; none where the library holds no papers yet or does not open."""
        questions: list[str] = []
        with suppress(FootnoteError):
            questions = questions_for(self._talks.shelf.assistant(library))
        return gradio.Chatbot(examples=[{"text": text} for text in questions])


def _owner(request: gradio.Request) -> str:
    """Whose conversations these are: the name that somebody logged in with, empty where nobody has to."""
    return request.username or ""


def _files(view: View) -> str:
    """Links that hold the whole conversation and its papers, for saving: nothing of it lies on the server's disk."""
    links = []
    for label, name, form in (
        ("Save as Markdown", "conversation.md", "markdown"),
        ("Save its papers as BibTeX", "papers.bib", "bibtex"),
    ):
        data = base64.b64encode(export_conversation(view.answers, form).encode()).decode()
        links.append(
            f'<a class="save" download="{name}" href="data:text/plain;base64,{data}">{label}</a>'
        )
    return " ".join(links)


def _turn(index: int | tuple[int, int]) -> int:
    """The turn that a message belongs to: questions and answers take turns."""
    return (index if isinstance(index, int) else index[0]) // 2


def _typed(value: Any) -> str:  # noqa: ANN401 - as `_text` takes it
    """A question as it was typed, of one that the chat shows."""
    return _REFERENCE.sub(lambda found: chr(int(found[1])), _text(value)).strip()


def _text(value: Any) -> str:  # noqa: ANN401 - a text, or a message with typed parts
    if isinstance(value, dict):
        value = value.get("content", value.get("text", ""))
    if isinstance(value, list):
        return "".join(map(_text, value))
    return str(value)


def _messages(view: View) -> list[dict[str, str]]:
    """The conversation as the Chatbot takes it: each message is one block of our own HTML, or a question."""
    messages = [
        message
        for answer in view.answers
        for message in (_question(answer.question), _reply(answer_html(answer)))
    ]
    messages += [_question(view.asked)] if view.asked else []
    messages += [_reply(_came(view))] if view.asked or view.failure else []
    return messages


def _came(view: View) -> str:
    """What there is of an answer that is not settled."""
    if view.failure:
        return failure_html(view.failure)
    return pieces_html(view.text) if view.text else waiting_html()


def _question(text: str) -> dict[str, str]:
    return {
        "role": "user",
        "content": _MARKDOWN_ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text),
    }


def _reply(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
