"""The wheel holds everything: it is installed in another environment and run there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests")


def run(command, **options):
    """Run a command and return what it printed; its standard error is shown when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


@pytest.fixture(scope="module")
def footnote(tmp_path_factory):
    """Run the command `footnote` of an environment in which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # The dependencies are those of this environment; only Footnote itself comes from the wheel.
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    run([*pip, *build, source])
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel])
    scheme = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    variables = os.environ | {"FOOTNOTE_LIBRARY": str(folder / "library"), "COLUMNS": "80"}
    variables.pop("PYTHONPATH", None)

    def call(*arguments):
        return run([environment / "bin" / "footnote", *arguments], cwd=folder, env=variables)

    call.python = lambda code: run([python, "-c", code], cwd=folder, env=variables)
    call.environment = environment
    return call


def test_the_packages_come_from_the_wheel(footnote):
    printed = footnote.python(
        "import rag, eval, ui; print(rag.__file__, eval.__file__, ui.__file__)"
    )
    places = [Path(place) for place in printed.split()]
    assert all(place.is_relative_to(footnote.environment) for place in places)


def test_the_sample_is_added_and_asked(footnote):
    assert "174 added" in footnote("add", "--sample")
    assert "FP8" in footnote("ask", "Does FP8 beat INT8 for inference?")


def test_the_commands_of_every_package_are_there(footnote):
    assert "footnote eval compare" in footnote("eval", "--help")
    assert "--port" in footnote("ui", "--help")


def test_the_data_of_every_package_is_there(footnote):
    code = (
        "from pathlib import Path; import eval, ui, rag\n"
        "root = Path(rag.__file__).parent.parent\n"
        "names = ['prompts/write.md', 'ui/style.css', 'ui/page.js', 'eval/data/baseline.json',\n"
        "         'eval/data/questions/sample.jsonl', 'eval/data/injections/sentences.jsonl',\n"
        "         'eval/harness/report.html', 'rag/text/prompt_injection.json', 'eval/LOG.md',\n"
        "         'rag/retrieval/question_types.json']\n"
        "print([name for name in names if not (root / name).is_file()])"
    )
    assert footnote.python(code).strip() == "[]"
