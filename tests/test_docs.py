"""What the README says is true: its commands and programs run, its output is real, its names exist."""

import ast
import importlib
import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import PAPERS

import rag
from rag.cli import main as cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [
    line.strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.strip()
]
# The one that asks a running page is tested with the page.
PROGRAMS = [block for language, block in BLOCKS if language == "python" and "Client(" not in block]
# A prompt, the command, and what it printed.
SESSIONS = {
    found[1]: found[2]
    for _, block in BLOCKS
    if (found := re.fullmatch(r"\$ (.*?)\n(.*)", block, re.DOTALL))
}
MODULES = sorted(
    path for path in (ROOT / "rag").rglob("*.py") if path.name not in ("__init__.py", "__main__.py")
)


# --- the shell --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run a line as a user does, in a folder with files of the names that the README uses."""
    folder = tmp_path_factory.mktemp("user")
    records = [json.loads(line) for line in PAPERS.read_text(encoding="utf-8").splitlines()]
    bibtex = "@article{{k{}, title = {{{}}}, abstract = {{{}}}, year = {{{}}}}}\n"
    entries = [
        bibtex.format(n, p["title"], p["abstract"].replace("%", r"\%"), p["year"])
        for n, p in enumerate(records[:5])
    ]
    (folder / "zotero.bib").write_text("".join(entries), encoding="utf-8")
    (folder / "pages").mkdir()
    for n, half in enumerate((records[5:8:2], records[8:10])):
        page = "\n\n".join(f"{paper['title']}\n\n{paper['abstract']}" for paper in half)
        (folder / "pages" / f"monday-{n}.txt").write_text(
            f"Daily Papers\n\n{page}\n", encoding="utf-8"
        )
    medline = "PMID- {}\nTI  - {}\nAB  - {}\n"
    entry = medline.format(99000111, records[10]["title"], records[10]["abstract"])
    (folder / "pubmed-set.nbib").write_text(entry, encoding="utf-8")
    command = folder / "bin" / "footnote"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rag "$@"\n')
    command.chmod(0o755)

    def run(line):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(command.parent), prepend=":")
            patch.setenv("FOOTNOTE_LIBRARY", str(folder / "library"))
            patch.setenv("COLUMNS", "80")
            return subprocess.run(
                ["/bin/sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False
            )

    run.folder = folder
    return run


def test_the_shell_lines_run_in_their_order(shell):
    lines = [line for line in SHELL if line.startswith("footnote ")]
    assert lines
    outputs = {}
    for line in lines:
        # The page would serve until it is stopped, and a whole evaluation takes minutes.
        run = shell(
            f"footnote {line.split()[1]} --help" if line.split()[1] in ("ui", "eval") else line
        )
        assert (run.returncode, run.stderr) == (0, ""), line
        outputs[line.split()[1]] = run.stdout
    assert outputs["add"].startswith("10 records read: 10 added")
    assert (
        outputs["search"]
        .splitlines()[0]
        .endswith("Sparse Attention by Asking the Neighbours (2024)")
    )
    assert "[^1]: " in (shell.folder / "note.md").read_text(encoding="utf-8")


def test_every_shell_line_is_a_footnote_or_make_command():
    assert [line for line in SHELL if line.split()[0] not in ("footnote", "make")] == []


@pytest.mark.parametrize(
    "target", sorted({line.split()[1] for line in SHELL if line.startswith("make ")})
)
def test_the_make_targets_exist(target):
    make = shutil.which("make")
    assert make, "the README asks for make"
    run = subprocess.run(
        [make, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_the_first_answer_is_real(footnote, tmp_path):
    (line,) = [line for line in SESSIONS if line.startswith("footnote ask ")]
    footnote("add", "--sample", "--library", tmp_path / "sample")
    run = footnote(*shlex.split(line)[1:], "--library", tmp_path / "sample")
    assert run.code == 0

    def comparable(
        text,
    ):  # lines end elsewhere in a terminal, and the last digits differ between processors
        return re.sub(r"\(\d\.\d\d\)", "(…)", " ".join(text.split()))

    assert comparable(SESSIONS[line]) == comparable(run.out)


def test_the_help_is_real(footnote):
    assert SESSIONS["footnote --help"] == footnote("--help").out


def test_every_session_is_checked_here():
    assert {line.split()[1] for line in SESSIONS} == {"ask", "--help"}


def test_every_command_is_told_of(footnote):
    listed = footnote("--help").out.split("Commands:\n")[1].split("\n\n")[0]
    commands = {line.split()[0] for line in listed.splitlines()}
    assert len(commands) == 14
    assert (
        commands - {line.split()[0] for line in README.splitlines() if line.startswith("  ")}
        == set()
    )
    in_code = re.findall(r"(?:^|`|\$ )footnote (\w+)", README, re.MULTILINE)
    assert set(in_code) <= commands
    assert len(in_code) > 20


# --- Python -----------------------------------------------------------------------------------------------------


def test_the_programs_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "papers").mkdir()
    lines = PAPERS.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "papers" / "one.jsonl").write_text("".join(lines[:6]), encoding="utf-8")
    (tmp_path / "papers" / "two.jsonl").write_text("".join(lines[6:]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    assert len(PROGRAMS) == 3
    for program in PROGRAMS:
        exec(compile(program, "README.md", "exec"), names)
    assert names["report"].added == 12
    assert names["answer"].citations[0].quote in capsys.readouterr().out
    assert [hit.paper.year >= 2023 for hit in names["hits"]] == [True] * 4
    assert len(names["nodes"]) == 5
    assert names["response"].metadata["answer"].question == "How are U-Nets made smaller?"
    assert names["run"].interval("facts").mean > 0.4
    assert (tmp_path / "runs" / "a" / "report.html").exists()


def test_the_public_names_are_sorted_and_there():
    assert rag.__all__ == sorted(rag.__all__)
    for name in rag.__all__:
        assert getattr(rag, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Asistant'"):
        rag.Asistant  # noqa: B018 - that it raises is the point


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_public_classes_say_what_they_are(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in classes if not ast.get_docstring(node)] == []


def test_what_people_call_says_what_it_does():
    methods = [
        rag.Assistant.__dict__[name] for name in dir(rag.Assistant) if not name.startswith("_")
    ]
    public = [getattr(rag, name) for name in rag.__all__] + [
        getattr(one, "__func__", one) for one in methods
    ]
    assert [one.__name__ for one in public if callable(one) and not one.__doc__] == []
    assert [
        command.callback.__name__
        for command in cli.app.registered_commands
        if not command.callback.__doc__
    ] == []


# --- names ------------------------------------------------------------------------------------------------------

TREE = next(block for _, block in BLOCKS if block.startswith("rag/ "))
FOLDERS = re.findall(r"^(\w+/)  ", TREE, re.MULTILINE)


def files_in_the_tree():
    """The modules that the tree names, by their folder."""
    named, folder = {}, ""
    for line in TREE.splitlines():
        folder = line.split("/")[0] if not line.startswith(" ") else folder
        named.setdefault(folder, []).extend(re.findall(r"(?<=  )(\w+(?:\.py|/))  ", line))
    return named


def test_the_tree_names_what_is_there_and_forgets_nothing():
    assert [name for name in FOLDERS if not (ROOT / name).is_dir()] == []
    for folder in ("rag", "ui"):
        there = {
            path.name if path.is_file() else f"{path.name}/" for path in (ROOT / folder).iterdir()
        }
        modules = {name for name in there if re.fullmatch(r"[a-z]\w*\.py|[a-z]\w*/", name)} - {
            "images/"
        }
        assert sorted(modules) == sorted(files_in_the_tree()[folder])
    packages = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    assert packages - set(FOLDERS) == set()


def test_every_package_is_installed():
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ("rag", "eval", "ui")
        for path in (ROOT / room).rglob("__init__.py")
    }
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert [
        package
        for package in packages
        if not any(fnmatch(package, pattern) for pattern in patterns)
    ] == []
    # A folder of modules without an __init__.py would be left out.
    folders = {
        path.parent for room in ("rag", "eval", "ui") for path in (ROOT / room).rglob("*.py")
    }
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == packages


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "prompts/README.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(
        r"^\[[^\]^]+\]: (\S+)", text, re.MULTILINE
    )
    local = [link.split("#")[0] for link in links if not re.match(r"https?://|mailto:|#", link)]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []
    named = re.findall(r"`((?:rag|eval|ui|tests|prompts)/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    programs = re.findall(r"python -m ([\w.]+)", text)
    assert [name for name in programs if not importlib.util.find_spec(name)] == []


def test_modules_that_docstrings_send_people_to_exist():
    text = "".join(
        path.read_text(encoding="utf-8")
        for room in ("rag", "eval", "ui")
        for path in (ROOT / room).rglob("*.py")
    )
    named = set(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)(?![\w.])", text))
    assert named
    assert [name for name in sorted(named) if not importlib.util.find_spec(name)] == []


def test_the_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)[1]
    assert (
        newest
        == PROJECT["project"]["version"]
        == rag.__version__
        == importlib.metadata.version("footnote")
    )
