"""Imports go one way, third parties have one door each, and starting up stays cheap."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_metrics import PACKAGES, dotted_name, load_modules

ROOT = Path(__file__).parent.parent
# A module may import from its own room and from the rooms before it. A room inside another one is
# listed where its imports put it.
ORDER = (
    "rag.errors",
    "rag.records",
    "rag.config",
    "rag.text",
    "rag.ingest.sample",
    "rag.ingest.sources",
    "rag.models",
    "rag.integrations",
    "rag.library",
    "rag.ingest",
    "rag.library.doctor",
    "rag.retrieval",
    "rag.verification",
    "rag.answering",
    "rag.output",
    "rag.assistant",
    "rag.cli.options",
    "rag.cli.printing",
    "rag.cli",
    "eval.data",
    "eval.harness",
    "eval.benchmarks",
    "eval.training",
    "eval.command",
    "ui.render",
    "ui.services",
    "ui.server",
    "ui.tabs",
    "ui.app",
    "ui.command",
)
# `answer.to_markdown()` is a method, but rendering belongs to the output room.
UPWARD = {
    ("rag.records", "rag.output.markdown"),
    ("rag.answering.conversation", "rag.output.markdown"),
}
# The rest of `rag` is internal: `eval` and `ui` use the names of `rag` itself and these modules.
PUBLIC_MODULES = {
    "rag",
    "rag.answering.evidence",
    "rag.answering.pipeline",
    "rag.assistant",
    "rag.cli.options",
    "rag.cli.printing",
    "rag.config",
    "rag.errors",
    "rag.ingest.sample",
    "rag.library.doctor",
    "rag.library.filters",
    "rag.models.bundled_weights",
    "rag.models.language_model",
    "rag.models.reader",
    "rag.models.registry",
    "rag.models.status",
    "rag.output.export",
    "rag.output.markdown",
    "rag.records",
    "rag.retrieval.query_analysis",
    "rag.retrieval.question_types",
    "rag.text.answer_form",
    "rag.text.cleaning",
    "rag.text.counts",
    "rag.text.prompt_injection",
    "rag.text.sentences",
    "rag.text.terms",
    "rag.verification.details",
    "rag.verification.entailment",
    "rag.verification.verifier",
}
# The trainings also use what they fit.
FITTED_MODULES = {
    "rag.answering.followup_kinds",
    "rag.answering.generation",
    "rag.answering.judgement",
    "rag.models.log_odds",
    "rag.answering.probe",
    "rag.answering.prompts",
    "rag.answering.sources",
    "rag.answering.support",
    "rag.models.files",
    "rag.models.runtimes.openvino_encoder",
    "rag.models.runtimes.openvino_offline",
    "rag.models.runtimes.openvino_reader",
    "rag.models.vectors",
    "rag.verification.fragments",
}
# Everything else reaches these libraries through the modules named here.
ONLY_IN = {
    "chromadb": {"rag.library.vector_index", "eval.benchmarks.peers"},
    "sqlite3": {"rag.library.library", "rag.library.transaction", "ui.services.conversations"},
    "openvino": {"rag.models.runtimes.openvino_offline"},
    "openvino_genai": {"rag.models.runtimes.openvino_offline"},
    "nncf": {"rag.models.runtimes.openvino_offline"},
    "openai": {"rag.models.runtimes.server_lm"},
    "httpx2": {"rag.models.runtimes.server_lm", "eval.benchmarks.load"},
    "gguf": {"rag.models.runtimes.openvino_gguf"},
    "transformers": {
        "rag.models.runtimes.quiet",
        "rag.models.runtimes.openvino_embedder",
        "rag.models.runtimes.transformers_lm",
        "eval.benchmarks.peers",
        "eval.training.reader",
    },
    "sentence_transformers": {"rag.models.runtimes.sentence_transformers_embedder"},
    "llama_index": {"rag.integrations.llama_index", "eval.benchmarks.peers"},
    "typer": {"rag.cli", "ui.command", "eval.command"},
    "rapidfuzz": {"rag.retrieval.typos"},
    "gradio": {"ui.app", "ui.tabs", "ui.server"},
    "fastapi": {"ui.server.application"},
    "latex2mathml": {"ui.render.mathematics"},
    "pydantic": {"ui.services.conversations", "ui.services.evaluations"},
}
# Too slow to import before they are needed.
HEAVY = (
    "torch transformers sentence_transformers openvino openvino_genai openai gguf numpy chromadb "
    "llama_index gradio lxml sklearn scipy"
).split()


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield every imported module with the imported name, also inside functions.

    Imports for the type checker alone are left out.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    """Return the innermost room that a module belongs to; empty for the packages themselves."""
    return max((room for room in ORDER if is_in(module, room)), key=len, default="")


MODULES = {
    dotted_name(module): module.tree
    for package in PACKAGES
    for module in load_modules(ROOT / package)
}


def resolve(module: str, name: str) -> str:
    """Return the module that `from module import name` depends on."""
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


def internal_imports(module: str) -> set[str]:
    found = {resolve(*imported) for imported in imports(MODULES[module])}
    return {name for name in found if name in MODULES}


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_import_only_from_earlier_rooms(package):
    wrong = []
    for module in filter(lambda name: is_in(name, package) and room_of(name), MODULES):
        for imported in internal_imports(module):
            if not room_of(imported) or (module, imported) in UPWARD:
                continue
            if ORDER.index(room_of(imported)) > ORDER.index(room_of(module)):
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_packages_import_each_other_one_way():
    allowed = {"rag": {"rag"}, "eval": {"rag", "eval"}, "ui": {"rag", "eval", "ui"}}
    wrong = []
    for module in MODULES:
        for imported in internal_imports(module):
            if imported.split(".")[0] not in allowed[module.split(".")[0]]:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for module in MODULES:
        imported = internal_imports(module) - {module}
        graph[module] = {name for name in imported if (module, name) not in UPWARD}
    waiting = dict(graph)
    while waiting:
        free = [module for module in waiting if not waiting[module] & waiting.keys()]
        assert free, f"circle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


@pytest.mark.parametrize("package", ["eval", "ui"])
def test_other_packages_use_only_public_names_of_rag(package):
    wrong = []
    for module, tree in MODULES.items():
        allowed = PUBLIC_MODULES | (FITTED_MODULES if is_in(module, "eval.training") else set())
        for imported, name in imports(tree) if is_in(module, package) else ():
            if is_in(imported, "rag"):
                target = resolve(imported, name)
                if target not in allowed or name.startswith("_"):
                    wrong.append(f"{module} imports {name} from {imported}")
    assert wrong == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_third_parties_have_one_door(package):
    users = set()
    for module, tree in MODULES.items():
        if any(name.split(".")[0] == package for name, _ in imports(tree)):
            users.add(module)
    doors = ONLY_IN[package]
    assert {user for user in users if not any(is_in(user, door) for door in doors)} == set()
    assert {door for door in doors if not any(is_in(user, door) for user in users)} == set()


def test_every_room_is_in_the_order():
    rooms = {module for module in MODULES if module.count(".") == 1}
    assert rooms - set(ORDER) == set()
    assert [room for room in ORDER if room not in MODULES] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import rag",
        "import rag.cli.main",
        "import rag.ingest.sources.source",
        "import ui.command",
        "import eval.command",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    code = f"{statement}; import sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert run_python("-c", code).split() == []


def test_asking_with_the_bundled_models_loads_no_pytorch(tmp_path):
    code = """
import sys
from rag import Assistant
from rag.ingest.sample import sample_file

assistant = Assistant.open(sys.argv[1])
assistant.add(sample_file())
assistant.ask("FP8?")
print("torch" in sys.modules, "sentence_transformers" in sys.modules)
"""
    # The first process may have to convert the models, which takes PyTorch; the second must not.
    library = str(tmp_path / "library")
    run_python("-c", code, library)
    assert run_python("-c", code, library).split() == ["False", "False"]


def run_python(*arguments):
    command = [sys.executable, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return run.stdout
