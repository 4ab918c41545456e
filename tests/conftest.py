"""Shared fixtures: isolated folders, a small library with the real embedding model, the command."""

import functools
import json
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

PAPERS = Path(__file__).parent / "data" / "papers.jsonl"


def pytest_addoption(parser):
    parser.addoption(
        "--soak",
        action="store_true",
        help="run the tests marked `soak` in full: an hour and a half",
    )


@pytest.fixture
def times(request):
    """Choose a number of repetitions, or of seconds: the first, or the second with `--soak`."""
    return lambda daily, soak: soak if request.config.getoption("--soak") else daily


@pytest.fixture(scope="session", autouse=True)
def isolate_user_folders(tmp_path_factory):
    """Keep tests away from the user's library and settings; the cache of models is shared.

    Answers are quoted unless a test names a language model: the bundled one takes seconds.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTNOTE_CONFIG", str(home / "config"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.delenv("FOOTNOTE_LIBRARY", raising=False)
        patch.delenv("FOOTNOTE_EMBEDDER", raising=False)
        patch.setenv("FOOTNOTE_LANGUAGE_MODEL", "none")
        yield


@pytest.fixture(scope="session")
def shared_embedder():
    """Let all assistants of the session share one embedding model; loading takes 0.5 s."""
    import rag.assistant

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rag.assistant, "load_embedder", functools.cache(rag.assistant.load_embedder))
        yield


@pytest.fixture(scope="session")
def small_library(shared_embedder, tmp_path_factory):
    """Folder of a library with twelve papers, for reading only."""
    from rag import Assistant

    folder = tmp_path_factory.mktemp("small") / "library"
    assistant = Assistant.open(folder)
    assistant.add(PAPERS)
    assistant.library.close()
    return folder


@pytest.fixture(scope="session")
def bundled():
    """Bundled language model; tests of it are skipped where it is not installed."""
    from rag.models.registry import load_language_model
    from rag.models.status import describe_language_model

    status = describe_language_model("bundled")
    if not status.is_ready:
        pytest.skip(status.problem)
    return load_language_model("bundled")


@pytest.fixture
def library_copy(small_library, tmp_path):
    """Folder of a copy of the small library, for tests that change it."""
    return Path(shutil.copytree(small_library, tmp_path / "library"))


@pytest.fixture
def assistant(library_copy):
    """Assistant over a copy of the small library."""
    from rag import Assistant

    return Assistant.open(library_copy)


@dataclass(frozen=True)
class Run:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return self.out.splitlines()


@pytest.fixture
def footnote(shared_embedder, monkeypatch, capsys, tmp_path):
    """Run the command `footnote` in this process, from the arguments to the exit code."""
    from rag.cli import main as cli

    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["footnote", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Run(stop.value.code or 0, *capsys.readouterr())

    return run
