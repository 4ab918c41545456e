"""Benchmark of load: many clients get the answers of a single one, and leak nothing."""

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

from eval.benchmarks.common import serve_page
from eval.benchmarks.load import (
    Load,
    Outcome,
    Turn,
    Usage,
    ask_concurrently,
    connect,
    find_ask_event,
    measure_load,
    page_client,
    process_usage,
    python_client,
    record_turns,
)
from rag import Assistant

CONVERSATIONS = (
    ("How do Sliding Ledgers shrink the KV cache?", "And by how much?"),
    ("When does IL-6 rise in bank voles?",),
    ("What is the capital of France?",),
    ("How long did the effect of heat on corals last?", "Who paid for it?"),
    ("Which papers make decoding faster?",),
)
# Threads and files that the interpreter and libraries may open; a leak per client would be more.
MAX_STRAY = 6


def assert_no_error_and_no_leak(load, clients, max_megabytes):
    assert load.errors == []
    assert load.different_answers == []
    assert len(load.outcomes) >= clients
    assert load.after.threads - load.before.threads <= MAX_STRAY
    # A thread has the library and its log open.
    assert load.after.open_files - load.before.open_files <= 2 * MAX_STRAY
    assert load.after.megabytes - load.before.megabytes < max_megabytes


@pytest.mark.soak
def test_threads_sharing_an_assistant_get_the_same_answers_and_leak_nothing(small_library, times):
    client = python_client(Assistant.open(small_library, create=False))
    turns = record_turns(client, CONVERSATIONS)
    assert len({turn.answer for turn in turns}) == len(turns)
    clients = times(10, 50)
    load = measure_load([client] * clients, turns, times(3, 120), os.getpid())
    assert_no_error_and_no_leak(load, clients, times(math.inf, 300))


@pytest.mark.soak
def test_sessions_at_the_page_get_the_same_answers_and_leak_nothing(small_library, times):
    number = times(10, 50)
    with serve_page(small_library) as page, connect(page.address) as http:
        event = find_ask_event(http)
        turns = record_turns(page_client(http, event), CONVERSATIONS)
        assert "256 steps" in turns[0].answer
        clients = [page_client(http, event) for _ in range(number)]
        load = measure_load(clients, turns, times(3, 120), page.pid)
    assert_no_error_and_no_leak(load, number, times(math.inf, 300))


@pytest.fixture
def site(small_library, tmp_path):
    """The page over the small library, served by this process."""
    site = Site(tmp_path, [small_library])
    site.start()
    yield site
    site.stop()


def test_a_conversation_leaks_no_components(site):
    components = []
    with connect(site.address) as http:
        ask = page_client(http, find_ask_event(http))()
        for _ in range(4):
            ask("How do Sliding Ledgers shrink the KV cache?")
            gc.collect()
            components.append(sum(isinstance(value, Block) for value in gc.get_objects()))
    assert components[3] == components[1]


def test_the_page_keeps_no_statistics_of_questions(site, monkeypatch):
    frames, original_init = [], pandas.DataFrame.__init__

    def recording_init(self, *arguments, **options):
        frames.append(arguments)
        original_init(self, *arguments, **options)

    monkeypatch.setattr(pandas.DataFrame, "__init__", recording_init)
    client = Client(site.address, verbose=False)
    for question in ("How do Sliding Ledgers shrink the KV cache?", "Who sings?"):
        assert client.predict(question, api_name="/ask")["question"] == question
    assert frames == []


HOLDING_PROGRAM = """
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


def test_process_usage_counts_memory_files_and_threads():
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING_PROGRAM], stdin=PIPE, stdout=PIPE, text=True, bufsize=1
    ) as process:
        process.stdout.readline()
        before = process_usage(process.pid)
        process.stdin.write("go on\n")
        process.stdout.readline()
        after = process_usage(process.pid)
        process.kill()
    assert before.threads == 1
    assert after.threads == 4
    assert after.open_files - before.open_files == 4
    assert 60 < after.megabytes - before.megabytes < 80


def test_errors_and_different_answers_are_counted_and_a_failed_conversation_is_skipped():
    questions = []

    def client():
        def ask(question):
            questions.append(question)
            if question == "broken":
                raise ValueError("out of order")
            return question.upper()

        return ask

    turns = [
        Turn("one", "ONE", starts_conversation=True),
        Turn("two", "OTHER", starts_conversation=False),
        Turn("broken", "", starts_conversation=True),
        Turn("never asked", "", starts_conversation=False),
        Turn("three", "THREE", starts_conversation=True),
    ]
    outcomes = ask_concurrently([client, client], [turns, turns[:1]])
    assert sorted(questions) == ["broken", "one", "one", "three", "two"]
    load = Load(tuple(outcomes), 2.0, Usage(100, 5, 4), Usage(101, 6, 4))
    assert load.errors == ["ValueError: out of order"]
    assert load.different_answers == ["two"]


def test_table_holds_counts_latencies_and_resources():
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


def test_without_answers_latencies_are_not_numbers():
    load = Load((Outcome("?", 1.0, error="no"),), 10.0, Usage(1, 1, 1), Usage(1, 1, 1))
    assert load.cells()[:6] == ["0", "0.00", "nan", "nan", "nan", "1"]
