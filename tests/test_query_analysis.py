"""Query analysis: what a question asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.retrieval.query_analysis import analyze_query, is_availability_statement
from rag.text.terms import index_text

# Question; flags (l: list question, q: quantity, a: availability); head noun of the target; names.
# None: not checked.
QUESTIONS = [
    ("Which papers shrink the KV cache?", "l", None, "KV"),
    ("Which methods reduce catastrophic forgetting?", "l", None, ""),
    ("What approaches exist for sparse attention?", "l", None, ""),
    ("List studies on coral bleaching", "l", "", ""),
    ("Find works about named entity recognition", "l", "", ""),
    ("Any papers on cranes?", "l", "", ""),
    ("papers about gut bacteria", "l", "", ""),
    ("Compare KIVI and GEAR", "", "", "KIVI GEAR"),
    ("Give an overview of pruning", "l", "", ""),
    ("Summarize what we know about bleaching", "l", None, ""),
    ("Summarise the work on voles", "l", "", ""),
    ("What do we have on U-Nets?", "l", None, "U-Nets"),
    ("Is there any work on ship logs?", "l", "", ""),
    ("Do I have anything on RNA switches?", "l", "", "RNA"),
    ("How do people detect bots?", "l", "", ""),
    ("What does my library hold about voles?", "l", None, ""),
    ("Which datasets", "l", None, ""),
    ("How much memory does PondNet save?", "q", "memory", "PondNet"),
    ("How much faster is it?", "q", None, ""),
    ("How many cranes were sequenced?", "q", "cranes", ""),
    ("How long does bleaching last?", "q", "time", ""),
    ("How fast is decoding at 64,000 tokens?", "q", "", ""),
    ("How large is the dataset?", "q", "dataset", ""),
    ("How often were voles sampled?", "q", "", ""),
    ("What is the accuracy of Mossy on Fern?", "q", "accuracy", "Mossy Fern"),
    ("What F1 does the tagger reach?", "q", "F1", "F1"),
    ("What word error rate is reached on rare names?", "q", "rate", ""),
    ("What percentage of algae was kept?", "q", "percentage", ""),
    ("What perplexity is reached with two bits?", "q", "perplexity", ""),
    ("What speedup does FlashFFTConv give over PyTorch?", "q", "speedup", "FlashFFTConv PyTorch"),
    ("On which machine, and with what latency, was it measured?", "q", "latency", ""),
    ("Which optimizer is used?", "", "optimizer", ""),
    ("Which depth camera does it need?", "", "camera", ""),
    ("What is the loss function of PondNet?", "", None, "PondNet"),
    ("What are the three main ingredients?", "", None, ""),
    ("Whose idea was it?", "", None, ""),
    ("Why do the authors freeze the first layers?", "", "", ""),
    ("Does dropout help?", "", "", ""),
    ("Where can I find the code of Heron?", "a", "", "Heron"),
    ("Is there a GitHub repository for Soft-NMS?", "a", "", None),
    ("Where can I download the weights?", "a", "", ""),
    ("Is the model open-source?", "a", "", ""),
    ("Is the model open source?", "a", "", ""),
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
    ("question", "flags", "head", "names"), QUESTIONS, ids=[question for question, *_ in QUESTIONS]
)
def test_analysis_recognizes_kind_target_and_names(question, flags, head, names):
    query = analyze_query(question)
    assert query.is_list_question == ("l" in flags)
    assert query.asks_quantity == ("q" in flags)
    assert query.asks_availability == ("a" in flags)
    if head is not None:
        assert "".join(query.answer_target[-1:]) == head
    if names is not None:
        assert query.names == tuple(names.split())


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
def test_name_is_missing_unless_contained_or_spelled_out(question, text, missing):
    names = analyze_query(question).missing_names(set(index_text(text).split()), text)
    assert missing is None or names == missing


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
def test_quantity_is_missing_unless_a_sentence_gives_one_of_the_target(question, sentence, missing):
    assert analyze_query(question).lacks_quantity([sentence]) is missing


def test_quantity_may_be_in_any_sentence():
    query = analyze_query("How many cranes were seen?")
    assert query.lacks_quantity([])
    assert not query.lacks_quantity(["Cranes migrate.", "We saw 112 cranes."])
    # The target in one sentence and a number in another do not make a quantity.
    assert query.lacks_quantity(["Cranes migrate.", "We saw 112 voles."])


def test_target_is_recognized_by_its_head_noun():
    question = "Which depth camera does it need?"
    assert lacks_target(question, "Depth is estimated.")
    assert not lacks_target(question, "Two cameras suffice.")
    assert not lacks_target("Does it work?", "")


def test_availability_question_lacks_its_target_without_an_availability_statement():
    question = "Where is the code of Heron?"
    assert lacks_target(question, "Heron counts boats, says its code book.")
    assert not lacks_target(question, "The code is available at https://example.org.")


def lacks_target(question, text):
    return analyze_query(question).lacks_target(set(index_text(text).split()), [text])


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Code for Heron is available at https://example.org/heron.", True),
        ("The dataset is publicly available.", True),
        ("Our implementation was released under a free licence.", True),
        ("We release Heron, a method that counts boats.", False),
        ("The code book has 512 entries.", False),
    ],
)
def test_availability_statements_are_recognized(sentence, expected):
    assert is_availability_statement(sentence) is expected


@given(st.text(max_size=300), st.lists(st.text(max_size=60), max_size=4))
def test_any_text_is_analyzed(question, sentences):
    query = analyze_query(question)
    text = " ".join(sentences)
    terms = set(index_text(text).split())
    assert set(query.missing_names(terms, text)) <= set(query.names)
    assert query.lacks_quantity(sentences) <= query.asks_quantity
    assert query.lacks_target(terms, sentences) in (True, False)
    for sentence in sentences:
        is_availability_statement(sentence)


WORDS = "how many which papers the GPT-4 hours is of - α 5% ' _ K2 GRAPH- A-style".split()


@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_mixture_of_words_is_analyzed(question):
    query = analyze_query(question)
    assert len(query.answer_target) <= 6
    assert all(name in question for name in query.names)
    assert len(set(query.names)) == len(query.names)
