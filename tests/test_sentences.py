"""Splitting of texts into sentences. Footnotes quote sentences, so their spans must be exact."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.text.cleaning import clean
from rag.text.sentences import split_sentences

SHARED = Path(os.environ.get("FOOTNOTE_SHARED") or Path(__file__).parents[2] / "shared")
SEEDS = sorted((SHARED / "seeds").glob("*.txt"))

PIECES = [
    "We", "the", "Fig.", "e.g.", "et al.", "U.S.", "A.", "1.", "3.5", "(ii)", "$", "(", ")", "[", "]", "{",
    "}", ".", "!", "?", "…", "。", "」", '"', "*", " ", "  ", "\n", "\u3000", "$x.y$", "Methods.", "%", "mT5",
    "k-means", "漢字",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=80)


def sentences(text):
    return [text[start:end] for start, end in split_sentences(text)]


@given(texts)
@example("(" * 300 + ". A" * 30)
def test_spans_are_ordered_within_bounds_and_trimmed(text):
    spans = split_sentences(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert all(text[start:end].strip() == text[start:end] for start, end in spans)


@given(texts)
def test_sentences_contain_every_visible_character(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(
    st.lists(
        st.sampled_from(["We train it.", "Does it help?", "It does!", "Figure 2 shows 3.5%."]),
        max_size=8,
    )
)
def test_joined_sentences_are_split_again(parts):
    assert sentences(" ".join(parts)) == parts


@pytest.mark.parametrize(
    "text",
    [
        "We follow Smith et al. (2019) in this.",
        "The idea of Smith et al. BERTology aside, holds.",
        "Small models, i.e. Those below 1B, fail.",
        "Some tasks, e.g., Parsing, remain hard.",
        "Some tasks—e.g. Parsing—remain hard.",
        "It beats the others (cf. Table 3 and ref. 12).",
        "As Fig. 2 and Figs. 3 and 4 show, it holds.",
        "By Eq. (3) and Eqs. (4) it follows.",
        "Models (Fig. A1) vs. Humans are compared.",
        "The error falls by 3.5% with v2.0 of the tool.",
        "The value $x = 0.5. We$ is a formula.",
        r"The value \(x. Y\) is one too.",
        "Work by J. K. Smith and A. Jones is cited.",
        "The U.S. Government paid for it.",
        "We differentiate w.r.t. Theta and x.",
        "Clients hold i.i.d. Gaussian data.",
        "Dr. Rossi and Prof. Bianchi met Mr. Neri.",
        "It is No. 5 of 7 (Sec. III, App. B, Tab. 2).",
        "There are approx. 30 of them.",
        "Growth of E. coli and S. Typhimurium slowed.",
        "Acme Inc. Products are used.",
        "Cats, dogs, etc. are pets.",
        "We mean it (it works. It really does. Always.) in full.",
        "The library torch.Tensor and README.Md files are read.",
        "See https://example.org/a.b/c?d=e.f for more.",
        "Values 1, 2, ... are listed.",
        "The choice of n! 2 times is a factorial.",
        "METHODS. We grew cells.",
        "1. We train.",
        "(ii). We test.",
        "no stop at the end",
        "!",
    ],
)
def test_single_sentence_is_not_split(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    "parts",
    [
        ["We build on Smith et al.", "We show more."],
        ["They use cats, dogs, etc.", "Various models follow."],
        ["It is sold by Acme Inc.", "The price is low."],
        ["It was made in the U.S.", "Our work goes on."],
        ["Data are not i.i.d.", "However, it works."],
        ["Data are non-i.i.d.", "However, it works."],
        ["The loss falls to 0.52.", "Compared with it, ours is flat."],
        ["We release v2.0.", "Users upgrade."],
        ["Is it safe?", "Yes!", "Good."],
        ['They call it "soup."', "Nobody objects."],
        ["They call it “soup”.", "Nobody objects."],
        ["It works (as shown by others.)", "Nobody objects."],
        ["It works (as shown).", "(Nobody objects.)", "We do."],
        ["It works **well.**", "**We** agree."],
        ["It fails.", "k-NN does not.", "mT5 does.", "nnU-Net too.", "wav2vec 2.0 is slow."],
        [
            "It fails.",
            "$k$-means does not.",
            r"\textsc{Foo} does.",
            "k-means too.",
            "ε-greedy search is slow.",
        ],
        ["It fails.", "3D models do not.", "α-helices do.", '"Soup" too.', "[We checked.]"],
        ["We solve $x = 1.$", "Then we stop."],
        ["It lies in (0, 1].", "We compute f(x) next."],
        ["It lies in [0, 1).", "We follow [3]."],
        ["A bracket ( opens.", "Nothing closes it."],
        ["It costs $5.", "The other costs $10.", "We buy both."],
        ["We prune it.", "1) It is small.", "2) It is fast."],
        ["(1) We collect data.", "(2) We train.", "(iii) We test."],
        ["We do this: 1. Collect data.", "2. Train models.", "3. Test them."],
        ["METHODS: We grew cells.", "RESULTS: They grew.", "CONCLUSION: Cells grow."],
        ["Methods. We grew cells.", "Results. They grew."],
        ["Code is at https://example.org/x.y/z.", "We maintain it."],
        ["The code is at github.com/foo/A.", "We maintain it."],
        ["And so on...", "The end."],
        ["And so on…", "The end."],
        ["The answer is no.", "We prove it."],
        ["A step takes 3 ms.", "Memory is constant."],
        ["It takes 5 sec.", "Memory is constant."],
        ["We built an app.", "It runs."],
        ["We follow Dr. Rossi.", "She agrees."],
    ],
)
def test_sentences_are_split_at_their_ends(parts):
    assert sentences(" ".join(parts)) == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It gains accuracy.We propose more.", ["It gains accuracy.", "We propose more."]),
        (
            "It serves models (LLMs).Our code is out.",
            ["It serves models (LLMs).", "Our code is out."],
        ),
        ("It gains 5%.However, it is slow.", ["It gains 5%.", "However, it is slow."]),
        ("我们提出模型。效果很好！", ["我们提出模型。", "效果很好！"]),
        ("他说「好。」 然后走了。", ["他说「好。」", "然后走了。"]),
        ("", []),
        (" \n\t ", []),
        ("  We pad.  It stays.  ", ["We pad.", "It stays."]),
        ("We break.\nLines too.", ["We break.", "Lines too."]),
    ],
)
def test_splitting_handles_missing_and_extra_space(text, expected):
    assert sentences(text) == expected


def test_long_bracket_does_not_swallow_the_abstract():
    late = "We begin (here. " + "It goes on. " * 60 + "It ends.)"
    assert len(sentences(late)) == 62


# Splitting these texts once took minutes.
@pytest.mark.parametrize(
    ("unit", "count"),
    [
        ("(", 50_000),
        ("(. ", 16_000),
        ("$", 50_000),
        ("$a$. ", 10_000),
        (".", 50_000),
        ("A. ", 16_000),
        ("。", 50_000),
    ],
)
def test_pathological_repetition_is_split_quickly(unit, count):
    text = unit * count
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.fixture(scope="module")
def abstracts():
    if not SEEDS:
        pytest.skip(f"the saved listing pages are not in {SHARED / 'seeds'}")
    lines = (line for path in SEEDS for line in path.read_text(encoding="utf-8").splitlines())
    return sorted({clean(line) for line in lines if len(line) > 300})


def test_sentences_of_real_abstracts_have_sensible_lengths(abstracts):
    split = [sentence for abstract in abstracts for sentence in sentences(abstract)]
    assert len(abstracts) > 600
    assert 6 < len(split) / len(abstracts) < 11
    assert not [sentence for sentence in split if len(sentence) < 10]
    assert sum(len(sentence) > 500 for sentence in split) < 0.005 * len(split)


def test_sentences_of_real_abstracts_start_and_end_properly(abstracts):
    splits = [parts for parts in map(sentences, abstracts) if len(parts) > 1]
    starts = [sentence for parts in splits for sentence in parts[1:] if sentence[0].islower()]
    assert len(starts) < 0.002 * sum(map(len, splits))
    assert all(
        sentence.rstrip("\"'”’»)]}*$")[-1] in ".!?…" for parts in splits for sentence in parts[:-1]
    )
