"""`doctor`: every kind of damage is seen and named with the command that mends it."""

import importlib.metadata
import random
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import PAPERS

from rag import Library
from rag.library.doctor import check_all, check_library, check_machine, fix_library


def change(folder, statement):
    with closing(sqlite3.connect(folder / "library.sqlite")) as connection, connection:
        connection.execute(statement)


def find(name, checks):
    """The check of that name; those after it are not made."""
    return next(check for check in checks if check.name == name)


def check(name, folder):
    return find(name, check_library(Library(folder, create=False)))


def test_a_sound_library_passes_every_check_and_is_not_changed(own_library):
    digest = Library(own_library).digest
    checks = {check.name: check for check in check_library(Library(own_library, create=False))}
    assert [name for name, check in checks.items() if not check.ok or check.mend] == []
    assert checks["library"].seen == f"12 papers in {own_library}"
    assert checks["papers without abstract"].seen.startswith("1:")
    assert checks["full text"].seen == "agrees with the truth"
    assert checks["chroma"].seen == "agrees with the truth"
    assert Library(own_library).digest == digest


def test_a_lost_index_is_counted_and_mended_by_a_command_that_can_be_pasted(
    own_library, tmp_path, footnote
):
    folder = own_library.rename(tmp_path / "my papers; really")
    shutil.rmtree(folder / "chroma")
    chroma = check("chroma", folder)
    assert (chroma.ok, chroma.seen) == (False, "12 passages missing")
    command = shlex.split(chroma.mend)
    assert command == ["footnote", "doctor", "--fix", "--library", str(folder)]
    run = footnote(*command[1:])
    assert run.code == 0
    assert run.err == "footnote: made anew: chroma\n"
    assert check("chroma", folder).ok


def test_a_surplus_in_the_index_is_seen(own_library):
    # A passage leaves the truth without the note that would take it out of Chroma.
    change(own_library, "DROP TRIGGER passage_removed")
    change(own_library, "DELETE FROM passage WHERE paper = 1")
    chroma = check("chroma", own_library)
    assert (chroma.ok, chroma.seen) == (False, "1 passage too many")


def test_other_vectors_in_the_index_are_seen(own_library):
    change(
        own_library,
        "UPDATE passage SET vector = (SELECT vector FROM passage WHERE key = 2) WHERE key = 1",
    )
    chroma = check("chroma", own_library)
    assert (chroma.ok, chroma.seen) == (False, "1 passage with other vectors")


def test_a_collection_of_another_name_is_seen(own_library):
    """Vectors that were written where no search looks."""
    change(own_library, "UPDATE meta SET value = 'another' WHERE name = 'embedder_fingerprint'")
    chroma = check("chroma", own_library)
    assert not chroma.ok
    assert "does not exist" in chroma.seen
    fix_library(own_library, [chroma])
    assert check("chroma", own_library).ok


def test_an_index_that_is_no_index_is_told_with_its_reason(own_library):
    shutil.rmtree(own_library / "chroma")
    (own_library / "chroma").write_text("not a folder")
    chroma = check("chroma", own_library)
    assert not chroma.ok
    assert str(own_library / "chroma") in chroma.seen
    assert "footnote doctor --fix" in chroma.mend


@pytest.mark.parametrize(
    ("statement", "name", "seen"),
    [
        (
            "DELETE FROM full_text WHERE rowid = 1",
            "full text",
            "1 papers are not in it as they are",
        ),
        (
            "UPDATE full_text SET title = 'other' WHERE rowid < 3",
            "full text",
            "2 papers are not in it as they are",
        ),
        (
            "UPDATE full_text_content SET c1 = 'other' WHERE id = 1",
            "full text",
            "1 papers are not in it as they are",
        ),
        ("DELETE FROM full_text_data WHERE id > 10", "full text", "malformed"),
        ("DELETE FROM sentences WHERE paper = 2", "vectors", "1 papers lack theirs"),
        ("UPDATE sentences SET vectors = x'00' WHERE paper = 2", "vectors", "1 papers lack theirs"),
        ("UPDATE sentences SET spans = '[[0' WHERE paper = 2", "vectors", "1 papers lack theirs"),
        (
            "UPDATE sentences SET spans = replace(spans, '[0,', '[9999,')",
            "vectors",
            "11 papers lack theirs",
        ),
        (
            "UPDATE passage SET vector = zeroblob(768) WHERE paper = 3",
            "vectors",
            "1 papers lack theirs",
        ),
        ("DELETE FROM passage WHERE paper IN (3, 4)", "vectors", "2 papers lack theirs"),
        (
            "DELETE FROM identifier",
            "notes",
            "the digest or an identifier is not that of the papers",
        ),
        (
            "UPDATE meta SET value = '7' WHERE name = 'digest'",
            "notes",
            "the digest or an identifier",
        ),
    ],
)
def test_what_does_not_agree_with_the_papers_is_seen_and_made_anew(
    footnote, own_library, statement, name, seen
):
    before = Library(own_library).digest
    change(own_library, statement)
    fault = check(name, own_library)
    assert not fault.ok
    assert seen in fault.seen
    assert footnote(*shlex.split(fault.mend)[1:]).code == 0
    assert [
        check for check in check_library(Library(own_library, create=False)) if not check.ok
    ] == []
    assert Library(own_library).digest == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE paper SET abstract = replace(abstract, '7', '1') WHERE abstract LIKE '%7%' AND key < 5",
        "UPDATE paper SET authors = '[\"A' WHERE key = 1",
        "UPDATE paper SET year = year + 1 WHERE key = 1",
    ],
)
def test_papers_that_are_not_what_was_written_are_named_and_left_to_the_user(
    footnote, own_library, statement
):
    change(own_library, statement)
    run = footnote("doctor", "--fix", "--library", own_library)
    assert run.code == 1
    assert "BAD texts: 1 papers are not what was written" in run.out
    (told,) = [line for line in run.lines if "footnote remove" in line]
    removal = shlex.split(told.split("to mend: footnote ")[1].split(", and")[0])
    assert footnote(*removal).code == 0
    assert footnote("add", PAPERS, "--library", own_library).code == 0
    assert footnote("doctor", "--library", own_library).code == 0


def test_a_damaged_database_is_told(own_library):
    path = own_library / "library.sqlite"
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    # The root page of a table: its number is in the schema.
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sentences'"
        ).fetchone()
    content[(root - 1) * page : (root - 1) * page + 64] = b"\xff" * 64
    path.write_bytes(content)
    truth = check("truth", own_library)
    assert not truth.ok
    assert str(own_library) in truth.mend


def test_without_a_library_the_machine_is_checked_all_the_same(tmp_path):
    checks = {check.name: check for check in check_all(tmp_path / "nowhere")}
    assert checks["python"].ok
    assert checks["embedding model"].ok
    assert not checks["library"].ok
    assert f"footnote add PATH --library {tmp_path / 'nowhere'}" in checks["library"].seen
    assert not (tmp_path / "nowhere").exists()


def test_a_model_that_is_not_there_is_named_with_the_way_out():
    model = find(
        "embedding model", check_machine("no-such/model", "footnote reindex --embedder other")
    )
    assert (model.ok, model.mend) == (False, "footnote reindex --embedder other")
    assert "hf download no-such/model" in model.seen


def test_the_model_of_the_library_is_looked_for(own_library):
    change(own_library, "UPDATE meta SET value = 'no-such/model' WHERE name = 'embedder'")
    model = find("embedding model", check_all(own_library))
    assert not model.ok
    assert (
        model.mend
        == f"footnote reindex --embedder all-MiniLM-L6-v2 --library {shlex.quote(str(own_library))}"
    )


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    version = importlib.metadata.version

    def without_chroma(name):
        if name == "chromadb":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_chroma)
    checks = {check.name: check for check in check_machine("all-MiniLM-L6-v2", "")}
    assert (checks["chromadb"].ok, checks["chromadb"].mend) == (False, "pip install chromadb")
    assert checks["transformers"].ok


def test_a_damaged_truth_is_told_and_never_a_traceback(footnote, own_library):
    path = own_library / "library.sqlite"
    for extra in ("library.sqlite-wal", "library.sqlite-shm"):
        (own_library / extra).unlink(missing_ok=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(reversed(whole[4096:])))
    run = footnote("doctor", "--library", own_library)
    assert run.code == 1
    assert "BAD" in run.out
    assert "malformed" in run.out
    for command in (["list"], ["ask", "Does salt harm barley?"], ["export"]):
        run = footnote(*command, "--library", own_library)
        assert run.code == 1
        assert "cannot be read" in run.err


# --- damage planted in each file ---------------------------------------------------------------------------

QUESTION = "Does salt harm barley?"


def overwritten(content, chance, count):
    start = chance.randrange(max(1, len(content) - count))
    return content[:start] + chance.randbytes(min(count, len(content))) + content[start + count :]


DAMAGE = {
    "gone": lambda path, chance: path.unlink(),
    "empty": lambda path, chance: path.write_bytes(b""),
    "half": lambda path, chance: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path, chance: path.write_bytes(bytes(path.stat().st_size)),
    "some bytes": lambda path, chance: path.write_bytes(overwritten(path.read_bytes(), chance, 16)),
    "a page": lambda path, chance: path.write_bytes(overwritten(path.read_bytes(), chance, 4096)),
}


@pytest.fixture
def many_files(own_library, tmp_path):
    """A library as a kill leaves it: with the last changes still in SQLite's log."""
    library = Library(own_library)
    with library.transaction() as writer:
        writer.set_meta("note", "the last change")
    return Path(shutil.copytree(own_library, tmp_path / "killed"))


@pytest.mark.soak
def test_damage_in_each_file_is_found_and_mended_or_refused(footnote, many_files, tmp_path, times):
    whole = Path(
        shutil.copytree(many_files, tmp_path / "whole")
    )  # opening it would write the log into the file
    before, answer = Library(whole).digest, footnote("ask", QUESTION, "--library", whole).out
    chance = random.Random(5)
    files = sorted(file.relative_to(many_files) for file in many_files.rglob("*") if file.is_file())
    planted = [(file, kind) for file in files for kind in DAMAGE]
    assert len(planted) > 40
    for number, (file, kind) in enumerate(times(chance.sample(planted, 4), planted * 2)):
        folder = Path(shutil.copytree(many_files, tmp_path / str(number)))
        DAMAGE[kind](folder / file, chance)
        found = footnote("doctor", "--json", "--library", folder)
        fixed = footnote("doctor", "--fix", "--json", "--library", folder)
        assert "Traceback" not in found.err + fixed.err
        if fixed.code == 0:
            assert Library(folder, create=False).digest == before, (file, kind)
            assert footnote("ask", QUESTION, "--library", folder).out == answer, (file, kind)
        else:
            assert found.code == 1
            faults = [check for check in fixed.json if not check["ok"]]
            assert [
                check["name"]
                for check in faults
                if check["name"] not in {"library", "truth", "texts"}
            ] == []
            assert all(check["mend"] or "footnote" in check["seen"] for check in faults), faults
