"""Doors that stay shut: network, pickles, code in models and templates, files for others; and what SECURITY.md says.

What the page's own door lets through is in test_server.py.
"""

import ast
import contextlib
import functools
import html
import importlib.metadata
import json
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PAPERS
from fakes import HashEmbedder
from packaging.version import Version
from tiny_models import save_tiny_model

from rag import Assistant, Library, ModelUnavailable
from rag.config import config_file, save_setting
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, Message
from rag.models.registry import load_embedder, load_language_model
from rag.models.nli import load_nli_model
from ui.services.conversations import ConversationStore

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LEDGERS = "How do Sliding Ledgers shrink the KV cache?"


# --- the network ------------------------------------------------------------------------------------------------

# Python runs a module of this name at its start, in every process that is begun from the test, too.
GUARD = """
import os, socket, sys

WATCHED = {
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.sendmsg",
    "socket.sendto", "http.client.connect", "urllib.Request",
}

def refuse(event, arguments):
    if event in WATCHED:
        with open(os.environ["TRIED"], "a") as log:
            print(event, arguments, file=log)
        raise OSError(f"the network is closed: {event}")

def listen(*arguments):
    with open(os.environ["TRIED"], "a") as log:
        print("socket.listen", arguments, file=log)
    raise OSError("nobody listens")

sys.addaudithook(refuse)
socket.socket.listen = listen  # Python tells no hook of it
"""

EVERYTHING = """
import io, json, sys
from pathlib import Path
from rag.cli import main as cli

papers, questions, folder = map(Path, sys.argv[1:])
library = ("--library", str(folder / "library"))
codes = []

def footnote(*arguments, typed=""):
    sys.argv, sys.stdin = ["footnote", *map(str, arguments)], io.StringIO(typed)
    try:
        cli.main()
    except SystemExit as end:
        codes.append((arguments[0], end.code or 0))

question = "How do Sliding Ledgers shrink the KV cache?"
footnote("add", papers, *library)
footnote("ask", question, "--style", "quote", *library)
footnote("ask", question, "--style", "write", *library)
footnote("search", "sparse attention", *library)
footnote("chat", *library, typed=f"{question}\\nAnd by how much does perplexity rise?\\n")
footnote("export", "--format", "bibtex", *library)
footnote("reindex", *library)
footnote("doctor", *library)
footnote("config", "language_model", "bundled")
own = ("--questions", questions, "--split", "all", "--style", "quote", "--only", "never answers")
footnote("eval", *own, "--output", folder / "run", *library)

from ui.server import application as server
server.import_gradio()
from starlette.testclient import TestClient
from rag import Assistant
from ui.services.conversations import ConversationStore
from ui.app import build_page, theme
from ui.services.library_registry import LibraryRegistry, open_library

registry = LibraryRegistry([folder / "library"], open_library)
page = build_page(registry, ConversationStore(folder / "conversations.sqlite"), folder / "runs")
with TestClient(server.application(page, "127.0.0.1", 7860, {}, **theme()), "http://127.0.0.1:7860") as client:
    codes.append(("ui", client.get("/").status_code))
print(json.dumps(codes))
"""

QUESTION = {
    "id": "kv", "split": "dev", "kind": "base", "type": "fact", "answerable": True, "question": LEDGERS,
    "gold": [["sliding-ledgers-shrinking-the-ef3e7d"]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}  # fmt: skip


@pytest.fixture
def own_settings(tmp_path, monkeypatch):
    """What the processes of a test keep is for that test only."""
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def closed(own_settings, tmp_path):
    """Run Python in processes for which every way to the network is closed; gives the run, and what was tried."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    tried = tmp_path / "tried"
    path = os.pathsep.join([str(tmp_path / "guard"), str(ROOT), str(ROOT / "tests")])

    def run(code, *arguments):
        environment = os.environ | {"PYTHONPATH": path, "TRIED": str(tried), "COLUMNS": "80"}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done, tried.read_text().splitlines() if tried.exists() else []

    return run


@pytest.mark.parametrize(
    ("attempt", "event"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo"),
        ("import socket; socket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "socket.connect"),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))", "socket.sendto"),
        ("import socket; socket.create_server(('127.0.0.1', 0))", "socket.listen"),
        ("from urllib.request import urlopen; urlopen('http://127.0.0.1:9')", "urllib.Request"),
        ("import httpx2; httpx2.get('http://127.0.0.1:9')", "socket."),
        ("import os; os.system(f'{os.sys.executable} -c \"import socket; socket.gethostbyname(str())\"')", "socket."),
    ],
)  # fmt: skip
def test_whoever_tries_the_network_is_seen(closed, attempt, event):
    _, tried = closed(attempt)
    assert tried
    assert tried[0].startswith(event)


def test_nothing_that_needs_no_server_tries_the_network_or_listens(closed, tmp_path):
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps(QUESTION), encoding="utf-8")
    run, tried = closed(EVERYTHING, PAPERS, questions, tmp_path)
    assert run.returncode == 0, run.stderr
    commands = [
        "add",
        "ask",
        "ask",
        "search",
        "chat",
        "export",
        "reindex",
        "doctor",
        "config",
        "eval",
    ]
    assert json.loads(run.stdout.splitlines()[-1]) == [
        *([name, 0] for name in commands),
        ["ui", 200],
    ], run.stderr
    assert "71% on average" in " ".join(run.stdout.split())
    assert tried == []


LOADS = """
import sys
from rag.models.registry import load_embedder, load_language_model
from rag.models.nli import load_nli
embedder, inference, language = sys.argv[1:]
print(load_embedder(embedder).dimension, load_nli(inference).relations([("a", "b")]) != [])
print(load_language_model(language).context_tokens)
"""


def test_models_in_folders_load_without_the_network(closed, models):
    run, tried = closed(LOADS, models["embedding, cls"], models["inference"], models["language"])
    assert (run.returncode, run.stdout.split()) == (0, ["16", "True", "512"]), run.stderr
    assert tried == []


ALONE = """
import contextlib, fcntl, json, os, socket, struct, subprocess, sys, urllib.request

papers, question, folder = sys.argv[1:]
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    print(json.dumps("there is a network"))
    sys.exit()
except OSError:
    pass
library = ["--library", os.path.join(folder, "library")]

def footnote(*arguments):
    return subprocess.run([sys.executable, "-m", "rag.cli", *arguments, *library], capture_output=True, text=True)

seen = [footnote("add", papers).stdout, footnote("ask", question).stdout]
with contextlib.suppress(OSError):  # where the loopback interface cannot be switched on, nothing can be served
    up, set_flags = 1, 0x8914
    with socket.socket(type=socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))
    command = [sys.executable, "-m", "rag.cli", "ui", "--port", "7860", *library]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        try:
            seen.append(page.stdout.readline())
            seen.append(urllib.request.urlopen("http://127.0.0.1:7860/", timeout=60).status)
        finally:
            page.terminate()
print(json.dumps(seen))
"""


@pytest.fixture
def unshare():
    """The command that begins a process without a network, where that is allowed."""
    command = [shutil.which("unshare") or "unshare", "--net", "--map-root-user"]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no process without a network can be begun here: {error}")
    return command


def test_on_a_machine_without_any_network_everything_works(unshare, own_settings, tmp_path):
    command = [*unshare, sys.executable, "-c", ALONE, PAPERS, LEDGERS, tmp_path]
    run = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    added, answer, *page = json.loads(run.stdout)
    assert added.startswith("12 records read: 12 added")
    assert "71% on average" in " ".join(answer.split())
    if not page:
        pytest.skip("the loopback interface cannot be switched on there")
    assert page == ["Footnote is at http://127.0.0.1:7860 (Ctrl+C stops it)\n", 200]


# --- the sources ------------------------------------------------------------------------------------------------

SOURCES = sorted(path for room in ("rag", "eval", "ui") for path in (ROOT / room).rglob("*.py"))
UNSAFE_MODULES = {
    "_pickle",
    "cloudpickle",
    "code",
    "dill",
    "joblib",
    "marshal",
    "pickle",
    "shelve",
    "yaml",
}
UNSAFE_CALLS = {
    "__import__", "compile", "eval", "exec", "np.load", "numpy.load", "os.popen", "os.system", "torch.load",
    "yaml.load",
}  # fmt: skip
# What each may only be said to be.
SWITCHES = {"trust_remote_code": False, "allow_pickle": False, "weights_only": True, "shell": False}
LOADERS = ("from_pretrained", "SentenceTransformer", "CrossEncoder")


def unsafe_in(tree):
    """What of a module could run what strangers wrote."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            yield from (name for name in names if name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            yield from [called] * (called in UNSAFE_CALLS)
            yield from (one.arg for one in node.keywords if is_wrong(one.arg, one.value))
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            named = [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant)]
            yield from (name for name, value in named if is_wrong(name, value))


def is_wrong(name, value):
    return name in SWITCHES and not (
        isinstance(value, ast.Constant) and value.value is SWITCHES[name]
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import os, pickle as p", ["pickle"]),
        ("from joblib.numpy_pickle import load", ["joblib.numpy_pickle"]),
        ("torch.load(file)", ["torch.load"]),
        ("x = [eval(text)]", ["eval"]),
        ("model.eval(); re.compile(text); json.load(file)", []),
        ("load(file, allow_pickle=True)", ["allow_pickle"]),
        ("load(file, trust_remote_code=wanted)", ["trust_remote_code"]),
        ("load(file, trust_remote_code=False)", []),
        ("place = {'trust_remote_code': True}", ["trust_remote_code"]),
        ("subprocess.run(line, shell=True)", ["shell"]),
    ],
)
def test_what_could_run_what_strangers_wrote_is_found(line, found):
    assert list(unsafe_in(ast.parse(line))) == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_evaluates_or_trusts_code_of_others(path):
    assert list(unsafe_in(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_every_model_is_loaded_from_this_machine_and_without_its_code():
    seen = 0
    for path in SOURCES:
        if path.name == "peers.py":  # the peers run with their own defaults
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".")[-1] in LOADERS:
                said = {one.arg for one in node.keywords}
                # Without a name, it is a dictionary: that is held against the switches above.
                assert {"local_files_only", "trust_remote_code"} <= said or None in said, (
                    ast.unparse(node)
                )
                seen += 1
    assert seen >= 6


def test_of_chroma_only_the_client_that_needs_no_server_is_used():
    used = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        used.update(re.findall(r"chromadb(?:\.\w+)*", text if path.name != "peers.py" else ""))
    assert used == {"chromadb", "chromadb.PersistentClient", "chromadb.config"}


# --- models from strangers --------------------------------------------------------------------------------------


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.fixture
def canary(tmp_path):
    """The file that is there when somebody else's code has run."""
    return tmp_path / "canary"


@pytest.fixture
def bomb(canary):
    return pickle.dumps({"weight": Bomb(canary)})


def tiny_tokenizer(folder):
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefgh",
        *(f"##{letter}" for letter in "abcdefgh"),
    ]
    tokenizer = Tokenizer(WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special
    )
    tokens = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **tokens
    ).save_pretrained(folder)
    return {
        "vocab_size": len(names), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 64,
    }  # fmt: skip


def save_inference(folder):
    """A cross-encoder whose outputs are 0, 1 and 2, whatever it is given."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    labels = {0: "entailment", 1: "neutral", 2: "contradiction"}
    shape = tiny_tokenizer(folder)
    model = BertForSequenceClassification(
        BertConfig(**shape, id2label=labels, label2id={label: n for n, label in labels.items()})
    )
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([0.0, 1.0, 2.0])
    model.save_pretrained(folder)
    return folder


def save_embedding(folder, pooling):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**tiny_tokenizer(folder / "bert"))).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(16, pooling)], device="cpu").save(
        str(folder / "model")
    )
    return folder / "model"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small model for each way of loading one, made here."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "embedding, mean": save_embedding(folder / "mean", "mean"),
        "embedding, cls": save_embedding(folder / "cls", "cls"),
        "inference": save_inference(folder / "inference"),
        "language": save_tiny_model(folder / "language"),
    }


LOAD = {
    "embedding, mean": load_embedder,
    "embedding, cls": load_embedder,
    "inference": load_nli_model,
    "language": load_language_model,
}


@pytest.fixture
def stranger(models, tmp_path, monkeypatch):
    """The folder of a copy of one of the models, for a stranger to change."""
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))
    return lambda kind: Path(shutil.copytree(models[kind], tmp_path / "stranger"))


def change(file, **values):
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8"
    )


@pytest.mark.parametrize("kind", LOAD)
def test_pickled_weights_are_refused_and_not_read(stranger, kind, bomb, canary):
    folder = stranger(kind)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(
        ModelUnavailable, match=r"only pickled weights in pytorch_model\.bin"
    ) as refused:
        LOAD[kind](str(folder))
    assert str(folder) in str(refused.value)
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists()


def test_a_pickled_part_of_a_model_is_refused_and_not_read(stranger, bomb, canary):
    folder = stranger("embedding, cls")
    part = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    (folder / "modules.json").write_text(json.dumps([*modules, part]), encoding="utf-8")
    (folder / "2_Dense").mkdir()
    settings = {
        "in_features": 16,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(
        ModelUnavailable, match=r"only pickled weights in 2_Dense.pytorch_model\.bin"
    ):
        load_embedder(str(folder))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["embedding, cls", "inference", "language"])
def test_a_pickle_beside_safe_weights_is_not_read(stranger, kind, bomb, canary):
    folder = stranger(kind)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (folder / name).write_bytes(bomb)
    assert LOAD[kind](str(folder)).name == str(folder)
    assert not canary.exists()


def write_code(folder, canary):
    """A module that says it was there as soon as it is imported, and has a class for everything."""
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")


@pytest.mark.parametrize("kind", LOAD)
def test_a_model_that_brings_its_own_code_is_refused_and_the_code_not_run(stranger, kind, canary):
    folder = stranger(kind)
    write_code(folder, canary)
    classes = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForSequenceClassification",
    )
    change(folder / "config.json", model_type="evil", auto_map=dict.fromkeys(classes, "evil.Evil"))
    with pytest.raises(
        ModelUnavailable, match="brings code of its own, and Footnote runs no code of a model"
    ):
        LOAD[kind](str(folder))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["embedding, cls", "inference", "language"])
def test_the_code_of_a_tokeniser_is_not_run(stranger, kind, canary):
    folder = stranger(kind)
    write_code(folder, canary)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil"] * 2},
    )
    with contextlib.suppress(
        ModelUnavailable
    ):  # it may also be loaded as what it is without that code
        LOAD[kind](str(folder))
    assert not canary.exists()


@pytest.mark.parametrize(
    "kind", ["evil.Evil", "os.system", "sentence_transformers.evil.Evil", "builtins.exec"]
)
def test_a_part_of_a_model_that_is_code_of_others_is_refused(stranger, kind, canary, monkeypatch):
    folder = stranger("embedding, cls")
    write_code(folder, canary)
    monkeypatch.syspath_prepend(str(folder))
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="does not load"):
        load_embedder(str(folder))
    assert not canary.exists()


def written(model):
    return "".join(model.stream([Message("user", "a")], GenerationLimits(4, 60), threading.Event()))


def test_a_model_cannot_bring_its_own_way_of_writing(stranger, canary):
    folder = stranger("language")
    expected = written(load_language_model(str(folder)))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(
        f"open({str(canary)!r}, 'w')\ndef generate(*a, **k): 1/0\n"
    )
    assert written(load_language_model(str(folder))) == expected
    assert not canary.exists()


@pytest.mark.parametrize("name", ["torch.seed", "torch.nn.Sigmoid", "os.abort"])
@pytest.mark.parametrize("place", ["now", "before"])
def test_an_inference_model_cannot_name_a_function_to_be_called(stranger, place, name):
    folder = stranger("inference")
    now = {"sentence_transformers": {"activation_fn": name}}
    change(
        folder / "config.json",
        **(now if place == "now" else {"sbert_ce_default_activation_function": name}),
    )
    (relation,) = load_nli_model(str(folder)).predict([("a", "b")])
    # The softmax of (0, 1, 2).
    assert relation.entailment == pytest.approx(0.0900, abs=1e-3)
    assert relation.contradiction == pytest.approx(0.6652, abs=1e-3)


FILES = [(kind, file) for kind in LOAD for file in ("config.json", "tokenizer.json")]
FILES += [("embedding, mean", "modules.json"), ("embedding, cls", "modules.json")]


@pytest.mark.parametrize(("kind", "file"), FILES, ids=str)
@pytest.mark.parametrize(
    "content", [b"[1]", b'"text"', b"\xff", b"{", b"[" * 100_000], ids=lambda one: str(one[:6])
)
def test_a_model_of_nonsense_is_refused_in_one_way(stranger, kind, file, content):
    folder = stranger(kind)
    (folder / file).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="does not load"):
        LOAD[kind](str(folder))


# --- templates of strangers -------------------------------------------------------------------------------------

TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ messages.__class__.__init__.__globals__['__builtins__']['open']('CANARY', 'w') }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('CANARY', 'w') }}",
    "{{ strftime_now.__globals__['os'].system('touch CANARY') }}",
    "{{ 'x'.__getattribute__('__class__') }}{{ (''|attr('__class__')).mro() }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch CANARY') }}",
    "{% for one in range(1000000000) %}x{% endfor %}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_reaches_nothing_beyond_the_messages(tmp_path, template, canary):
    folder = save_tiny_model(tmp_path / "model", template=template.replace("CANARY", str(canary)))
    model = load_language_model(str(folder))
    with pytest.raises(ModelFailed, match="its chat template does not take these messages"):
        written(model)
    assert not canary.exists()


@pytest.fixture(scope="module")
def in_openvino():
    """The folder of the model that comes along, as OpenVINO has it."""
    from rag.models.files import bundled_gguf
    from rag.models.runtimes.openvino_gguf import convert_gguf_to_openvino

    return convert_gguf_to_openvino(bundled_gguf())


@pytest.mark.parametrize("template", TEMPLATES[:-1])
def test_a_template_in_openvino_reaches_nothing_either(in_openvino, tmp_path, template, canary):
    """OpenVINO fills templates in with C++ code of its own, which knows no Python and no files, and no end either."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in in_openvino.iterdir():
        (folder / file.name).symlink_to(file)
    tokenizer = (in_openvino / "openvino_tokenizer.xml").read_text(encoding="utf-8")
    value = html.escape(template.replace("CANARY", str(canary)), quote=True)
    changed, places = re.subn(r'(?<=<chat_template value=")[^"]*', lambda _: value, tokenizer)
    assert places == 1
    (folder / "openvino_tokenizer.xml").unlink()
    (folder / "openvino_tokenizer.xml").write_text(changed, encoding="utf-8")
    model = load_language_model(str(folder))
    with contextlib.suppress(ModelFailed):
        assert model.count_tokens([Message("user", "a")]) < 100
    assert not canary.exists()


def test_no_gguf_file_but_the_one_that_comes_along_is_read(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\xff" * 1000)
    with pytest.raises(ModelUnavailable, match=r"no config\.json"):
        load_language_model(str(tmp_path))
    with pytest.raises(ModelUnavailable, match="neither a folder with a model nor a downloaded"):
        load_language_model(str(tmp_path / "model.gguf"))


# --- a library from a stranger ----------------------------------------------------------------------------------


def test_an_embedding_function_that_a_collection_names_is_not_made(library_copy):
    import chromadb
    from chromadb.config import Settings
    from chromadb.utils.embedding_functions import register_embedding_function

    made = []

    @register_embedding_function
    class Canary(chromadb.EmbeddingFunction):
        def __init__(self):
            made.append(self)

        def __call__(self, input):  # noqa: A002 - as Chroma calls it
            return [[0.0] * 384 for _ in input]

        @staticmethod
        def name():
            return "canary"

        def get_config(self):
            return {}

        @staticmethod
        def build_from_config(config):
            return Canary()

    named = '"embedding_function":{"type":"known","name":"canary","config":{}}'
    with (
        contextlib.closing(sqlite3.connect(library_copy / "chroma" / "chroma.sqlite3")) as chroma,
        chroma,
    ):
        change = 'UPDATE collections SET schema_str = replace(schema_str, \'"embedding_function":{"type":"legacy"}\', ?)'
        assert chroma.execute(change, (named,)).rowcount == 1
    assistant = Assistant.open(library_copy, language_model="none", create=False)
    assert "Sliding Ledgers" in assistant.search(LEDGERS)[0].paper.title
    assert "71%" in assistant.ask(LEDGERS).text
    assistant.remove(assistant.search(LEDGERS)[0].paper.id)
    assistant.add(PAPERS)
    assert "71%" in assistant.ask(LEDGERS).text
    assert made == []
    # Asked in another way, it would have been.
    client = chromadb.PersistentClient(
        str(library_copy / "chroma"), Settings(anonymized_telemetry=False)
    )
    assert client.list_collections()[0].configuration["embedding_function"] in made


# --- other users of the machine ---------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


def for_others(folder):
    """What of a folder's content others may touch in any way."""
    return sorted(path.name for path in folder.iterdir() if mode(path) & 0o077)


@posix
@pytest.mark.parametrize("found", [None, 0o755], ids=["a new folder", "the user's folder"])
def test_a_library_is_for_its_owner_only(tmp_path, umask, found):
    folder = tmp_path / "new" / "library"
    if found:
        folder.mkdir(parents=True)
        folder.chmod(found)
        folder.parent.chmod(found)
    assistant = Assistant(Library(folder), HashEmbedder(), "none")
    assistant.add(PAPERS)
    assert mode(folder) == mode(folder.parent) == (found or 0o700)
    there = {path.name for path in folder.iterdir()}
    assert there >= {
        "library.sqlite",
        "library.sqlite-wal",
        "library.sqlite-shm",
        "write.lock",
        "chroma",
    }
    assert for_others(folder) == []
    assistant.reindex()
    assert any(path.name.startswith("chroma-") for path in folder.iterdir())
    assert for_others(folder) == []


@posix
def test_settings_are_for_their_owner_only(tmp_path, umask, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    save_setting("language_model", "http://ada:swordfish@localhost:8000")
    assert (mode(config_file()), mode(config_file().parent)) == (0o600, 0o700)


@posix
def test_settings_that_others_could_read_are_shut_and_the_folder_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    config_file().parent.mkdir()
    config_file().parent.chmod(0o755)
    config_file().touch()
    config_file().chmod(0o644)
    save_setting("language_model", "http://ada:swordfish@localhost:8000")
    assert (mode(config_file()), mode(config_file().parent)) == (0o600, 0o755)


@posix
def test_conversations_are_for_their_owner_only(tmp_path, umask):
    path = tmp_path / "data" / "conversations.sqlite"
    ConversationStore(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(
            "SELECT count(*) FROM turn"
        ).fetchone()  # while it is open, SQLite has two files beside it
        assert len(list(path.parent.iterdir())) == 4
        assert (mode(path.parent), for_others(path.parent)) == (0o700, [])


# --- SECURITY.md ------------------------------------------------------------------------------------------------


def tables(heading):
    """The cells of the rows below a heading, without those that say what is in them."""
    part = SECURITY.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows[1:] if not set("".join(row)) <= set("-| ")]


@functools.cache
def named_in(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_names_a_test_that_is_there():
    rows = tables("What is promised, and the test that holds it")
    assert len(rows) > 20
    for promise, held in rows:
        named = re.findall(r"`(test_\w+\.py)(?: (test_\w+))?`", held)
        assert named, promise
        for file, name in named:
            assert not name or name in named_in(f"tests/{file}"), (promise, file, name)
            assert (ROOT / "tests" / file).exists(), (promise, file)


def test_the_installed_versions_are_beyond_the_known_advisories():
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    pinned = {name.lower(): version.split(";")[0] for name, version in pinned.items()}
    rows = tables("Known advisories of what Footnote is made of")
    floors = {name.strip("`"): floor for name, floor, *_ in rows}
    assert {"gradio", "brotli", "starlette", "h11", "jinja2", "torch"} <= set(floors)
    for name, floor in floors.items():
        if floor == "none":
            continue
        assert Version(pinned[name]) >= Version(floor.removeprefix("≥ ")), name
        assert Version(importlib.metadata.version(name)) >= Version(floor.removeprefix("≥ ")), name
    assert floors["chromadb"] == "none"


def test_the_page_on_security_leads_somewhere_and_is_led_to():
    links = re.findall(r"\]\(([^)\s]+)\)", SECURITY)
    assert [
        link for link in links if not re.match(r"https://|#", link) and not (ROOT / link).exists()
    ] == []
    named = re.findall(r"`((?:rag|eval|ui|tests|prompts)/[\w./-]*)`", SECURITY)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make audit" in SECURITY
    assert (
        subprocess.run(
            ["make", "-n", "audit"], cwd=ROOT, capture_output=True, check=False
        ).returncode
        == 0
    )
