"""What many get who ask at once: `python -m eval.benchmarks.load [--minutes M] [--askers N…] [--folder LIBRARY] [--into FILE]`.

Two ways to ask, each for M minutes with every number of askers. From Python: a thread for each, and one `Assistant`
for all. In the page: it runs in a process of its own, and each asker is a browser's session to it. Nobody pauses
between an answer and the next question. Each answer is compared with the one that the same question got while nobody
else asked: it must be the same. Memory, open files and threads are those of the process that answers, so this needs
Linux. The results go into `eval/BENCHMARKS.md`, or another file.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, cycle, takewhile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from eval.benchmarks.tables import FILE, write_section
from rag import Answer, Assistant

# Gives the answer to a question, in a form that can be compared; raises whatever goes wrong.
Ask = Callable[[str], str]
# Begins a conversation.
Asker = Callable[[], Ask]

# Conversations about the sample papers: what they answer, what leans on the question before, what they do not answer.
TALKS = (
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
# What an answer in the page says of its seconds.
_TOOK = re.compile(r" · \d+\.\d s\b")
# An answer that takes longer is an error; the page itself breaks off after 180 seconds, not counting its queue.
_PATIENCE = 600.0
_HEADINGS = [
    "askers",
    "answers",
    "a second",
    "p50, s",
    "p95, s",
    "most, s",
    "errors",
    "other answers",
]
_HEADINGS += ["memory, MB", "open files", "threads"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, and the answer that it got when nobody else asked; `begins` a conversation, or goes on with it."""

    question: str
    answer: str
    begins: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question: seconds to the whole answer, what went wrong, and whether the answer was another."""

    question: str
    seconds: float
    error: str = ""
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds: resident memory (Linux: VmRSS), open file descriptors, threads."""

    megabytes: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Load:
    """What became of all questions in so many seconds, and what the answering process held before and after."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    before: Usage
    after: Usage

    @property
    def errors(self) -> list[str]:
        return [one.error for one in self.outcomes if one.error]

    @property
    def other_answers(self) -> list[str]:
        """The questions whose answer was not the one that they get alone."""
        return [one.question for one in self.outcomes if one.differs]

    def cells(self) -> list[str]:
        """The figures under `_HEADINGS`, but for the number of askers."""
        took = [one.seconds for one in self.outcomes if not one.error]
        latencies = np.percentile(took, [50, 95, 100]) if took else [np.nan] * 3
        held = zip(
            (f"{self.before.megabytes:,.0f}", f"{self.before.files:,}", f"{self.before.threads:,}"),
            (f"{self.after.megabytes:,.0f}", f"{self.after.files:,}", f"{self.after.threads:,}"),
            strict=True,
        )
        return [
            f"{len(took):,}",
            f"{len(took) / self.seconds:.2f}",
            *(f"{latency:.2f}" for latency in latencies),
            str(len(self.errors)),
            str(len(self.other_answers)),
            *(f"{before} → {after}" for before, after in held),
        ]


# --- asking ------------------------------------------------------------------------------------------------------


def alone(asker: Asker, talks: Iterable[Sequence[str]]) -> list[Turn]:
    """The conversations, one after the other, with the answers that a single asker gets."""
    turns = []
    for talk in talks:
        ask = asker()
        turns += [
            Turn(question, ask(question), begins=place == 0) for place, question in enumerate(talk)
        ]
    return turns


def crowd(askers: Sequence[Asker], turns: Iterable[Iterable[Turn]]) -> list[Outcome]:
    """Let everybody ask at once, each their own turns one after the other."""
    with ThreadPoolExecutor(len(askers)) as pool:
        return list(chain.from_iterable(pool.map(_ask_all, askers, turns)))


def measure(askers: Sequence[Asker], turns: Sequence[Turn], seconds: float, pid: int) -> Load:
    """Let everybody ask for so many seconds, after one question each to warm up; `pid` is the process that answers.

    Each begins at another place of the turns and goes round; a question that was begun is waited for.
    """
    early = [one for one in crowd(askers, [list(turns[:1])] * len(askers)) if one.error]
    before, start = usage(pid), time.perf_counter()
    rounds = [
        takewhile(lambda _: time.perf_counter() < start + seconds, _round(turns, n))
        for n in range(len(askers))
    ]
    outcomes = crowd(askers, rounds)
    return Load((*early, *outcomes), time.perf_counter() - start, before, usage(pid))


def _round(turns: Sequence[Turn], place: int) -> Iterator[Turn]:
    """The turns without end, from a conversation on."""
    first = [number for number, turn in enumerate(turns) if turn.begins]
    start = first[place % len(first)]
    return cycle([*turns[start:], *turns[:start]])


def _ask_all(asker: Asker, turns: Iterable[Turn]) -> list[Outcome]:
    """What becomes of the turns; after an error the rest of that conversation would lean on nothing."""
    outcomes: list[Outcome] = []
    ask: Ask | None = None
    for turn in turns:
        ask = asker() if turn.begins else ask
        if ask is not None:
            outcomes.append(_outcome(ask, turn))
            ask = None if outcomes[-1].error else ask
    return outcomes


def _outcome(ask: Ask, turn: Turn) -> Outcome:
    start = time.perf_counter()
    try:
        answer = ask(turn.question)
    except Exception as error:  # whatever it is, it is counted and told
        return Outcome(
            turn.question, time.perf_counter() - start, f"{type(error).__name__}: {error}"
        )
    return Outcome(turn.question, time.perf_counter() - start, differs=answer != turn.answer)


def usage(pid: int) -> Usage:
    """What a process of this machine holds at this moment."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    told = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Usage(int(told["VmRSS"]) / 1024, files, int(told["Threads"]))


# --- from Python -------------------------------------------------------------------------------------------------


def from_python(assistant: Assistant) -> Asker:
    """Somebody who asks an assistant; what tells of time is left out of the answers."""

    def begin() -> Ask:
        talk = assistant.chat()
        return lambda question: _comparable(talk.ask(question))

    return begin


def _comparable(answer: Answer) -> str:
    told = answer.to_dict()
    del told["trace"]["seconds"]
    return json.dumps(told)


# --- in the page -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """The page's event that asks, as a browser knows it.

    `rest`: what is sent after the question and the conversation's id, as long as nobody changes a setting;
    `conversation` and `chat`: where these stand in what comes back.
    """

    event: int
    rest: list[Any]
    conversation: int
    chat: int


@contextlib.contextmanager
def page(library: Path) -> Iterator[tuple[Callable[[], Asker], int]]:
    """The page over a library: what makes an asker with a session of their own, and the process that answers.

    Of the user's own it sees nothing but that library.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "rag.cli",
        "ui",
        "--library",
        str(library),
        "--port",
        str(port),
    ]
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "XDG_DATA_HOME": data}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
            try:
                if not (
                    process.stdout and process.stdout.readline()
                ):  # it says where it is once it listens
                    raise RuntimeError("the page did not start")
                with _client(f"http://127.0.0.1:{port}") as http:
                    form = _form(http.get("/config").json())
                    yield lambda: _at_page(http, form), process.pid
            finally:
                process.terminate()


def _client(address: str) -> httpx2.Client:
    """For all askers; it keeps no connection, which the other side would have to hold open."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.Client(base_url=address, timeout=_PATIENCE, limits=limits, trust_env=False)


def _form(config: dict[str, Any]) -> _Form:
    """Found by what the question's box is called, as the page's own script does."""
    parts = {part["id"]: part for part in config["components"]}
    question = next(
        number for number, part in parts.items() if part["props"].get("elem_id") == "question"
    )
    event = next(
        event for event in config["dependencies"] if [question, "submit"] in event["targets"]
    )
    given, shown = event["inputs"], event["outputs"]
    values = [parts[number]["props"].get("value") for number in given[2:]]
    chat = next(place for place, number in enumerate(shown) if parts[number]["type"] == "chatbot")
    return _Form(
        event["id"],
        ["" if value is None else value for value in values],
        shown.index(given[1]),
        chat,
    )


def _at_page(http: httpx2.Client, form: _Form) -> Asker:
    """Somebody at the page, who asks as a browser does; what tells of time is left out of the answers."""
    session = secrets.token_hex(8)

    def begin() -> Ask:
        conversation = ""

        def ask(question: str) -> str:
            nonlocal conversation
            data = [question, conversation, *form.rest]
            shown = _sent(http, {"fn_index": form.event, "session_hash": session, "data": data})
            conversation, answer = (
                shown[form.conversation],
                json.dumps(shown[form.chat][-1], ensure_ascii=False),
            )
            if "answer failed" in answer:
                raise RuntimeError(answer)
            return _TOOK.sub("", answer)

        return ask

    return begin


def _sent(http: httpx2.Client, body: dict[str, Any]) -> list[Any]:
    """What an event gives in the end, by the queue of the page. Raises `RuntimeError` when it refuses or fails."""
    start, last = time.monotonic(), ""
    joined = http.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        raise RuntimeError(f"status {joined.status_code}: {joined.text}")
    with http.stream(
        "GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}
    ) as told:
        for line in told.iter_lines():
            last = line if "process_completed" in line or "unexpected_error" in line else last
            if time.monotonic() > start + _PATIENCE:  # signs of life come for ever
                raise RuntimeError("no answer")
    message = json.loads(last.removeprefix("data:") or "{}")
    if not message.get("success"):
        raise RuntimeError(last or "the page fell silent")
    found: list[Any] = message["output"]["data"]
    return found


# --- the table ---------------------------------------------------------------------------------------------------


def _rows(
    name: str, visit: Callable[[], Asker], pid: int, options: argparse.Namespace
) -> Iterator[list[str]]:
    """One row for each number of askers; what went wrong is told at once."""
    turns = alone(visit(), TALKS)
    for number in options.askers:
        load = measure([visit() for _ in range(number)], turns, 60 * options.minutes, pid)
        row = [name, str(number), *load.cells()]
        print(" | ".join(row), flush=True)
        for what, times in Counter(
            [*load.errors, *(f"other answer: {one}" for one in load.other_answers)]
        ).items():
            print(f"  {times} × {what[:1000]}", flush=True)
        yield row


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="for each way and number of askers"
    )
    parser.add_argument("--askers", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument(
        "--folder", type=Path, help="another library; the questions are about the sample papers"
    )
    parser.add_argument("--into", type=Path, default=FILE, help="the file that gets the section")
    options = parser.parse_args()
    assistant = (
        Assistant.open(options.folder, create=False) if options.folder else Assistant.sample()
    )
    print(" | ".join(["way", *_HEADINGS]), flush=True)
    rows = list(_rows("Python", lambda: from_python(assistant), os.getpid(), options))
    with page(assistant.library.folder) as (visit, pid):
        rows += _rows("page", visit, pid, options)
    said = (
        f"{options.minutes:g} minutes each; everybody asks without a pause, {len(assistant.library):,} papers. From "
        "Python the askers are threads that share one assistant, at the page they are sessions over HTTP. Other "
        "answers: those that are not what the same question gets alone. Memory (resident), open files and threads: of "
        "the process that answers, after a first answer for everybody → at the end."
    )
    write_section("Load", said, [["way", *_HEADINGS], *rows], options.into)


if __name__ == "__main__":
    main()
