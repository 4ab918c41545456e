"""Cleaning of the text that arrives from pages and exports.

What is stored is what is shown and quoted, so cleaning is careful: Unicode NFC, no control or
invisible characters, no mark-up, no hyphenation at line ends, single spaces. LaTeX stays as it is.
"""

import html
import re
import unicodedata

_TAG_NAMES = (
    r"p|i|b|u|em|strong|sup|sub|sec|title|abstract|italic|bold|underline|sc|span|div|br|hr|a|ul|ol|li|"
    r"list|list-item|label|xref|ext-link|inline-formula|disp-formula|tex-math|alternatives|mml:[a-z]+|"
    r"math|mi|mn|mo|mrow|msub|msup|msubsup|mfrac|mtext|msqrt|mover|munder|mstyle|semantics|annotation|"
    r"h[1-6]|font|small|tt|code|pre|blockquote|named-content|styled-content"
)
_TAG = re.compile(rf"<(/?)(?:jats:)?({_TAG_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_INLINE = frozenset("i b u em strong sub italic bold underline sc span a font small tt code".split())
_COMMENT = re.compile(r"<!--.*?-->|<!\[CDATA\[|\]\]>", re.DOTALL)
_SUPERSCRIPT = re.compile(r"(?<=[\w)])<(?:jats:)?sup>\s*(?=[\w+\-−–])", re.IGNORECASE)
_HYPHENATION = re.compile(r"(?<=[^\W\d_])-[ \t]*\r?\n[ \t]*(?=[a-z])")
_SPACE = re.compile(r"\s+")
# Typesetters' ligatures survive NFC, yet nobody types them in a question.
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def clean(text: str) -> str:
    """One line of plain text, ready to be stored, shown and quoted.

    `10<sup>-3</sup>` becomes `10^-3`, for the bare `10-3` would be another number.
    """
    text = html.unescape(_strip_markup(text))
    text = _HYPHENATION.sub("", text)
    text = _SPACE.sub(" ", text)
    return _SPACE.sub(" ", _visible(unicodedata.normalize("NFC", text).translate(_LIGATURES))).strip()


def _strip_markup(text: str) -> str:
    if "<" not in text:
        return text
    text = _SUPERSCRIPT.sub("^", _COMMENT.sub("", text))
    return _TAG.sub(lambda match: "" if match[2].lower() in _INLINE | {"sup"} else " ", text)


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    kept = (c for c in text if unicodedata.category(c) not in _INVISIBLE_CATEGORIES)
    return _VARIATION_SELECTORS.sub("", "".join(kept))


def title_key(title: str) -> str:
    """The title as it is compared between sources: letters and digits only, no case, no accents."""
    folded = unicodedata.normalize("NFKD", title).casefold()
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in folded if not unicodedata.combining(c))))
