"""`doctor`: every kind of damage is seen and named with the command that mends it."""

import importlib.metadata
import shlex
import shutil
import sqlite3
from contextlib import closing

from rag import Library
from rag.health import check_all, check_library, check_machine


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
    assert checks["full text"].seen == "12 of 12 papers"
    assert checks["chroma"].seen == "agrees with the truth"
    assert Library(own_library).digest == digest


def test_a_lost_index_is_counted_and_mended_by_a_command_that_can_be_pasted(own_library, tmp_path):
    folder = own_library.rename(tmp_path / "my papers; really")
    shutil.rmtree(folder / "chroma")
    chroma = check("chroma", folder)
    assert (chroma.ok, chroma.seen) == (False, "12 passages missing, 0 too many")
    assert shlex.split(chroma.mend) == ["footnote", "reindex", "--library", str(folder)]


def test_a_surplus_in_the_index_is_seen(own_library):
    # A passage leaves the truth without the note that would take it out of Chroma.
    change(own_library, "DROP TRIGGER passage_removed")
    change(own_library, "DELETE FROM passage WHERE paper = 1")
    chroma = check("chroma", own_library)
    assert (chroma.ok, chroma.seen) == (False, "0 passages missing, 1 too many")


def test_an_index_that_is_no_index_is_told_with_its_reason(own_library):
    shutil.rmtree(own_library / "chroma")
    (own_library / "chroma").write_text("not a folder")
    chroma = check("chroma", own_library)
    assert not chroma.ok
    assert str(own_library / "chroma") in chroma.seen
    assert "footnote reindex" in chroma.mend


def test_a_full_text_index_that_lacks_papers_is_seen(own_library):
    change(own_library, "DELETE FROM full_text WHERE rowid = 1")
    full_text = check("full text", own_library)
    assert (full_text.ok, full_text.seen) == (False, "11 of 12 papers")
    assert full_text.mend.startswith("footnote export --format jsonl")


def test_a_damaged_database_is_told(own_library):
    path = own_library / "library.sqlite"
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    # The root page of a table: its number is in the schema.
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sentences'").fetchone()
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
    model = find("embedding model", check_machine("no-such/model", "footnote reindex --embedder other"))
    assert (model.ok, model.mend) == (False, "footnote reindex --embedder other")
    assert "hf download no-such/model" in model.seen


def test_the_model_of_the_library_is_looked_for(own_library):
    change(own_library, "UPDATE meta SET value = 'no-such/model' WHERE name = 'embedder'")
    model = find("embedding model", check_all(own_library))
    assert not model.ok
    assert model.mend == f"footnote reindex --embedder all-MiniLM-L6-v2 --library {shlex.quote(str(own_library))}"


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
