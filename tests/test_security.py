"""Security: network, pickles, code in models and templates, private files, SECURITY.md.

Requests to the page are tested in test_server.py.
"""

import ast
import contextlib
import functools
import importlib.metadata
import itertools
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
from tiny_models import (
    save_tiny_embedder,
    save_tiny_gguf,
    save_tiny_language_model,
)

from rag import Assistant, Library, ModelUnavailable
from rag.config import config_file, save_setting
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, Message
from rag.models.registry import load_embedder, load_language_model
from ui.services.conversations import ConversationStore

ROOT = Path(__file__).parent.parent
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LEDGERS = "How do Sliding Ledgers shrink the KV cache?"

offline = pytest.mark.promise("offline")
no_foreign_code = pytest.mark.promise("no-foreign-code")
private_files = pytest.mark.promise("private-files")


# --- the network -----------------------------------------------------------------------------

# Python imports a module of this name when it starts, also in every process that a test starts.
SITECUSTOMIZE = """
import os, socket, sys

WATCHED = {
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname",
    "socket.sendmsg", "socket.sendto", "http.client.connect", "urllib.Request",
}

def refuse(event, arguments):
    if event in WATCHED:
        with open(os.environ["ATTEMPTS"], "a") as log:
            print(event, arguments, file=log)
        raise OSError(f"the network is closed: {event}")

def listen(*arguments):
    with open(os.environ["ATTEMPTS"], "a") as log:
        print("socket.listen", arguments, file=log)
    raise OSError("listening is not allowed")

sys.addaudithook(refuse)
socket.socket.listen = listen  # there is no audit event for it
"""

USE_EVERYTHING = """
import io, json, sys
from pathlib import Path
from rag.cli import main as cli

papers, questions, folder = map(Path, sys.argv[1:])
library = ("--library", str(folder / "library"))
codes = []

def footnote(*arguments, stdin=""):
    sys.argv, sys.stdin = ["footnote", *map(str, arguments)], io.StringIO(stdin)
    try:
        cli.main()
    except SystemExit as end:
        codes.append((arguments[0], end.code or 0))

question = "How do Sliding Ledgers shrink the KV cache?"
footnote("add", papers, *library)
footnote("ask", question, "--style", "quote", *library)
footnote("ask", question, "--style", "write", *library)
footnote("search", "sparse attention", *library)
footnote("chat", *library, stdin=f"{question}\\nAnd by how much does perplexity rise?\\n")
footnote("export", "--format", "bibtex", *library)
footnote("reindex", *library)
footnote("doctor", *library)
footnote("config", "language_model", "bundled")
selection = ("--split", "all", "--style", "quote", "--only", "always abstains")
footnote("eval", "--questions", questions, *selection, "--output", folder / "run", *library)

from ui.server.application import application, import_gradio
import_gradio()
from starlette.testclient import TestClient
from rag import Assistant
from ui.app import build_page, theme
from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry

open_assistant = lambda path, model: Assistant.open(path, language_model=model or "none")
registry = LibraryRegistry([folder / "library"], open_assistant)
page = build_page(registry, ConversationStore(folder / "conversations.sqlite"), folder / "runs")
app = application(page, "127.0.0.1", 7860, {}, **theme())
with TestClient(app, "http://127.0.0.1:7860") as client:
    codes.append(("ui", client.get("/").status_code))
print(json.dumps(codes))
"""
COMMANDS = "add ask ask search chat export reindex doctor config eval".split()

EVALUATION_QUESTION = {
    "id": "kv",
    "split": "dev",
    "kind": "base",
    "type": "fact",
    "answerable": True,
    "question": LEDGERS,
    "gold": [["sliding-ledgers-shrinking-the-ef3e7d"]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}


@pytest.fixture
def user_folders(tmp_path, monkeypatch):
    """Give the processes of a test their own settings and data."""
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def run_offline(user_folders, tmp_path):
    """Function that runs Python code without a network; returns the run and the attempts."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(SITECUSTOMIZE)
    attempts = tmp_path / "attempts"
    attempts.touch()
    path = os.pathsep.join([str(guard), str(ROOT), str(ROOT / "tests")])

    def run(code, *arguments, **variables):
        settings = {"PYTHONPATH": path, "ATTEMPTS": str(attempts), "COLUMNS": "80"}
        process = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | settings | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return process, attempts.read_text().splitlines()

    return run


UDP = "socket.socket(type=socket.SOCK_DGRAM)"
IN_ANOTHER_PROCESS = (
    "import subprocess, sys;"
    "subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(str())'])"
)


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo"),
        ("import socket; socket.socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "socket.connect"),
        (f"import socket; {UDP}.sendto(b'', ('127.0.0.1', 9))", "socket.sendto"),
        ("import socket; socket.create_server(('127.0.0.1', 0))", "socket.listen"),
        ("from urllib.request import urlopen; urlopen('http://127.0.0.1:9')", "urllib.Request"),
        ("import httpx2; httpx2.get('http://127.0.0.1:9')", "socket."),
        (IN_ANOTHER_PROCESS, "socket."),
    ],
)
def test_guard_sees_every_way_to_the_network(run_offline, code, event):
    _, attempts = run_offline(code)
    assert attempts
    assert attempts[0].startswith(event)


@offline
def test_commands_and_page_use_no_network_and_no_port(run_offline, tmp_path):
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps(EVALUATION_QUESTION), encoding="utf-8")
    run, attempts = run_offline(USE_EVERYTHING, PAPERS, questions, tmp_path)
    assert run.returncode == 0, run.stderr
    codes = json.loads(run.stdout.splitlines()[-1])
    assert codes == [*([name, 0] for name in COMMANDS), ["ui", 200]], run.stderr
    assert "71% on average" in " ".join(run.stdout.split())
    assert attempts == []


LOAD_MODELS = """
import sys
from rag.models.registry import load_embedder, load_language_model
embedder, language = sys.argv[1:]
print(load_embedder(embedder).dimension, load_language_model(language).context_tokens)
"""


@offline
def test_models_in_folders_load_without_the_network(run_offline, models):
    folders = models["embedder, cls"], models["language model"]
    run, attempts = run_offline(LOAD_MODELS, *folders)
    assert (run.returncode, run.stdout.split()) == (0, ["32", "512"]), run.stderr
    assert attempts == []


ADD_AND_ASK = """
import sys
from rag import Assistant
folder, papers, embedder, question = sys.argv[1:]
assistant = Assistant.open(folder, embedder=embedder)
assistant.add(papers)
print(assistant.ask(question).text)
"""


@offline
@pytest.mark.soak
def test_first_use_converts_models_without_the_network_and_leaves_the_home_folder_clean(
    run_offline, models, times, tmp_path
):
    embedder = times(models["embedder, mean"], "all-MiniLM-L6-v2")
    home = tmp_path / "home"
    home.mkdir()
    run, attempts = run_offline(
        ADD_AND_ASK,
        tmp_path / "library",
        PAPERS,
        embedder,
        LEDGERS,
        HOME=str(home),
        FOOTNOTE_CACHE=str(tmp_path / "cache"),
    )
    assert run.returncode == 0, run.stderr
    assert "71% on average" in run.stdout
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1
    # Libraries may use their own caches, but may not leave a client id or a consent file.
    assert {path.name for path in home.iterdir()} <= {".cache", ".config", ".local"}
    assert attempts == []


USE_ON_A_MACHINE_WITHOUT_NETWORK = """
import contextlib, fcntl, json, os, socket, struct, subprocess, sys, urllib.request

papers, question, folder = sys.argv[1:]
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    print(json.dumps("there is a network"))
    sys.exit()
except OSError:
    pass
footnote = [sys.executable, "-m", "rag.cli"]
library = ["--library", os.path.join(folder, "library")]

def output(*arguments):
    command = [*footnote, *arguments, *library]
    return subprocess.run(command, capture_output=True, text=True).stdout

results = [output("add", papers), output("ask", question)]
with contextlib.suppress(OSError):  # without a loopback interface, nothing can be served
    up, set_flags = 1, 0x8914
    with socket.socket(type=socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))
    command = [*footnote, "ui", "--port", "7860", *library]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        try:
            results.append(page.stdout.readline())
            results.append(urllib.request.urlopen("http://127.0.0.1:7860/", timeout=60).status)
        finally:
            page.terminate()
print(json.dumps(results))
"""


@pytest.fixture
def unshare():
    """Command that starts a process without a network, where that is allowed."""
    command = [shutil.which("unshare") or "unshare", "--net", "--map-root-user"]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot start a process without a network here: {error}")
    return command


@offline
def test_everything_works_on_a_machine_without_any_network(unshare, user_folders, tmp_path):
    code = [sys.executable, "-c", USE_ON_A_MACHINE_WITHOUT_NETWORK]
    command = [*unshare, *code, str(PAPERS), LEDGERS, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    added, answer, *page = json.loads(run.stdout)
    assert re.match(r"12 (papers added|records read: 12 added)", added), added
    assert "71% on average" in " ".join(answer.split())
    if not page:
        pytest.skip("cannot switch on the loopback interface there")
    line, status = page
    assert "http://127.0.0.1:7860" in line
    assert status == 200


# --- the source code -------------------------------------------------------------------------

PACKAGES = ("rag", "eval", "ui")
SOURCES = [*ROOT.glob("rag/**/*.py"), *ROOT.glob("eval/**/*.py"), *ROOT.glob("ui/**/*.py")]
# Benchmarks run other projects as they are.
OWN_SOURCES = [path for path in SOURCES if "benchmarks" not in path.parts]
UNSAFE_MODULES = frozenset(
    "_pickle cloudpickle code dill joblib marshal pickle shelve yaml".split()
)
UNSAFE_CALLS = frozenset(
    "__import__ compile eval exec np.load numpy.load os.popen os.system".split()
    + "torch.load yaml.load".split()
)
# The only value that each of these arguments may have.
SAFE_VALUES = {
    "trust_remote_code": False,
    "allow_pickle": False,
    "weights_only": True,
    "shell": False,
}
MODEL_LOADERS = ("from_pretrained", "SentenceTransformer", "CrossEncoder")


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def find_unsafe(tree):
    """Return the names of a module's imports, calls and arguments that could run foreign code."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += filter(is_unsafe_module, imported_modules(node))
        elif isinstance(node, ast.Call):
            if not reads_weights_only(node):
                names += filter(UNSAFE_CALLS.__contains__, [ast.unparse(node.func)])
            names += unsafe_arguments([(keyword.arg, keyword.value) for keyword in node.keywords])
        elif isinstance(node, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.keys]
            names += unsafe_arguments(zip(keys, node.values, strict=True))
    return names


def reads_weights_only(call):
    """Return True for a call that unpickles tensors and plain values alone."""
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return arguments.get("weights_only") == "True"


def imported_modules(node):
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def is_unsafe_module(name):
    return name.split(".")[0] in UNSAFE_MODULES


def unsafe_arguments(arguments):
    """Yield the names of arguments, given as (name, expression), that have an unsafe value."""
    for name, expression in arguments:
        if name in SAFE_VALUES:
            value = getattr(expression, "value", expression)
            if value is not SAFE_VALUES[name]:
                yield name


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import os, pickle as p", ["pickle"]),
        ("from joblib.numpy_pickle import load", ["joblib.numpy_pickle"]),
        ("torch.load(file)", ["torch.load"]),
        ("torch.load(file, weights_only=False)", ["torch.load", "weights_only"]),
        ("torch.load(file, weights_only=True)", []),
        ("x = [eval(text)]", ["eval"]),
        ("model.eval(); re.compile(text); json.load(file)", []),
        ("load(file, allow_pickle=True)", ["allow_pickle"]),
        ("load(file, trust_remote_code=is_trusted)", ["trust_remote_code"]),
        ("load(file, trust_remote_code=False)", []),
        ("arguments = {'trust_remote_code': True}", ["trust_remote_code"]),
        ("subprocess.run(line, shell=True)", ["shell"]),
    ],
)
def test_unsafe_code_is_found(code, names):
    assert find_unsafe(ast.parse(code)) == names


@no_foreign_code
@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_unpickles_evaluates_or_trusts_foreign_code(package):
    unsafe = {}
    for path in SOURCES:
        names = find_unsafe(parse(path))
        if names and path.is_relative_to(ROOT / package):
            unsafe[str(path.relative_to(ROOT))] = names
    assert unsafe == {}


@no_foreign_code
def test_models_are_loaded_from_this_machine_without_their_code():
    calls = []
    for path in OWN_SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func).rsplit(".")[-1]
                if function in MODEL_LOADERS:
                    calls.append(node)
    assert len(calls) >= 6
    for call in calls:
        arguments = {keyword.arg for keyword in call.keywords}
        # None stands for `**arguments`: that dictionary is checked against SAFE_VALUES.
        is_safe = None in arguments or arguments >= {"local_files_only", "trust_remote_code"}
        assert is_safe, ast.unparse(call)


@offline
def test_only_the_chroma_client_without_a_server_is_used():
    names = set()
    for path in OWN_SOURCES:
        names.update(re.findall(r"chromadb(?:\.\w+)*", path.read_text(encoding="utf-8")))
    assert names == {"chromadb", "chromadb.PersistentClient", "chromadb.config"}


# --- untrusted models ------------------------------------------------------------------------


class Bomb:
    """Object that creates a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.fixture
def canary(tmp_path):
    """File that exists when foreign code has run."""
    return tmp_path / "canary"


@pytest.fixture
def bomb(canary):
    return pickle.dumps({"weight": Bomb(canary)})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of a tiny model for each way of loading one."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "embedder, mean": save_tiny_embedder(folder / "mean", "mean"),
        "embedder, cls": save_tiny_embedder(folder / "cls", "cls"),
        "language model": save_tiny_language_model(folder / "language"),
    }


LOADERS = {
    "embedder, mean": load_embedder,
    "embedder, cls": load_embedder,
    "language model": load_language_model,
}
# The mean-pooling embedder has no tokenizer class and no PyTorch code path of its own.
IN_PYTORCH = ["embedder, cls", "language model"]


@pytest.fixture
def untrusted(models, tmp_path, monkeypatch):
    """Function that copies one of the models for a test to tamper with."""
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))
    return lambda kind: Path(shutil.copytree(models[kind], tmp_path / "untrusted"))


def read_json(file):
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file, content):
    file.write_text(json.dumps(content), encoding="utf-8")


def update_json(file, **values):
    write_json(file, read_json(file) | values)


def write_evil_module(folder, canary):
    """Write a module that creates the canary when it is imported."""
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")


@no_foreign_code
@pytest.mark.parametrize("kind", LOADERS)
def test_pickled_weights_are_refused_unread(untrusted, kind, bomb, canary):
    folder = untrusted(kind)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bomb)
    message = r"only pickled weights in pytorch_model\.bin"
    with pytest.raises(ModelUnavailable, match=message) as caught:
        LOADERS[kind](str(folder))
    assert str(folder) in str(caught.value)
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists()


@no_foreign_code
def test_pickled_part_of_a_model_is_refused_unread(untrusted, bomb, canary):
    folder = untrusted("embedder, cls")
    part = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    write_json(folder / "modules.json", [*read_json(folder / "modules.json"), part])
    (folder / "2_Dense").mkdir()
    config = {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.Tanh"}
    write_json(folder / "2_Dense" / "config.json", config | {"bias": True})
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(bomb)
    message = r"only pickled weights in 2_Dense.pytorch_model\.bin"
    with pytest.raises(ModelUnavailable, match=message):
        load_embedder(str(folder))
    assert not canary.exists()


@no_foreign_code
@pytest.mark.parametrize("kind", IN_PYTORCH)
def test_pickle_beside_safe_weights_is_not_read(untrusted, kind, bomb, canary):
    folder = untrusted(kind)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (folder / name).write_bytes(bomb)
    assert LOADERS[kind](str(folder)).name == str(folder)
    assert not canary.exists()


@no_foreign_code
@pytest.mark.parametrize("kind", LOADERS)
def test_model_with_its_own_code_is_refused_and_the_code_not_run(untrusted, kind, canary):
    folder = untrusted(kind)
    write_evil_module(folder, canary)
    classes = "AutoConfig AutoModel AutoModelForCausalLM AutoModelForSequenceClassification".split()
    auto_map = dict.fromkeys(classes, "evil.Evil")
    update_json(folder / "config.json", model_type="evil", auto_map=auto_map)
    message = "needs its own code, and Footnote never runs a model's code"
    with pytest.raises(ModelUnavailable, match=message):
        LOADERS[kind](str(folder))
    assert not canary.exists()


@no_foreign_code
@pytest.mark.parametrize("kind", IN_PYTORCH)
def test_code_of_a_tokenizer_is_not_run(untrusted, kind, canary):
    folder = untrusted(kind)
    write_evil_module(folder, canary)
    update_json(
        folder / "tokenizer_config.json",
        tokenizer_class="Evil",
        auto_map={"AutoTokenizer": ["evil.Evil"] * 2},
    )
    with contextlib.suppress(ModelUnavailable):  # it may also load without that code
        LOADERS[kind](str(folder))
    assert not canary.exists()


@no_foreign_code
@pytest.mark.parametrize(
    "name", ["evil.Evil", "os.system", "sentence_transformers.evil.Evil", "builtins.exec"]
)
def test_part_of_a_model_that_is_foreign_code_is_refused(untrusted, name, canary, monkeypatch):
    folder = untrusted("embedder, cls")
    write_evil_module(folder, canary)
    monkeypatch.syspath_prepend(str(folder))
    modules = read_json(folder / "modules.json")
    modules[0]["type"] = name
    write_json(folder / "modules.json", modules)
    with pytest.raises(ModelUnavailable, match="cannot load"):
        load_embedder(str(folder))
    assert not canary.exists()


def generate(model):
    limits = GenerationLimits(4, 60)
    return "".join(model.stream([Message("user", "a")], limits, threading.Event()))


@no_foreign_code
def test_generation_code_in_a_model_folder_is_not_run(untrusted, canary):
    folder = untrusted("language model")
    expected = generate(load_language_model(str(folder)))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(
        f"open({str(canary)!r}, 'w')\ndef generate(*a, **k): 1/0\n"
    )
    assert generate(load_language_model(str(folder))) == expected
    assert not canary.exists()


DAMAGED_FILES = [
    *itertools.product(LOADERS, ["config.json", "tokenizer.json"]),
    ("embedder, mean", "modules.json"),
    ("embedder, cls", "modules.json"),
]


@no_foreign_code
@pytest.mark.parametrize(("kind", "file"), DAMAGED_FILES, ids=str)
@pytest.mark.parametrize(
    "content", [b"[1]", b'"text"', b"\xff", b"{", b"[" * 100_000], ids=lambda text: str(text[:6])
)
def test_damaged_model_is_refused_with_one_kind_of_error(untrusted, kind, file, content):
    folder = untrusted(kind)
    (folder / file).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="cannot load"):
        LOADERS[kind](str(folder))


# --- untrusted chat templates ----------------------------------------------------------------

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
    "{% for number in range(1000000000) %}x{% endfor %}",
]


@no_foreign_code
@pytest.mark.parametrize("template", TEMPLATES)
def test_chat_template_reaches_nothing_but_the_messages(tmp_path, template, canary):
    template = template.replace("CANARY", str(canary))
    folder = save_tiny_language_model(tmp_path / "model", template=template)
    model = load_language_model(str(folder))
    with pytest.raises(ModelFailed, match="cannot apply its chat template"):
        generate(model)
    assert not canary.exists()


@no_foreign_code
@pytest.mark.parametrize("template", TEMPLATES[:-1])
def test_chat_template_in_openvino_reaches_nothing_either(tmp_path, template, canary, monkeypatch):
    """OpenVINO renders templates in C++, without Python or files, but also without a time limit."""
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))
    template = template.replace("CANARY", str(canary))
    file = save_tiny_gguf(tmp_path / "model.gguf", template=template)
    with contextlib.suppress(ModelFailed, ModelUnavailable):
        model = load_language_model(str(file))
        assert model.name == "model"  # in OpenVINO
        assert model.count_tokens([Message("user", "a")]) < 100
    assert not canary.exists()


# --- an untrusted library --------------------------------------------------------------------


@no_foreign_code
def test_embedding_function_named_by_a_collection_is_not_created(library_copy):
    import chromadb
    from chromadb.config import Settings
    from chromadb.utils.embedding_functions import register_embedding_function

    created = []

    @register_embedding_function
    class Canary(chromadb.EmbeddingFunction):
        def __init__(self):
            created.append(self)

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

    legacy = '"embedding_function":{"type":"legacy"}'
    named = '"embedding_function":{"type":"known","name":"canary","config":{}}'
    database = sqlite3.connect(library_copy / "chroma" / "chroma.sqlite3")
    with contextlib.closing(database), database:
        update = "UPDATE collections SET schema_str = replace(schema_str, ?, ?)"
        assert database.execute(update, (legacy, named)).rowcount == 1
    assistant = Assistant.open(library_copy, language_model="none", create=False)
    paper = assistant.search(LEDGERS)[0].paper
    assert "Sliding Ledgers" in paper.title
    assert "71%" in assistant.ask(LEDGERS).text
    assistant.remove(paper.id)
    assistant.add(PAPERS)
    assert "71%" in assistant.ask(LEDGERS).text
    assert created == []
    # The configuration is valid: a client that reads it creates the function.
    settings = Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(library_copy / "chroma"), settings)
    assert client.list_collections()[0].configuration["embedding_function"] in created


# --- other users of the machine --------------------------------------------------------------

needs_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(path):
    return path.stat().st_mode & 0o777


def accessible_to_others(folder):
    """Names in a folder for which others have any permission."""
    return sorted(path.name for path in folder.iterdir() if permissions(path) & 0o077)


@private_files
@needs_posix
@pytest.mark.parametrize("existing", [None, 0o755], ids=["a new folder", "the user's folder"])
def test_library_is_accessible_to_its_owner_only(tmp_path, umask, existing):
    folder = tmp_path / "new" / "library"
    if existing:
        folder.mkdir(parents=True)
        folder.chmod(existing)
        folder.parent.chmod(existing)
    assistant = Assistant(Library(folder), HashEmbedder(), "none")
    assistant.add(PAPERS)
    assert permissions(folder) == permissions(folder.parent) == (existing or 0o700)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"library.sqlite", "library.sqlite-wal", "library.sqlite-shm"}
    assert names >= {"write.lock", "chroma"}
    assert accessible_to_others(folder) == []
    assistant.reindex()
    assert any(path.name.startswith("chroma-") for path in folder.iterdir())
    assert accessible_to_others(folder) == []


@pytest.fixture
def settings_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings"


def save_password():
    save_setting("language_model", "http://ada:swordfish@localhost:8000")


@private_files
@needs_posix
def test_settings_are_accessible_to_their_owner_only(settings_folder, umask):
    save_password()
    assert permissions(config_file()) == 0o600
    assert permissions(settings_folder) == 0o700


@private_files
@needs_posix
def test_settings_that_others_could_read_become_private_but_their_folder_stays(settings_folder):
    settings_folder.mkdir()
    settings_folder.chmod(0o755)
    config_file().touch()
    config_file().chmod(0o644)
    save_password()
    assert permissions(config_file()) == 0o600
    assert permissions(settings_folder) == 0o755


@private_files
@needs_posix
def test_conversations_are_accessible_to_their_owner_only(tmp_path, umask):
    path = tmp_path / "data" / "conversations.sqlite"
    ConversationStore(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        # While the database is open, SQLite has two files beside it.
        database.execute("SELECT count(*) FROM turn").fetchone()
        assert len(list(path.parent.iterdir())) == 4
        assert permissions(path.parent) == 0o700
        assert accessible_to_others(path.parent) == []


# --- SECURITY.md -----------------------------------------------------------------------------


def section(heading):
    return SECURITY.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def table_rows(heading):
    """Cells of the rows of a section's table, without its header."""
    rows = []
    for line in section(heading).splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


@functools.cache
def promises_in_tests():
    """Names of the promises that tests are marked with."""
    names = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.promise":
                names.update(argument.value for argument in node.args)
    return names


PROMISES = re.findall(r"^- \*\*([\w-]+)\*\*:", section("Promises"), flags=re.MULTILINE)


@pytest.mark.parametrize("promise", PROMISES)
def test_promise_has_a_test_that_carries_its_name(promise):
    assert promise in promises_in_tests()


def test_no_test_carries_a_promise_that_is_not_made():
    assert len(PROMISES) > 10
    assert promises_in_tests() <= set(PROMISES)


def test_installed_versions_are_beyond_the_known_advisories():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        pinned[name.lower()] = version.split(";")[0]
    minimums = {name.strip("`"): minimum for name, minimum, *_ in table_rows("Known advisories")}
    assert {"gradio", "brotli", "starlette", "h11", "jinja2", "torch"} <= set(minimums)
    assert minimums.pop("chromadb") == ""
    for name, minimum in minimums.items():
        assert Version(pinned[name]) >= Version(minimum), name
        assert Version(importlib.metadata.version(name)) >= Version(minimum), name


def test_links_and_paths_of_the_security_page_exist():
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", SECURITY)
    paths = re.findall(r"`((?:rag|eval|ui|tests|prompts)/[\w./-]*)`", SECURITY)
    local = [link for link in links if not link.startswith("https://")]
    assert [name for name in local + paths if not (ROOT / name).exists()] == []
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_audit_command_of_the_security_page_exists():
    assert "make audit" in SECURITY
    run = subprocess.run(["make", "-n", "audit"], cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == 0
