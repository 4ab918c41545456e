"""Embedding models: the default one in both runtimes, tiny ones, and missing ones."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_embedder

from rag.errors import ModelUnavailable
from rag.models.embedder import PassageInput
from rag.models.files import find_embedder_folder, fingerprint_folder
from rag.models.registry import EMBEDDER_RUNTIMES, load_embedder
from rag.models.runtimes.openvino_embedder import OpenVinoEmbedder
from rag.models.runtimes.sentence_transformers_embedder import SentenceTransformersEmbedder

TEXT = "Eelgrass meadows store carbon. They lose it when the water warms by 2.5 degrees."
PASSAGE = PassageInput("Carbon in eelgrass", TEXT, ((0, 31), (32, len(TEXT))))


@pytest.fixture(scope="module")
def default_embedder():
    return load_embedder()


@pytest.fixture(scope="module")
def tiny_embedder_folder(tmp_path_factory):
    """Function that saves a tiny embedding model with the given pooling and random seed."""

    def save(pooling, seed=7):
        return save_tiny_embedder(tmp_path_factory.mktemp(pooling), pooling, seed)

    return save


def test_default_embedder_runs_in_openvino_and_returns_unit_vectors(default_embedder):
    assert isinstance(default_embedder, OpenVinoEmbedder)
    assert (default_embedder.dimension, default_embedder.max_tokens) == (384, 256)
    ((passage, sentences),) = default_embedder.embed_passages([PASSAGE])
    assert passage.shape == (384,)
    assert sentences.shape == (2, 384)
    for vector in (passage, *sentences, default_embedder.embed_question("carbon?")):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_both_runtimes_return_nearly_the_same_vectors(default_embedder):
    folder = find_embedder_folder(default_embedder.name)
    reference = SentenceTransformersEmbedder(default_embedder.name, folder, "reference")
    question = "How much carbon do eelgrass meadows lose?"
    assert default_embedder.embed_question(question) @ reference.embed_question(question) > 0.99
    ((in_openvino, _),) = default_embedder.embed_passages([PASSAGE])
    ((in_pytorch, sentences),) = reference.embed_passages([PASSAGE])
    assert in_openvino @ in_pytorch > 0.99
    assert sentences.shape == (2, 384)


def test_related_sentence_is_nearer_than_unrelated_one(default_embedder):
    passage = default_embedder.embed_passages([PASSAGE])[0][0]
    related = default_embedder.embed_question("Seagrass beds hold much carbon.")
    unrelated = default_embedder.embed_question("The parliament voted on the railway budget.")
    assert related @ passage > unrelated @ passage + 0.3


def test_vector_does_not_depend_on_the_batch(default_embedder):
    alone = default_embedder.embed_passages([PASSAGE])[0][0]
    others = [PassageInput(f"Title {n}", "word " * n, ((0, 4),)) for n in range(1, 40)]
    in_batch = default_embedder.embed_passages([*others[:20], PASSAGE, *others[20:]])[20][0]
    assert alone @ in_batch > 0.999


def test_sentence_beyond_the_longest_input_gets_the_passage_vector(default_embedder):
    text = "Kelp grows. " * 200
    long_passage = PassageInput("Kelp", text, ((0, 11), (2388, 2399)))
    ((passage, sentences),) = default_embedder.embed_passages([long_passage])
    assert np.allclose(sentences[1], passage, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_finite_vector(default_embedder, text):
    passage = PassageInput(text, text, ((0, len(text)),))
    ((passage_vector, sentence_vectors),) = default_embedder.embed_passages([passage])
    assert np.isfinite(passage_vector).all()
    assert np.isfinite(sentence_vectors).all()
    assert np.isfinite(default_embedder.embed_question(text)).all()


@pytest.mark.parametrize(
    ("pooling", "runtime"), [("mean", OpenVinoEmbedder), ("cls", SentenceTransformersEmbedder)]
)
def test_pooling_decides_the_runtime_of_a_folder(
    tiny_embedder_folder, pooling, runtime, monkeypatch, tmp_path
):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))
    folder = tiny_embedder_folder(pooling)
    embedder = load_embedder(str(folder))
    assert isinstance(embedder, runtime)
    assert embedder.dimension == 32
    assert embedder.embed_passages([]) == []
    ((passage, sentences),) = embedder.embed_passages([PASSAGE])
    assert (passage.shape, sentences.shape) == ((32,), (2, 32))
    reference = SentenceTransformersEmbedder("reference", folder, "reference")
    assert embedder.embed_question("abc def") @ reference.embed_question("abc def") > 0.999
    assert embedder.count_tokens(["abc"]) == reference.count_tokens(["abc"]) == [3]


def test_sentence_transformers_takes_over_with_a_warning_when_openvino_fails(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no such device")

    monkeypatch.setattr(OpenVinoEmbedder, "__init__", fail)
    embedder = load_embedder()
    assert isinstance(embedder, SentenceTransformersEmbedder)
    assert embedder.embed_question("carbon").shape == (384,)
    assert "OpenVINO cannot run all-MiniLM-L6-v2 (no such device)" in caplog.text
    assert "using sentence-transformers instead" in caplog.text


def test_different_weights_have_different_fingerprints(tiny_embedder_folder):
    first, same, other = (tiny_embedder_folder("cls", seed) for seed in (1, 1, 2))
    assert fingerprint_folder(first) == fingerprint_folder(same)
    assert fingerprint_folder(first) != fingerprint_folder(other)


def test_missing_embedder_is_reported_with_the_download_command():
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-such-model"):
        load_embedder("nobody/no-such-model")


@pytest.mark.parametrize("runtime", EMBEDDER_RUNTIMES, ids=lambda runtime: runtime.title)
def test_every_registered_embedder_runtime_can_open_models(runtime):
    module = importlib.import_module(f"rag.models.runtimes.{runtime.module}")
    assert callable(module.open_embedder)
