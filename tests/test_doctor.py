"""Doctor: every kind of damage is detected, and repaired or explained with the way out."""

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
from rag.library.doctor import check_all, check_library, check_machine, repair_library

QUESTION = "Does salt harm barley?"


def execute(folder, statement):
    """Change a library's database behind its back."""
    with closing(sqlite3.connect(folder / "library.sqlite")) as connection, connection:
        connection.execute(statement)


def check_named(name, checks):
    """Return the check with that name; the later ones do not run."""
    return next(check for check in checks if check.name == name)


def check(name, folder):
    return check_named(name, check_library(Library(folder, create=False)))


def failed_checks(folder):
    return [check for check in check_library(Library(folder, create=False)) if not check.ok]


def test_intact_library_passes_every_check_and_is_not_changed(library_copy):
    digest = Library(library_copy).digest
    checks = {check.name: check for check in check_library(Library(library_copy, create=False))}
    assert [name for name, check in checks.items() if not check.ok or check.fix] == []
    assert checks["library"].detail == f"12 papers in {library_copy}"
    assert checks["papers without abstract"].detail.startswith("1 (")
    assert checks["database"].detail == "intact"
    assert checks["full text"].detail == "up to date"
    assert checks["vector index"].detail == "up to date"
    assert Library(library_copy).digest == digest


# --- the vector index ------------------------------------------------------------------------


def test_missing_index_is_repaired_by_the_command_that_doctor_prints(
    library_copy, tmp_path, footnote
):
    folder = library_copy.rename(tmp_path / "my papers; really")
    shutil.rmtree(folder / "chroma")
    index = check("vector index", folder)
    assert (index.ok, index.detail) == (False, "12 passages missing")
    command = shlex.split(index.fix)
    assert command == ["footnote", "doctor", "--fix", "--library", str(folder)]
    run = footnote(*command[1:])
    assert run.code == 0
    assert run.err == "footnote: repaired: vector index\n"
    assert check("vector index", folder).ok


def test_surplus_passage_in_the_index_is_detected(library_copy):
    # Without the trigger, nothing tells the index that the passage is gone.
    execute(library_copy, "DROP TRIGGER passage_removed")
    execute(library_copy, "DELETE FROM passage WHERE paper = 1")
    index = check("vector index", library_copy)
    assert (index.ok, index.detail) == (False, "1 passage too many")


def test_altered_vector_in_the_index_is_detected(library_copy):
    other_vector = "(SELECT vector FROM passage WHERE key = 2)"
    execute(library_copy, f"UPDATE passage SET vector = {other_vector} WHERE key = 1")
    index = check("vector index", library_copy)
    assert (index.ok, index.detail) == (False, "1 passage with different vectors")


def test_missing_collection_is_detected_and_repaired(library_copy):
    execute(library_copy, "UPDATE meta SET value = 'another' WHERE name = 'embedder_fingerprint'")
    index = check("vector index", library_copy)
    assert not index.ok
    assert "does not exist" in index.detail
    repair_library(library_copy, [index])
    assert check("vector index", library_copy).ok


def test_index_that_cannot_be_opened_is_reported_with_the_reason(library_copy):
    shutil.rmtree(library_copy / "chroma")
    (library_copy / "chroma").write_text("not a folder")
    index = check("vector index", library_copy)
    assert not index.ok
    assert str(library_copy / "chroma") in index.detail
    assert "footnote doctor --fix" in index.fix


# --- the database ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "statements"),
    [
        (
            "embeddings",
            {
                "DELETE FROM sentences WHERE paper = 2": "1 paper without",
                "UPDATE sentences SET vectors = x'00' WHERE paper = 3": "2 papers without",
                "UPDATE sentences SET spans = '[[0' WHERE paper = 4": "3 papers without",
                "UPDATE passage SET vector = zeroblob(768) WHERE paper = 5": "4 papers without",
                "DELETE FROM passage WHERE paper IN (6, 7)": "6 papers without",
                "UPDATE sentences SET spans = replace(spans, '[0,', '[9999,')": "11 papers without",
            },
        ),
        (
            "full text",
            {
                "DELETE FROM full_text WHERE rowid = 1": "1 paper not indexed",
                "UPDATE full_text SET title = 'x' WHERE rowid IN (2, 3)": "3 papers not",
                "UPDATE full_text_content SET c1 = 'x' WHERE id = 4": "4 papers not indexed",
            },
        ),
        ("full text", {"DELETE FROM full_text_data WHERE id > 10": "malformed"}),
        ("metadata", {"DELETE FROM identifier": "the digest or identifiers do not match"}),
        (
            "metadata",
            {"UPDATE meta SET value = '7' WHERE name = 'digest'": "the digest or identifiers"},
        ),
    ],
    ids=["embeddings", "full text", "full-text index", "identifiers", "digest"],
)
def test_damage_to_derived_tables_is_detected_and_repaired(library_copy, name, statements):
    digest = Library(library_copy).digest
    for statement, detail in statements.items():
        execute(library_copy, statement)
        damaged = check(name, library_copy)
        assert not damaged.ok
        assert detail in damaged.detail
    assert repair_library(library_copy, [damaged]) == [name]
    assert failed_checks(library_copy) == []
    assert Library(library_copy).digest == digest


def test_altered_papers_are_listed_for_the_user_to_replace(footnote, library_copy):
    for statement in (
        "UPDATE paper SET abstract = abstract || ' Indeed.' WHERE key = 1",
        "UPDATE paper SET authors = '[\"A' WHERE key = 2",
        "UPDATE paper SET year = year + 1 WHERE key = 3",
    ):
        execute(library_copy, statement)
    run = footnote("doctor", "--fix", "--library", library_copy)
    assert run.code == 1
    assert "BAD papers: 3 papers changed since being added" in run.out
    (line,) = [line for line in run.lines if "footnote remove" in line]
    command = shlex.split(line.split("fix: footnote ")[1].split(", and")[0])
    assert footnote(*command).code == 0
    assert footnote("add", PAPERS, "--library", library_copy).code == 0
    assert footnote("doctor", "--library", library_copy).code == 0


def test_damaged_table_is_reported_with_the_way_out(library_copy):
    path = library_copy / "library.sqlite"
    content = bytearray(path.read_bytes())
    page_size = int.from_bytes(content[16:18], "big")
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'sentences'"
        (root_page,) = connection.execute(sql).fetchone()
    start = (root_page - 1) * page_size
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    database = check("database", library_copy)
    assert not database.ok
    assert str(library_copy) in database.fix


def test_damaged_database_is_reported_by_every_command(footnote, library_copy):
    path = library_copy / "library.sqlite"
    for log in ("library.sqlite-wal", "library.sqlite-shm"):
        (library_copy / log).unlink(missing_ok=True)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(reversed(content[4096:])))
    run = footnote("doctor", "--library", library_copy)
    assert run.code == 1
    assert "BAD" in run.out
    assert "malformed" in run.out
    for command in (["list"], ["ask", QUESTION], ["export"]):
        run = footnote(*command, "--library", library_copy)
        assert run.code == 1
        assert "cannot read" in run.err


# --- the installation ------------------------------------------------------------------------


def test_installation_is_checked_without_a_library(tmp_path):
    folder = tmp_path / "nowhere"
    checks = {check.name: check for check in check_all(folder)}
    assert checks["python"].ok
    assert checks["embedding model"].ok
    assert not checks["library"].ok
    assert f"footnote add PATH --library {folder}" in checks["library"].detail
    assert not folder.exists()


def test_missing_embedder_is_reported_with_the_way_out():
    checks = check_machine("no-such/model", "footnote reindex --embedder other")
    model = check_named("embedding model", checks)
    assert (model.ok, model.fix) == (False, "footnote reindex --embedder other")
    assert "hf download no-such/model" in model.detail


def test_embedder_of_the_library_is_checked(library_copy):
    execute(library_copy, "UPDATE meta SET value = 'no-such/model' WHERE name = 'embedder'")
    model = check_named("embedding model", check_all(library_copy))
    assert not model.ok
    option = f"--library {shlex.quote(str(library_copy))}"
    assert model.fix == f"footnote reindex --embedder all-MiniLM-L6-v2 {option}"


def test_missing_package_is_reported_with_the_command_that_installs_it(monkeypatch):
    version = importlib.metadata.version

    def version_without_chroma(name):
        if name == "chromadb":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", version_without_chroma)
    checks = {check.name: check for check in check_machine("all-MiniLM-L6-v2", "")}
    assert (checks["chromadb"].ok, checks["chromadb"].fix) == (False, "pip install chromadb")
    assert checks["transformers"].ok


# --- random damage to each file --------------------------------------------------------------


def overwrite_bytes(path, generator, count):
    content = path.read_bytes()
    start = generator.randrange(max(1, len(content) - count))
    noise = generator.randbytes(min(count, len(content)))
    path.write_bytes(content[:start] + noise + content[start + count :])


DAMAGE = {
    "missing": lambda path, generator: path.unlink(),
    "empty": lambda path, generator: path.write_bytes(b""),
    "truncated": lambda path, generator: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    ),
    "zeros": lambda path, generator: path.write_bytes(bytes(path.stat().st_size)),
    "16 bytes": lambda path, generator: overwrite_bytes(path, generator, 16),
    "4096 bytes": lambda path, generator: overwrite_bytes(path, generator, 4096),
}


@pytest.fixture
def library_after_kill(library_copy, tmp_path):
    """Copy a library whose last change is only in SQLite's log, as after a kill."""
    library = Library(library_copy)
    with library.transaction() as transaction:
        transaction.set_meta("note", "the last change")
    return Path(shutil.copytree(library_copy, tmp_path / "killed"))


@pytest.mark.promise("durability")
@pytest.mark.soak
def test_damage_to_any_file_is_repaired_or_reported(footnote, library_after_kill, tmp_path, times):
    # Opening a library moves the log into the database, so this is done with a copy.
    intact = Path(shutil.copytree(library_after_kill, tmp_path / "intact"))
    digest = Library(intact).digest
    answer = footnote("ask", QUESTION, "--library", intact).out
    generator = random.Random(5)
    files = sorted(
        file.relative_to(library_after_kill)
        for file in library_after_kill.rglob("*")
        if file.is_file()
    )
    cases = [(file, kind) for file in files for kind in DAMAGE]
    assert len(cases) > 40
    for number, (file, kind) in enumerate(times(generator.sample(cases, 3), cases * 2)):
        folder = Path(shutil.copytree(library_after_kill, tmp_path / str(number)))
        DAMAGE[kind](folder / file, generator)
        checked = footnote("doctor", "--json", "--library", folder)
        repaired = footnote("doctor", "--fix", "--json", "--library", folder)
        assert "Traceback" not in checked.err + repaired.err
        if repaired.code == 0:
            assert Library(folder, create=False).digest == digest, (file, kind)
            assert footnote("ask", QUESTION, "--library", folder).out == answer, (file, kind)
        else:
            assert checked.code == 1
            failed = [check for check in repaired.json if not check["ok"]]
            assert {check["name"] for check in failed} <= {"library", "database", "papers"}
            assert all(check["fix"] or "footnote" in check["detail"] for check in failed), failed
