"""What a question asks for, as far as its words tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.retrieval.query_analysis import analyze_query, tells_where
from rag.text.terms import index_text

# question, what it wants (s: several papers, f: a figure, w: where something is), head of the thing asked for, names
QUESTIONS = [
    ("Which papers shrink the KV cache?", "s", None, "KV"),
    ("Which methods reduce catastrophic forgetting?", "s", None, ""),
    ("What approaches exist for sparse attention?", "s", None, ""),
    ("List studies on coral bleaching", "s", "", ""),
    ("Find works about named entity recognition", "s", "", ""),
    ("Any papers on cranes?", "s", "", ""),
    ("papers about gut bacteria", "s", "", ""),
    ("Compare KIVI and GEAR", "", "", "KIVI GEAR"),
    ("Give an overview of pruning", "s", "", ""),
    ("Summarize what we know about bleaching", "s", None, ""),
    ("Summarise the work on voles", "s", "", ""),
    ("What do we have on U-Nets?", "s", None, "U-Nets"),
    ("Is there any work on ship logs?", "s", "", ""),
    ("Do I have anything on RNA switches?", "s", "", "RNA"),
    ("How do people detect bots?", "s", "", ""),
    ("What does my library hold about voles?", "s", None, ""),
    ("Which datasets", "s", None, ""),
    ("How much memory does PondNet save?", "f", "memory", "PondNet"),
    ("How much faster is it?", "f", None, ""),
    ("How many cranes were sequenced?", "f", "cranes", ""),
    ("How long does bleaching last?", "f", "time", ""),
    ("How fast is decoding at 64,000 tokens?", "f", "", ""),
    ("How large is the dataset?", "f", "dataset", ""),
    ("How often were voles sampled?", "f", "", ""),
    ("What is the accuracy of Mossy on Fern?", "f", "accuracy", "Mossy Fern"),
    ("What F1 does the tagger reach?", "f", "F1", "F1"),
    ("What word error rate is reached on rare names?", "f", "rate", ""),
    ("What percentage of algae was kept?", "f", "percentage", ""),
    ("What perplexity is reached with two bits?", "f", "perplexity", ""),
    ("What speedup does FlashFFTConv give over PyTorch?", "f", "speedup", "FlashFFTConv PyTorch"),
    ("On which machine, and with what latency, was it measured?", "f", "latency", ""),
    ("Which optimizer is used?", "", "optimizer", ""),
    ("Which depth camera does it need?", "", "camera", ""),
    ("What is the loss function of PondNet?", "", None, "PondNet"),
    ("What are the three main ingredients?", "", None, ""),
    ("Whose idea was it?", "", None, ""),
    ("Why do the authors freeze the first layers?", "", "", ""),
    ("Does dropout help?", "", "", ""),
    ("Where can I find the code of Heron?", "w", "", "Heron"),
    ("Is there a GitHub repository for Soft-NMS?", "w", "", None),
    ("Where can I download the weights?", "w", "", ""),
    ("Is the model open-source?", "w", "", ""),
    ("Is the model open source?", "w", "", ""),
    ("Who introduced XNOR-Net?", "", "", "XNOR-Net"),
    ("Does FP8 beat INT8?", "", "", "FP8 INT8"),
    ("Does IL-6 precede fever?", "", "", "IL-6"),
    ("How does GPT-4 compare with Llama-2-70B on ImageNet?", "", "", "GPT-4 Llama-2-70B ImageNet"),
    ("Is GraphRAG better than RAG, and is RAG better than nothing?", "", "", "GraphRAG RAG"),
    ("How does Smith's way work on TNF-α?", "", "", "TNF-α Smith"),
    ("what is attention", "", None, ""),
    ("KV cache", "", "", "KV"),
    ("?", "", "", ""),
    ("", "", "", ""),
]


@pytest.mark.parametrize(
    ("question", "wants", "head", "names"), QUESTIONS, ids=[q for q, *_ in QUESTIONS]
)
def test_a_question_is_understood(question, wants, head, names):
    asked = analyze_query(question)
    assert (asked.several, asked.figure, asked.where) == ("s" in wants, "f" in wants, "w" in wants)
    if head is not None:
        assert "".join(asked.thing[-1:]) == head
    if names is not None:
        assert asked.names == tuple(names.split())


@pytest.mark.parametrize(
    ("question", "text", "missing"),
    [
        ("Does FP8 beat INT8?", "FP8 suits inference.", ("INT8",)),
        ("Does FP8 beat INT8?", "INT8 suits inference, FP8 does not.", ()),
        ("Is GPT-4 right?", "GPT4 is right.", ()),
        ("Is GPT-4 right?", "GPT-3 is wrong.", ("GPT-4",)),
        ("Are CNNs robust?", "Convolutional neural networks are robust.", ()),
        ("Is a CNN robust?", "A convolutional neural network is robust.", ()),
        ("Is a CNN robust?", "Neural convolution networks are robust.", ("CNN",)),
        ("Do LLMs plan?", "Large language models plan little.", ()),
        ("Is an LLM planning?", "LLMs plan little.", ()),
        ("Is IL-6 first?", "Interleukin-6 is first, says the immunology letter.", ("IL-6",)),
        ("Is a k-NN enough?", "Kernels need numbers.", None),
        ("Is it on ImageNet?", "We train on CIFAR.", ("ImageNet",)),
        ("Is it on ImageNet?", "We train on image net.", ("ImageNet",)),
        ("Is dropout on?", "Nothing of the kind.", ()),
    ],
)
def test_a_name_is_missing_unless_it_stands_or_is_spelled_out(question, text, missing):
    found = analyze_query(question).names_missing(set(index_text(text).split()), text)
    assert missing is None or found == missing


@pytest.mark.parametrize(
    ("question", "sentence", "missing"),
    [
        ("How much memory does it save?", "It saves memory.", True),
        ("How much memory does it save?", "It saves 41% of memory.", False),
        ("How much memory does it save?", "It saves half the memory.", False),
        ("How much memory does it save?", "It saves 3 voles.", True),
        ("How fast is it?", "It is fast.", True),
        ("How fast is it?", "It is 3 times as fast.", False),
        ("How fast is it?", "It is three times as fast.", False),
        ("How many hours does it take?", "It takes 5 h.", False),
        ("How many hours does it take?", "It takes 5 hrs on a laptop.", False),
        ("How many hours does it take?", "It takes 5 hours.", False),
        ("How many hours does it take?", "It works with 3 maps.", True),
        ("How many seconds does it take?", "It takes 20ms.", False),
        ("How many seconds does it take?", "It takes 0.2 s.", False),
        ("How many seconds does it take?", "We test 3 models.", True),
        ("How many days does it take?", "It takes 14 days.", False),
        ("How many days does it take?", "It takes 14 voles.", True),
        ("What percentage of algae was kept?", "Colonies kept 80%.", False),
        ("What percentage of algae was kept?", "All 80 colonies kept some.", True),
        ("What speedup is reached?", "It runs 3x faster.", False),
        ("What speedup is reached?", "It runs fivefold faster.", False),
        ("What speedup is reached?", "It has 5 layers.", True),
        ("How many parameters does it have?", "It has 7B weights.", False),
        ("How many gigabytes does it need?", "It needs 16 GB.", False),
        ("How many cranes were seen?", "We saw 112 cranes.", False),
        ("How many cranes were seen?", "We saw 112 voles.", True),
        ("Does dropout help?", "Nothing is counted.", False),
    ],
)
def test_a_figure_is_missing_unless_a_sentence_holds_one_of_its_kind(question, sentence, missing):
    assert analyze_query(question).figure_missing([sentence]) is missing


def test_a_figure_may_stand_in_any_of_the_sentences():
    asked = analyze_query("How many cranes were seen?")
    assert asked.figure_missing([])
    assert not asked.figure_missing(["Cranes migrate.", "We saw 112 cranes."])
    # A sentence with the thing and another with some number are no figure of the thing.
    assert asked.figure_missing(["Cranes migrate.", "We saw 112 voles."])


def test_the_thing_asked_for_is_looked_for_by_its_head():
    asked = analyze_query("Which depth camera does it need?")
    assert lacks(asked, "Depth is estimated.")
    assert not lacks(asked, "Two cameras suffice.")
    assert not lacks(analyze_query("Does it work?"), "")


def test_who_asks_where_the_code_is_misses_it_unless_a_sentence_tells():
    asked = analyze_query("Where is the code of Heron?")
    assert lacks(asked, "Heron counts boats, says its code book.")
    assert not lacks(asked, "The code is available at https://example.org.")


def lacks(asked, text):
    return asked.thing_missing(set(index_text(text).split()), [text])


@pytest.mark.parametrize(
    ("sentence", "tells"),
    [
        ("Code for Heron is available at https://example.org/heron.", True),
        ("The dataset is publicly available.", True),
        ("Our implementation was released under a free licence.", True),
        ("We release Heron, a method that counts boats.", False),
        ("The code book has 512 entries.", False),
    ],
)
def test_sentences_that_only_tell_where_code_is_are_told_from_others(sentence, tells):
    assert tells_where(sentence) is tells


@given(st.text(max_size=300), st.lists(st.text(max_size=60), max_size=4))
def test_any_text_is_understood(question, sentences):
    asked = analyze_query(question)
    terms = set(index_text(" ".join(sentences)).split())
    assert set(asked.names_missing(terms, " ".join(sentences))) <= set(asked.names)
    assert asked.figure_missing(sentences) <= asked.figure
    assert asked.thing_missing(terms, sentences) in (True, False)
    for sentence in sentences:
        tells_where(sentence)


WORDS = "how many which papers the GPT-4 hours is of - α 5% ' _ K2 GRAPH- A-style".split()


@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_mixture_of_words_is_understood(question):
    asked = analyze_query(question)
    assert len(asked.thing) <= 6
    assert all(name in question for name in asked.names)
    assert len(set(asked.names)) == len(asked.names)
