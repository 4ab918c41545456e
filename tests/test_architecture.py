"""One direction, no way back: who may know whom, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rag
from eval import __all__ as eval_names

ROOT = Path(__file__).parent.parent
# Each room may know the rooms before it, never those after.
ORDER = (
    "rag.records", "rag.errors", "rag.models.vectors", "rag.text", "rag.text.prompt_injection", "rag.config", "rag.ingest.sample",
    "rag.ingest.sources", "rag.models", "rag.library", "rag.library.vector_index", "rag.ingest.chunking", "rag.ingest.importer", "rag.answering.prompts",
    "rag.retrieval.query_analysis", "rag.retrieval.typos", "rag.retrieval.retriever", "rag.answering.evidence", "rag.verification.verifier", "rag.answering.generation", "rag.answering.generation_check", "rag.integrations.llama_index",
    "rag.answering.answer_models", "rag.answering.pipeline", "rag.answering.conversation", "rag.output.export", "rag.output.replay", "rag.library.doctor", "rag.output.terminal",
    "rag.assistant", "rag.cli.main", "rag.__main__",
)  # fmt: skip
# Third parties with a single door: everything else goes through that module.
ONLY_IN = {
    "chromadb": {"rag.library.vector_index", "eval.benchmarks.peers"},
    "sqlite3": {"rag.library.library", "rag.library.transaction", "ui.services.conversations"},
    "openvino": {"rag.models.runtimes.openvino_import"},
    "openvino_genai": {"rag.models.runtimes.openvino_import"},
    "nncf": {"rag.models.runtimes.openvino_import"},
    "openai": {"rag.models.runtimes.server_lm"},
    "httpx2": {"rag.models.runtimes.server_lm", "eval.benchmarks.load"},
    "gguf": {"rag.models.runtimes.openvino_gguf"},
    "transformers": {
        "rag.models.runtimes.quiet",
        "rag.models.runtimes.openvino_embedder",
        "rag.models.runtimes.transformers_lm",
        "eval.benchmarks.peers",
    },
    "sentence_transformers": {
        "rag.models.runtimes.sentence_transformers_embedder",
        "rag.models.nli",
    },
    "llama_index": {"rag.integrations.llama_index", "eval.benchmarks.peers"},
    "typer": {"rag.cli.main", "ui.command", "eval.command"},
    "rapidfuzz": {"rag.retrieval.typos"},
    "gradio": {
        "ui.app",
        "ui.tabs.chat",
        "ui.tabs.library",
        "ui.tabs.evals",
        "ui.server.application",
    },
    "fastapi": {"ui.server.application"},
    "latex2mathml": {"ui.render.mathematics"},
    "pydantic": {"ui.services.conversations", "ui.services.evaluations"},
}


def modules(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield (
            ".".join(part for part in parts if part != "__init__"),
            ast.parse(path.read_text(encoding="utf-8")),
        )


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def room(module):
    return next(
        (
            r
            for r in sorted(ORDER, key=len, reverse=True)
            if module == r or module.startswith(r + ".")
        ),
        "rag",
    )


ALL = [pair for folder in ("rag", "eval", "ui") for pair in modules(folder)]


@pytest.mark.parametrize(("module", "tree"), ALL, ids=[module for module, _ in ALL])
def test_a_module_knows_only_those_before_it(module, tree):
    for imported, name in imports(tree):
        if module.startswith("ui") and imported.startswith("eval"):
            assert imported == "eval", f"{module} may know only the public names, not {imported}"
            assert name in eval_names
        if module.startswith("eval"):
            assert not imported.startswith("ui"), (
                "the page knows the measuring, not the other way round"
            )
        if not imported.startswith("rag"):
            continue
        if not module.startswith("rag"):
            assert imported == "rag", f"{module} may know only the public names, not {imported}"
            assert name in rag.__all__
        elif module != "rag" and room(module) != room(imported):
            assert ORDER.index(room(imported)) < ORDER.index(room(module)), (
                f"{module} imports {imported}"
            )


def test_rag_knows_neither_the_page_nor_the_measuring():
    for module, tree in modules("rag"):
        assert not [
            name for name, _ in imports(tree) if name.split(".")[0] in ("ui", "eval", "tests")
        ], module


@pytest.mark.parametrize("package", ONLY_IN)
def test_third_parties_have_one_door(package):
    users = {
        module for module, tree in ALL for name, _ in imports(tree) if name.split(".")[0] == package
    }
    assert users == ONLY_IN[package]


def test_every_room_is_in_the_order():
    rooms = {module for module, _ in modules("rag") if module.count(".") == 1}
    assert rooms == set(ORDER)


@pytest.mark.parametrize(
    "statement",
    [
        "import rag",
        "import rag.cli.main",
        "import rag.ingest.sources",
        "import ui.command",
        "import eval.command",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    models = "torch transformers sentence_transformers openvino openvino_genai openai gguf".split()
    heavy = [*models, *"numpy chromadb llama_index gradio lxml sklearn".split()]
    code = f"{statement}; import sys; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.split() == []


def test_asking_with_the_packaged_model_loads_no_pytorch(tmp_path):
    code = (
        "import sys; from rag import Assistant; from rag.ingest.sample import sample_file; a = Assistant.open(sys.argv[1]);"
        "a.add(sample_file()); a.ask('FP8?'); print('torch' in sys.modules, 'sentence_transformers' in sys.modules)"
    )
    # The model may have to be converted once, and that takes PyTorch: the second process must do without.
    command = [sys.executable, "-c", code, str(tmp_path / "library")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "False"]
