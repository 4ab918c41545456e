"""Asking in the page: every step is shown, answers are stored, and failures lose nothing."""

import threading
from dataclasses import replace

import pytest
from fakes import ScriptedModel

from rag import Assistant, UsageError
from rag.library.filters import Filters
from ui.services.chat_service import AskOptions, ChatService
from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry

KV_QUESTION = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture
def options(small_library):
    return AskOptions(str(small_library), style="quote")


@pytest.fixture
def chat_service(small_library, tmp_path):
    registry = LibraryRegistry(
        [small_library], lambda folder, model: Assistant.open(folder, create=False)
    )
    return ChatService(registry, ConversationStore(tmp_path / "conversations.sqlite"))


def with_scripted_model(chat_service, small_library, pieces):
    """Return a service with the same store whose answers a scripted model writes."""
    model = ScriptedModel(pieces)
    registry = LibraryRegistry(
        [small_library],
        lambda folder, _: Assistant.open(folder, language_model=model, create=False),
    )
    return ChatService(registry, chat_service.store)


def ask(chat_service, question, conversation, options, position=None):
    *_, last = chat_service.ask(question, conversation, "ada", "window", options, position)
    return last


def test_steps_show_question_text_and_stored_answer(chat_service, options):
    first, *between, last = chat_service.ask(KV_QUESTION, "", "ada", "window", options)
    assert (first.question, first.text, first.is_pending) == (KV_QUESTION, "", True)
    assert all(view.is_pending and last.answers[0].text.startswith(view.text) for view in between)
    assert (last.question, last.is_pending, last.failure) == ("", False, "")
    assert last.answers[0].question == KV_QUESTION
    assert chat_service.view(last.conversation, "ada") == last


def test_evidence_and_place_in_the_queue_are_shown_before_the_text(
    chat_service, small_library, options
):
    writing, finish = threading.Event(), threading.Event()

    def write(_):
        writing.set()
        finish.wait(30)
        yield "On average, the KV cache shrinks by 71% [1]."

    service = with_scripted_model(chat_service, small_library, write)
    options = replace(options, style="write")
    first = threading.Thread(target=ask, args=(service, KV_QUESTION, "", options))
    first.start()
    assert writing.wait(30)
    steps = service.ask(KV_QUESTION, "", "eve", "other window", options)
    seen = [next(steps), next(steps), next(steps)]
    assert [view.ahead for view in seen] == [0, 0, 1]
    assert [view.preview is None for view in seen] == [True, False, False]
    assert "merges the keys" in seen[1].preview.evidence[0].sentence.text
    finish.set()
    *between, last = steps
    assert between[0].ahead == 0
    assert any("the KV cache shrinks by 71%. [1]" in view.text for view in between)
    assert last.answers[0].claims[0].kind == "generated"
    first.join()


def test_a_follow_up_continues_after_a_restart(chat_service, options):
    first = ask(chat_service, KV_QUESTION, "", options)
    restarted = ChatService(chat_service.registry, chat_service.store)
    last = ask(restarted, "And by how much?", first.conversation, options)
    assert last.conversation == first.conversation
    assert [answer.question for answer in last.answers] == [KV_QUESTION, "And by how much?"]
    assert "Ledger" in last.answers[1].trace.rewritten_query


def test_editing_replaces_the_last_question_and_forks_at_an_earlier_one(chat_service, options):
    first = ask(chat_service, KV_QUESTION, "", options)
    second = ask(chat_service, "And by how much?", first.conversation, options)
    third = ask(
        chat_service, "When does IL-6 rise in bank voles?", first.conversation, options, position=1
    )
    assert third.conversation == first.conversation
    assert [answer.question for answer in third.answers] == [
        KV_QUESTION,
        "When does IL-6 rise in bank voles?",
    ]
    assert second.answers[1] not in chat_service.view(first.conversation, "ada").answers
    forked = ask(
        chat_service, "What is the capital of France?", first.conversation, options, position=0
    )
    assert forked.conversation != first.conversation
    assert [answer.question for answer in forked.answers] == ["What is the capital of France?"]
    assert chat_service.view(first.conversation, "ada") == third


@pytest.mark.parametrize(
    "change",
    [
        {"library": "elsewhere"},
        {"filters": Filters(year="soon")},
        {"style": "loud"},
        {"model": "mine"},
    ],
)
def test_an_invalid_question_fails_with_a_reason(chat_service, options, change):
    first = ask(chat_service, KV_QUESTION, "", options)
    failed = ask(
        chat_service, "And by how much?", first.conversation, replace(options, **change), position=0
    )
    assert failed.failure
    assert (failed.question, failed.is_pending) == ("And by how much?", False)
    assert chat_service.view(first.conversation, "ada") == first


def test_a_bug_is_shown_and_the_page_keeps_working(chat_service, options, monkeypatch, caplog):
    monkeypatch.setattr(Assistant, "chat", lambda *_: 1 // 0)
    failed = ask(chat_service, KV_QUESTION, "", options)
    assert "ZeroDivisionError" in failed.failure
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert ask(chat_service, KV_QUESTION, "", options).answers


def test_a_failing_model_falls_back_to_quotations(chat_service, small_library, options):
    broken = with_scripted_model(chat_service, small_library, [RuntimeError("out of memory")])
    (answer,) = ask(broken, KV_QUESTION, "", replace(options, style="write")).answers
    assert answer.claims
    assert "out of memory" in " ".join(answer.notices)


def test_stop_keeps_the_text_so_far_and_frees_the_model(chat_service, small_library, options):
    ended = threading.Event()

    def repeat_forever(_):
        try:
            yield "On average, the KV cache shrinks by 71% [1]. "
            while True:
                yield "and "
        finally:
            ended.set()

    endless = with_scripted_model(chat_service, small_library, repeat_forever)
    steps = endless.ask(KV_QUESTION, "", "ada", "window", replace(options, style="write"))
    assert next(steps).is_pending
    threading.Timer(0.3, endless.stop, ["window"]).start()
    *_, last = steps
    assert ended.wait(5)
    assert not last.is_pending
    endless.stop("window")  # without an answer in progress, nothing happens


def test_leaving_frees_the_model_and_stores_nothing(chat_service, small_library, options):
    ended = threading.Event()

    def repeat_forever(_):
        try:
            while True:
                yield "On average, the KV cache shrinks by 71% [1]. "
        finally:
            ended.set()

    endless = with_scripted_model(chat_service, small_library, repeat_forever)
    steps = endless.ask(KV_QUESTION, "", "ada", "window", replace(options, style="write"))
    assert next(view for view in steps if view.text).is_pending
    steps.close()
    assert ended.wait(5)
    assert chat_service.store.list_conversations("ada") == []


def test_two_windows_cannot_overwrite_each_other_silently(chat_service, options):
    first = ask(chat_service, KV_QUESTION, "", options)
    slow_window = chat_service.ask("And by how much?", first.conversation, "ada", "slow", options)
    assert next(slow_window).is_pending
    stored = ask(chat_service, "When does IL-6 rise in bank voles?", first.conversation, options)
    *_, refused = slow_window
    assert "changed the conversation" in refused.failure
    assert chat_service.view(first.conversation, "ada") == stored


def test_users_do_not_see_each_others_conversations(chat_service, options):
    first = ask(chat_service, KV_QUESTION, "", options)
    assert chat_service.view(first.conversation, "eve").answers == ()
    assert chat_service.view("no such conversation", "ada").answers == ()


def test_an_unknown_library_is_refused(chat_service):
    with pytest.raises(UsageError, match="not available here"):
        chat_service.registry.assistant("/etc")
    with pytest.raises(UsageError, match="not available here"):
        chat_service.registry.assistant(chat_service.registry.first, "http://10.0.0.1/v1")
