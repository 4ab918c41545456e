"""Nothing that was said to be in is ever lost: SIGKILL at random moments, a full disk, a disk that cannot be written.

A few kills of each kind of work here, hundreds with `--soak`.
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
from pathlib import Path

import pytest
from fakes import HashEmbedder, OtherEmbedder, ScriptedModel

from rag import Assistant, Library, LibraryError
from rag.library.doctor import check_library

resource = pytest.importorskip(
    "resource", reason="Windows has neither SIGKILL nor limits of this kind"
)
TESTS = Path(__file__).parent
PAPERS = 1_500
BEFORE = 500
WORDS = [
    "tide",
    "owl",
    "reed",
    "gate",
    "moor",
    "lark",
    "dune",
    "heron",
    "salt",
    "marsh",
    "crab",
    "kelp",
]
# A process of its own that runs a function of this file.
RUN = "import sys; sys.path.insert(0, sys.argv[1]); import test_kills; getattr(test_kills, sys.argv[2])(*sys.argv[3:])"


# --- what is killed ----------------------------------------------------------------------------------------


def work(name, folder, file):
    """Do a piece of work and say what of it is done."""
    assistant = Assistant(Library(Path(folder), create=False), HashEmbedder())
    say("ready")
    finish(name, assistant, file, lambda done, total, records: say(records))
    say("finished")


def finish(name, assistant, file, on_progress=None):
    """Do the work, whatever of it was done before."""
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
    """The page, with a file being added to it and a question asked over and over; says which answers are kept."""
    from pages import Site

    folder = Path(folder)
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    site = Site(folder, [folder / "library"])
    site.open = lambda library, model: Assistant(
        Library(library, create=False), HashEmbedder(), ScriptedModel("An owl sings. [1]")
    )
    site.start()
    talk, adding = visit(site.shelf, site.history)
    say("ready")
    conversation = ""
    threading.Thread(target=lambda: say("added", adding(file).result().read), daemon=True).start()
    for number in range(1_000):
        conversation = talk(f"Does the owl sing to {WORDS[number % 12]}?", conversation)
        say("kept", conversation, number + 1)


def visit(shelf, history):
    """What a visitor's click does: ask a question in a conversation, whose id it gives, and drop a copy of a file."""
    from ui.services.chat_service import AskOptions, ChatService
    from ui.services.import_queue import ImportQueue

    talks = ChatService(shelf, history)

    def ask(question, conversation):
        *_, last = talks.ask(
            question, conversation, "", "session", AskOptions(shelf.first, style="write")
        )
        assert not last.failure
        return last.conversation

    def drop(file):
        copy = Path(file).with_name("dropped") / Path(file).name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(file, copy)
        return ImportQueue().start(shelf.assistant(shelf.first), shelf.first, [str(copy)])

    return ask, drop


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


# --- killing -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a library of the first papers (`part`), one of all (`whole`), and the file of all."""
    folder = tmp_path_factory.mktemp("kills")
    file = folder / "papers.jsonl"
    rows = [json.dumps(record(number)) + "\n" for number in range(PAPERS)]
    file.write_text("".join(rows[:BEFORE]))
    add_and_close(folder / "part", file)
    file.write_text("".join(rows))
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
    command = [sys.executable, "-c", RUN, str(TESTS), function, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(seconds, process):
    """What the process had said until it was killed, in words."""
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return [line.split() for line in process.stdout.read().splitlines()]


def duration(process):
    """Seconds from the beginning of the work to its end."""
    started = time.perf_counter()
    assert process.stdout.read().endswith("finished\n")
    return time.perf_counter() - started


def reopened(folder):
    library = Library(folder, create=False)
    return Assistant(
        library, OtherEmbedder() if library.meta("embedder") == "other" else HashEmbedder()
    )


def check_is_sound(assistant):
    """It answers, passes its check, and Chroma holds what the truth holds."""
    assert assistant.search("owl")[0].dense > 0.3
    assert [check for check in check_library(assistant.library) if not check.ok] == []
    assert assistant._index.keys() == set(assistant.library.passage_keys())


@pytest.mark.soak
@pytest.mark.parametrize("name", ["add", "remove", "reindex", "embed"])
def test_a_kill_at_any_moment_is_made_up_by_the_next_run(begun, tmp_path, name, times):
    beginning, file = begun / ("part" if name == "add" else "whole"), begun / "papers.jsonl"
    took = duration(
        start("work", name, shutil.copytree(beginning, tmp_path / "uninterrupted"), file)
    )
    expected = Library(tmp_path / "uninterrupted", create=False).digest
    chance = random.Random(name)
    for number in range(times(1, 25)):
        folder = Path(shutil.copytree(beginning, tmp_path / str(number)))
        for _ in range(2):  # the second hits what the first left behind, and its mending
            said = kill_after(chance.uniform(0, 1.1 * took), start("work", name, folder, file))
            assistant = reopened(folder)
            check_lost_at_most_a_batch(name, assistant, said)
            check_is_sound(assistant)
            assistant._index.close()
        finish(name, assistant, file)
        assert assistant.library.digest == expected
        check_is_sound(assistant)
        assistant._index.close()
        shutil.rmtree(folder)


def check_lost_at_most_a_batch(name, assistant, said):
    """All that was said to be in is in, batches are whole, and what takes papers out takes all or none."""
    papers = len(assistant.library)
    if name == "add":
        assert papers >= max([BEFORE, *(int(words[0]) for words in said if words[0].isdigit())])
        assert papers in {BEFORE, PAPERS} or papers % 256 == 0
    elif name == "remove":
        assert papers in {PAPERS, PAPERS // 3}
    else:
        assert papers == PAPERS


@pytest.mark.soak
def test_a_kill_of_the_page_loses_no_answer_that_was_kept_and_no_paper(begun, tmp_path, times):
    chance = random.Random("page")
    for number in range(times(1, 50)):
        folder = tmp_path / str(number)
        shutil.copytree(begun / "part", folder / "library")
        said = kill_after(chance.uniform(0, 4), start("serve", folder, begun / "papers.jsonl"))
        kept = [words for words in said if words[0] == "kept"]
        if kept:
            check_kept(folder / "conversations.sqlite", *kept[-1][1:])
        assistant = reopened(folder / "library")
        papers = len(assistant.library)
        assert papers in {BEFORE, PAPERS} or papers % 256 == 0
        check_is_sound(assistant)
        assistant.add(begun / "papers.jsonl")
        assert len(assistant.library) == PAPERS
        check_is_sound(assistant)
        assistant._index.close()
        shutil.rmtree(folder)


def check_kept(path, conversation, count):
    from ui.services.conversations import History

    history = History(path)
    assert len(history.answers(conversation, "")) in {int(count), int(count) + 1}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# --- the disk ----------------------------------------------------------------------------------------------


def fill(disk, file):
    """On a disk of a few megabytes: the message, the check, and the rest once there is room again."""
    mount("-t", "tmpfs", "-o", "size=2500k", "none", disk)
    assistant, before = added_until_refused(disk, file)
    mount("-o", "remount,size=100m", disk)
    tell_and_complete(assistant, file, before)


def lock_up(folder, file):
    """In files that take no more byte after some batches, as when a disk fails and is made read-only."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    assistant, before = added_until_refused(
        folder,
        file,
        lambda records: records > 300 and resource.setrlimit(resource.RLIMIT_FSIZE, (1, limit[1])),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    tell_and_complete(assistant, file, before)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def added_until_refused(disk, file, on_batch=lambda records: None):
    assistant = Assistant(Library(Path(disk) / "library"), HashEmbedder())
    said = []

    def note(done, total, records):
        said.append(records)
        on_batch(records)

    with pytest.raises(LibraryError) as refused:
        assistant.add(file, on_progress=note)
    say(str(refused.value))
    return assistant, said[-1]


def tell_and_complete(assistant, file, before):
    say(before, len(assistant.library), *faults(assistant))
    assistant.add(file)
    say(len(assistant.library), *faults(assistant))


def faults(assistant):
    """What is wrong with a library, but for the room on the disk."""
    return [
        check.seen
        for check in check_library(assistant.library)
        if not check.ok and check.name != "disk"
    ]


MAY_MOUNT = (
    shutil.which("unshare")
    and not subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"],
        capture_output=True,
        check=False,
    ).returncode
)


@pytest.mark.skipif(
    not MAY_MOUNT, reason="a small disk can only be made where user namespaces are allowed"
)
def test_a_full_disk_is_told_and_nothing_is_half_written(begun, tmp_path):
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    assert "full" in refused_and_completed("fill", begun, tmp_path, alone)


def test_a_disk_that_fails_is_told_and_nothing_is_half_written(begun, tmp_path):
    assert "cannot write" in refused_and_completed("lock_up", begun, tmp_path)


def refused_and_completed(function, begun, folder, wrapper=()):
    """The message of a refused adding, once what it left was sound and the rest could be added."""
    command = [
        *wrapper,
        sys.executable,
        "-c",
        RUN,
        str(TESTS),
        function,
        str(folder),
        str(begun / "papers.jsonl"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    message, state, after = run.stdout.splitlines()
    said, papers, *wrong = state.split()
    assert int(papers) >= int(said) > 0
    assert wrong == []
    assert after == str(PAPERS)
    return message
