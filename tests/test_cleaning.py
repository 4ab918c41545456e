"""Cleaning of texts before they are stored, shown and quoted."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.text.cleaning import clean, title_key

PIECES = [
    "<", ">", "</", "/>", "&", "amp;", "lt;", "gt;", "#38;", "#x26;", ";", "&shy;", "&#8203;", "&#10;", "<p>",
    "</p>", "<b>", "</b>", "<sup>", "</sup>", "<jats:sup>", "i", "b", "sup", "th", "x", "10", "-", "-\n",
    "\r\n", "\t", " ", "\u00ad", "\u200b", "\u0301", "e", "\ufe0f", "\U000e0041", "\ud800", "ﬁ", "\u037e",
    "<!--", "-->", "<![CDATA[", "]]>", "$\\alpha_1$", "\\%", "the", "self", "\x00", "é", "q=",
]  # fmt: skip
messy_texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=60)
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}


@given(messy_texts)
@example("&amp;amp;lt;i&amp;amp;gt;x&lt;/i&gt;")
@example("e\u200b\u0301")
@example("<\u200bp>text")
def test_cleaning_is_idempotent(text):
    once = clean(text)
    assert clean(once) == once


@given(messy_texts)
def test_clean_text_is_one_visible_encodable_line(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert not any(unicodedata.category(c) in INVISIBLE for c in cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())


@given(st.text(alphabet="abcdefgh XYZ019.,;:()[]{}$\\_^%+=*'\"-", max_size=80))
def test_plain_text_and_latex_lose_only_extra_space(text):
    assert clean(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        r"the loss $\alpha_1 \leq 2^{k}$ falls",
        r"\textbf{Strong} models gain 20\% and \emph{more}",
        "p < 0.05 and n > 3",
        "p<0.05 but q>3",
        "for a<b>c the bound is tight",
        "if x <b and c> y",
        "the <mask> and <think> tokens",
        "x & y, AT&T, R&D",
        "see https://example.org/?a=1&copy=2&para=3",
        "an &unknownentity; stays",
        "state-of-the-art k-NN",
        "光合作用 was studied",
        "𝒳 is a script letter",
    ],
)
def test_text_that_only_looks_like_markup_is_kept(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ("one<br/>two<BR>three", "one two three"),
        (
            "<jats:title>Aims</jats:title><jats:p>We <jats:italic>grow</jats:italic> cells.</jats:p>",
            "Aims We grow cells.",
        ),
        ('a <a href="https://example.org">link</a>.', "a link."),
        ("<b>Bold</b> and <i>slanted</i>ness", "Bold and slantedness"),
        ('see <jats:xref ref-type="bibr">4</jats:xref>.', "see 4."),
        ("H<sub>2</sub>O", "H2O"),
        ("a stray</b> end", "a stray end"),
        ("a<!-- hidden <b>note</b> -->b", "ab"),
        ("<![CDATA[Data]]> here", "Data here"),
        ("<mml:math><mml:mi>x</mml:mi></mml:math>", "x"),
    ],
)
def test_markup_is_removed_and_its_text_kept(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10<sup>-3</sup>", "10^-3"),
        ("10<jats:sup>−3</jats:sup> M", "10^−3 M"),
        ("10<SUP> 6 </SUP>cells", "10^6 cells"),
        ('m<sup class="e">2</sup>', "m^2"),
        ("x<sup><i>n</i></sup>", "x^n"),
        ("(a+b)<sup>2</sup>", "(a+b)^2"),
        ("the 5<sup>th</sup> and 21<sup>st</sup>", "the 5th and 21st"),
        ("Brand<sup>®</sup>", "Brand®"),
    ],
)
def test_superscript_never_changes_a_number(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p &lt; 0.05 &amp; n &gt; 3", "p < 0.05 & n > 3"),
        ("p &amp;lt; 0.05", "p < 0.05"),
        ("&lt;p&gt;Escaped&lt;/p&gt; markup", "Escaped markup"),
        ("caf&eacute; &#946; &#x3b2;", "café β β"),
        ("a&nbsp;b&thinsp;c", "a b c"),
        ("zero&#0;bad&#xD800;", "zero\ufffdbad\ufffd"),
        ("no&shy;where", "nowhere"),
    ],
)
def test_entities_are_decoded_however_often_they_were_escaped(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We train net-\nworks", "We train networks"),
        ("We train net- \r\n  works", "We train networks"),
        ("net\u00ad\nworks", "networks"),
        ("a self-super-\nvised model", "a self-supervised model"),
        ("the state-of-the-\nart", "the state-of-the-art"),
        ("an end-\nto-end system", "an end-to-end system"),
        ("a self-\nsupervised model", "a self-supervised model"),
        ("itself-\nless", "itselfless"),
        ("a Gauss-\nNewton step", "a Gauss- Newton step"),
        ("from 3-\nfold", "from 3- fold"),
        ("low - \nand high", "low - and high"),
    ],
)
def test_hyphenated_words_at_line_ends_are_joined(text, expected):
    assert clean(text) == expected


@pytest.mark.promise("inert-text")
@pytest.mark.parametrize(
    "invisible",
    ["\u200b", "\u200d", "\u00ad", "\ufeff", "\u202e", "\u2066", "\u061c", "\x00", "\x1b", "\x7f", "\x9f", "\ufe0f",
     "\ue000", "\U000e0041", "\U000e0100", "\ud800", "\ufff9", "\uffff", "\u034f", "\u3164", "\u180b"],
)  # fmt: skip
def test_invisible_characters_are_removed(invisible):
    assert clean(f"in{invisible}side") == "inside"


@pytest.mark.parametrize(
    "space", ["\n", "\r\n", "\t", "\x0b", "\x1f", "\x85", "\u00a0", "\u2009", "\u2028", "\u3000"]
)
def test_all_kinds_of_space_become_one_space(space):
    assert clean(f"{space}out{space}{space}side{space}") == "out side"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301tude", "étude"),
        ("ﬁne ﬂow eﬀect oﬃce raﬄe", "fine flow effect office raffle"),
        ("Å", "Å"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_letters_are_composed_and_ligatures_expanded(text, expected):
    assert clean(text) == expected


def test_mathematical_signs_survive_next_to_real_tags():
    assert clean("<p>We need a<b>c and <i>n</i> < 4.</p>") == "We need a<b>c and n < 4."


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Attention: a Survey!", "attention A survey"),
        ("Fréchet Distance", "Fre\u0301chet  distance"),
        ("Fréchet Distance", "FRECHET DISTANCE"),
        ("Straße", "STRASSE"),
        ("Β-VAE", "β-vae"),
        ("ΟΔΟΣ", "οδος"),
        ("The L² norm", "the l2 norm"),
        ("Well-known_things", "well known things"),
        ("ﬁne-tuning", "fine tuning"),
    ],
)
def test_title_key_ignores_case_accents_and_punctuation(left, right):
    assert title_key(left) == title_key(right) != ""


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Graph2Vec: Étude no. 5?", "graph2vec etude no 5"),
        ("深度学习", "深度学习"),
        ("", ""),
        ("?!–", ""),
    ],
)
def test_title_key_keeps_letters_and_digits(title, expected):
    assert title_key(title) == expected


def test_different_titles_have_different_keys():
    titles = ["GPT-3", "GPT-4", "α", "β", "深度", "学习", "Part I", "Part II"]
    assert len({title_key(title) for title in titles}) == len(titles)


@given(st.text(max_size=60))
def test_title_key_is_idempotent(title):
    assert title_key(title_key(title)) == title_key(title)
