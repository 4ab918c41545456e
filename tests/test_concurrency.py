"""Many at once on one library: one writer at a time, readers never behind a commit, nothing lost.

Each figure is held against the truth, id by id; longer with `--soak`.
"""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import HashEmbedder
from filelock import FileLock
from pages import Site

from rag import Assistant, Library
from rag.library.doctor import check_library

TESTS = Path(__file__).parent
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from test_together import add_saying; add_saying(*sys.argv[2:])"
HOLD = (
    "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
    "sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
)


def add_saying(folder, file):
    """Add a file, saying how many records of it are in."""
    assistant = Assistant(Library(Path(folder)), HashEmbedder())
    assistant.add(file, on_progress=lambda done, total, records: records and say(records))


def say(records):
    sys.stdout.write(f"{records}\n")
    sys.stdout.flush()


def record(number):
    return {
        "title": f"Paper number{number}",
        "abstract": f"We found ash {number % 997} and elm {number * 7919 % 10007}.",
    }


def write(file, numbers):
    file.write_text("".join(json.dumps(record(number)) + "\n" for number in numbers))
    return file


def adder(folder, file):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(TESTS), str(folder), str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )


def check_is_whole(folder, numbers, embedder=HashEmbedder):
    """Every paper is there once, with its vectors, its words, and in Chroma."""
    library = Library(folder, create=False)
    assert sorted(paper.title for paper in library.papers()) == sorted(
        record(number)["title"] for number in numbers
    )
    assert [check for check in check_library(library) if not check.ok] == []
    alone = Assistant(
        Library(folder.with_name(folder.name + "-alone")), embedder() if embedder else ""
    )
    alone.add(write(folder.with_name("alone.jsonl"), numbers))
    assert alone.library.digest == library.digest


@pytest.mark.soak
def test_two_adders_lose_nothing(tmp_path, times):
    half = times(700, 10_000)
    files = [
        write(tmp_path / f"{n}.jsonl", range(n * half // 2, n * half // 2 + half)) for n in (0, 1)
    ]
    adders = [adder(tmp_path / "library", file) for file in files]
    assert [process.wait() for process in adders] == [0, 0]
    check_is_whole(tmp_path / "library", range(half + half // 2))


class Asker(threading.Thread):
    """Asks for papers of which the adder said that they are in; `faults` are those that were not found."""

    def __init__(self, folder, adding, said):
        super().__init__()
        self.folder, self.adding, self.said = folder, adding, said
        self.asked, self.faults = 0, []

    def run(self):
        chance = random.Random(self.name)
        while not self.said:
            time.sleep(0.01)
        assistant = Assistant(Library(self.folder, create=False), HashEmbedder())
        while self.adding.poll() is None or not self.asked:
            known = self.said[-1]
            self.ask(assistant, chance.choice([known - 1, chance.randrange(known)]))

    def ask(self, assistant, number):
        wanted = record(number)
        hits = assistant.search(f"{wanted['title']}. {wanted['abstract']}", k=5)
        self.asked += 1
        if not any(hit.paper.title == wanted["title"] and hit.dense > 0.99 for hit in hits):
            self.faults.append((number, [hit.paper.title for hit in hits]))


@pytest.mark.soak
def test_ten_askers_are_never_behind_an_adder(tmp_path, times):
    count = times(2_000, 20_000)
    adding = adder(tmp_path / "library", write(tmp_path / "papers.jsonl", range(count)))
    said = []
    askers = [Asker(tmp_path / "library", adding, said) for _ in range(10)]
    for asker in askers:
        asker.start()
    for line in adding.stdout:
        said.append(int(line))
    for asker in askers:
        asker.join()
    assert adding.wait() == 0
    assert [fault for asker in askers for fault in asker.faults] == []
    assert min(asker.asked for asker in askers) > 0
    check_is_whole(tmp_path / "library", range(count))


@pytest.mark.soak
def test_the_page_keeps_up_with_the_command_line(tmp_path, times, monkeypatch):
    """Whatever the command has committed, the page finds, with the real models."""
    from gradio_client import Client

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    count = times(600, 6_000)
    library = Library(tmp_path / "library")
    site = Site(tmp_path, [library.folder])
    site.start()
    page = Client(site.address, verbose=False)
    file = write(tmp_path / "papers.jsonl", range(count))
    command = [sys.executable, "-m", "rag.cli", "add", str(file), "--library", str(library.folder)]
    adding = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked = []
    while adding.poll() is None:
        asked.append(ask_for_the_newest(page, library))
    assert (adding.returncode, len(library)) == (0, count)
    asked.append(ask_for_the_newest(page, library))
    site.stop()
    assert set(asked) <= {"", "found"}
    assert asked[-1] == "found"
    check_is_whole(library.folder, range(count), None)


def ask_for_the_newest(page, library):
    """`found` when the page finds the paper that was committed last, else what it finds instead."""
    known = len(library)
    if not known:
        return ""
    wanted = record(known - 1)
    hits = page.predict(f"{wanted['title']}. {wanted['abstract']}", api_name="/ask")["hits"]
    titles = [hit["title"] for hit in hits]
    return "found" if wanted["title"] in titles else f"{wanted['title']} is not among {titles}"


def test_the_command_says_that_it_waits_and_goes_on_when_the_writer_is_dead(tmp_path):
    """A lock belongs to a process; it ends with it."""
    library = Library(tmp_path / "library")
    command = [sys.executable, "-c", HOLD, str(library.folder / "write.lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    file = write(tmp_path / "papers.jsonl", range(3))
    command = [sys.executable, "-m", "rag.cli", "add", str(file), "--library", str(library.folder)]
    adding = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in adding.stderr:
        if "waiting" in line:
            break
    assert "another process is writing to this library" in line
    assert len(library) == 0
    holder.kill()
    holder.wait()
    assert adding.wait() == 0
    assert len(library) == 3
    with FileLock(library.folder / "write.lock", timeout=0):
        pass
