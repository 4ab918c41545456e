"""Let many clients ask at once, and compare their answers with those of a single client.

`python -m eval.benchmarks.load [--minutes M] [--clients N…] [--library DIR] [--into FILE]`

Two interfaces are measured, each for M minutes with each number of clients. In Python, clients are
threads that share one `Assistant`. On the page, which runs in its own process, clients are browser
sessions. Clients do not pause between an answer and the next question, and must get the same
answers as a single client. Memory, open files and threads are those of the process that answers;
measuring them needs Linux. The questions are about the sample papers, but any library can be asked.
The results go into `eval/BENCHMARKS.md`, or into FILE.
"""

import argparse
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from eval.benchmarks.common import add_library_option, open_assistant, serve_page
from eval.benchmarks.tables import FILE, write_section
from rag import Answer, Assistant

# Returns the answer to a question in a form that can be compared; raises any error.
Ask = Callable[[str], str]
# Starts a conversation.
Client = Callable[[], Ask]

# Conversations about the sample papers: answerable questions, follow-ups, and unanswerable ones.
CONVERSATIONS = (
    ("How does KIVI quantize the KV cache?", "By how much does it lower peak memory?"),
    ("Is FP8 better than INT8 for inference?",),
    ("What is the capital of Portugal?",),
    ("How accurate is NetMamba?", "And how much faster is its inference?"),
    ("Which papers compress the KV cache?",),
    ("How many image patches does SpectralEarth hold?", "From how many locations do they come?"),
    ("What does vitamin D do to the density of bones?",),
    (
        "How much faster do XNOR-Networks make convolutions?",
        "What about memory?",
        "Who reviewed the paper?",
    ),
    ("Which methods combine LoRA with knowledge distillation?",),
    ("How fast is YOLOv4 on a Tesla V100?", "How accurate is it there?"),
    ("How did the Romans collect their taxes?", "By how much does Flash-LLM outperform Sputnik?"),
    ("How can the RNN-T loss take less memory?", "Does it take less time as well?"),
)
# Seconds as an answer in the page shows them.
_SHOWN_SECONDS = re.compile(r"(?:(?<=>)|(?<=· ))\d+\.\d s\b")
# An answer that takes longer is an error. The page gives up after 180 seconds, without its queue.
_TIMEOUT_SECONDS = 600.0
_MAX_MESSAGE = 1000
_MEASURED = ("answers", "per second", "p50, s", "p95, s", "max, s", "errors", "different answers")
_RESOURCES = ("memory, MB", "open files", "threads")
_HEADINGS = ("interface", "clients", *_MEASURED, *_RESOURCES)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question of a conversation, and the answer that a single client got."""

    question: str
    answer: str
    starts_conversation: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one question, with the seconds to the whole answer."""

    question: str
    seconds: float
    error: str = ""
    is_different: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process: resident memory, open file descriptors, threads."""

    megabytes: float
    open_files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Load:
    """Outcomes of all questions, and the answering process's usage before and after."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    before: Usage
    after: Usage

    @property
    def errors(self) -> list[str]:
        """Messages of the questions that failed."""
        return [outcome.error for outcome in self.outcomes if outcome.error]

    @property
    def different_answers(self) -> list[str]:
        """Questions whose answer differs from the one that a single client gets."""
        return [outcome.question for outcome in self.outcomes if outcome.is_different]

    def cells(self) -> list[str]:
        """Return the figures under `_MEASURED` and `_RESOURCES`."""
        latencies = [outcome.seconds for outcome in self.outcomes if not outcome.error]
        percentiles = np.percentile(latencies, [50, 95, 100]) if latencies else [np.nan] * 3
        return [
            f"{len(latencies):,}",
            f"{len(latencies) / self.seconds:.2f}",
            *map("{:.2f}".format, percentiles),
            str(len(self.errors)),
            str(len(self.different_answers)),
            f"{self.before.megabytes:,.0f} → {self.after.megabytes:,.0f}",
            f"{self.before.open_files:,} → {self.after.open_files:,}",
            f"{self.before.threads:,} → {self.after.threads:,}",
        ]


# --- asking --------------------------------------------------------------------------------------


def record_turns(client: Client, conversations: Iterable[Sequence[str]]) -> list[Turn]:
    """Let a single client hold the conversations, and record its answers."""
    turns = []
    for questions in conversations:
        ask = client()
        for index, question in enumerate(questions):
            turns.append(Turn(question, ask(question), starts_conversation=index == 0))
    return turns


def ask_concurrently(clients: Sequence[Client], turns: Sequence[Iterable[Turn]]) -> list[Outcome]:
    """Let all clients ask at once, each its own turns one after the other."""
    with ThreadPoolExecutor(len(clients)) as pool:
        return list(chain.from_iterable(pool.map(_ask_turns, clients, turns)))


def measure_load(
    clients: Sequence[Client], turns: Sequence[Turn], seconds: float, pid: int
) -> Load:
    """Let all clients ask for the given seconds, after one question each as a warm-up.

    Each client starts with a different conversation and cycles through all of them. The answers to
    questions asked in time are waited for. `pid` is the process that answers.
    """
    warm_up = ask_concurrently(clients, [turns[:1]] * len(clients))
    warm_up_errors = [outcome for outcome in warm_up if outcome.error]
    before, start = process_usage(pid), time.perf_counter()
    rounds = [_turns_until(start + seconds, turns, number) for number in range(len(clients))]
    outcomes = ask_concurrently(clients, rounds)
    elapsed = time.perf_counter() - start
    return Load((*warm_up_errors, *outcomes), elapsed, before, process_usage(pid))


def _turns_until(deadline: float, turns: Sequence[Turn], conversation: int) -> Iterator[Turn]:
    """Cycle through the turns until the deadline, starting with the given conversation."""
    starts = [index for index, turn in enumerate(turns) if turn.starts_conversation]
    start = starts[conversation % len(starts)]
    for turn in cycle([*turns[start:], *turns[:start]]):
        if time.perf_counter() >= deadline:
            return
        yield turn


def _ask_turns(client: Client, turns: Iterable[Turn]) -> list[Outcome]:
    """Ask the turns; after an error, skip the rest of the conversation, which depends on it."""
    outcomes: list[Outcome] = []
    ask: Ask | None = None
    for turn in turns:
        if turn.starts_conversation:
            ask = client()
        if ask is not None:
            outcomes.append(_ask_turn(ask, turn))
            if outcomes[-1].error:
                ask = None
    return outcomes


def _ask_turn(ask: Ask, turn: Turn) -> Outcome:
    start = time.perf_counter()
    try:
        answer = ask(turn.question)
    except Exception as error:  # any error is counted and printed
        message = f"{type(error).__name__}: {error}"
        return Outcome(turn.question, time.perf_counter() - start, message)
    seconds = time.perf_counter() - start
    return Outcome(turn.question, seconds, is_different=answer != turn.answer)


def process_usage(pid: int) -> Usage:
    """Return the current resources of a process on this machine (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Usage(int(fields["VmRSS"]) / 1024, open_files, int(fields["Threads"]))


# --- clients in Python ---------------------------------------------------------------------------


def python_client(assistant: Assistant) -> Client:
    """Return a client that asks an assistant; times are removed from its answers."""

    def start_conversation() -> Ask:
        chat = assistant.chat()
        return lambda question: _without_times(chat.ask(question))

    return start_conversation


def _without_times(answer: Answer) -> str:
    record = answer.to_dict()
    del record["trace"]["seconds"]
    return json.dumps(record)


# --- clients of the page -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskEvent:
    """Event of the page that asks a question, as the page's configuration describes it.

    `settings` are the values sent after the question and the conversation's id;
    `conversation_output` and `chat_output` are the indexes of these two among the values that come
    back.
    """

    index: int
    settings: list[Any]
    conversation_output: int
    chat_output: int


def connect(address: str) -> httpx2.Client:
    """Return an HTTP client for a page; it keeps no idle connections, which count as open files."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.Client(base_url=address, timeout=_TIMEOUT_SECONDS, limits=limits, trust_env=False)


def find_ask_event(http: httpx2.Client) -> AskEvent:
    """Find the event by the id of the question box, as the page's own script does."""
    config = http.get("/config").json()
    components = {component["id"]: component for component in config["components"]}
    event = _submit_event(config, _find_component(components, elem_id="question"))
    _, conversation, *settings = event["inputs"]
    values = []
    for setting in settings:
        value = components[setting]["props"].get("value")
        values.append("" if value is None else value)
    outputs = event["outputs"]
    types = [components[output]["type"] for output in outputs]
    return AskEvent(event["id"], values, outputs.index(conversation), types.index("chatbot"))


def _find_component(components: dict[int, Any], elem_id: str) -> int:
    for number, component in components.items():
        if component["props"].get("elem_id") == elem_id:
            return number
    raise RuntimeError(f"the page has no component '{elem_id}'")


def _submit_event(config: dict[str, Any], component: int) -> dict[str, Any]:
    for event in config["dependencies"]:
        if [component, "submit"] in event["targets"]:
            submit: dict[str, Any] = event
            return submit
    raise RuntimeError("the page has no event that asks a question")


def page_client(http: httpx2.Client, event: AskEvent) -> Client:
    """Return a client that asks as a browser does, in its own session.

    Times are removed from its answers.
    """
    session = secrets.token_hex(8)

    def start_conversation() -> Ask:
        conversation = ""

        def ask(question: str) -> str:
            nonlocal conversation
            data = [question, conversation, *event.settings]
            body = {"fn_index": event.index, "session_hash": session, "data": data}
            outputs = _send_event(http, body)
            conversation = outputs[event.conversation_output]
            answer = json.dumps(outputs[event.chat_output][-1], ensure_ascii=False)
            if "answer failed" in answer:
                raise RuntimeError(answer)
            return _SHOWN_SECONDS.sub("", answer)

        return ask

    return start_conversation


def _send_event(http: httpx2.Client, body: dict[str, Any]) -> list[Any]:
    """Send an event through the page's queue, and return its final values.

    Raises `RuntimeError` if the page refuses or fails.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    joined = http.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        raise RuntimeError(f"status {joined.status_code}: {joined.text}")
    last = ""
    session = {"session_hash": body["session_hash"]}
    with http.stream("GET", "/gradio_api/queue/data", params=session) as response:
        for line in response.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                last = line
            if time.monotonic() > deadline:  # heartbeats never stop
                raise RuntimeError(f"no answer within {_TIMEOUT_SECONDS:.0f} seconds")
    message = json.loads(last.removeprefix("data:") or "{}")
    if not message.get("success"):
        raise RuntimeError(last or "the page closed the connection without an answer")
    values: list[Any] = message["output"]["data"]
    return values


# --- the table -----------------------------------------------------------------------------------


def measure_interface(
    name: str, new_client: Callable[[], Client], pid: int, options: argparse.Namespace
) -> Iterator[list[str]]:
    """Yield a row for each number of clients, after printing it with its problems."""
    turns = record_turns(new_client(), CONVERSATIONS)
    for number in options.clients:
        clients = [new_client() for _ in range(number)]
        load = measure_load(clients, turns, 60 * options.minutes, pid)
        row = [name, str(number), *load.cells()]
        print(" | ".join(row), flush=True)
        problems = Counter(load.errors)
        problems.update(map("different answer: {}".format, load.different_answers))
        for problem, count in problems.items():
            print(f"  {count} × {problem[:_MAX_MESSAGE]}", flush=True)
        yield row


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=2.0,
        help="minutes for each interface and number of clients",
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 50], metavar="N")
    add_library_option(parser)
    parser.add_argument(
        "--into", type=Path, default=FILE, metavar="FILE", help="file that gets the section"
    )
    options = parser.parse_args()
    assistant = open_assistant(options.library)
    print(" | ".join(_HEADINGS), flush=True)
    rows = list(measure_interface("Python", lambda: python_client(assistant), os.getpid(), options))
    with serve_page(assistant.library.folder) as page, connect(page.address) as http:
        event = find_ask_event(http)
        rows += measure_interface("page", lambda: page_client(http, event), page.pid, options)
    description = (
        f"{options.minutes:g} minutes each; all clients ask without a pause, "
        f"{len(assistant.library):,} papers. From Python the clients are threads that share one "
        "assistant; on the page they are sessions over HTTP. Different answers differ from those "
        "that a single client gets. Memory (resident), open files and threads are those of the "
        "process that answers: after a first answer for each client → at the end."
    )
    write_section("Load", description, _HEADINGS, rows, options.into)


if __name__ == "__main__":
    main()
