"""Terms of the full-text index: questions match texts in whatever spelling."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.text.terms import content_terms, index_text, query_terms

PIECES = [
    "GPT-4", "IL-6", "k-NN", "L^2", "β-VAE", "v2.0", "24,094", "$L^{2}$", r"\alpha", r"\textbf{", "{", "}",
    "$", "%", r"\'", "e", '"', "'", "’s", "OR", "NOT", "*", "(", ")", ":", "^", "-", "_", ".", ",", "漢字",
    "½", "Ⅷ", "²", "ꞏ", "é", "\u0301", "İ", "ß", "🙂", "\x00", "١٢", "LLMs", "C++", " ", " ", " ",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=60)
# A double hyphen would make two words of one.
words = st.text(
    alphabet="abcdefghijklmnopqrstuvwxyzABCÉéü0123456789-", min_size=1, max_size=12
).filter(lambda word: "--" not in word)


def common_terms(text, question):
    return set(query_terms(question)) & set(index_text(text).split())


def tokens(index, text):
    index.execute("DELETE FROM full")
    index.execute("INSERT INTO full VALUES (?)", (text,))
    return [token for (token,) in index.execute("SELECT term FROM tokens ORDER BY offset")]


@pytest.fixture(scope="module")
def index():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE full USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"
        )
        connection.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(full, instance)")
        yield connection


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("GPT-4", "GPT-4 gpt4|GPT 4|gpt-4|GPT4|GPT‑4|GPT–4"),
        ("GPT4", "gpt-4|gpt 4|GPT-4"),
        ("IL-6", "IL6|il 6|IL-6|il‑6"),
        ("k-NN", "knn|kNN|KNN|k NN|k-nn|k nn"),
        ("kNN", "k-NN|k nn|knn"),
        ("U-Net", "unet|UNet|U Net|u-net|u net|Unet|U-NET"),
        ("UNet", "u-net|U net|unet"),
        ("nnU-Net", "nnunet|nnU Net|nnUNet|NNU-NET"),
        ("$L^2$", "L2|L^2|l 2|L²|L_2|$L^{2}$|L^{2}"),
        ("L2", "$L^2$|L²|L_2"),
        ("β-VAE", "beta-VAE|β-VAE|beta vae|betaVAE|$\\beta$-VAE|\\beta-VAE|βVAE"),
        ("$\\beta$-VAE", "β-VAE|beta-vae|beta vae"),
        ("ResNet-50", "resnet50|ResNet 50|resnet-50|ResNet50|resnet|ResNets|RESNET"),
        ("ResNet50", "resnet-50|ResNet 50|resnet"),
        ("ImageNet-1K", "imagenet|ImageNet 1k|imagenet1k"),
        ("FP8", "fp8|FP-8|fp 8|FP 8"),
        ("FP-8", "FP8|fp8"),
        ("TNF-α", "TNF-alpha|TNFα|tnf alpha|TNF-$\\alpha$|TNF|TNFalpha|tnf‑α"),
        ("Fréchet", r"Frechet|Fr\'echet|Fr\'{e}chet|Fr{\'e}chet|FRÉCHET|fre" + "\u0301chet"),
        (r"Fr\'echet", "Fréchet|frechet"),
        ("wav2vec 2.0", "wav2vec|wav2vec2|Wav2Vec 2.0|wav2vec-2.0"),
        ("mT5", "mt5|MT5|mT-5|mt 5"),
        ("CIFAR-10/100", "cifar|CIFAR-100"),
        ("LLMs", "LLM|llm|llms"),
        ("LLM", "LLMs|llms"),
        ("mRNAs", "mRNA|mrna|mRNAs"),
        ("NNs", "NN|nn|NNs"),
        ("GANs", "GAN|gans"),
        ("networks", "network|Network's|Networks’"),
        ("quantized models", "quantizing|model"),
        ("Adam's step", "Adam|adams"),
        ("µm", "μm"),
        ("Straße", "strasse|STRASSE"),
        ("ﬁne", "fine"),
        (r"\textbf{Sparse} 20\% less", "sparse|less"),
    ],
)
def test_name_is_found_in_any_spelling(text, question):
    for spelling in question.split("|"):
        specific = {
            term
            for term in common_terms(f"We use {text} here.", spelling)
            if len(term) > 1 and not term.isdigit()
        }
        assert specific, f"{spelling!r} does not find {text!r}"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("24,094 cells", "24094"),
        ("24094", "24,094"),
        ("1,234,567", "1234567"),
        ("3.4%", "3.4"),
        ("v2.0,", "2.0"),
        ("10,", "10"),
    ],
)
def test_number_is_found_in_any_spelling(text, question):
    assert common_terms(text, question)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("3.4", "34"),
        ("34", "3.4"),
        ("3.4", "3"),
        ("3.4", "4"),
        ("2019,2020", "20192020"),
        ("1,2345", "12345"),
        ("GPT-3", "4"),
        ("RMS norm", "RM"),
        ("LLMs are slow", "5 ms"),
        ("a network", "What is working?"),
    ],
)
def test_different_terms_do_not_match(text, question):
    assert not common_terms(text, question)


def test_compound_is_indexed_joined_and_in_parts():
    assert index_text("ResNet-50").split() == ["resnet50", "resnet", "50", "res", "net"]
    assert index_text("the LLMs").split() == ["the", "llm"]
    assert index_text("3.4") == "3ꞏ4"


def test_stop_words_are_dropped_unless_nothing_else_is_left():
    assert query_terms("What's the paper about sparsity, and what does it show?") == ["sparsiti"]
    assert query_terms("What did they use?") == ["what", "did", "they", "use"]
    assert query_terms("?!") == []


def test_only_short_neighbors_are_joined():
    assert "gpt4" in query_terms("gpt 4")
    assert "deepnetwork" not in query_terms("deep network")
    assert "isgpt" not in query_terms("is gpt good")


def test_query_terms_are_distinct_and_ordered():
    assert query_terms("sparse models, sparse networks, models") == ["spars", "model", "network"]


def test_content_terms_join_compounds_and_keep_repetitions():
    assert content_terms("We train a U-Net with ResNet-50 and a U-Net.") == [
        "train",
        "unet",
        "resnet50",
        "unet",
    ]


@pytest.mark.parametrize("half", [r"\href", r"\footnote", r"\sqrt", r"\textcolor", r"\frac{a}"])
def test_incomplete_latex_command_does_not_fail(half):
    assert "word" in index_text(f"word {half}").split()
    assert query_terms(f"word {half}")[0] == "word"


def test_deeply_nested_braces_do_not_fail():
    assert "spars" in index_text(r"\alpha sparse " + "{" * 20_000).split()


@given(texts)
@example("½ ⅓")
def test_every_term_can_be_quoted_in_a_full_text_query(text):
    for term in [*query_terms(text), *index_text(text).split(" "), *content_terms(text)]:
        assert not set(term) & set(" \"'*:^()\x00")
        assert term or not index_text(text)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_query_for_a_word_of_the_text_only_uses_indexed_terms(chosen, data):
    word = data.draw(st.sampled_from(chosen))
    assert set(query_terms(word)) <= set(index_text(" ".join(chosen)).split())


@given(texts)
def test_sqlite_finds_a_text_by_its_own_terms(index, text):
    stored = index_text(text)
    assert len(tokens(index, stored)) == len(stored.split())
    for term in set(stored.split()) & set(query_terms(text)):
        assert index.execute(
            "SELECT count(*) FROM full WHERE full MATCH ?", (f'"{term}"',)
        ).fetchone() == (1,)


@pytest.mark.parametrize(
    "token", ["3ꞏ4", "v2ꞏ0", "漢字", "50", "٣", "resnet50", "ə", "한국어", "が"]
)
def test_sqlite_keeps_a_term_as_one_token(index, token):
    assert tokens(index, token) == [token]


def test_sqlite_and_python_agree_on_matches(index):
    tokens(index, index_text("We train a β-VAE on 24,094 images with 3.5% loss."))
    questions = {
        "beta vae": 1,
        "24094 images": 1,
        "3.5": 1,
        "35": 0,
        "gpt4": 0,
        'a "trained" -model': 1,
        "OR NEAR NOT": 0,
    }
    for question, expected in questions.items():
        query = " OR ".join(f'"{term}"' for term in query_terms(question))
        assert index.execute(
            "SELECT count(*) FROM full WHERE full MATCH ?", (query,)
        ).fetchone() == (expected,), question
