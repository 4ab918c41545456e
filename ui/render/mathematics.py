r"""Untrusted text with LaTeX as safe HTML: formulas become MathML, everything else is escaped.

`latex2mathml` converts the formulas. It also knows commands that link, hide, colour and define, so
it is given mathematical commands only, and only listed elements and attributes of its tree are
kept. The result is MathML Core, the part that browsers draw (https://www.w3.org/TR/mathml-core/).
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

_WHITESPACE = re.compile(r"\s+")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# Marks and letters by their category that are drawn as nothing (Unicode: default ignorable).
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\uffa0\ufe00-\ufe0f"
    "\U000e0100-\U000e01ef]"
)

# Formulas beyond these limits stay LaTeX: no text may hang the page or fill it.
_MAX_FORMULA_CHARS = 300
_MAX_MATHML_CHARS = 4000
_MAX_FORMULAS = 100
_MAX_BRACE_DEPTH = 12
_MAX_ELEMENT_DEPTH = 40

# `$x$`, but not the text in "$5 and $6"; `\(x\)`, `\[x\]`; emphasis; characters escaped for LaTeX.
_LATEX = re.compile(
    r"""
    (?P<formula>
        (?<!\\)\$\$(?P<display>[^$]+)\$\$ |
        (?<!\\)\$(?!\s)(?P<inline>[^$]+)(?<![\s\\])\$(?!\d) |
        \\\((?P<round>(?:[^\\]|\\(?![()]))+)\\\) |
        \\\[(?P<square>(?:[^\\]|\\(?![\[\]]))+)\\\]
    ) |
    (?:
        \\(?P<style>emph|text(?:it|bf|tt|rm|sf|sc|up|normal))\s*\{ |
        \{\\(?P<old_style>em|it|bf|tt|rm)\s+
    )
    (?P<styled>[^{}\\]*)\} |
    \\(?P<character>[%&$#_])
    """,
    re.VERBOSE,
)
_TAGS = {
    **dict.fromkeys(("em", "emph", "it", "textit"), "em"),
    **dict.fromkeys(("bf", "textbf"), "strong"),
    **dict.fromkeys(("tt", "texttt"), "code"),
}
_TYPOGRAPHY = (
    (re.compile(r"(?<=\w)---(?=\w)|(?<= )---(?= )"), "—"),
    (re.compile(r"(?<=\w)--(?=\w)|(?<= )--(?= )"), "–"),
    (re.compile(r"``([^`']*)''"), r"“\1”"),
    (re.compile(r"(?<=[a-z.])~(?=[\w\\$])"), "\u00a0"),  # a tie, but not the "~" of "~5%"
)
# Two adjacent words between dollar signs are prose: "$5 for the small one and 10$".
_COMMAND_WITH_ARGUMENT = re.compile(r"\\[A-Za-z]+\*?\s*(?:\{[^{}]*\})?")
_TWO_WORDS = re.compile(r"[A-Za-z]{2,},? [A-Za-z]{2,}")

_COMMAND = re.compile(r"\\(?:([A-Za-z]+)|.)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{([^}]*)")
_ENVIRONMENTS = frozenset(
    "matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases array split".split()
)
_FUNCTIONS = frozenset(
    "sup inf max min lim argmax argmin det gcd liminf limsup Pr arccos arcsin arctan cos cosh cot "
    "coth csc deg dim exp hom ker ln lg log sec sin sinh tan tanh".split()
)
# Layout commands. None of them links, colours, hides, moves, defines, or repeats its argument.
_LAYOUT_COMMANDS = frozenset(
    "frac dfrac tfrac cfrac binom dbinom tbinom over choose atop sqrt overset underset stackrel "
    "substack hat bar tilde vec dot ddot check breve acute grave mathring widehat widetilde "
    "overline underline overbrace underbrace overrightarrow overleftarrow left right middle begin "
    "end limits nolimits nonumber big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr "
    "bigm Bigm not mod bmod pmod bra ket braket text textrm textbf textit texttt textsf textup "
    "textnormal emph mbox hbox operatorname mathbb mathbf mathcal mathfrak mathit mathrm mathscr "
    "mathsf mathtt mathnormal bm boldsymbol bold Bbb rm bf it sf tt cal frak scr mathop mathbin "
    "mathrel mathord mathopen mathclose mathpunct displaystyle textstyle scriptstyle quad qquad "
    "enspace thinspace thickspace space".split()
)
# LaTeX that the converter misreads: "%" would begin a comment, and 88% would lose its sign.
_REWRITES = (
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"\\not\s*="), r"\\neq "),
    (re.compile(r"\\arg\s*\\(max|min)(?![A-Za-z])"), r"\\arg\1 "),
    (re.compile(r"\\mathrm\{"), r"\\mathrm {"),
    (re.compile(r"\{,\}"), ","),
)

_TOKEN_ELEMENTS = frozenset("mi mn mo mtext".split())
_SCRIPT_ELEMENTS = frozenset("msub msup msubsup mover munder munderover".split())
_ROW_ELEMENTS = frozenset("math mrow mstyle msqrt mtd".split())
_OTHER_ELEMENTS = frozenset("mfrac mroot mtable mtr mspace".split())
_ELEMENTS = _TOKEN_ELEMENTS | _SCRIPT_ELEMENTS | _ROW_ELEMENTS | _OTHER_ELEMENTS
_CHILD_COUNTS = {
    **dict.fromkeys("msub msup mover munder mfrac mroot".split(), 2),
    **dict.fromkeys("msubsup munderover".split(), 3),
}
_ATTRIBUTE = re.compile(
    r"(?:stretchy|fence|accent|movablelimits|displaystyle)=(?:true|false)"
    r"|form=(?:prefix|postfix)|linethickness=0|scriptlevel=[012]"
    r"|(?:minsize|maxsize|width)=[0-2](?:\.\d{1,3})?em|mathvariant=normal"
)
_CHARACTER_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
_ESCAPING_BACKSLASH = re.compile(r"\\(?=[%&$#_ ])")
_ALPHABETS = {
    "script": "SCRIPT",
    "fraktur": "FRAKTUR",
    "double-struck": "DOUBLE-STRUCK",
    "bold": "BOLD",
    "bold-italic": "BOLD ITALIC",
    "sans-serif": "SANS-SERIF",
    "monospace": "MONOSPACE",
}
_IDENTIFIER_SIGNS = frozenset("∞∅⊤⊥…⋯")
_OPERATOR_SIGNS = frozenset(":;")
_BINARY_OPERATORS = frozenset("×⋅·∗÷")
_NUMBER_SIGNS = frozenset("+-−±∓")
_UPRIGHT = re.compile("[Α-Ω]")  # Greek capitals, which TeX sets upright
_CLOSING_SIGNS = frozenset(")]}|‖⟩⌉⌋")
_THIN_SPACE = "0.167em"
_THOUSANDS_COMMA = re.compile(r"(?<=\d</mn>)<mo>,</mo>(?=<mn>\d{3}[.<])")
_FUNCTION_NAME = re.compile(r"[A-Za-z]{2,}(?:\u00a0[a-z]+)*")

_FONT = re.compile(
    r"\\(?:math(?:bb|bf|cal|frak|it|rm|scr|sf|tt)|text(?:rm|bf|it|tt|sf)?|operatorname|bm"
    r"|boldsymbol)\b"
)
_LAYOUT = re.compile(r"\\(?:rm|bf|it|sf|tt|cal|left|right|displaystyle)\b\s*")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{(\w+)\}\s*\{(\w+)\}")
_GAP = re.compile(r"\\(?:[,;:! ]|q?quad\b)|~")
_BRACES = re.compile(r"\{([^{}]*)\}")
_SINGLE_TERM = re.compile(r"[-−+]?[\w.,]*|\W")
_UNCONVERTED = re.compile(r"[\\{}]")

SymbolLookup = Callable[[str], str | None]


class _NotMathematicsError(ValueError):
    """The formula holds something that the page does not show as mathematics."""


def prose_html(text: str) -> str:
    r"""Return untrusted text as HTML on one line: formulas as MathML, LaTeX emphasis as `<em>`.

    Formulas that cannot be converted stay LaTeX in `<code class="tex">`. Whatever the text holds,
    the result has no elements but `em`, `strong`, `code` and MathML.
    """
    formulas = iter(range(_MAX_FORMULAS))
    return _map_pieces(
        strip_invisible(text), _words_html, lambda match: _latex_html(match, formulas)
    )


def plain_text(text: str) -> str:
    r"""Return untrusted text for a label or a title: one line, `$10^{-3}$` as `10^-3`.

    The result is not escaped.
    """
    return _map_pieces(strip_invisible(text), _set_typography, _latex_text).strip()


def strip_invisible(text: str) -> str:
    """Return the visible characters of a text on one line.

    Control, zero-width and direction characters and halves of surrogate pairs are dropped.
    """
    text = _WHITESPACE.sub(" ", text)
    if text.isascii() and text.isprintable():
        return text
    return _IGNORABLE.sub("", "".join(filter(_is_visible, text)))


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in _INVISIBLE_CATEGORIES


def escape_text(text: str) -> str:
    """Return a text for an attribute or a message: one line, escaped, with its LaTeX as it is."""
    return escape(strip_invisible(text).strip())


def _map_pieces(
    text: str, on_words: Callable[[str], str], on_latex: Callable[[re.Match[str]], str]
) -> str:
    """Convert the pieces of LaTeX in a text and the words between them, and join the results."""
    pieces: list[str] = []
    position = 0
    for match in _LATEX.finditer(text):
        pieces += [on_words(text[position : match.start()]), on_latex(match)]
        position = match.end()
    pieces.append(on_words(text[position:]))
    return "".join(pieces)


def _words_html(text: str) -> str:
    return escape(_set_typography(text))


def _set_typography(text: str) -> str:
    """Set dashes, quotation marks and ties as LaTeX does."""
    for pattern, replacement in _TYPOGRAPHY:
        text = pattern.sub(replacement, text)
    return text


def _latex_html(match: re.Match[str], formulas: Iterator[int]) -> str:
    if match["character"]:
        return escape(match["character"])
    if style := match["style"] or match["old_style"]:
        inner = _map_pieces(
            match["styled"], _words_html, lambda nested: _latex_html(nested, formulas)
        )
        tag = _TAGS.get(style, "")
        return f"<{tag}>{inner}</{tag}>" if tag else inner
    if not _is_formula(match):
        return _words_html(match[0])
    is_within_limit = next(formulas, None) is not None
    mathml = _mathml(_tex(match)) if is_within_limit else ""
    return mathml or f'<code class="tex">{escape(match[0])}</code>'


def _latex_text(match: re.Match[str]) -> str:
    if not match["formula"]:
        return match["character"] or _map_pieces(match["styled"], _set_typography, _latex_text)
    spoken = _formula_text(_tex(match)) if _is_formula(match) else ""
    return spoken or match[0]


def _tex(match: re.Match[str]) -> str:
    return (match["display"] or match["inline"] or match["round"] or match["square"]).strip()


def _is_formula(match: re.Match[str]) -> bool:
    inline = match["inline"]
    return not (inline and _TWO_WORDS.search(_COMMAND_WITH_ARGUMENT.sub("", inline)))


# --- MathML ---------------------------------------------------------------------------------------


@lru_cache(maxsize=2048)
def _mathml(tex: str) -> str:
    """Return the formula as MathML, or nothing when it has to stay LaTeX."""
    if len(tex) > _MAX_FORMULA_CHARS or _brace_depth(tex) > _MAX_BRACE_DEPTH:
        return ""
    try:
        mathml = _serialize(_parse_formula(tex))
    except Exception:  # whatever the converter trips over, LaTeX can still be read
        return ""
    mathml = _THOUSANDS_COMMA.sub('<mo lspace="0" rspace="0">,</mo>', mathml)
    return mathml if len(mathml) <= _MAX_MATHML_CHARS else ""


def _brace_depth(tex: str) -> int:
    depth = deepest = 0
    for brace in re.findall("[{}]", tex):
        depth += 1 if brace == "{" else -1
        deepest = max(deepest, depth)
    return deepest


def _parse_formula(tex: str) -> "Element":
    """Return the formula as a tree of listed elements.

    Raises `_NotMathematicsError`, and whatever the converter raises.
    """
    from latex2mathml.converter import convert_to_element
    from latex2mathml.symbols_parser import convert_symbol

    for pattern, replacement in _REWRITES:
        tex = pattern.sub(replacement, tex)
    _check_commands(tex, convert_symbol)
    math = convert_to_element(tex)
    math.attrib.clear()
    _clean_element(math, convert_symbol, depth=0)
    _set_spacing(math)
    return math


def _check_commands(tex: str, symbol: SymbolLookup) -> None:
    """Raise `_NotMathematicsError` for a command that is neither layout nor a symbol."""
    commands = set(_COMMAND.findall(tex)) - {""} - _LAYOUT_COMMANDS - _FUNCTIONS
    unknown = {name for name in commands if not symbol(f"\\{name}")}
    unknown |= set(_ENVIRONMENT.findall(tex)) - _ENVIRONMENTS
    if unknown:
        raise _NotMathematicsError(f"not mathematics: {unknown}")


def _clean_element(element: "Element", symbol: SymbolLookup, depth: int) -> None:
    """Keep what is listed, decode the text, and turn MathML 3 into MathML Core."""
    is_complete = len(element) == _CHILD_COUNTS.get(element.tag, len(element))
    if depth > _MAX_ELEMENT_DEPTH or element.tag not in _ELEMENTS or not is_complete:
        raise _NotMathematicsError(f"not mathematics: {element.tag}")
    if element.tag in _TOKEN_ELEMENTS and len(element):
        element.tag = "mrow"  # `\mathop{…}`: a token that holds others
    alphabet = _ALPHABETS.get(element.attrib.get("mathvariant", ""), "")
    letters = _decode_token(element.text or "", symbol)
    element.text = "".join(_styled_letter(letter, alphabet) for letter in letters)
    _keep_listed_attributes(element)
    _classify_sign(element)
    for child in element:
        _clean_element(child, symbol, depth + 1)


def _keep_listed_attributes(element: "Element") -> None:
    for name, value in list(element.attrib.items()):
        if not _ATTRIBUTE.fullmatch(f"{name}={value}"):
            del element.attrib[name]


def _decode_token(text: str, symbol: SymbolLookup) -> str:
    """Return the text of a token as it is shown.

    Raises `_NotMathematicsError` for a command that is left in it.
    """
    code = symbol(text) if text.startswith("\\") else ""
    text = f"&#x{code};" if code else text
    text = _CHARACTER_REFERENCE.sub(lambda match: chr(int(match[1], 16)), text)
    text = _ESCAPING_BACKSLASH.sub("", text)
    if "\\" in text:
        raise _NotMathematicsError(f"not mathematics: {text}")
    return strip_invisible(text).replace(" ", "\u00a0")  # browsers trim the spaces of a token


def _styled_letter(letter: str, alphabet: str) -> str:
    """Return the letter of a mathematical alphabet: browsers know no `mathvariant` but `normal`."""
    if not alphabet:
        return letter
    name = re.sub(r"^(?:GREEK|LATIN) | LETTER(?= )", "", unicodedata.name(letter, ""))
    # Some letters are older in Unicode than their alphabets: BLACK-LETTER CAPITAL R.
    older_alphabet = alphabet.replace("FRAKTUR", "BLACK-LETTER")
    for candidate in (f"MATHEMATICAL {alphabet} {name}", f"{older_alphabet} {name}"):
        try:
            return unicodedata.lookup(candidate)
        except KeyError:
            continue
    return letter


def _classify_sign(element: "Element") -> None:
    """Make operators `mo` and other signs `mi`; brackets grow only where the formula says so."""
    sign = element.text or ""
    if element.tag not in ("mi", "mo") or len(sign) != 1:
        return
    if sign in _IDENTIFIER_SIGNS:
        element.tag = "mi"
    elif element.tag == "mi" and _is_operator(sign):
        _make_operator(element, sign)
    elif _UPRIGHT.fullmatch(sign):
        element.set("mathvariant", "normal")


def _make_operator(element: "Element", sign: str) -> None:
    element.tag = "mo"
    element.text = "∼" if sign == "~" else sign
    if _is_bracket(sign):
        element.set("stretchy", "false")


def _is_operator(sign: str) -> bool:
    return unicodedata.category(sign) == "Sm" or sign in _OPERATOR_SIGNS or _is_bracket(sign)


def _is_bracket(sign: str) -> bool:
    return unicodedata.category(sign) in ("Ps", "Pe")


def _set_spacing(math: "Element") -> None:
    """Set the spaces that TeX sets and a browser does not."""
    for element in math.iter():
        if element.tag in _ROW_ELEMENTS:
            _mark_number_signs(list(element))
            _space_function_names(list(element))
        elif element.tag in _SCRIPT_ELEMENTS:
            _close_up_scripts(element)
    _trim_edges(list(math[0]))


def _close_up_scripts(element: "Element") -> None:
    for script in element[1:]:
        for operator in script.iter("mo"):
            operator.attrib.update(lspace="0", rspace="0")


def _mark_number_signs(row: list["Element"]) -> None:
    """Mark a minus that belongs to the next number, as in "(-x)", unlike the one in "a - x"."""
    for before, sign in pairwise(map(_base, row)):
        is_after_operator = before.tag == "mo" and before.text not in _CLOSING_SIGNS
        if sign.text in _NUMBER_SIGNS and is_after_operator:
            sign.set("form", "prefix")


def _space_function_names(row: list["Element"]) -> None:
    """Set thin spaces around names such as `log`, except at edges, brackets and operators."""
    bases = list(map(_base, row))
    for index, base in enumerate(bases):
        if not _is_function_name(base):
            continue
        before = row[index - 1] if index > 0 else None  # with its scripts: they end an operand
        after = bases[index + 1] if index + 1 < len(bases) else None
        base.tag = "mo"
        base.set("lspace", _THIN_SPACE if before is not None and _ends_operand(before) else "0")
        base.set("rspace", _THIN_SPACE if after is not None and _begins_operand(after) else "0")


def _ends_operand(element: "Element") -> bool:
    return element.tag != "mo" or element.text in _CLOSING_SIGNS


def _begins_operand(element: "Element") -> bool:
    return element.tag != "mo" or _is_function_name(element)


def _is_function_name(element: "Element") -> bool:
    return element.tag in ("mi", "mo") and bool(_FUNCTION_NAME.fullmatch(element.text or ""))


def _base(element: "Element") -> "Element":
    """Return the first element inside scripts and rows."""
    while len(element) and (element.tag in _SCRIPT_ELEMENTS or element.tag == "mrow"):
        element = element[0]
    return element


def _trim_edges(row: list["Element"]) -> None:
    """Remove the outer space of operators at the edges of a formula, such as "3×" and "∼5"."""
    if not row:
        return
    for side, element in (("lspace", row[0]), ("rspace", row[-1])):
        if element.tag == "mo":
            sides = ("lspace", "rspace") if element.text in _BINARY_OPERATORS else (side,)
            element.attrib.update(dict.fromkeys(sides, "0"))


def _serialize(element: "Element") -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items())
    inner = escape(element.text or "") + "".join(map(_serialize, element))
    return f"<{element.tag}{attributes}>{inner}</{element.tag}>"


# --- plain characters -----------------------------------------------------------------------------


def _formula_text(tex: str) -> str:
    """Return the formula in plain characters, or nothing when they cannot express it."""
    if len(tex) > _MAX_FORMULA_CHARS:
        return ""
    text = _FRACTION.sub(r"\1/\2", _LAYOUT.sub("", _FONT.sub("", tex)))
    text = _ESCAPING_BACKSLASH.sub("", _COMMAND.sub(_command_text, _GAP.sub(" ", text)))
    for _ in range(2):
        text = _BRACES.sub(_group_text, text)
    return "" if _UNCONVERTED.search(text) else strip_invisible(text).strip()


def _command_text(match: re.Match[str]) -> str:
    from latex2mathml.symbols_parser import convert_symbol

    name = match[1]
    if not name:
        return match[0]
    if name in _FUNCTIONS:
        before = match.string[match.start() - 1 : match.start()]
        return f" {name}" if before.isalnum() else name
    char = chr(int(convert_symbol(match[0]) or "5c", 16))
    return "\\" if unicodedata.combining(char) else char


def _group_text(match: re.Match[str]) -> str:
    inner = match[1]
    return inner if _SINGLE_TERM.fullmatch(inner) else f"({inner})"
