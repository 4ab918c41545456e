r"""Text of strangers with LaTeX in it, as HTML that is safe to show: formulas become MathML, all the rest is escaped.

`latex2mathml` converts the formulas. It also knows commands that link, hide, colour and define, so only commands of
mathematics are given to it, and of the tree that it makes only listed elements and attributes are kept. What is made
of them is MathML Core, which is what browsers draw (https://www.w3.org/TR/mathml-core/).
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SPACE = re.compile(r"\s+")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# Marks and letters by their category, yet drawn as nothing (Unicode: default ignorable).
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)

# What is longer, deeper or more than this stays LaTeX, so that no text can hang or fill the page.
_LONGEST_FORMULA = 300
_LONGEST_MATHML = 4000
_MOST_FORMULAS = 100
_DEEPEST_BRACES = 12
_DEEPEST_MATHML = 40

# "$x$", yet not what stands between "$5 and $6"; `\(x\)`, `\[x\]`; emphasis; characters that LaTeX wants escaped.
_LATEX = re.compile(
    r"""
    (?P<formula>
        (?<!\\)\$\$(?P<display>[^$]+)\$\$ |
        (?<!\\)\$(?!\s)(?P<inline>[^$]+)(?<![\s\\])\$(?!\d) |
        \\\((?P<round>(?:[^\\]|\\(?![()]))+)\\\) |
        \\\[(?P<square>(?:[^\\]|\\(?![\[\]]))+)\\\]
    ) |
    (?:\\(?P<style>emph|text(?:it|bf|tt|rm|sf|sc|up|normal))\s*\{ | \{\\(?P<old>em|it|bf|tt|rm)\s+)
        (?P<styled>[^{}\\]*)\} |
    \\(?P<character>[%&$#_])
    """,
    re.VERBOSE,
)
_TAGS = dict.fromkeys(("em", "emph", "it", "textit"), "em")
_TAGS |= dict.fromkeys(("bf", "textbf"), "strong") | dict.fromkeys(("tt", "texttt"), "code")
_SIGNS = (
    (re.compile(r"(?<=\w)---(?=\w)|(?<= )---(?= )"), "—"),
    (re.compile(r"(?<=\w)--(?=\w)|(?<= )--(?= )"), "–"),
    (re.compile(r"``([^`']*)''"), r"“\1”"),
    (re.compile(r"(?<=[a-z.])~(?=[\w\\$])"), "\u00a0"),  # a tie, not the "~" of "~5%"
)
# Two words beside each other: the amounts of "$5 for the small one and 10$", and no formula.
_ARGUMENT = re.compile(r"\\[A-Za-z]+\*?\s*(?:\{[^{}]*\})?")
_WORDS = re.compile(r"[A-Za-z]{2,},? [A-Za-z]{2,}")

_COMMAND = re.compile(r"\\(?:([A-Za-z]+)|.)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{([^}]*)")
_ENVIRONMENTS = frozenset(
    "matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases array split".split()
)
_FUNCTIONS = frozenset(
    "sup inf max min lim argmax argmin det gcd liminf limsup Pr arccos arcsin arctan cos cosh cot coth csc deg dim "
    "exp hom ker ln lg log sec sin sinh tan tanh".split()
)
# What shapes a formula. None of it links, colours, hides, moves, defines, or repeats what it is given.
_SHAPES = frozenset(
    "frac dfrac tfrac cfrac binom dbinom tbinom over choose atop sqrt overset underset stackrel substack "
    "hat bar tilde vec dot ddot check breve acute grave mathring widehat widetilde overline underline "
    "overbrace underbrace overrightarrow overleftarrow left right middle begin end limits nolimits nonumber "
    "big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm not mod bmod pmod bra ket braket "
    "text textrm textbf textit texttt textsf textup textnormal emph mbox hbox operatorname "
    "mathbb mathbf mathcal mathfrak mathit mathrm mathscr mathsf mathtt mathnormal bm boldsymbol bold Bbb "
    "rm bf it sf tt cal frak scr mathop mathbin mathrel mathord mathopen mathclose mathpunct "
    "displaystyle textstyle scriptstyle quad qquad enspace thinspace thickspace space".split()
)
# What the converter takes otherwise than LaTeX does: for it "%" begins a comment, and 88% would lose its sign.
_REWORDED = (
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"\\not\s*="), r"\\neq "),
    (re.compile(r"\\arg\s*\\(max|min)(?![A-Za-z])"), r"\\arg\1 "),
    (re.compile(r"\\mathrm\{"), r"\\mathrm {"),
    (re.compile(r"\{,\}"), ","),
)

_TOKENS = frozenset("mi mn mo mtext".split())
_SCRIPTS = frozenset("msub msup msubsup mover munder munderover".split())
_ROWS = frozenset("math mrow mstyle msqrt mtd".split())
_ELEMENTS = _TOKENS | _SCRIPTS | _ROWS | frozenset("mfrac mroot mtable mtr mspace".split())
_CHILDREN = dict.fromkeys("msub msup mover munder mfrac mroot".split(), 2) | {
    "msubsup": 3,
    "munderover": 3,
}
_ATTRIBUTE = re.compile(
    r"(?:stretchy|fence|accent|movablelimits|displaystyle)=(?:true|false)|form=(?:prefix|postfix)|linethickness=0"
    r"|scriptlevel=[012]|(?:minsize|maxsize|width)=[0-2](?:\.\d{1,3})?em|mathvariant=normal"
)
_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
_ESCAPED = re.compile(r"\\(?=[%&$#_ ])")
_VARIANTS = {
    "script": "SCRIPT",
    "fraktur": "FRAKTUR",
    "double-struck": "DOUBLE-STRUCK",
    "bold": "BOLD",
    "bold-italic": "BOLD ITALIC",
    "sans-serif": "SANS-SERIF",
    "monospace": "MONOSPACE",
}
_ORDINARY = frozenset("∞∅⊤⊥…⋯")
_OPERATORS = frozenset(":;")
_BINARY = frozenset("×⋅·∗÷")
_SIGNS_OF_NUMBERS = frozenset("+-−±∓")
_UPRIGHT = re.compile("[Α-Ω]")  # Greek capitals, as TeX sets them
_CLOSING = frozenset(")]}|‖⟩⌉⌋")
_THIN = "0.167em"
_THOUSANDS = re.compile(r"(?<=\d</mn>)<mo>,</mo>(?=<mn>\d{3}[.<])")
_NAME = re.compile(r"[A-Za-z]{2,}(?:\u00a0[a-z]+)*")

_FONT = re.compile(
    r"\\(?:math(?:bb|bf|cal|frak|it|rm|scr|sf|tt)|text(?:rm|bf|it|tt|sf)?|operatorname|bm|boldsymbol)\b"
)
_LAYOUT = re.compile(r"\\(?:rm|bf|it|sf|tt|cal|left|right|displaystyle)\b\s*")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{(\w+)\}\s*\{(\w+)\}")
_GAP = re.compile(r"\\(?:[,;:! ]|q?quad\b)|~")
_BRACES = re.compile(r"\{([^{}]*)\}")
_ONE_PIECE = re.compile(r"[-−+]?[\w.,]*|\W")

Symbol = Callable[[str], str | None]


class _NotMathematicsError(ValueError):
    """The formula holds something that is not shown as mathematics here."""


def prose_html(text: str) -> str:
    r"""The text as HTML on one line, to stand inside a paragraph: formulas as MathML, LaTeX's emphasis as `<em>`.

    What does not convert stays as it was written, in `<code class="tex">`. Only `em`, `strong`, `code` and MathML
    come out, whatever goes in.
    """
    formulas = iter(range(_MOST_FORMULAS))
    return _each_piece(visible(text), _words_html, lambda found: _latex_html(found, formulas))


def plain_text(text: str) -> str:
    r"""The text for a label or a title: one line without mark-up, `$10^{-3}$` as `10^-3`. It is not escaped."""
    return _each_piece(visible(text), _set, _latex_text).strip()


def visible(text: str) -> str:
    """One line of what can be seen: no control, zero-width or steering characters, no halves of surrogate pairs."""
    text = _SPACE.sub(" ", text)
    if text.isascii() and text.isprintable():
        return text
    return _IGNORABLE.sub(
        "", "".join(c for c in text if unicodedata.category(c) not in _INVISIBLE_CATEGORIES)
    )


def escaped(text: str) -> str:
    """The text as it stands, for an attribute or a message: one line, escaped; no LaTeX is read."""
    return escape(visible(text).strip())


def _each_piece(
    text: str, words: Callable[[str], str], latex: Callable[[re.Match[str]], str]
) -> str:
    """The text put together again from its LaTeX and from the words between."""
    pieces, position = [], 0
    for found in _LATEX.finditer(text):
        pieces += [words(text[position : found.start()]), latex(found)]
        position = found.end()
    return "".join([*pieces, words(text[position:])])


def _words_html(text: str) -> str:
    return escape(_set(text))


def _set(text: str) -> str:
    """Dashes, quotation marks and ties as LaTeX sets them."""
    for written, sign in _SIGNS:
        text = written.sub(sign, text)
    return text


def _latex_html(found: re.Match[str], formulas: Iterator[int]) -> str:
    if found["character"]:
        return escape(found["character"])
    if style := found["style"] or found["old"]:
        tag = _TAGS.get(style, "")
        inner = _each_piece(
            found["styled"], _words_html, lambda inside: _latex_html(inside, formulas)
        )
        return f"<{tag}>{inner}</{tag}>" if tag else inner
    if not _is_formula(found):
        return _words_html(found[0])
    mathml = _mathml(_tex(found)) if next(formulas, None) is not None else ""
    return mathml or f'<code class="tex">{escape(found[0])}</code>'


def _latex_text(found: re.Match[str]) -> str:
    if found["formula"]:
        return _spoken(_tex(found)) or found[0] if _is_formula(found) else found[0]
    return found["character"] or _each_piece(found["styled"], _set, _latex_text)


def _tex(found: re.Match[str]) -> str:
    return (found["display"] or found["inline"] or found["round"] or found["square"]).strip()


def _is_formula(found: re.Match[str]) -> bool:
    return not (found["inline"] and _WORDS.search(_ARGUMENT.sub("", found["inline"])))


@lru_cache(maxsize=2048)
def _mathml(tex: str) -> str:
    """The formula as MathML; empty where it is to stay LaTeX."""
    if len(tex) > _LONGEST_FORMULA or _depth(tex) > _DEEPEST_BRACES:
        return ""
    try:
        mathml = _THOUSANDS.sub('<mo lspace="0" rspace="0">,</mo>', _html(_element(tex)))
    except (
        Exception
    ):  # whatever the converter stumbles over: the formula can be read as it was written
        return ""
    return mathml if len(mathml) <= _LONGEST_MATHML else ""


def _depth(tex: str) -> int:
    depth = deepest = 0
    for brace in re.findall("[{}]", tex):
        depth += 1 if brace == "{" else -1
        deepest = max(deepest, depth)
    return deepest


def _element(tex: str) -> "Element":
    """The formula as a tree of listed elements. Raises `_NotMathematicsError`, and whatever the converter raises."""
    from latex2mathml.converter import convert_to_element
    from latex2mathml.symbols_parser import convert_symbol

    for written, reworded in _REWORDED:
        tex = written.sub(reworded, tex)
    _check(tex, convert_symbol)
    math = convert_to_element(tex)
    math.attrib.clear()
    _tidy(math, convert_symbol, depth=0)
    _space(math)
    return math


def _check(tex: str, symbol: Symbol) -> None:
    """Raise `_NotMathematicsError` for a command that is neither a shape nor a symbol."""
    unknown = (
        {name for name in _COMMAND.findall(tex) if name and not symbol(f"\\{name}")}
        - _SHAPES
        - _FUNCTIONS
    )
    unknown |= set(_ENVIRONMENT.findall(tex)) - _ENVIRONMENTS
    if unknown:
        raise _NotMathematicsError(f"no mathematics: {unknown}")


def _tidy(element: "Element", symbol: Symbol, depth: int) -> None:
    """Keep what is listed, decode what the converter left encoded, and say in MathML Core what it said in MathML 3."""
    complete = len(element) == _CHILDREN.get(element.tag, len(element))
    if depth > _DEEPEST_MATHML or element.tag not in _ELEMENTS or not complete:
        raise _NotMathematicsError(f"no mathematics: {element.tag}")
    if element.tag in _TOKENS and len(element):
        element.tag = "mrow"  # `\mathop{…}`: a token that holds others
    style = _VARIANTS.get(element.attrib.get("mathvariant", ""), "")
    element.text = "".join(_letter(char, style) for char in _decoded(element.text or "", symbol))
    kept = {
        name: value
        for name, value in element.attrib.items()
        if _ATTRIBUTE.fullmatch(f"{name}={value}")
    }
    element.attrib.clear()
    element.attrib.update(kept)
    _settle(element)
    for child in element:
        _tidy(child, symbol, depth + 1)


def _decoded(text: str, symbol: Symbol) -> str:
    """The text of a token as it is to be seen. Raises `_NotMathematicsError` where a command is left in it."""
    code = symbol(text) if text.startswith("\\") else ""
    text = _REFERENCE.sub(lambda found: chr(int(found[1], 16)), f"&#x{code};" if code else text)
    text = _ESCAPED.sub("", text)
    if "\\" in text:
        raise _NotMathematicsError(f"no mathematics: {text}")
    return visible(text).replace(" ", "\u00a0")  # a browser would trim spaces off a token


def _letter(char: str, style: str) -> str:
    """The letter in a mathematical alphabet, for browsers know no other `mathvariant` than `normal`."""
    if not style:
        return char
    name = re.sub(r"^(?:GREEK|LATIN) | LETTER(?= )", "", unicodedata.name(char, ""))
    # Some letters were in Unicode before their alphabets were: BLACK-LETTER CAPITAL R.
    for known in (
        f"MATHEMATICAL {style} {name}",
        f"{style.replace('FRAKTUR', 'BLACK-LETTER')} {name}",
    ):
        try:
            return unicodedata.lookup(known)
        except KeyError:
            continue
    return char


def _settle(element: "Element") -> None:
    """An operator is `mo`, what only looks like one is `mi`; brackets grow only where the formula asks for it."""
    text = element.text or ""
    if element.tag not in ("mi", "mo") or len(text) != 1:
        return
    category = unicodedata.category(text)
    if text in _ORDINARY:
        element.tag = "mi"
    elif element.tag == "mi" and (category in ("Sm", "Ps", "Pe") or text in _OPERATORS):
        element.tag, element.text = "mo", "∼" if text == "~" else text
        if category in ("Ps", "Pe"):
            element.set("stretchy", "false")
    elif _UPRIGHT.fullmatch(text):
        element.set("mathvariant", "normal")


def _space(math: "Element") -> None:
    """Set the spaces that TeX sets, and a browser does not."""
    for element in math.iter():
        if element.tag in _ROWS:
            _space_signs(list(element))
            _space_names(list(element))
        elif element.tag in _SCRIPTS:
            for operator in (one for script in element[1:] for one in script.iter("mo")):
                operator.attrib.update(lspace="0", rspace="0")
    _space_edges(list(math[0]))


def _space_signs(row: list["Element"]) -> None:
    """The minus of "(-x)" belongs to the x; that of "a - x" stands between."""
    for before, sign in pairwise(map(_core, row)):
        if sign.text in _SIGNS_OF_NUMBERS and before.tag == "mo" and before.text not in _CLOSING:
            sign.set("form", "prefix")


def _space_names(row: list["Element"]) -> None:
    """Thin spaces around `log` and its like: none at an edge, before a bracket, after an operator."""
    cores = [_core(one) for one in row]
    for number, core in enumerate(cores):
        if _is_name(core):
            before = row[number - 1 : number] if number else []
            after = cores[number + 1 : number + 2]
            core.tag = "mo"
            core.set(
                "lspace",
                _THIN if before and (before[0].tag != "mo" or before[0].text in _CLOSING) else "0",
            )
            core.set(
                "rspace", _THIN if after and (after[0].tag != "mo" or _is_name(after[0])) else "0"
            )


def _is_name(element: "Element") -> bool:
    return element.tag in ("mi", "mo") and bool(_NAME.fullmatch(element.text or ""))


def _core(element: "Element") -> "Element":
    """What an element with scripts, or a row, begins with."""
    while len(element) and (element.tag in _SCRIPTS or element.tag == "mrow"):
        element = element[0]
    return element


def _space_edges(row: list["Element"]) -> None:
    """No space of an operator at the edges of a formula, for the sentence has its own: "3×", "∼5"."""
    for edge, element in (("lspace", row[0]), ("rspace", row[-1])) if row else ():
        if element.tag == "mo":
            both = {"lspace": "0", "rspace": "0"}
            element.attrib.update(both if element.text in _BINARY else {edge: "0"})


def _html(element: "Element") -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items())
    inner = escape(element.text or "") + "".join(map(_html, element))
    return f"<{element.tag}{attributes}>{inner}</{element.tag}>"


def _spoken(tex: str) -> str:
    """The formula in plain characters; empty where that would not tell it."""
    from latex2mathml.symbols_parser import convert_symbol

    def sign(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        if found[1] in _FUNCTIONS:
            return (
                f" {found[1]}"
                if found.string[found.start() - 1 : found.start()].isalnum()
                else found[1]
            )
        char = chr(int(convert_symbol(found[0]) or "5c", 16))
        return "\\" if unicodedata.combining(char) else char

    text = _FRACTION.sub(r"\1/\2", _LAYOUT.sub("", _FONT.sub("", tex[:_LONGEST_FORMULA])))
    text = _ESCAPED.sub("", _COMMAND.sub(sign, _GAP.sub(" ", text)))
    for _ in range(2):
        text = _BRACES.sub(
            lambda found: found[1] if _ONE_PIECE.fullmatch(found[1]) else f"({found[1]})", text
        )
    return (
        "" if re.search(r"[\\{}]", text) or len(tex) > _LONGEST_FORMULA else visible(text).strip()
    )
