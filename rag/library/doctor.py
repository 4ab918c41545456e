"""Whether everything is there, and whether all that is derived agrees with the truth; and mending it from the truth."""

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
from rag.ingest.importer import BATCH, embed_papers
from rag.library.integrity import IntegrityReport
from rag.library.library import Library
from rag.library.vector_index import VectorIndex
from rag.models import load_embedder, load_language_model, model_folder
from rag.models.registry import BUNDLED_LANGUAGE_MODEL, NO_LANGUAGE_MODEL

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
_LOW_DISK_BYTES = 1 << 30
# So many papers are named when their texts are damaged.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, what was seen, and the command that mends it."""

    name: str
    ok: bool
    seen: str
    mend: str = ""


def check_all(folder: Path) -> Iterator[Check]:
    """The machine, with the model that is needed, and the library in a folder."""
    settings = load_settings()
    try:
        library = Library(folder, create=False)
    except LibraryError as error:
        yield from check_machine(settings.embedder, f"footnote config embedder {DEFAULT_EMBEDDER}")
        says_it = isinstance(error, LibraryNotFound) or "footnote" in str(error)
        yield Check(
            "library", False, str(error), "" if says_it else f"put a copy of {folder} in its place"
        )
        return
    embedder = library.meta("embedder") or settings.embedder
    yield from check_machine(
        embedder, f"footnote reindex --embedder {DEFAULT_EMBEDDER} {_option(folder)}"
    )
    yield from check_library(library)


def _option(folder: Path) -> str:
    return f"--library {shlex.quote(str(folder))}"


def check_machine(embedder: str, instead: str) -> Iterator[Check]:
    """Python, packages and models; `instead` is the command that does without a model that is not there."""
    yield Check("python", sys.version_info >= (3, 11), platform.python_version())
    for package in _PACKAGES:
        try:
            yield Check(package, True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Check(package, False, "not installed", f"pip install {package}")
    try:
        yield Check("embedding model", True, f"{embedder} in {model_folder(embedder)}")
    except FootnoteError as error:
        yield Check(
            "embedding model", False, str(error), "" if embedder == DEFAULT_EMBEDDER else instead
        )
    yield _check_language_model(load_settings().language_model)


def _check_language_model(name: str) -> Check:
    """Whether the chosen model is there, and the one that comes along, which reads for any other, too."""
    wanted = [
        one for one in dict.fromkeys((BUNDLED_LANGUAGE_MODEL, name)) if name != NO_LANGUAGE_MODEL
    ]
    try:
        models = [model.name for model in map(load_language_model, wanted) if model]
    except FootnoteError as error:
        mend = (
            ""
            if name == BUNDLED_LANGUAGE_MODEL
            else f"footnote config language_model {BUNDLED_LANGUAGE_MODEL}"
        )
        return Check("language model", False, str(error), mend)
    return Check("language model", True, " and ".join(models) or "none was chosen")


def check_library(library: Library) -> Iterator[Check]:
    """The truth, and what is derived from it. All of it is read; Chroma in a process of its own."""
    fault = library.integrity()
    yield Check("truth", not fault, fault or "intact", _rescue(library) if fault else "")
    if fault:
        return
    yield from _check_size(library)
    faults = library.faults()
    yield _check_texts(library, faults)
    fix = f"footnote doctor --fix {_option(library.folder)}"
    yield _told(
        _VECTORS, f"{len(faults.vectors):,} papers lack theirs" if faults.vectors else "", fix
    )
    yield _told(
        _NOTES, "the digest or an identifier is not that of the papers" if faults.notes else "", fix
    )
    words = (
        f"{len(faults.full_text):,} papers are not in it as they are" if faults.full_text else ""
    )
    yield _told(_FULL_TEXT, words or library.full_text_fault(), fix)
    yield _told(_CHROMA, _fault_of_index(library), fix)


def _rescue(library: Library) -> str:
    """The way out when the file itself is damaged."""
    try:
        papers = sum(1 for _ in library.papers())
    except LibraryError:
        return f"put a copy of {library.folder} in its place"
    return (
        f"put a copy of {library.folder} in its place; or, as all {papers:,} papers can still be read: "
        f"footnote export --format jsonl {_option(library.folder)} > papers.jsonl, and add that to a new library"
    )


def _check_size(library: Library) -> Iterator[Check]:
    counts = library.counts()
    yield Check("library", True, f"{counts['papers']:,} papers in {library.folder}")
    yield Check(
        "papers without abstract",
        True,
        f"{counts['without_abstract']:,}: found by title, never quoted",
    )
    free = shutil.disk_usage(library.folder).free
    yield Check(
        "disk",
        free > _LOW_DISK_BYTES,
        f"{library.size() / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free",
    )


def _check_texts(library: Library, faults: IntegrityReport) -> Check:
    if not faults.texts:
        return Check("texts", True, "as they were written")
    some = " ".join(faults.texts[:_NAMED])
    seen = f"{len(faults.texts):,} papers are not what was written: {some}{' …' * (len(faults.texts) > _NAMED)}"
    return Check(
        "texts",
        False,
        seen,
        f"footnote remove {some} {_option(library.folder)}, and add their files again",
    )


def _told(name: str, fault: str, fix: str) -> Check:
    return Check(name, not fault, fault or "agrees with the truth", fix if fault else "")


def _fault_of_index(library: Library) -> str:
    """Compare Chroma with the truth in a process of its own: a damaged file there can crash it."""
    command = [sys.executable, "-P", "-m", "rag.library.doctor", str(library.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if run.returncode != 0:
        return (run.stderr.strip().splitlines()[-1:] or [f"crashed with code {run.returncode}"])[0]
    found = {name: count for name, count in json.loads(run.stdout).items() if count}
    return ", ".join(
        f"{count:,} passage{'s' * (count != 1)} {_DIFFERENCES[name]}"
        for name, count in found.items()
    )


def fix_library(folder: Path, checks: Iterable[Check]) -> list[str]:
    """Mend from the truth what some checks of the library in a folder found wrong; gives the names of what was mended.

    Raises `FootnoteError` when the embedding model is needed and not there, or the library cannot be written.
    """
    wrong = [check.name for check in checks if not check.ok and check.name in _FIXES]
    for name in wrong:
        _FIXES[name](Library(folder, create=False))
    return wrong


def _embed_again(library: Library) -> None:
    """The papers whose passages or vectors are missing or wrong, with the library's own model."""
    model = load_embedder(library.meta("embedder") or load_settings().embedder)
    keys = library.faults().vectors
    for start in range(0, len(keys), BATCH):
        with library.transaction() as transaction:
            transaction.check_embedder(model.name, model.fingerprint)
            embed_papers(transaction, model, library.papers_by_key(keys[start : start + BATCH]))
    _rebuild_index(library)  # the old one may be damaged, too


def _renew_notes(library: Library) -> None:
    with library.transaction() as transaction:
        transaction.rebuild_metadata()


def _rebuild_full_text(library: Library) -> None:
    with library.transaction() as transaction:
        transaction.rebuild_full_text()


def _rebuild_index(library: Library) -> None:
    VectorIndex(library).rebuild()


_VECTORS, _NOTES, _FULL_TEXT, _CHROMA = "vectors", "notes", "full text", "chroma"
_DIFFERENCES = {
    "missing": "missing",
    "surplus": "too many",
    "other": "with other vectors",
    "lost": "not found",
}
# What each fault is mended by, in the order in which they are found.
_FIXES = {
    _VECTORS: _embed_again,
    _NOTES: _renew_notes,
    _FULL_TEXT: _rebuild_full_text,
    _CHROMA: _rebuild_index,
}


def main() -> None:
    """Print how Chroma differs from the truth."""
    try:
        found = VectorIndex(Library(Path(sys.argv[1]), create=False)).compare()
    except FootnoteError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(found)))  # noqa: T201 - read above


if __name__ == "__main__":
    main()
