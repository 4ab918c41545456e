"""Cleaning of the text that arrives from web pages and exports.

Stored text is later shown and quoted, so cleaning does not change its content. The result is in
Unicode NFC, with single spaces, and without control and invisible characters, markup and hyphens at
line ends. LaTeX stays as it is.
"""

import html
import html.entities
import itertools
import os
import re
import unicodedata
from functools import lru_cache

_TAG_NAMES = (
    "p|i|b|u|em|strong|sup|sub|sec|title|abstract|italic|bold|underline|sc|span|div|br|hr|a|ul|ol|"
    "li|list|list-item|label|xref|ext-link|inline-formula|disp-formula|tex-math|alternatives|"
    "mml:[a-z]+|math|mi|mn|mo|mrow|msub|msup|msubsup|mfrac|mtext|msqrt|mover|munder|mstyle|"
    "semantics|annotation|h[1-6]|font|small|tt|code|pre|blockquote|named-content|styled-content"
)
_TAG = re.compile(rf"<(/?)(?:jats:)?({_TAG_NAMES})(\s+[\w:.-]+\s*=[^<>]*|\s*)(/?)>", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</(?:jats:)?(\w+)\s*>")
_INLINE_TAGS = frozenset(
    "i b u em strong sub italic bold underline sc span a font small tt code "
    "xref ext-link inline-formula named-content styled-content".split()
)
# Without attributes these are tags only when they are closed: "a<b>c" is mathematics.
_TAGS_THAT_NEED_CLOSING = frozenset("ibua")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_SUP = r"<(?:jats:)?sup(?:\s[^<>]*)?>"
_SUPERSCRIPT = re.compile(rf"(?<=[\w)]){_SUP}\s*(?!(?:st|nd|rd|th)\b)(?=[\w+\-−–])", re.IGNORECASE)
_OTHER_SUP = re.compile(r"</?(?:jats:)?sup(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_ESCAPED_AMPERSAND = re.compile(r"&(?:(?:amp|#38|#x26);)+", re.IGNORECASE)
_LINE_END_HYPHEN = re.compile(r"(?:\u00ad|(?<=[^\W\d_])[-‐])[ \t]*\r?\n[ \t]*(?=[a-zß-öø-ÿ])")
# "state-of-the-" + "art" and "end-" + "to-end" keep their hyphen, "net-" + "works" does not.
_KEEPS_HYPHEN = re.compile(
    r"(?:(?<![\w-])(?:self|cross|zero|few|well|large)|-(?:of|to|the|in|and|by|on|or|for|a))$"
)
_CONTINUES_COMPOUND = re.compile(r"(?:of|to|the|in|and|by|on|or|for)-")
_WHITESPACE = re.compile(r"\s+")
# NFC keeps typographic ligatures, but nobody types them in a question.
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
# Letters that Unicode does not decompose, and that people replace when they type.
_STROKE_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
_LETTERS_OR_DIGITS = re.compile(r"[^\W_]+")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_CONTROL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Invisible characters in the categories of marks and letters (Unicode: default ignorable).
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\uffa0"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# The stream-safe text format of Unicode (UAX 15) allows this many combining marks on one letter.
# Normalization takes time quadratic in their number. U+FF9E and U+FF9F are letters to Unicode that
# NFKD turns into marks.
_MAX_COMBINING_MARKS = 30
_LONG_RUN_OF_MARKS = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){31,}")
_MAX_CACHED_TITLE = 2_000  # characters
_MAX_ESCAPING_LAYERS = 10


def clean(text: str) -> str:
    """Return a text as one line of plain text. Cleaning it again changes nothing.

    `10<sup>-3</sup>` becomes `10^-3`, because `10-3` would be another number.
    """
    for _ in range(_MAX_ESCAPING_LAYERS):
        before, text = text, _clean_once(text)
        if text == before:
            break
    return text


def _clean_once(text: str) -> str:
    text = _LINE_END_HYPHEN.sub(_join_hyphenated, _strip_markup(_unescape(text)))
    text = unicodedata.normalize("NFC", remove_invisible(text)).translate(_LIGATURES)
    return _WHITESPACE.sub(" ", text).strip()


def _unescape(text: str) -> str:
    """Decode complete entities only: `html.unescape` would turn `?a=1&copy=2` into `?a=1©=2`."""
    if "&" not in text:
        return text
    return _ENTITY.sub(_decode_entity, _ESCAPED_AMPERSAND.sub("&", text))


def _decode_entity(match: re.Match[str]) -> str:
    entity = match[0]
    is_known = entity[1] == "#" or entity[1:] in html.entities.html5
    return html.unescape(entity) if is_known else entity


def _strip_markup(text: str) -> str:
    if "<" not in text:
        return text.replace("]]>", "")
    before_last_comment_end, comment_end, rest = text.rpartition("-->")
    text = _CDATA.sub("", _COMMENT.sub("", before_last_comment_end + comment_end) + rest)
    closed_tags = set(map(str.lower, _CLOSING_TAG.findall(text)))
    text = _TAG.sub(lambda tag: _replace_tag(tag, closed_tags), text)
    return _OTHER_SUP.sub("", _SUPERSCRIPT.sub("^", text))


def _replace_tag(tag: re.Match[str], closed_tags: set[str]) -> str:
    """Return the replacement of a tag: itself, nothing, or a space for a block element."""
    name = tag[2].lower()
    is_bare = not (tag[1] or tag[3] or tag[4])
    is_unclosed = name in _TAGS_THAT_NEED_CLOSING and name not in closed_tags
    if name == "sup" or (is_bare and is_unclosed):
        return tag[0]
    return "" if name in _INLINE_TAGS else " "


def _join_hyphenated(match: re.Match[str]) -> str:
    """Return what replaces a hyphen and line break within a word: a hyphen or nothing."""
    if match[0][0] == "\u00ad":
        return ""
    before = match.string[max(0, match.start() - 40) : match.start()]
    after = match.string[match.end() :][:5]
    is_compound = _KEEPS_HYPHEN.search(before) or _CONTINUES_COMPOUND.match(after)
    return "-" if is_compound else ""


def remove_invisible(text: str) -> str:
    """Remove control and invisible characters, and combining marks beyond 30 on one letter."""
    if not text.isprintable():
        text = "".join(filter(_is_visible, text))
    if text.isascii():
        return text
    return _LONG_RUN_OF_MARKS.sub(_limit_marks, _IGNORABLE.sub("", text))


def _is_visible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) not in _INVISIBLE_CATEGORIES


def _limit_marks(run: re.Match[str]) -> str:
    chars: list[str] = []
    marks = 0
    for char in run[0]:
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", char)[0])
        marks = marks + 1 if is_mark else 0
        if marks <= _MAX_COMBINING_MARKS:
            chars.append(char)
    return "".join(chars)


def title_key(title: str) -> str:
    """Return the form in which titles are compared: letters and digits, no case, no accents."""
    return _cached_title_key(title) if len(title) <= _MAX_CACHED_TITLE else _title_key(title)


def _title_key(title: str) -> str:
    folded = unicodedata.normalize("NFKD", title).casefold().translate(_STROKE_LETTERS)
    return " ".join(_LETTERS_OR_DIGITS.findall(strip_combining_marks(folded)))


_cached_title_key = lru_cache(maxsize=1 << 10)(_title_key)


def strip_combining_marks(decomposed: str) -> str:
    """Remove the accents of a text in a decomposed normal form (NFD or NFKD)."""
    return "".join(itertools.filterfalse(unicodedata.combining, decomposed))


def escape_control_chars(text: str) -> str:
    """Replace characters that could steer a terminal, or are not text, with `�`."""
    if text.isprintable():
        return text
    return "".join(map(_escape_control_char, text))


def _escape_control_char(char: str) -> str:
    return "�" if unicodedata.category(char) in _CONTROL_CATEGORIES else char


def printable_path(path: str | os.PathLike[str]) -> str:
    """Return a path as printable text, with `�` for control characters and invalid UTF-8."""
    try:
        name = os.fsencode(path).decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a surrogate pair, which no path contains
        name = str(path)
    return escape_control_chars(name)


def value_to_text(value: object) -> str:
    """Return a loosely typed value of a record as text.

    The items of a list are joined with spaces; nested lists, objects, booleans and None are empty.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return " ".join(filter(None, map(_item_to_text, value)))
    if value is None or isinstance(value, (bool, dict)):
        return ""
    return str(value)


def _item_to_text(item: object) -> str:
    return "" if isinstance(item, (list, tuple)) else value_to_text(item)
