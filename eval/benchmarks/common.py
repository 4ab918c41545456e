"""Options, folders, questions and the process of the page, shared by benchmarks."""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.harness.generation_cache import GenerationCache, load_cached_model
from eval.harness.questions import Question, load_questions, sample_questions_file
from rag import Assistant

# The command `footnote`, run by this interpreter.
FOOTNOTE = (sys.executable, "-m", "rag.cli")
_POLL_SECONDS = 0.01


def add_library_option(parser: argparse.ArgumentParser) -> None:
    """Add `--library`, the library to ask; see `open_assistant`."""
    parser.add_argument(
        "--library",
        type=Path,
        metavar="DIR",
        help="library to ask; the bundled sample papers by default",
    )


def open_assistant(library: Path | None) -> Assistant:
    """Open an existing library, or the bundled sample papers if none is given."""
    return Assistant.open(library, create=False) if library else Assistant.sample()


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, the language model; see `open_with_model`."""
    parser.add_argument(
        "--model",
        default="none",
        metavar="NAME",
        help="language model, as in footnote config; what it writes is cached (default: none)",
    )


def open_with_model(library: Path, model: str) -> Assistant:
    """Open a library with a language model that replies from the cache of generations."""
    language_model = load_cached_model(model, GenerationCache())
    return Assistant.open(library, language_model=language_model, create=False)


def add_libraries_option(parser: argparse.ArgumentParser) -> None:
    """Add `--libraries`, the folder for libraries that the benchmark builds.

    See `working_folder`.
    """
    parser.add_argument(
        "--libraries",
        type=Path,
        metavar="DIR",
        help="folder to keep the libraries in, so that the next run need not embed them again",
    )


@contextlib.contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the given folder, which is kept, or a temporary one."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def curated_questions(split: str = "dev") -> list[Question]:
    """Load the curated questions about the sample papers that belong to a split."""
    questions = load_questions(sample_questions_file())
    return [question for question in questions if question.split == split]


@dataclass(frozen=True, slots=True)
class Page:
    """A running web page: its address and the process that serves it."""

    address: str
    pid: int


@contextlib.contextmanager
def serve_page(library: Path) -> Iterator[Page]:
    """Run `footnote ui` over a library in its own process until the context ends.

    The process uses a temporary data folder instead of the user's. Raises `RuntimeError` if it ends
    before it responds.
    """
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [*FOOTNOTE, "ui", "--library", str(library), "--port", str(port)]
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "XDG_DATA_HOME": data}
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            while not _responds(address):
                if process.poll() is not None:
                    raise RuntimeError(
                        f"cannot start the page: footnote ui ended with status {process.returncode}"
                    )
                time.sleep(_POLL_SECONDS)
            yield Page(address, process.pid)
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _responds(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310 - our own page
            return bool(response.status == 200)
    except OSError:
        return False
