"""Embedding models: the packaged one in both runtimes, small ones made here, and those that are not there."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import ModelUnavailable
from rag.models.embedder import PassageInput
from rag.models.files import find_embedder_folder, fingerprint_folder
from rag.models.registry import load_embedder
from rag.models.runtimes.openvino_embedder import OpenVinoEmbedder
from rag.models.runtimes.sentence_transformers_embedder import SentenceTransformersEmbedder

TEXT = "Eelgrass meadows store carbon. They lose it when the water warms by 2.5 degrees."
PASSAGE = PassageInput("Carbon in eelgrass", TEXT, ((0, 31), (32, len(TEXT))))


@pytest.fixture(scope="module")
def packaged():
    return load_embedder()


def test_the_packaged_model_needs_no_pytorch_and_gives_unit_vectors(packaged):
    assert isinstance(packaged, OpenVinoEmbedder)
    assert (packaged.dimension, packaged.max_tokens) == (384, 256)
    ((passage, sentences),) = packaged.embed_passages([PASSAGE])
    assert passage.shape == (384,)
    assert sentences.shape == (2, 384)
    for vector in (passage, *sentences, packaged.embed_question("carbon?")):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_it_means_what_sentence_transformers_means(packaged):
    folder = find_embedder_folder(packaged.name)
    reference = SentenceTransformersEmbedder(packaged.name, folder, fingerprint(folder))
    question = "How much carbon do eelgrass meadows lose?"
    assert packaged.embed_question(question) @ reference.embed_question(question) > 0.99
    ((ours, _),) = packaged.embed_passages([PASSAGE])
    ((theirs, sentences),) = reference.embed_passages([PASSAGE])
    assert ours @ theirs > 0.99
    assert sentences.shape == (2, 384)


def test_a_related_sentence_is_nearer_than_an_unrelated_one(packaged):
    texts = ["Seagrass beds hold much carbon.", "The parliament voted on the railway budget."]
    near, far = (
        packaged.embed_question(text) @ packaged.embed_passages([PASSAGE])[0][0] for text in texts
    )
    assert near > far + 0.3


def test_a_vector_does_not_depend_on_its_company(packaged):
    alone = packaged.embed_passages([PASSAGE])[0][0]
    others = [PassageInput(f"Title {n}", "word " * n, ((0, 4),)) for n in range(1, 40)]
    among = packaged.embed_passages([*others[:20], PASSAGE, *others[20:]])[20][0]
    assert alone @ among > 0.999


def test_a_sentence_behind_the_last_token_still_has_a_vector(packaged):
    text = "Kelp grows. " * 200
    long = PassageInput("Kelp", text, ((0, 11), (2388, 2399)))
    ((passage, sentences),) = packaged.embed_passages([long])
    assert np.allclose(sentences[1], passage, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_vector(packaged, text):
    ((passage, sentences),) = packaged.embed_passages([PassageInput(text, text, ((0, len(text)),))])
    assert np.isfinite(passage).all()
    assert np.isfinite(sentences).all()
    assert np.isfinite(packaged.embed_question(text)).all()


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    """A tiny BERT with random weights and a vocabulary of letters, saved as sentence-transformers saves models."""

    def make(pooling):
        from sentence_transformers import SentenceTransformer, models
        from tokenizers import Tokenizer
        from tokenizers.models import WordPiece
        from tokenizers.pre_tokenizers import Whitespace
        from tokenizers.processors import TemplateProcessing
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        folder = tmp_path_factory.mktemp(f"model-{pooling}")
        letters = "abcdefghijklmnopqrstuvwxyz"
        names = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *letters,
            *(f"##{letter}" for letter in letters),
        ]
        tokenizer = Tokenizer(
            WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]")
        )
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
        }
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, mask_token="[MASK]", **special
        ).save_pretrained(folder / "bert")
        config = BertConfig(
            vocab_size=len(names),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
        BertModel(config).save_pretrained(folder / "bert")
        transformer = models.Transformer(str(folder / "bert"), max_seq_length=64)
        SentenceTransformer(modules=[transformer, models.Pooling(32, pooling)]).save(
            str(folder / "model")
        )
        return folder / "model"

    return make


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", OpenVinoEmbedder), ("cls", SentenceTransformersEmbedder)]
)
def test_a_model_in_a_folder_runs_where_it_can(make_model, pooling, kind, monkeypatch, tmp_path):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))
    folder = make_model(pooling)
    embedder = load_embedder(str(folder))
    assert isinstance(embedder, kind)
    assert embedder.dimension == 32
    ((passage, sentences),) = embedder.embed_passages([PASSAGE])
    assert (passage.shape, sentences.shape) == ((32,), (2, 32))
    reference = SentenceTransformersEmbedder("reference", folder, "x")
    assert embedder.embed_question("abc def") @ reference.embed_question("abc def") > 0.999
    assert embedder.count_tokens(["abc"]) == reference.count_tokens(["abc"]) == [3]


def test_where_openvino_fails_pytorch_serves_and_says_so(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no such device")

    monkeypatch.setattr(OpenVinoEmbedder, "__init__", fail)
    embedder = load_embedder()
    assert isinstance(embedder, SentenceTransformersEmbedder)
    assert embedder.embed_question("carbon").shape == (384,)
    assert "no such device" in caplog.text
    assert "sentence-transformers" in caplog.text


def test_other_weights_have_another_fingerprint(make_model):
    assert fingerprint(make_model("mean")) != fingerprint(make_model("mean"))


def test_a_model_that_is_not_there_is_named_with_the_command_that_brings_it():
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-such-model"):
        load_embedder("nobody/no-such-model")


CLOSED = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError(f"a connection was tried: {args}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
from rag import Assistant
from rag.ingest.sample import sample_file
assistant = Assistant.open(sys.argv[1])
assistant.add(sample_file())
print(assistant.ask("Does FP8 beat INT8 for inference?").citations[0].paper.title)
"""


def test_nothing_touches_the_network_or_the_home_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    # The cache is new, so that the model is converted here too.
    environment = os.environ | {"HOME": str(home), "FOOTNOTE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "library")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "FP8 versus INT8 for efficient deep learning inference"
    # What libraries leave in their own caches is theirs; a client id or a consent file is not welcome.
    assert {path.name for path in home.iterdir()} <= {".cache", ".config", ".local"}
