"""Many who ask at once get the answers that one gets alone, and leave nothing behind; and how that is counted."""

import gc
import math
import os
import subprocess
import sys
from subprocess import PIPE

import pandas
import pytest
from gradio.blocks import Block
from gradio_client import Client
from pages import Site

from eval.benchmarks.load import (
    Load,
    Outcome,
    Turn,
    Usage,
    _at_page,
    _client,
    _form,
    alone,
    crowd,
    from_python,
    measure,
    page,
    usage,
)
from rag import Assistant

TALKS = (
    ("How do Sliding Ledgers shrink the KV cache?", "And by how much?"),
    ("When does IL-6 rise in bank voles?",),
    ("What is the capital of France?",),
    ("How long did the effect of heat on corals last?", "Who paid for it?"),
    ("Which papers make decoding faster?",),
)
# Threads and files that the interpreter and the libraries open on their own account; each asker's own would be more.
STRAY = 6


def assert_nothing_is_left(load, askers, megabytes):
    assert load.errors == []
    assert load.other_answers == []
    assert len(load.outcomes) >= askers
    assert load.after.threads - load.before.threads <= STRAY
    assert (
        load.after.files - load.before.files <= 2 * STRAY
    )  # a thread has the library and its log open
    assert load.after.megabytes - load.before.megabytes < megabytes


@pytest.mark.soak
def test_threads_that_share_an_assistant_get_the_answers_of_one_and_leave_nothing_behind(
    small_library, times
):
    asker = from_python(Assistant.open(small_library, create=False))
    turns = alone(asker, TALKS)
    assert len({turn.answer for turn in turns}) == len(turns)
    askers = times(10, 50)
    load = measure([asker] * askers, turns, times(3, 120), os.getpid())
    assert_nothing_is_left(load, askers, times(math.inf, 300))


@pytest.mark.soak
def test_everybody_at_the_page_gets_in_and_gets_the_answers_of_one(small_library, times):
    askers = times(10, 50)
    with page(small_library) as (visit, pid):
        turns = alone(visit(), TALKS)
        assert "256 steps" in turns[0].answer
        load = measure([visit() for _ in range(askers)], turns, times(3, 120), pid)
    assert_nothing_is_left(load, askers, times(math.inf, 300))


def test_a_conversation_leaves_no_component_behind(small_library, tmp_path):
    site = Site(tmp_path, [small_library])
    site.start()
    try:
        with _client(site.address) as http:
            ask = _at_page(http, _form(http.get("/config").json()))()
            held = []
            for _ in range(4):
                ask("How do Sliding Ledgers shrink the KV cache?")
                gc.collect()
                held.append(sum(isinstance(one, Block) for one in gc.get_objects()))
    finally:
        site.stop()
    assert held[3] == held[1]


def test_the_page_makes_no_statistics_of_what_was_asked(small_library, tmp_path, monkeypatch):
    made, make = [], pandas.DataFrame.__init__

    def noted(self, *arguments, **options):
        made.append(arguments)
        make(self, *arguments, **options)

    monkeypatch.setattr(pandas.DataFrame, "__init__", noted)
    site = Site(tmp_path, [small_library])
    site.start()
    try:
        client = Client(site.address, verbose=False)
        for question in ("How do Sliding Ledgers shrink the KV cache?", "Who sings?"):
            assert client.predict(question, api_name="/ask")["question"] == question
    finally:
        site.stop()
    assert made == []


HOLDER = """
import sys, threading
print(flush=True)
input()
files = [open(sys.executable, "rb") for _ in range(4)]
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
memory = bytearray(b"x") * (64 * 1024 * 1024)
print(flush=True)
input()
"""


def test_what_a_process_holds_is_what_it_opened():
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=PIPE, stdout=PIPE, text=True, bufsize=1
    ) as process:
        process.stdout.readline()
        before = usage(process.pid)
        process.stdin.write("go on\n")
        process.stdout.readline()
        held = usage(process.pid)
        process.kill()
    assert before.threads == 1
    assert held.threads == 4
    assert held.files - before.files == 4
    assert 60 < held.megabytes - before.megabytes < 80


def test_errors_and_other_answers_are_counted_and_nothing_leans_on_an_error():
    asked = []

    def asker():
        def ask(question):
            asked.append(question)
            if question == "broken":
                raise ValueError("out of order")
            return question.upper()

        return ask

    turns = [
        Turn("one", "ONE", begins=True),
        Turn("two", "OTHER", begins=False),
        Turn("broken", "", begins=True),
        Turn("never asked", "", begins=False),
        Turn("three", "THREE", begins=True),
    ]
    outcomes = crowd([asker, asker], [turns, turns[:1]])
    assert sorted(asked) == ["broken", "one", "one", "three", "two"]
    load = Load(tuple(outcomes), 2.0, Usage(100, 5, 4), Usage(101, 6, 4))
    assert load.errors == ["ValueError: out of order"]
    assert load.other_answers == ["two"]


def test_the_table_tells_how_many_how_fast_and_what_was_held():
    outcomes = tuple(Outcome("?", seconds) for seconds in (1.0, 2.0, 3.0, 4.0, 5.0))
    load = Load(
        (*outcomes, Outcome("?", 60.0, error="no")),
        10.0,
        Usage(1000.4, 30, 20),
        Usage(1200, 31, 20),
    )
    # The 95th percentile of five lies four fifths of the way from the fourth to the fifth.
    assert load.cells() == [
        "5",
        "0.50",
        "3.00",
        "4.80",
        "5.00",
        "1",
        "0",
        "1,000 → 1,200",
        "30 → 31",
        "20 → 20",
    ]


def test_without_a_single_answer_there_is_no_latency():
    load = Load((Outcome("?", 1.0, error="no"),), 10.0, Usage(1, 1, 1), Usage(1, 1, 1))
    assert load.cells()[:6] == ["0", "0.00", "nan", "nan", "nan", "1"]
