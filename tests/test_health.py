"""`doctor`: every kind of damage is seen and named with the command that mends it."""

import shlex
import shutil
import sqlite3
from contextlib import closing

import pytest

from rag import Assistant, Library
from rag.health import check_all, check_library, check_machine


@pytest.fixture
def checked(own_library):
    """The checks of the copy of the small library by their names, and the same after it was meddled with by SQL."""

    def run(*statements):
        with closing(sqlite3.connect(own_library / "library.sqlite")) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return {check.name: check for check in check_library(Library(own_library, create=False))}

    return run


def test_a_sound_library_passes_every_check(checked, own_library):
    checks = checked()
    assert [name for name, check in checks.items() if not check.ok] == []
    assert checks["library"].seen == f"12 papers in {own_library}"
    assert checks["papers without abstract"].seen.startswith("1:")
    assert checks["full text"].seen == "12 of 12 papers"
    assert checks["chroma"].seen == "agrees with the truth"


def test_checks_change_nothing(checked, own_library):
    before = Library(own_library).digest
    checked()
    assert Library(own_library).digest == before
    assert checked()["chroma"].ok


def test_a_lost_index_is_counted_passage_by_passage(checked, own_library):
    shutil.rmtree(own_library / "chroma")
    chroma = checked()["chroma"]
    assert (chroma.ok, chroma.seen) == (False, "12 passages missing, 0 too many")
    assert chroma.mend == f"footnote reindex --library {shlex.quote(str(own_library))}"


def test_a_surplus_in_the_index_is_seen(checked):
    # A passage leaves the truth without the note that would take it out of Chroma.
    chroma = checked("DROP TRIGGER passage_removed", "DELETE FROM passage WHERE paper = 1")["chroma"]
    assert (chroma.ok, chroma.seen) == (False, "0 passages missing, 1 too many")


def test_an_index_that_is_no_index_is_told_with_its_reason(checked, own_library):
    shutil.rmtree(own_library / "chroma")
    (own_library / "chroma").write_text("not a folder")
    chroma = checked()["chroma"]
    assert not chroma.ok
    assert chroma.seen
    assert "footnote reindex" in chroma.mend


def test_a_full_text_index_that_lacks_papers_is_seen(checked):
    full_text = checked("DELETE FROM full_text WHERE rowid = 1")["full text"]
    assert (full_text.ok, full_text.seen) == (False, "11 of 12 papers")
    assert full_text.mend.startswith("footnote export --format jsonl")


def test_a_damaged_database_is_told(checked, own_library):
    path = own_library / "library.sqlite"
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    # The root page of a table: its number is in the schema.
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sentences'").fetchone()
    content[(root - 1) * page : (root - 1) * page + 64] = b"\xff" * 64
    path.write_bytes(content)
    truth = {check.name: check for check in check_library(Library(own_library))}["truth"]
    assert not truth.ok
    assert str(own_library) in truth.mend


def test_the_mending_command_can_be_pasted_whatever_the_folder_is_called(own_library, tmp_path):
    folder = own_library.rename(tmp_path / "my papers; really")
    shutil.rmtree(folder / "chroma")
    chroma = [check for check in check_library(Library(folder)) if check.name == "chroma"][0]
    assert shlex.split(chroma.mend) == ["footnote", "reindex", "--library", str(folder)]


def test_reindex_mends_what_it_is_named_for(checked, own_library):
    shutil.rmtree(own_library / "chroma")
    assert Assistant.open(own_library).reindex() == 12
    assert checked()["chroma"].ok


def test_without_a_library_the_machine_is_checked_all_the_same(tmp_path):
    checks = {check.name: check for check in check_all(tmp_path / "nowhere")}
    assert checks["python"].ok
    assert checks["embedding model"].ok
    assert not checks["library"].ok
    assert f"footnote add PATH --library {tmp_path / 'nowhere'}" in checks["library"].seen
    assert not (tmp_path / "nowhere").exists()


def test_a_model_that_is_not_there_is_named_with_the_way_out():
    checks = {check.name: check for check in check_machine("no-such/model", "footnote reindex --embedder other")}
    model = checks["embedding model"]
    assert (model.ok, model.mend) == (False, "footnote reindex --embedder other")
    assert "hf download no-such/model" in model.seen


def test_the_model_of_the_library_is_looked_for(checked, own_library):
    checked("UPDATE meta SET value = 'no-such/model' WHERE name = 'embedder'")
    model = {check.name: check for check in check_all(own_library)}["embedding model"]
    assert not model.ok
    assert model.mend == f"footnote reindex --embedder all-MiniLM-L6-v2 --library {shlex.quote(str(own_library))}"


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    import importlib.metadata as metadata

    version = metadata.version

    def without_chroma(name):
        if name == "chromadb":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_chroma)
    checks = {check.name: check for check in check_machine("all-MiniLM-L6-v2", "")}
    assert (checks["chromadb"].ok, checks["chromadb"].mend) == (False, "pip install chromadb")
    assert checks["transformers"].ok
