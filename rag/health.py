"""Whether everything is there, and whether all that is derived agrees with the truth."""

import importlib.metadata
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag.config import DEFAULT_EMBEDDER, load_settings
from rag.errors import FootnoteError, LibraryError
from rag.index import PassageIndex
from rag.library import Library
from rag.models import load_language_model, model_folder
from rag.models.load import EMBEDDED_LANGUAGE_MODEL, NO_LANGUAGE_MODEL

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
        yield Check("library", False, str(error))
        return
    embedder = library.meta("embedder") or settings.embedder
    yield from check_machine(embedder, f"footnote reindex --embedder {DEFAULT_EMBEDDER} {_option(folder)}")
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
        yield Check("embedding model", False, str(error), "" if embedder == DEFAULT_EMBEDDER else instead)
    yield _check_language_model(load_settings().language_model)


def _check_language_model(name: str) -> Check:
    """Whether the chosen model is there, and the one that comes along, which reads for any other, too."""
    wanted = [one for one in dict.fromkeys((EMBEDDED_LANGUAGE_MODEL, name)) if name != NO_LANGUAGE_MODEL]
    try:
        models = [model.name for model in map(load_language_model, wanted) if model]
    except FootnoteError as error:
        mend = "" if name == EMBEDDED_LANGUAGE_MODEL else f"footnote config language_model {EMBEDDED_LANGUAGE_MODEL}"
        return Check("language model", False, str(error), mend)
    return Check("language model", True, " and ".join(models) or "none was chosen")


def check_library(library: Library) -> Iterator[Check]:
    """The truth, and what is derived from it."""
    fault = library.integrity()
    yield Check("truth", not fault, fault or "intact", f"restore a copy of {library.folder}" if fault else "")
    if fault:
        return
    counts = library.counts()
    yield Check("library", True, f"{counts['papers']:,} papers in {library.folder}")
    yield Check("papers without abstract", True, f"{counts['without_abstract']:,}: found by title, never quoted")
    free = shutil.disk_usage(library.folder).free
    yield Check("disk", free > _LOW_DISK_BYTES, f"{library.size() / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free")
    same = counts["full_text"] == counts["papers"]
    again = f"footnote export --format jsonl {_option(library.folder)} > all.jsonl, and add that to a new library"
    yield Check("full text", same, f"{counts['full_text']:,} of {counts['papers']:,} papers", "" if same else again)
    yield _check_index(library)


def _check_index(library: Library) -> Check:
    """Compare Chroma with the truth, id by id, in a process of its own: a damaged file there can crash it."""
    mend = f"footnote reindex {_option(library.folder)}"
    command = [sys.executable, "-P", "-m", "rag.health", str(library.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if run.returncode != 0:
        reason = run.stderr.strip().splitlines()[-1:] or [f"crashed with code {run.returncode}"]
        return Check("chroma", False, reason[0], mend)
    missing, surplus = map(int, run.stdout.split())
    seen = f"{missing:,} passages missing, {surplus:,} too many" if missing or surplus else "agrees with the truth"
    return Check("chroma", not (missing or surplus), seen, mend if missing or surplus else "")


def main() -> None:
    """Print how many passages Chroma lacks and how many it should not hold."""
    library = Library(Path(sys.argv[1]), create=False)
    truth, held = set(library.passage_keys()), PassageIndex(library).keys()
    print(len(truth - held), len(held - truth))  # noqa: T201 - read by `_check_index`


if __name__ == "__main__":
    main()
