"""Cleaning of the text that arrives from pages and exports.

What is stored is what is shown and quoted, so cleaning is careful: Unicode NFC, no control or
invisible characters, no mark-up, no hyphenation at line ends, single spaces. LaTeX stays as it is.
"""

import html
import html.entities
import os
import re
import unicodedata
from functools import lru_cache

_TAG_NAMES = (
    r"p|i|b|u|em|strong|sup|sub|sec|title|abstract|italic|bold|underline|sc|span|div|br|hr|a|ul|ol|li|"
    r"list|list-item|label|xref|ext-link|inline-formula|disp-formula|tex-math|alternatives|mml:[a-z]+|"
    r"math|mi|mn|mo|mrow|msub|msup|msubsup|mfrac|mtext|msqrt|mover|munder|mstyle|semantics|annotation|"
    r"h[1-6]|font|small|tt|code|pre|blockquote|named-content|styled-content"
)
_TAG = re.compile(rf"<(/?)(?:jats:)?({_TAG_NAMES})(\s+[\w:.-]+\s*=[^<>]*|\s*)(/?)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(?:jats:)?(\w+)\s*>")
_INLINE = frozenset(
    "i b u em strong sub italic bold underline sc span a font small tt code "
    "xref ext-link inline-formula named-content styled-content".split()
)
# Bare, these are tags only where they are closed: "a<b>c" is mathematics.
_NEED_CLOSING = frozenset("ibua")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_SUP = r"<(?:jats:)?sup(?:\s[^<>]*)?>"
_SUPERSCRIPT = re.compile(rf"(?<=[\w)]){_SUP}\s*(?!(?:st|nd|rd|th)\b)(?=[\w+\-−–])", re.IGNORECASE)
_OTHER_SUP = re.compile(r"</?(?:jats:)?sup(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_ESCAPED_AGAIN = re.compile(r"&(?:(?:amp|#38|#x26);)+", re.IGNORECASE)
_HYPHENATION = re.compile(r"(?:\u00ad|(?<=[^\W\d_])[-‐])[ \t]*\r?\n[ \t]*(?=[a-zß-öø-ÿ])")
# "state-of-the-" + "art" and "end-" + "to-end" keep their hyphen, "net-" + "works" does not.
_KEEPS_HYPHEN = re.compile(
    r"(?:(?<![\w-])(?:self|cross|zero|few|well|large)|-(?:of|to|the|in|and|by|on|or|for|a))$"
)
_GOES_ON_HYPHENED = re.compile(r"(?:of|to|the|in|and|by|on|or|for)-")
_SPACE = re.compile(r"\s+")
# Typesetters' ligatures survive NFC, yet nobody types them in a question.
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_STEERING_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Marks and letters by their category, yet drawn as nothing (Unicode: default ignorable).
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# So many marks on one letter are no writing (the stream-safe format of Unicode, UAX 15, allows as many); normalizing
# takes time with their square. The last two are letters that become marks.
_MOST_MARKS = 30
_MANY_MARKS = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){31,}")
_LONGEST_REMEMBERED = 2_000  # characters
# What is left after so many layers of escaping is nobody's abstract.
_MOST_LAYERS = 10


def clean(text: str) -> str:
    """One line of plain text, ready to be stored, shown and quoted; cleaning it again changes nothing.

    `10<sup>-3</sup>` becomes `10^-3`, for the bare `10-3` would be another number.
    """
    for _ in range(_MOST_LAYERS):
        before, text = text, _clean_layer(text)
        if text == before:
            break
    return text


def _clean_layer(text: str) -> str:
    text = _HYPHENATION.sub(_line_end, _strip_markup(_unescape(text)))
    text = unicodedata.normalize("NFC", visible(text)).translate(_LIGATURES)
    return _SPACE.sub(" ", text).strip()


def _unescape(text: str) -> str:
    """Decode whole entities only: `html.unescape` would also read `?a=1&copy=2` as `?a=1©=2`."""
    return _ENTITY.sub(_character, _ESCAPED_AGAIN.sub("&", text)) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    return (
        html.unescape(entity) if entity[1] == "#" or entity[1:] in html.entities.html5 else entity
    )


def _strip_markup(text: str) -> str:
    if "<" not in text:
        return text.replace("]]>", "")
    commented, closing, rest = text.rpartition("-->")
    text = _CDATA.sub("", _COMMENT.sub("", commented + closing) + rest)
    closed = {name.lower() for name in _CLOSING.findall(text)}
    text = _TAG.sub(lambda tag: _in_place_of(tag, closed), text)
    return _OTHER_SUP.sub("", _SUPERSCRIPT.sub("^", text))


def _in_place_of(tag: re.Match[str], closed: set[str]) -> str:
    name = tag[2].lower()
    bare = not (tag[1] or tag[3] or tag[4])
    if name == "sup" or (bare and name in _NEED_CLOSING and name not in closed):
        return tag[0]
    return "" if name in _INLINE else " "


def _line_end(match: re.Match[str]) -> str:
    before, after = (
        match.string[max(0, match.start() - 40) : match.start()],
        match.string[match.end() :][:5],
    )
    kept = match[0][0] != "\u00ad" and (
        _KEEPS_HYPHEN.search(before) or _GOES_ON_HYPHENED.match(after)
    )
    return "-" if kept else ""


def visible(text: str) -> str:
    """The text without what cannot be seen: control and invisible characters, marks on marks on marks."""
    if not text.isprintable():
        text = "".join(
            c for c in text if c.isspace() or unicodedata.category(c) not in _INVISIBLE_CATEGORIES
        )
    return text if text.isascii() else _MANY_MARKS.sub(_fewer_marks, _IGNORABLE.sub("", text))


def _fewer_marks(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) else 0
        kept += [char] if marks <= _MOST_MARKS else []
    return "".join(kept)


# Letters that Unicode does not take apart, and that people type without their strokes.
_STROKES = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


def title_key(title: str) -> str:
    """The title as it is compared between sources: letters and digits only, no case, no accents."""
    return _remembered_key(title) if len(title) <= _LONGEST_REMEMBERED else _key(title)


def _key(title: str) -> str:
    folded = unicodedata.normalize("NFKD", title).casefold().translate(_STROKES)
    return " ".join(
        re.findall(r"[^\W_]+", "".join(c for c in folded if not unicodedata.combining(c)))
    )


_remembered_key = lru_cache(maxsize=1 << 10)(_key)


def escape_control_chars(text: str) -> str:
    """The text as it can be shown anywhere: what would steer a terminal, or is no text, becomes `�`."""
    if text.isprintable():
        return text
    return "".join(
        "�" if unicodedata.category(char) in _STEERING_CATEGORIES else char for char in text
    )


def printable_path(path: str | os.PathLike[str]) -> str:
    """A path as text that can be shown and stored: bytes that are no UTF-8, and control characters, become `�`."""
    try:
        name = os.fsencode(path).decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a surrogate pair, which stands in no path
        name = str(path)
    return escape_control_chars(name)
