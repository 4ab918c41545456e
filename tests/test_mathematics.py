"""LaTeX in untrusted text becomes safe HTML: formulas are readable and nothing is active."""

import re
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.render.mathematics import escape_text, plain_text, prose_html, strip_invisible

MATHML = set(
    "math mrow mstyle mi mn mo mtext mspace msub msup msubsup mfrac msqrt mroot mover munder "
    "munderover mtable mtr mtd".split()
)
ATTRIBUTES = set(
    "stretchy fence accent movablelimits displaystyle form linethickness scriptlevel minsize "
    "maxsize width mathvariant lspace rspace".split()
)
# Untrusted text: pieces of HTML, templates, LaTeX and addresses, and any characters.
PIECES = (
    "<script>alert(1)</script> </details> </mark> <img src=x onerror=alert(1)> ${alert(1)} "
    "{{constructor}} ` ${ {{ }} javascript:alert(1) https://doi.example/10 &lt; &#60; &amp; \" ' "
    "--> <!-- ]]> ~ -- --- `` '' $5 50% $ $$ \\( \\) \\[ \\] \\ \\\\ { } _ ^ & % # $x$ $n\\log "
    "n$ $\\frac{a}{b}$ $10^{-3}$ \\emph{a} \\textbf{b} {\\em c} \\texttt{d} \\cite{e} "
    "$\\text{<img>}$ $\\href{javascript:alert(1)}{x}$ $\\style{color:red}{x}$ $\\class{mark}{x}$ "
    "$\\def\\a{\\a\\a}\\a$ $\\unicode{x3c}$ $\\begin{matrix}a&b\\end{matrix}$ \\% \\& \\$ tides "
    "rise and fall"
).split()
HOSTILE = st.lists(
    st.sampled_from(PIECES)
    | st.text(st.characters(), max_size=6)
    | st.sampled_from(list(" \n\r\t\u2028\u202e\u200b")),
    max_size=24,
).map("".join)


class Parsed(HTMLParser):
    """HTML as a browser sees it: elements with attributes, text, and whether all are closed."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.text = ""
        self.texts = {}
        self.is_balanced = True
        self._inside = []
        self.feed(html)
        self.close()
        self.is_balanced &= not self._inside

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag != "br":
            self._inside.append((tag, attributes.get("id")))

    def handle_endtag(self, tag):
        self.is_balanced &= bool(self._inside) and self._inside.pop()[0] == tag

    def handle_data(self, data):
        self.text += data
        for _, name in self._inside:
            if name:
                self.texts[name] = self.texts.get(name, "") + data

    def handle_comment(self, data):
        raise AssertionError(f"unexpected markup: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def tokens(html):
    """Return the letters, numbers and signs of the formulas, in order."""
    return re.findall(r"<m(?:i|n|o|text)(?: [^>]*)?>([^<]*)<", html)


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"$O(n \log n)$", ["O", "(", "n", "log", "n", ")"]),
        (r"$\mathcal{N}=4$", ["𝒩", "=", "4"]),
        (r"${\cal N}=4$", ["𝒩", "=", "4"]),
        (r"$\epsilon$-DP", ["ϵ"]),
        (r"$10^{-3}$", ["10", "−", "3"]),
        (r"$\ell_2$", ["ℓ", "2"]),
        (r"$\sim 3\times$", ["∼", "3", "×"]),
        (r"$\mathbb{R}^d$", ["ℝ", "d"]),
        (r"$\mathbb{PR}$", ["ℙ", "ℝ"]),
        (r"$\mathfrak{gC}$", ["𝔤", "ℭ"]),
        (r"$\mathbf{Wx}_1$", ["𝐖", "𝐱", "1"]),
        (r"$\boldsymbol{\theta}$", ["𝜽"]),
        (r"$\text{if } x$", ["if\u00a0", "x"]),
        (r"$88%$", ["88", "%"]),
        (r"$a \not= b$", ["a", "≠", "b"]),
        (r"$\arg\max_x$", ["arg\u00a0max", "x"]),
        (r"$\big\langle x \big\rangle$", ["⟨", "x", "⟩"]),
        (r"\(\alpha < \beta\)", ["α", "&lt;", "β"]),
        (r"\[x\]", ["x"]),
        (r"$$\sum_{i=1}^n x_i$$", ["∑", "i", "=", "1", "n", "x", "i"]),
        (r"$\begin{pmatrix} a & b \\ c & d \end{pmatrix}$", ["(", "a", "b", "c", "d", ")"]),
    ],
)
def test_formulas_become_mathml(tex, expected):
    html = prose_html(tex)
    assert tokens(html) == expected
    assert "math" in Parsed(html).tags


def test_structure_becomes_elements():
    assert prose_html("$10^{-3}$") == (
        "<math><mrow><msup><mn>10</mn><mrow>"
        '<mo lspace="0" rspace="0">−</mo><mn>3</mn></mrow></msup></mrow></math>'
    )
    assert "<msqrt>" in prose_html(r"$\sqrt{T}$")
    assert "<mfrac>" in prose_html(r"$\frac{1}{n}$")


def test_attributes_outside_mathml_core_are_dropped():
    assert all(
        attributes == {}
        for _, attributes in Parsed(prose_html(r"$\begin{array}{l}a\end{array}$")).elements
    )
    assert prose_html(r"$\mathsf{N}_\mathbb{PR}$").count("mathvariant") == 0


def test_function_names_get_thin_spaces_beside_operands_only():
    def spaces(tex):
        match = re.search(r'<mo lspace="([^"]*)" rspace="([^"]*)">log</mo>', prose_html(tex))
        return match[1] != "0", match[2] != "0"

    assert spaces(r"$n \log n$") == (True, True)
    assert spaces(r"$\log n$") == (False, True)
    assert spaces(r"$x + \log(n)$") == (False, False)
    assert spaces(r"$(x) \log_2 n$") == (True, True)


def test_number_signs_are_not_spaced_like_operators():
    assert '<mo form="prefix">−</mo>' in prose_html("$(-x)$")
    assert "<mo>−</mo>" in prose_html("$(a)-x$")
    assert '<mo lspace="0" rspace="0">×</mo>' in prose_html(r"$3\times$")


def test_thousands_separators_get_no_space():
    close = '<mn>1</mn><mo lspace="0" rspace="0">,</mo><mn>000</mn>'
    assert close in prose_html("$1,000$")
    assert close in prose_html("$1{,}000$")
    assert "<mn>1</mn><mo>,</mo><mn>2</mn>" in prose_html("$(1,2)$")


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $6 each.",
        "From $3/hour to $4/hour.",
        "A budget of $100 or US$50.",
        "Paying $5 for the small one and 10$ for the other.",
        "No formula at all: a_b, a^b and {c}.",
    ],
)
def test_money_and_plain_words_stay_text(text):
    assert Parsed(prose_html(text)).text == text
    assert Parsed(prose_html(text)).elements == []


@pytest.mark.parametrize(
    "tex",
    [
        r"$\href{javascript:alert(1)}{x}$",
        r"$\class{mark}{x}$",
        r"$\style{position:fixed}{x}$",
        r"$\includegraphics{x}$",
        r"$\require{html}$",
        r"$\unicode{x3c}$",
        r"$\color{red}{x}$",
        r"$\phantom{hidden}$",
        r"$\rule{99em}{99em}$",
        r"$\def\a{\a\a}\a$",
        r"$\newcommand{\a}{x}\a$",
        r"$\begin{style}x\end{style}$",
        r"$\sideset{}{}{x}$",
        r"$\unknown x$",
        r"$\frac{1}$",
        r"$\left( x$",
        r"$x^$",
        r"\(\text{\emph x}\)",
    ],
)
def test_non_mathematical_commands_stay_latex(tex):
    html = prose_html(tex)
    assert Parsed(html).elements == [("code", {"class": "tex"})]
    assert Parsed(html).text == tex


def test_markup_in_a_formula_is_text():
    html = prose_html(r"$\text{<img src=x onerror=alert(1)>} < \text{&#x3c;b&#x202e;>}$")
    assert Parsed(html).tags <= MATHML
    assert tokens(html) == ["&lt;img\u00a0src=x\u00a0onerror=alert(1)&gt;", "&lt;", "&lt;b&gt;"]


@pytest.mark.parametrize(
    "tex",
    [
        "$" + "x" * 301 + "$",
        "$" + "{" * 13 + "x" + "}" * 13 + "$",
        "$" + r"\sqrt" * 50 + "x$",
        "$" + "x'" * 140 + "$",
        "$" + "^" * 200 + "$",
    ],
)
def test_formulas_beyond_the_limits_stay_latex(tex):
    assert prose_html(tex) == f'<code class="tex">{escape(tex)}</code>'


def test_number_of_formulas_per_text_is_limited():
    html = prose_html("$x$ and " * 120)
    assert html.count("<math>") == 100
    assert html.count('<code class="tex">$x$</code>') == 20


def test_emphasis_and_escapes_outside_formulas():
    assert prose_html(r"\emph{a} \textbf{b} {\em c} \texttt{d}") == (
        "<em>a</em> <strong>b</strong> <em>c</em> <code>d</code>"
    )
    assert prose_html(r"50\% of R\&D \$5 a\_b \textsc{Name}") == "50% of R&amp;D $5 a_b Name"
    assert (
        prose_html("2019--2021 --- so ``they'' say, Fig.~3")
        == "2019–2021 — so “they” say, Fig.\u00a03"
    )
    assert prose_html("run --help at ~5% of ~/home") == "run --help at ~5% of ~/home"
    assert prose_html(r"as in \cite{key} \foo{x}") == r"as in \cite{key} \foo{x}"
    assert tokens(prose_html(r"\emph{$k$-means}")) == ["k"]


def test_text_becomes_one_line_of_visible_characters():
    text = "a\n\n b\u200bc\u202ed\U000e0041e\x00f\x9bg\ud800h\u2028i\u00adj"
    assert (
        prose_html(text)
        == strip_invisible(text)
        == escape_text(text)
        == plain_text(text)
        == "a bcdefgh ij"
    )


def test_escape_text_leaves_latex_alone():
    assert escape_text(' $x$ <b> "q" \\emph{a} \n') == "$x$ &lt;b&gt; &quot;q&quot; \\emph{a}"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (r"An $O(n \log n)$ sort", "An O(n log n) sort"),
        (r"$n\log n$", "n log n"),
        (r"$\mathcal{N}=4$ at $10^{-3}$", "N=4 at 10^-3"),
        (r"$\epsilon$-DP in $\ell_2$", "ϵ-DP in ℓ_2"),
        (r"$\frac{1}{2}$ of $x^{a+b}$", "1/2 of x^(a+b)"),
        (r"$256\times256$ \emph{pixels} \& $88\%$", "256×256 pixels & 88%"),
        (r"a $\hat{x}$ b", r"a $\hat{x}$ b"),
        (r"a $\foo$ b", r"a $\foo$ b"),
        ("<b> $5 and $6", "<b> $5 and $6"),
    ],
)
def test_plain_text_spells_out_formulas(text, label):
    assert plain_text(text) == label


@given(HOSTILE)
def test_any_text_yields_only_listed_elements(text):
    html = prose_html(text)
    parsed = Parsed(html)
    assert parsed.is_balanced
    assert parsed.tags <= MATHML | {"em", "strong", "code"}
    for tag, attributes in parsed.elements:
        assert set(attributes) <= ATTRIBUTES or (tag, attributes) == ("code", {"class": "tex"})
    assert html.isprintable() or "\u00a0" in html
    html.encode()
    for label in (plain_text(text), escape_text(text)):
        assert len(label.splitlines()) <= 1
        label.encode()


@given(st.text(st.characters(exclude_characters="$\\{}~-`'")))
def test_text_without_latex_is_shown_in_full(text):
    assert Parsed(prose_html(text)).text == strip_invisible(text)
    assert plain_text(text) == strip_invisible(text).strip()


@given(HOSTILE)
def test_no_letter_or_digit_is_lost_outside_formulas(text):
    text = text.replace("$", "").replace("\\", "")

    def letters(string):
        return [char for char in string if char.isalnum()]

    assert letters(re.sub(r"\{em +", "", Parsed(prose_html(text)).text)) == letters(
        re.sub(r"\{em +", "", strip_invisible(text))
    )
