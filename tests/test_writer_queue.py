"""Answers wait their turn for the language model: in order, visibly, and never for nobody."""

import threading

import pytest

from rag.answering.writer_queue import WriterQueue
from rag.records import Waiting

NEVER = threading.Event()


@pytest.fixture
def queue():
    return WriterQueue()


def test_an_answer_that_is_alone_does_not_wait(queue):
    assert list(queue.in_turn(iter("ab"), NEVER)) == ["a", "b"]
    assert list(queue.in_turn(iter("cd"), NEVER)) == ["c", "d"]


def test_places_are_shown_as_they_change_and_answers_come_in_order(queue):
    first, second, third = (queue.in_turn(iter([name]), NEVER) for name in "abc")
    assert next(first) == "a"
    assert next(second) == Waiting(1)
    assert next(third) == Waiting(2)
    assert list(first) == []
    assert next(second) == Waiting(0)
    assert next(third) == Waiting(1)
    assert list(second) == ["b"]
    assert list(third) == [Waiting(0), "c"]


def test_an_answer_that_is_left_early_or_fails_gives_up_its_turn(queue):
    def fail():
        yield "a"
        raise ValueError("broken")

    left, failing, last = (
        queue.in_turn(events, NEVER) for events in (iter("xy"), fail(), iter("b"))
    )
    assert next(left) == "x"
    assert next(failing) == Waiting(1)
    assert next(last) == Waiting(2)
    left.close()
    assert [next(failing), next(failing)] == [Waiting(0), "a"]
    with pytest.raises(ValueError, match="broken"):
        next(failing)
    assert list(last) == [Waiting(0), "b"]


def test_an_answer_that_leaves_the_queue_moves_up_the_others(queue):
    first, second, third = (queue.in_turn(iter([name]), NEVER) for name in "abc")
    assert [next(first), next(second), next(third)] == ["a", Waiting(1), Waiting(2)]
    second.close()
    assert next(third) == Waiting(1)


def test_an_answer_that_nobody_reads_on_lets_the_others_pass(queue):
    forgotten = queue.in_turn(iter("ab"), NEVER)
    assert next(forgotten) == "a"
    assert list(queue.in_turn(iter("c"), NEVER)) == [Waiting(1), Waiting(0), "c"]
    assert list(forgotten) == ["b"]


def test_a_stop_ends_the_wait(queue):
    first, stop = queue.in_turn(iter("ab"), NEVER), threading.Event()
    second = queue.in_turn(iter("c"), stop)
    assert [next(first), next(second)] == ["a", Waiting(1)]
    stop.set()
    assert list(second) == ["c"]


def test_answers_in_threads_never_write_at_the_same_time(queue):
    writing, most = [], []

    def write(name):
        writing.append(name)
        most.append(len(writing))
        yield name
        writing.remove(name)

    threads = [
        threading.Thread(target=lambda name=name: list(queue.in_turn(write(name), NEVER)))
        for name in "abcdefghij"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 10
