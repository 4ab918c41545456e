"""The reader: its texts, the shipped model, and the way from training to a model that runs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_embedder

from rag.models.files import find_embedder_folder
from rag.models.reader import ReaderInput
from rag.models.registry import load_reader
from rag.models.runtimes.openvino_encoder import model_inputs
from rag.models.runtimes.openvino_reader import ReaderScales, ReaderTokenizer, open_reader, score

QUESTION = "How much carbon do seagrass meadows hold?"
EELGRASS = ReaderInput(
    "Eelgrass as a carbon sink",
    (
        "Coastal plants are under pressure.",
        "We sampled 40 meadows of eelgrass in Denmark.",
        "The meadows store 27 kilograms of carbon per square meter.",
        "Our data are public.",
    ),
)
RAILWAYS = ReaderInput(
    "Timetables for night trains",
    ("Night trains are popular again.", "We plan timetables with integer programs."),
)


@pytest.fixture(scope="module")
def tokenizer():
    """Tokenizer of the bundled embedding model: a common short word is one token."""
    return ReaderTokenizer(find_embedder_folder("all-MiniLM-L6-v2") / "tokenizer.json", 16)


def test_text_is_question_title_and_sentences_each_with_a_separator(tokenizer):
    (text,) = tokenizer.split("how many", ReaderInput("big trees", ("trees grow", "old")))
    # [CLS] how many [SEP] big trees [SEP] trees grow [SEP] old [SEP]
    assert len(text.tokens.ids) == 12
    assert text.tokens.first_segment == 4
    assert text.ends == (6, 9, 11)


def test_long_abstract_is_split_between_sentences(tokenizer):
    sentences = ("one two three", "four five six", "seven")
    first, second = tokenizer.split("how many", ReaderInput("big trees", sentences))
    # 7 tokens of question and title, then 4, 4 and 2: only the first two sentences fit into 16.
    assert first.ends == (6, 10, 14)
    assert second.ends == (6, 8)
    assert first.tokens.ids[:7] == second.tokens.ids[:7]


def test_sentence_that_is_too_long_is_cut(tokenizer):
    (text,) = tokenizer.split("how many", ReaderInput("big trees", ("tree " * 50,)))
    assert text.ends == (6, 15)
    assert len(text.tokens.ids) == 16


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.lists(st.text(max_size=120), max_size=6))
def test_title_and_every_sentence_have_an_end_within_the_limit(
    tokenizer, question, title, sentences
):
    texts = list(tokenizer.split(question, ReaderInput(title, tuple(sentences))))
    assert sum(len(text.sentences) for text in texts) == len(sentences)
    for text in texts:
        assert all(end < len(text.tokens.ids) for end in text.ends)


def test_reader_finds_the_paper_and_the_sentence():
    eelgrass, railways = load_reader().read(QUESTION, [EELGRASS, RAILWAYS])
    assert eelgrass.relevance > railways.relevance
    assert eelgrass.answers > railways.answers
    assert eelgrass.sentences.index(max(eelgrass.sentences)) == 2
    assert max(railways.sentences) < max(eelgrass.sentences)


def test_reading_does_not_depend_on_the_other_abstracts():
    long = ReaderInput("Logs", tuple(f"The mill cut {number} logs." for number in range(60)))
    reader = load_reader()
    (alone,) = reader.read(QUESTION, [EELGRASS])
    readings = reader.read(QUESTION, [RAILWAYS, long, EELGRASS, RAILWAYS, long, long])
    assert readings[2].sentences == pytest.approx(alone.sentences, abs=0.05)
    assert readings[2].relevance == pytest.approx(alone.relevance, abs=0.05)
    assert [len(reading.sentences) for reading in readings] == [2, 60, 4, 2, 60, 60]


def test_reader_takes_empty_input():
    reader = load_reader()
    assert reader.read(QUESTION, []) == []
    (reading,) = reader.read("", [ReaderInput("", ())])
    assert reading.sentences == ()


def test_reader_works_from_several_threads():
    reader = load_reader()
    expected = reader.read(QUESTION, [EELGRASS, RAILWAYS])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: reader.read(QUESTION, [EELGRASS, RAILWAYS]), range(12)))
    assert results == [expected] * 12


def test_training_learns_and_its_result_runs(tmp_path):
    from eval.benchmarks.reading_examples import Example, ExamplePaper
    from eval.training.reader import ReaderNetwork, export, tokenize, train

    folder = save_tiny_embedder(tmp_path, "mean")
    tokenizer = ReaderTokenizer(folder / "tokenizer.json", 64)
    answering = ExamplePaper("kelp", ("reefs are old", "kelp holds it"), (False, True), True)
    other = ExamplePaper("trains", ("trains run", "rails rust"), (False, False), False)
    example = tokenize(Example("made up", "kelp", "what holds", (answering, other)), tokenizer)
    network = train(ReaderNetwork(folder), [example] * 30, 8, tmp_path / "checkpoint.pt")
    texts = [text.tokens for text in example.texts]
    export(network, texts, tmp_path / "reader", folder)
    abstracts = [
        ReaderInput(answering.title, answering.sentences),
        ReaderInput(other.title, other.sentences),
    ]
    kelp, trains = open_reader(tmp_path / "reader").read("what holds", abstracts)
    assert kelp.relevance > trains.relevance
    assert kelp.answers > trains.answers
    assert kelp.sentences[1] > kelp.sentences[0]
    assert kelp.sentences[1] > max(trains.sentences)


def test_training_and_runtime_compute_the_same_scores(tmp_path):
    import torch

    from eval.training.reader import ReaderNetwork

    folder = save_tiny_embedder(tmp_path, "mean")
    (text,) = ReaderTokenizer(folder / "tokenizer.json", 64).split(
        "what holds", ReaderInput("kelp", ("reefs are old", "kelp holds it"))
    )
    network = ReaderNetwork(folder).eval()
    torch.nn.init.normal_(network.further.weight, std=0.1)
    names = {"input_ids", "attention_mask", "token_type_ids"}
    inputs = model_inputs([text.tokens], names)
    with torch.no_grad():
        output = network(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0]
        relevance, answers, sentences = network.score(text, output)
    scales = ReaderScales(**{name: value.item() for name, value in network.scales.items()})
    reading = score(text, output[: len(text.tokens.ids)].numpy(), scales)
    assert reading.relevance == pytest.approx(relevance.item(), abs=1e-3)
    assert reading.answers == pytest.approx(answers.item(), abs=1e-3)
    assert reading.sentences == pytest.approx(sentences.tolist(), abs=1e-3)
