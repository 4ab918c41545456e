"""Several processes and threads on one library: one writer at a time, current reads, no losses.

Every paper is checked. With `--soak`, there are more papers.
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
ADD = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from test_concurrency import add_with_progress; add_with_progress(*sys.argv[2:])"
)
HOLD_LOCK = (
    "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
    "sys.stdout.write('locked\\n'); sys.stdout.flush(); sys.stdin.read()"
)


def add_with_progress(folder, file):
    """Add a file, printing how many of its records are stored."""
    assistant = Assistant(Library(Path(folder)), HashEmbedder())
    assistant.add(file, on_progress=lambda done, total, records: print_count(records))


def print_count(records):
    if records:
        sys.stdout.write(f"{records}\n")
        sys.stdout.flush()


def record(number):
    abstract = f"We found ash {number % 997} and elm {number * 7919 % 10007}."
    return {"title": f"Paper number{number}", "abstract": abstract}


def question_about(number):
    paper = record(number)
    return f"{paper['title']}. {paper['abstract']}"


def write_records(file, numbers):
    file.write_text("".join(json.dumps(record(number)) + "\n" for number in numbers))
    return file


def start_add(folder, file):
    command = [sys.executable, "-c", ADD, str(TESTS), str(folder), str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def start_add_command(folder, file, **streams):
    command = [sys.executable, "-m", "rag.cli", "add", str(file), "--library", str(folder)]
    return subprocess.Popen(command, text=True, **streams)


def check_is_complete(folder, numbers):
    """Check that every paper is stored once, in all tables and in Chroma."""
    library = Library(folder, create=False)
    titles = sorted(paper.title for paper in library.papers())
    assert titles == sorted(record(number)["title"] for number in numbers)
    assert [check for check in check_library(library) if not check.ok] == []
    expected = Assistant(Library(folder.with_name(f"{folder.name}-expected")), HashEmbedder())
    expected.add(write_records(folder.with_name("expected.jsonl"), numbers))
    assert expected.library.digest == library.digest


@pytest.mark.promise("durability")
@pytest.mark.soak
def test_two_simultaneous_adds_lose_nothing(tmp_path, times):
    half = times(400, 10_000)
    first = write_records(tmp_path / "0.jsonl", range(half))
    second = write_records(tmp_path / "1.jsonl", range(half // 2, half // 2 + half))
    processes = [start_add(tmp_path / "library", file) for file in (first, second)]
    assert [process.wait() for process in processes] == [0, 0]
    check_is_complete(tmp_path / "library", range(half + half // 2))


class Searcher(threading.Thread):
    """Search for papers that an add has reported as stored; `misses` lists those not found."""

    def __init__(self, folder, adding, reported):
        super().__init__()
        self.folder, self.adding, self.reported = folder, adding, reported
        self.searches, self.misses = 0, []

    def run(self):
        generator = random.Random(self.name)
        while not self.reported:
            time.sleep(0.01)
        assistant = Assistant(Library(self.folder, create=False), HashEmbedder())
        while self.adding.poll() is None or not self.searches:
            stored = self.reported[-1]
            self.search(assistant, generator.choice([stored - 1, generator.randrange(stored)]))

    def search(self, assistant, number):
        hits = assistant.search(question_about(number), k=5)
        self.searches += 1
        title = record(number)["title"]
        if not any(hit.paper.title == title and hit.dense > 0.99 for hit in hits):
            self.misses.append((number, [hit.paper.title for hit in hits]))


@pytest.mark.promise("durability")
@pytest.mark.soak
def test_ten_searchers_find_every_paper_that_an_add_reported(tmp_path, times):
    count = times(1_200, 20_000)
    file = write_records(tmp_path / "papers.jsonl", range(count))
    adding = start_add(tmp_path / "library", file)
    reported = []
    searchers = [Searcher(tmp_path / "library", adding, reported) for _ in range(10)]
    for searcher in searchers:
        searcher.start()
    for line in adding.stdout:
        reported.append(int(line))
    for searcher in searchers:
        searcher.join()
    assert adding.wait() == 0
    assert [miss for searcher in searchers for miss in searcher.misses] == []
    assert min(searcher.searches for searcher in searchers) > 0
    check_is_complete(tmp_path / "library", range(count))


@pytest.mark.soak
def test_page_finds_every_paper_that_the_command_has_stored(tmp_path, times, monkeypatch):
    from gradio_client import Client

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    count = times(300, 6_000)
    library = Library(tmp_path / "library")
    site = Site(tmp_path, [library.folder])
    site.start()
    page = Client(site.address, verbose=False)
    file = write_records(tmp_path / "papers.jsonl", range(count))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    adding = start_add_command(library.folder, file, **quiet)
    results = []
    while adding.poll() is None:
        results.append(ask_page_for_the_newest(page, library))
    assert (adding.returncode, len(library)) == (0, count)
    results.append(ask_page_for_the_newest(page, library))
    site.stop()
    assert set(results) <= {"", "found"}
    assert results[-1] == "found"
    check_is_complete(library.folder, range(count))


def ask_page_for_the_newest(page, library):
    """Return `found` if the page finds the newest paper, empty if there is none, else its hits."""
    stored = len(library)
    if not stored:
        return ""
    hits = page.predict(question_about(stored - 1), api_name="/ask")["hits"]
    titles = [hit["title"] for hit in hits]
    return "found" if record(stored - 1)["title"] in titles else f"{stored - 1}: {titles}"


@pytest.mark.promise("durability")
def test_command_waits_for_another_writer_and_continues_when_that_is_killed(tmp_path):
    library = Library(tmp_path / "library")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    lock_file = library.folder / "write.lock"
    writer = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(lock_file)], text=True, **pipes)
    assert writer.stdout.readline() == "locked\n"
    file = write_records(tmp_path / "papers.jsonl", range(3))
    adding = start_add_command(library.folder, file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in adding.stderr:
        if "waiting" in line:
            break
    assert "waiting for another process" in line
    assert len(library) == 0
    writer.kill()
    writer.wait()
    assert adding.wait() == 0
    assert len(library) == 3
    with FileLock(lock_file, timeout=0):
        pass
