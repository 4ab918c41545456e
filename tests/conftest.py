"""What tests share: folders of their own, a small library with the real embedding model, and the command."""

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
    """How often, or how long: the first number in daily use, the second with `--soak`."""
    return lambda daily, soak: soak if request.config.getoption("--soak") else daily


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """No test reads or writes the user's own library and settings; only the cache of converted models is shared."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOOTNOTE_CONFIG", str(home / "config"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.delenv("FOOTNOTE_LIBRARY", raising=False)
        patch.delenv("FOOTNOTE_EMBEDDER", raising=False)
        yield


@pytest.fixture(scope="session")
def small_library(tmp_path_factory):
    """The folder of a library with twelve papers; for reading only."""
    from rag import Assistant

    folder = tmp_path_factory.mktemp("small") / "library"
    assistant = Assistant.open(folder)
    assistant.add(PAPERS)
    assistant.library.close()
    return folder


@pytest.fixture(scope="session")
def bundled():
    """The language model that comes along."""
    from rag.models import load_language_model

    return load_language_model("bundled")


@pytest.fixture
def own_library(small_library, tmp_path):
    """The folder of a copy of the small library, for tests that change it."""
    return Path(shutil.copytree(small_library, tmp_path / "library"))


@pytest.fixture
def assistant(own_library):
    """The assistant over a copy of the small library."""
    from rag import Assistant

    return Assistant.open(own_library)


@dataclass(frozen=True)
class Run:
    """What became of a command."""

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
def footnote(monkeypatch, capsys, tmp_path):
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
