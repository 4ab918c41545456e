"""Durability: nothing that was reported as done is lost by SIGKILL, a full disk, or a failing one.

Each kind of work is killed a few times, or hundreds of times with `--soak`.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from fakes import HashEmbedder, OtherEmbedder, ScriptedModel

from rag import Assistant, Library, LibraryError
from rag.library.doctor import check_library
from rag.library.vector_index import VectorIndex

resource = pytest.importorskip("resource", reason="Windows has no SIGKILL and no such limits")
TESTS = Path(__file__).parent
ALL_PAPERS = 1_500
FIRST_PAPERS = 500
BATCH = 256
WORDS = "tide owl reed gate moor lark dune heron salt marsh crab kelp".split()
# Calls a function of this file in another process.
CALL = (
    "import sys; sys.path.insert(0, sys.argv[1]); import test_kills; "
    "getattr(test_kills, sys.argv[2])(*sys.argv[3:])"
)


@pytest.fixture(autouse=True)
def compare_index_in_this_process(monkeypatch):
    """Compare the vector index without starting another process for each check."""

    def compare(library):
        differences = asdict(VectorIndex(library).compare())
        return ", ".join(f"{count} {name}" for name, count in differences.items() if count)

    monkeypatch.setattr("rag.library.doctor._compare_vector_index", compare)


# --- the work that is killed -----------------------------------------------------------------


def work(name, folder, file):
    """Do one kind of work in a process of its own and print the progress."""
    assistant = Assistant(Library(Path(folder), create=False), HashEmbedder())
    print_line("ready")
    do_work(name, assistant, file, lambda done, total, records: print_line(records))


def do_work(name, assistant, file, on_progress=None):
    """Do one kind of work, or the rest of it."""
    if name == "add":
        assistant.add(file, on_progress=on_progress)
    elif name == "remove":
        assistant.remove(*[paper.id for paper in assistant.papers() if paper.year == 1999])
    elif name == "reindex":
        assistant.reindex()
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rag.assistant.load_embedder", lambda name: OtherEmbedder())
            assistant.reindex("other")


def serve(folder, file):
    """Serve the page, import a file and ask questions in it; print what is stored."""
    from pages import Site

    from ui.services.chat_service import ChatService

    folder = Path(folder)
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    site = Site(folder, [folder / "library"])
    site.open_library = lambda library, model: Assistant(
        Library(library, create=False), HashEmbedder(), ScriptedModel("An owl sings. [1]")
    )
    site.start()
    chat = ChatService(site.registry, site.store)
    print_line("ready")
    threading.Thread(target=drop_file, args=(site.registry, file), daemon=True).start()
    conversation = ""
    for number in range(1_000):
        question = f"Does the owl sing to {WORDS[number % 12]}?"
        conversation = ask_in_page(chat, site.registry.first, question, conversation)
        print_line("stored", conversation, number + 1)


def ask_in_page(chat, library, question, conversation):
    """Ask in a conversation as a visitor would, and return its id."""
    from ui.services.chat_service import AskOptions

    options = AskOptions(library, style="write")
    *_, view = chat.ask(question, conversation, "", "session", options)
    assert not view.failure
    return view.conversation


def drop_file(registry, file):
    """Import a copy of a file as if a visitor had dropped it into the page."""
    from ui.services.import_queue import ImportQueue

    copy = Path(file).with_name("dropped") / Path(file).name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(file, copy)
    job = ImportQueue().start(registry.assistant(registry.first), registry.first, [str(copy)])
    print_line("added", job.result().read)


def print_line(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


# --- kills -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Create a folder with a library of the first papers (`part`), of all (`whole`), and a file."""
    folder = tmp_path_factory.mktemp("kills")
    file = folder / "papers.jsonl"
    lines = [json.dumps(record(number)) + "\n" for number in range(ALL_PAPERS)]
    file.write_text("".join(lines[:FIRST_PAPERS]))
    add_and_close(folder / "part", file)
    file.write_text("".join(lines))
    add_and_close(Path(shutil.copytree(folder / "part", folder / "whole")), file)
    return folder


def record(number):
    abstract = f"A {WORDS[number % 12]} sings. The {WORDS[number % 7]} listens to number {number}."
    title = f"Paper {number} of the {WORDS[number % 12]}"
    return {"title": title, "abstract": abstract, "year": 1999 if number % 3 else 2005}


def add_and_close(folder, file):
    assistant = Assistant(Library(folder), HashEmbedder())
    assistant.add(file)
    assistant._index.close()
    assistant.library.close()


def start(function, *arguments):
    """Call a function of this file in another process, and wait until it is ready."""
    command = [sys.executable, "-c", CALL, str(TESTS), function, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(seconds, process):
    """Kill a process after some seconds; return the lines that it printed, split into words."""
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [line.split() for line in process.stdout.read().splitlines()]


def reopen(folder):
    library = Library(folder, create=False)
    embedder = OtherEmbedder() if library.meta("embedder") == "other" else HashEmbedder()
    return Assistant(library, embedder)


def check_is_intact(assistant):
    """Check that the library answers, passes all checks, and Chroma holds all its passages."""
    assert assistant.search("owl")[0].dense > 0.3
    assert [check for check in check_library(assistant.library) if not check.ok] == []
    assert assistant._index.keys() == set(assistant.library.passage_keys())


def check_batches_are_whole(papers):
    assert papers in {FIRST_PAPERS, ALL_PAPERS} or papers % BATCH == 0


def check_work_is_whole(name, assistant, lines):
    """Check that reported batches are stored, batches are whole, and removals all or nothing."""
    papers = len(assistant.library)
    if name == "add":
        check_batches_are_whole(papers)
        reported = [int(line[0]) for line in lines]
        assert papers >= max([FIRST_PAPERS, *reported])
    elif name == "remove":
        assert papers in {ALL_PAPERS, ALL_PAPERS // 3}
    else:
        assert papers == ALL_PAPERS


@pytest.mark.promise("durability")
@pytest.mark.soak
@pytest.mark.parametrize("name", ["add", "remove", "reindex", "embed"])
def test_next_run_completes_work_that_was_killed(libraries, tmp_path, name, times):
    start_from = libraries / ("part" if name == "add" else "whole")
    file = libraries / "papers.jsonl"
    uninterrupted = reopen(Path(shutil.copytree(start_from, tmp_path / "uninterrupted")))
    started = time.perf_counter()
    do_work(name, uninterrupted, file)
    seconds = time.perf_counter() - started
    generator = random.Random(name)
    for number in range(times(1, 25)):
        folder = Path(shutil.copytree(start_from, tmp_path / str(number)))
        for _ in range(2):  # the second kill hits the recovery from the first
            process = start("work", name, folder, file)
            lines = kill_after(generator.uniform(0, 1.1 * seconds), process)
            assistant = reopen(folder)
            check_work_is_whole(name, assistant, lines)
            check_is_intact(assistant)
            assistant._index.close()
        do_work(name, assistant, file)
        assert assistant.library.digest == uninterrupted.library.digest
        check_is_intact(assistant)
        assistant._index.close()
        shutil.rmtree(folder)


@pytest.mark.promise("durability")
@pytest.mark.soak
def test_killing_the_page_loses_no_stored_answer_and_no_paper(libraries, tmp_path, times):
    generator = random.Random("page")
    file = libraries / "papers.jsonl"
    for number in range(times(1, 50)):
        folder = tmp_path / str(number)
        shutil.copytree(libraries / "part", folder / "library")
        lines = kill_after(generator.uniform(0, 4), start("serve", folder, file))
        stored = [line for line in lines if line[0] == "stored"]
        if stored:
            _, conversation, count = stored[-1]
            check_conversation(folder / "conversations.sqlite", conversation, int(count))
        assistant = reopen(folder / "library")
        check_batches_are_whole(len(assistant.library))
        check_is_intact(assistant)
        assistant.add(file)
        assert len(assistant.library) == ALL_PAPERS
        check_is_intact(assistant)
        assistant._index.close()
        shutil.rmtree(folder)


def check_conversation(path, conversation, count):
    from ui.services.conversations import ConversationStore

    # One more answer may have been stored just before the kill.
    answers = ConversationStore(path).answers(conversation, "")
    assert len(answers) in {count, count + 1}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- disks that are full or fail -------------------------------------------------------------


def add_to_full_disk(disk, file):
    """Add to a disk of a few megabytes, and again once it has more space."""
    mount("-t", "tmpfs", "-o", "size=2500k", "none", disk)
    assistant, reported = add_until_refused(disk, file)
    mount("-o", "remount,size=100m", disk)
    check_and_complete(assistant, file, reported)


def add_to_failing_disk(folder, file):
    """Add to files that grow no further after some batches, and again once they can."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fail_after_some_batches(records):
        if records > 300:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, limit[1]))

    assistant, reported = add_until_refused(folder, file, fail_after_some_batches)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    check_and_complete(assistant, file, reported)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def add_until_refused(disk, file, on_batch=lambda records: None):
    """Print the error message; return the assistant and the records reported before it."""
    assistant = Assistant(Library(Path(disk) / "library"), HashEmbedder())
    reported = []

    def on_progress(done, total, records):
        reported.append(records)
        on_batch(records)

    with pytest.raises(LibraryError) as refused:
        assistant.add(file, on_progress=on_progress)
    print_line(str(refused.value))
    return assistant, reported[-1]


def check_and_complete(assistant, file, reported):
    """Print the papers and problems after the refusal, and again after adding the rest."""
    print_line(reported, len(assistant.library), *find_problems(assistant))
    assistant.add(file)
    print_line(len(assistant.library), *find_problems(assistant))


def find_problems(assistant):
    """Return the details of failed checks, except the check of the disk space."""
    checks = check_library(assistant.library)
    return [check.detail for check in checks if not check.ok and check.name != "disk"]


def may_mount():
    if not shutil.which("unshare"):
        return False
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.promise("durability")
@pytest.mark.skipif(not may_mount(), reason="needs user namespaces to mount a small disk")
def test_full_disk_is_reported_and_nothing_is_half_written(libraries, tmp_path):
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    assert "full" in run_refused_add("add_to_full_disk", libraries, tmp_path, own_mounts)


def test_failing_disk_is_reported_and_nothing_is_half_written(libraries, tmp_path):
    assert "cannot write" in run_refused_add("add_to_failing_disk", libraries, tmp_path)


def run_refused_add(function, libraries, folder, wrapper=()):
    """Check the library after a refused and after the completed add; return the error message."""
    arguments = [str(TESTS), function, str(folder), str(libraries / "papers.jsonl")]
    command = [*wrapper, sys.executable, "-c", CALL, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    message, after_refusal, after_completion = run.stdout.splitlines()
    reported, papers, *problems = after_refusal.split()
    assert int(papers) >= int(reported) > 0
    assert problems == []
    assert after_completion == str(ALL_PAPERS)
    return message
