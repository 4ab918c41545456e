"""Asking in the page: every step is shown, what is settled is kept, and what fails loses nothing."""

import threading
from dataclasses import replace

import pytest
from fakes import ScriptedModel

from rag import Assistant, UsageError
from ui.services.chat_service import AskOptions, ChatService
from ui.services.conversations import History
from ui.services.library_registry import LibraryRegistry

KV = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture
def wishes(small_library):
    return AskOptions(str(small_library), style="quote")


@pytest.fixture
def talks(small_library, tmp_path):
    shelf = LibraryRegistry(
        [small_library], lambda folder, model: Assistant.open(folder, create=False)
    )
    return ChatService(shelf, History(tmp_path / "conversations.sqlite"))


def writing(talks, small_library, pieces):
    """Conversations whose answers a scripted model writes."""
    model = ScriptedModel(pieces)
    shelf = LibraryRegistry(
        [small_library],
        lambda folder, _: Assistant.open(folder, language_model=model, create=False),
    )
    return ChatService(shelf, talks.history)


def ask(talks, question, conversation, wishes, position=None):
    *_, last = talks.ask(question, conversation, "ada", "window", wishes, position)
    return last


def test_first_the_question_is_shown_then_the_text_then_the_answer_which_is_kept(talks, wishes):
    first, *between, last = talks.ask(KV, "", "ada", "window", wishes)
    assert (first.asked, first.text, first.pending) == (KV, "", True)
    assert all(view.pending and last.answers[0].text.startswith(view.text) for view in between)
    assert (last.asked, last.pending, last.failure) == ("", False, "")
    assert last.answers[0].question == KV
    assert talks.view(last.conversation, "ada") == last


def test_a_follow_up_goes_on_in_the_conversation_also_after_a_restart(talks, wishes):
    first = ask(talks, KV, "", wishes)
    again = ChatService(talks.shelf, talks.history)
    last = ask(again, "And by how much?", first.conversation, wishes)
    assert last.conversation == first.conversation
    assert [answer.question for answer in last.answers] == [KV, "And by how much?"]
    assert "Ledger" in last.answers[1].trace.rewritten_query


def test_the_last_question_gives_way_and_an_earlier_one_begins_a_conversation_of_its_own(
    talks, wishes
):
    first = ask(talks, KV, "", wishes)
    second = ask(talks, "And by how much?", first.conversation, wishes)
    third = ask(talks, "When does IL-6 rise in bank voles?", first.conversation, wishes, position=1)
    assert third.conversation == first.conversation
    assert [answer.question for answer in third.answers] == [
        KV,
        "When does IL-6 rise in bank voles?",
    ]
    assert second.answers[1] not in talks.view(first.conversation, "ada").answers
    other = ask(talks, "What is the capital of France?", first.conversation, wishes, position=0)
    assert other.conversation != first.conversation
    assert [answer.question for answer in other.answers] == ["What is the capital of France?"]
    assert talks.view(first.conversation, "ada") == third


@pytest.mark.parametrize(
    "change", [{"library": "elsewhere"}, {"year": "soon"}, {"style": "loud"}, {"model": "mine"}]
)
def test_what_cannot_be_asked_says_why_and_loses_nothing(talks, wishes, change):
    first = ask(talks, KV, "", wishes)
    failed = ask(
        talks, "And by how much?", first.conversation, replace(wishes, **change), position=0
    )
    assert failed.failure
    assert (failed.asked, failed.pending) == ("And by how much?", False)
    assert talks.view(first.conversation, "ada") == first


def test_a_bug_is_told_and_the_page_lives_on(talks, wishes, monkeypatch, caplog):
    monkeypatch.setattr(Assistant, "chat", lambda *_: 1 // 0)
    failed = ask(talks, KV, "", wishes)
    assert "ZeroDivisionError" in failed.failure
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert ask(talks, KV, "", wishes).answers


def test_a_failing_model_costs_its_part_of_the_answer_and_says_so(talks, small_library, wishes):
    broken = writing(talks, small_library, [RuntimeError("out of memory")])
    (answer,) = ask(broken, KV, "", replace(wishes, style="write")).answers
    assert answer.claims
    assert "out of memory" in " ".join(answer.remarks)


def test_stop_ends_the_answer_with_what_there_is_and_frees_the_model(talks, small_library, wishes):
    ended = threading.Event()

    def endlessly(_):
        try:
            yield "Sliding Ledgers shrink the KV cache [1]. "
            while True:
                yield "and "
        finally:
            ended.set()

    endless = writing(talks, small_library, endlessly)
    steps = endless.ask(KV, "", "ada", "window", replace(wishes, style="write"))
    assert next(steps).pending
    threading.Timer(0.3, endless.stop, ["window"]).start()
    *_, last = steps
    assert ended.wait(5)
    assert not last.pending
    endless.stop("window")  # nothing runs any more


def test_who_leaves_frees_the_model_and_keeps_nothing(talks, small_library, wishes):
    ended = threading.Event()

    def endlessly(_):
        try:
            while True:
                yield "Sliding Ledgers shrink the KV cache [1]. "
        finally:
            ended.set()

    endless = writing(talks, small_library, endlessly)
    steps = endless.ask(KV, "", "ada", "window", replace(wishes, style="write"))
    assert next(view for view in steps if view.text).pending
    steps.close()
    assert ended.wait(5)
    assert talks.history.listed("ada") == []


def test_two_windows_that_ask_at_once_lose_no_answer_silently(talks, wishes):
    first = ask(talks, KV, "", wishes)
    one = talks.ask("And by how much?", first.conversation, "ada", "one", wishes)
    assert next(one).pending
    other = ask(talks, "When does IL-6 rise in bank voles?", first.conversation, wishes)
    *_, refused = one
    assert "changed elsewhere" in refused.failure
    assert talks.view(first.conversation, "ada") == other


def test_nobody_sees_the_conversation_of_another(talks, wishes):
    first = ask(talks, KV, "", wishes)
    assert talks.view(first.conversation, "eve").answers == ()
    assert talks.view("no such conversation", "ada").answers == ()


def test_a_library_that_is_not_on_offer_is_refused(talks):
    with pytest.raises(UsageError, match="not on offer"):
        talks.shelf.assistant("/etc")
    with pytest.raises(UsageError, match="not on offer"):
        talks.shelf.assistant(talks.shelf.first, "http://10.0.0.1/v1")
