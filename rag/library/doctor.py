"""Checks of the installation and of a library, and repairs from the primary store."""

import importlib.metadata
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rag.config import DEFAULT_EMBEDDER, load_settings
from rag.errors import FootnoteError, LibraryError, LibraryNotFound
from rag.ingest.importer import BATCH_SIZE, embed_papers
from rag.library.integrity import IntegrityReport
from rag.library.library import Library
from rag.library.vector_index import VectorIndex
from rag.models.files import find_embedder_folder
from rag.models.registry import BUNDLED_LANGUAGE_MODEL, load_embedder, load_language_model
from rag.models.status import describe_language_model
from rag.text.counts import format_count

_PACKAGES = (
    "footnote",
    "chromadb",
    "llama-index-core",
    "openvino",
    "openvino-genai",
    "torch",
    "transformers",
    "sentence-transformers",
)
_MIN_PYTHON = (3, 11)
_MIN_FREE_BYTES = 1 << 30
# Number of damaged papers that a message lists.
_MAX_LISTED_PAPERS = 20
# Names of the checks that `repair_library` can fix.
_EMBEDDINGS = "embeddings"
_METADATA = "metadata"
_FULL_TEXT = "full text"
_VECTOR_INDEX = "vector index"
_INDEX_PROBLEMS = {
    "missing": "missing",
    "surplus": "too many",
    "altered": "with different vectors",
    "unreachable": "not found by a search",
}


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check. `fix` is the command, or the advice, that repairs it."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def check_all(folder: Path) -> Iterator[Check]:
    """Check the installation and the library in a folder."""
    embedder = load_settings().embedder
    try:
        library = Library(folder, create=False)
    except LibraryError as error:
        yield from check_machine(embedder, f"footnote config embedder {DEFAULT_EMBEDDER}")
        has_advice = isinstance(error, LibraryNotFound) or "footnote" in str(error)
        yield Check("library", False, str(error), "" if has_advice else _restore_advice(folder))
        return
    fix = f"footnote reindex --embedder {DEFAULT_EMBEDDER} {_library_option(folder)}"
    yield from check_machine(library.meta("embedder") or embedder, fix)
    yield from check_library(library)


def _library_option(folder: Path) -> str:
    return f"--library {shlex.quote(str(folder))}"


def _restore_advice(folder: Path) -> str:
    return f"replace {folder} with a backup"


# --- the installation ------------------------------------------------------------------------


def check_machine(embedder: str, fix: str) -> Iterator[Check]:
    """Check Python, packages and models.

    `fix` is the command that switches to another embedding model, in case this one is missing.
    """
    yield Check("python", sys.version_info >= _MIN_PYTHON, platform.python_version())
    yield from map(_check_package, _PACKAGES)
    yield _check_embedder(embedder, fix)
    yield _check_language_model(load_settings().language_model)


def _check_package(package: str) -> Check:
    try:
        return Check(package, True, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Check(package, False, "not installed", f"pip install {package}")


def _check_embedder(embedder: str, fix: str) -> Check:
    try:
        return Check("embedding model", True, f"{embedder} in {find_embedder_folder(embedder)}")
    except FootnoteError as error:
        fix = "" if embedder == DEFAULT_EMBEDDER else fix
        return Check("embedding model", False, str(error), fix)


def _check_language_model(name: str) -> Check:
    """Load the chosen model, unless something of it is missing."""
    status = describe_language_model(name)
    problem = status.problem
    if status.is_ready:
        try:
            load_language_model(name)
        except FootnoteError as error:
            problem = str(error)
    if problem:
        is_bundled = name == BUNDLED_LANGUAGE_MODEL
        other = "" if is_bundled else f"footnote config language_model {BUNDLED_LANGUAGE_MODEL}"
        return Check("language model", False, problem, status.missing_command or other)
    needs = f" ({status.needs})" if status.needs else ""
    return Check("language model", True, f"{status.name}{needs}")


# --- the library -----------------------------------------------------------------------------


def check_library(library: Library) -> Iterator[Check]:
    """Check the primary store and everything derived from it. Reads the whole library."""
    problem = library.check_database()
    if problem:
        yield Check("database", False, problem, _database_advice(library))
        return
    yield Check("database", True, "intact")
    yield from _check_size(library)
    report = library.check_integrity()
    yield _check_papers(library, report)
    problem = _describe(report.bad_embeddings, "without valid embeddings")
    yield _check_derived(library, _EMBEDDINGS, problem)
    problem = "the digest or identifiers do not match the papers" if report.bad_metadata else ""
    yield _check_derived(library, _METADATA, problem)
    problem = _describe(report.bad_full_text, "not indexed correctly")
    yield _check_derived(library, _FULL_TEXT, problem or library.check_full_text())
    yield _check_derived(library, _VECTOR_INDEX, _compare_vector_index(library))


def _check_derived(library: Library, name: str, problem: str) -> Check:
    if not problem:
        return Check(name, True, "up to date")
    fix = f"footnote doctor --fix {_library_option(library.folder)}"
    return Check(name, False, problem, fix)


def _database_advice(library: Library) -> str:
    advice = _restore_advice(library.folder)
    try:
        papers = sum(1 for _ in library.papers())
    except LibraryError:
        return advice
    command = f"footnote export --format jsonl {_library_option(library.folder)} > papers.jsonl"
    return (
        f"{advice}; or, as all {papers:,} papers can still be read, export them with: {command}, "
        "and add that file to a new library"
    )


def _check_size(library: Library) -> Iterator[Check]:
    counts = library.counts()
    yield Check("library", True, f"{format_count(counts['papers'], 'paper')} in {library.folder}")
    without_abstract = f"{counts['without_abstract']:,} (found by title, never quoted)"
    yield Check("papers without abstract", True, without_abstract)
    free = shutil.disk_usage(library.folder).free
    space = f"{library.size() / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free"
    yield Check("disk", free > _MIN_FREE_BYTES, space)


def _check_papers(library: Library, report: IntegrityReport) -> Check:
    altered = report.altered_papers
    if not altered:
        return Check("papers", True, "unchanged since they were added")
    ids = " ".join(altered[:_MAX_LISTED_PAPERS])
    ellipsis = " …" if len(altered) > _MAX_LISTED_PAPERS else ""
    detail = f"{_describe(altered, 'changed since being added')}: {ids}{ellipsis}"
    command = f"footnote remove {ids} {_library_option(library.folder)}"
    return Check("papers", False, detail, f"{command}, and add their files again")


def _describe(papers: tuple[object, ...], problem: str) -> str:
    """Say how many papers have a problem; return an empty string for none."""
    return f"{format_count(len(papers), 'paper')} {problem}" if papers else ""


def _compare_vector_index(library: Library) -> str:
    """Return how Chroma differs from the library; empty if it does not.

    Runs in another process, as damaged files can crash Chroma.
    """
    command = [sys.executable, "-P", "-m", "rag.library.doctor", str(library.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines()
        return lines[-1] if lines else f"crashed with exit code {run.returncode}"
    problems = []
    for name, count in json.loads(run.stdout).items():
        if count:
            noun = "passage" if count == 1 else "passages"
            problems.append(f"{count:,} {noun} {_INDEX_PROBLEMS[name]}")
    return ", ".join(problems)


# --- repairs ---------------------------------------------------------------------------------


def repair_library(folder: Path, checks: Iterable[Check]) -> list[str]:
    """Repair from the primary store what failed in checks of the library in a folder.

    Returns the names of the checks that were repaired. Raises `FootnoteError` when the embedding
    model is needed but missing, or the library cannot be written.
    """
    failed = [check.name for check in checks if not check.ok and check.name in _REPAIRS]
    for name in failed:
        _REPAIRS[name](Library(folder, create=False))
    return failed


def _repair_embeddings(library: Library) -> None:
    model = load_embedder(library.meta("embedder") or load_settings().embedder)
    keys = library.check_integrity().bad_embeddings
    for start in range(0, len(keys), BATCH_SIZE):
        with library.transaction() as transaction:
            transaction.check_embedder(model.name, model.fingerprint)
            papers = library.papers_by_key(keys[start : start + BATCH_SIZE])
            embed_papers(transaction, model, papers)
    _rebuild_vector_index(library)  # it may be damaged as well


def _rebuild_metadata(library: Library) -> None:
    with library.transaction() as transaction:
        transaction.rebuild_metadata()


def _rebuild_full_text(library: Library) -> None:
    with library.transaction() as transaction:
        transaction.rebuild_full_text()


def _rebuild_vector_index(library: Library) -> None:
    VectorIndex(library).rebuild()


_REPAIRS = {
    _EMBEDDINGS: _repair_embeddings,
    _METADATA: _rebuild_metadata,
    _FULL_TEXT: _rebuild_full_text,
    _VECTOR_INDEX: _rebuild_vector_index,
}


def main() -> None:
    """Print how Chroma differs from the library, as JSON."""
    try:
        difference = VectorIndex(Library(Path(sys.argv[1]), create=False)).compare()
    except FootnoteError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(difference)))  # noqa: T201 - `_compare_vector_index` reads it


if __name__ == "__main__":
    main()
