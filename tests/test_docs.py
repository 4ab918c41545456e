"""What the documents say is true: commands and programs run, output is real, names exist."""

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from code_metrics import PACKAGES
from conftest import PAPERS

import rag
from rag.cli import main as cli

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "rag/README.md", "eval/README.md", "ui/README.md", "prompts/README.md")
PAGES = (*READMES, "SECURITY.md", "CHANGELOG.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)
    return [Block(page, language, text) for language, text in found]


BLOCKS = [block for page in READMES for block in blocks_of(page)]
COMMANDS = [
    line.strip()
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
    if line.strip()
]
# The program that asks a running page is tested with the page; a class without `import` is a sketch.
PROGRAMS = [
    block
    for block in BLOCKS
    if block.language == "python" and "import" in block.text and "Client(" not in block.text
]
# Commands with their output, as typed after a prompt.
SESSIONS = {}
for block in BLOCKS:
    if session := re.fullmatch(r"\$ (.*?)\n(.*)", block.text, re.DOTALL):
        SESSIONS[session[1]] = session[2]


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run a line as a user does, in a folder with files of the names that the README uses."""
    folder = tmp_path_factory.mktemp("user")
    write_sources(folder)
    command = folder / "bin" / "footnote"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rag.cli "$@"\n')
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


def write_sources(folder):
    """Write ten papers as a BibTeX file, two listing pages and a MEDLINE file."""
    records = [json.loads(line) for line in PAPERS.read_text(encoding="utf-8").splitlines()]
    entries = ""
    for number, paper in enumerate(records[:5]):
        abstract = paper["abstract"].replace("%", r"\%")
        entries += f"@article{{k{number}, title = {{{paper['title']}}}, "
        entries += f"abstract = {{{abstract}}}, year = {{{paper['year']}}}}}\n"
    (folder / "zotero.bib").write_text(entries, encoding="utf-8")
    (folder / "pages").mkdir()
    for number, half in enumerate((records[5:8:2], records[8:10])):
        papers = "\n\n".join(f"{paper['title']}\n\n{paper['abstract']}" for paper in half)
        page = folder / "pages" / f"monday-{number}.txt"
        page.write_text(f"Daily Papers\n\n{papers}\n", encoding="utf-8")
    last = records[10]
    medline = f"PMID- 99000111\nTI  - {last['title']}\nAB  - {last['abstract']}\n"
    (folder / "pubmed-set.nbib").write_text(medline, encoding="utf-8")


def test_commands_of_the_readme_run_in_their_order(shell):
    outputs = {}
    lines = re.findall(r"^footnote .*$", read("README.md"), re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        name = line.split()[1]
        # The page would serve until it is stopped, and a whole evaluation takes minutes.
        run = shell(f"footnote {name} --help" if name in ("ui", "eval", "chat") else line)
        assert (run.returncode, run.stderr) == (0, ""), line
        outputs[name] = run.stdout
    assert outputs["add"].startswith("10 records read: 10 added")
    first_hit = outputs["search"].splitlines()[0]
    assert first_hit.endswith("Sparse Attention by Asking the Neighbours (2024)")
    assert "[^1]: " in (shell.folder / "note.md").read_text(encoding="utf-8")


def test_commands_are_those_of_footnote_or_make():
    assert [line for line in COMMANDS if line.split()[0] not in ("footnote", "make")] == []


@pytest.mark.parametrize(
    "command", sorted({" ".join(line.split()[:3]) for line in COMMANDS if " eval " in line})
)
def test_evaluation_commands_exist(command, footnote):
    _, _, *subcommand = command.split()
    known = [name for name in subcommand if name in ("check", "compare", "gate")]
    assert footnote("eval", *known, "--help").code == 0


def test_make_targets_exist():
    make = shutil.which("make")
    assert make, "the README asks for make"
    for target in {line.split()[1] for line in COMMANDS if line.startswith("make ")}:
        run = subprocess.run(
            [make, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip()


def test_the_answer_of_the_readme_is_real(footnote, tmp_path):
    (line,) = [line for line in SESSIONS if line.startswith("footnote ask ")]
    footnote("add", "--sample", "--library", tmp_path / "sample")
    run = footnote(*shlex.split(line)[1:], "--library", tmp_path / "sample")
    assert run.code == 0
    assert comparable(SESSIONS[line]) == comparable(run.out)


def comparable(text):
    """Return the words without line ends, and without digits that differ between processors."""
    return re.sub(r"\(\d\.\d\d\)", "(…)", " ".join(text.split()))


def test_the_help_of_the_readme_is_real(footnote):
    assert SESSIONS["footnote --help"] == footnote("--help").out


def test_every_session_is_tested():
    assert {line.split()[1] for line in SESSIONS} == {"ask", "--help"}


def test_named_commands_exist(footnote):
    listed = footnote("--help").out.split("Commands:\n")[1].split("\n\n")[0]
    commands = {line.split()[0] for line in listed.splitlines()}
    assert len(commands) == 14
    for page in PAGES:
        named = re.findall(r"(?:^|`|\$ )footnote ([a-z]\w*)", read(page), re.MULTILINE)
        assert set(named) - commands == set(), page


# --- Python ---------------------------------------------------------------------------------------


def test_programs_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "papers").mkdir()
    lines = PAPERS.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "papers" / "one.jsonl").write_text("".join(lines[:6]), encoding="utf-8")
    (tmp_path / "papers" / "two.jsonl").write_text("".join(lines[6:]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    assert [block.page for block in PROGRAMS] == ["README.md", "rag/README.md", "eval/README.md"]
    for block in PROGRAMS:
        exec(compile(block.text, block.page, "exec"), names)
    assert names["report"].added == 12
    assert names["answer"].citations[0].quote in capsys.readouterr().out
    assert [hit.paper.year >= 2023 for hit in names["hits"]] == [True] * 4
    assert len(names["nodes"]) == 5
    assert names["response"].metadata["answer"].question == "How are U-Nets made smaller?"
    assert names["run"].interval("nugget recall").mean > 0.4
    assert (tmp_path / "runs" / "a" / "report.html").exists()


def test_the_example_of_a_question_is_valid(tmp_path):
    from eval import load_questions

    (block,) = [block for block in BLOCKS if block.language == "json"]
    file = tmp_path / "questions.jsonl"
    file.write_text(" ".join(block.text.split()) + "\n", encoding="utf-8")
    (question,) = load_questions(file)
    assert question.nuggets[0].numbers == ("2.6",)


def test_public_names_are_sorted_and_there():
    assert rag.__all__ == sorted(rag.__all__)
    for name in rag.__all__:
        assert getattr(rag, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Asistant'"):
        rag.Asistant  # noqa: B018 - that it raises is the point


def test_modules_and_public_classes_have_docstrings():
    missing = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            public = [node for node in classes if not node.name.startswith("_")]
            missing += [path for node in (tree, *public) if not ast.get_docstring(node)]
    assert missing == []


def test_the_public_interface_has_docstrings():
    public = [getattr(rag, name) for name in rag.__all__]
    for name in dir(rag.Assistant):
        if not name.startswith("_"):
            member = rag.Assistant.__dict__[name]
            public.append(getattr(member, "__func__", member))
    commands = [command.callback for command in cli.app.registered_commands]
    assert [item for item in (*public, *commands) if callable(item) and not item.__doc__] == []


# --- names ----------------------------------------------------------------------------------------

TREE = next(block.text for block in BLOCKS if block.text.startswith("rag/ "))


def test_the_tree_of_the_readme_is_complete():
    folders = set(re.findall(r"^(\w+/)", TREE, re.MULTILINE))
    assert folders == {"rag/", "prompts/", "eval/", "ui/", "tests/"}
    listed = set(re.findall(r"(?<=  )(\w+(?:\.py|/))(?=  )", TREE))
    there = set()
    for path in (ROOT / "rag").iterdir():
        if not path.name.startswith("_") and path.suffix in ("", ".py"):
            there.add(path.name if path.is_file() else f"{path.name}/")
    assert listed - folders == there


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_each_package_are_described(package):
    folders = [path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()]
    text = read(f"{package}/README.md")
    assert [name for name in folders if f"`{name}/`" not in text] == []


def test_every_package_is_installed():
    names = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), f"{path} would not be installed"
            names.add(".".join(path.parent.relative_to(ROOT).parts))
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert [n for n in names if not any(fnmatch(n, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = read(page)
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.split("#")[0] for link in links if not re.match(r"https?://|mailto:|#", link)]
    assert [link for link in local if not (folder / link).exists()] == []
    paths = re.findall(r"`((?:rag|eval|ui|tests|prompts)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    programs = re.findall(r"python -m ([\w.]+\w)", text)
    named = [name for name in programs if not name.endswith("NAME")]
    assert [name for name in named if not importlib.util.find_spec(name)] == []


def test_programs_that_docstrings_name_exist():
    named = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            named.update(re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)(?![\w.])", text))
    assert named
    assert [name for name in sorted(named) if not importlib.util.find_spec(name)] == []


def test_versions_agree():
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1]
    installed = importlib.metadata.version("footnote")
    assert newest == PROJECT["project"]["version"] == rag.__version__ == installed


def test_the_changelog_uses_the_headings_of_keep_a_changelog():
    headings = set(re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
