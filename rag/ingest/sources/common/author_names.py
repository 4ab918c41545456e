"""Author names, from lists and from strings that contain several names in various styles."""

import re
from collections.abc import Iterable

from rag.text.cleaning import clean, value_to_text

_AND = re.compile(r"\s+(?:and|&)\s+")
_INITIALS = re.compile(r"(?:[A-Z]\.?[\s-]?){1,4}")
_NAME_SUFFIX = re.compile(r"jr|sr|ii|iii|iv|m\.?d|ph\.?d", re.IGNORECASE)
_ORGANIZATION = re.compile(
    r"\b(?:collaboration|consortium|group|team|network|committee|university|institute|society|"
    r"inc|ltd|llc|gmbh)\b",
    re.IGNORECASE,
)
_NOT_A_NAME = re.compile(
    r"(?:and\s+)?(?:others|et\.? al\.?)|nan|none|null|n/a|unknown|anonymous|"
    r"\[?no authors?(?: names?)?(?: available| listed| found)?\]?",
    re.IGNORECASE,
)
_ET_AL = re.compile(r",?\s+et\.? al\.?$")
# In the order in which a name is written; a record has either the keys of CSL or those of Zotero.
_NAME_PARTS = (
    "given",
    "firstName",
    "dropping-particle",
    "non-dropping-particle",
    "family",
    "lastName",
    "suffix",
)


def parse_author_names(value: object) -> tuple[str, ...]:
    """Return names as `Given Family`, and the names of organizations unchanged.

    The value is a list of names or objects, a single object, or a string with any number of names.
    """
    names: Iterable[str]
    if isinstance(value, (list, tuple)) and not _is_single_string(value):
        names = map(_parse_name, value)
    elif isinstance(value, dict):
        names = [_parse_name(value)]
    else:
        names = map(_put_given_name_first, _split_names(clean(value_to_text(value))))
    return tuple(filter(_is_name, names))


def _is_single_string(values: list[object] | tuple[object, ...]) -> bool:
    return len(values) == 1 and isinstance(values[0], str)


def _is_name(name: str) -> bool:
    return bool(name) and not _NOT_A_NAME.fullmatch(name)


def _parse_name(item: object) -> str:
    if not isinstance(item, dict):
        return _put_given_name_first(clean(value_to_text(item)))
    literal = clean(value_to_text(item.get("literal")))
    if literal:
        return literal
    for key in ("name", "display_name", "full_name"):
        if name := clean(value_to_text(item.get(key))):
            return _put_given_name_first(name)
    parts = map(value_to_text, map(item.get, _NAME_PARTS))
    return clean(" ".join(filter(None, parts)))


def _put_given_name_first(name: str) -> str:
    """Turn `Family, Given` into `Given Family`; leave a name of any other form unchanged."""
    name = _ET_AL.sub("", name.strip())
    parts = _split_commas(name)
    if len(parts) not in (2, 3) or _ORGANIZATION.search(name):
        return name.strip(" ,")
    if len(parts) == 2:
        family, given = parts
        return f"{family} {given}" if _is_name_suffix(given) else f"{given} {family}"
    family, middle, last = parts
    if _is_name_suffix(middle):
        return f"{last} {family} {middle}"
    return f"{middle} {family} {last}" if _is_name_suffix(last) else name


def _is_name_suffix(part: str) -> bool:
    return _NAME_SUFFIX.fullmatch(part.rstrip(".")) is not None


def _split_names(text: str) -> list[str]:
    if ";" in text:
        return list(map(str.strip, text.split(";")))
    pieces = _AND.split(text)
    if len(pieces) == 1:
        return _split_at_commas(text)
    if len(pieces) == 2 and _is_enumeration(*pieces):
        return [*map(str.strip, pieces[0].split(",")), pieces[1]]
    return pieces


def _is_enumeration(before_and: str, after_and: str) -> bool:
    """Tell `A, B and C` from the `Family, Given and Family, Given` of BibTeX."""
    if "," in after_and or "," not in before_and:
        return False
    return before_and.endswith(",") or all(map(_is_full_name, before_and.split(",")))


def _split_at_commas(text: str) -> list[str]:
    parts = _split_commas(text)
    if len(parts) > 1 and all(map(_is_full_name, parts)):
        return parts
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    if len(parts) % 2 == 0 and all(map(_has_only_initials, pairs)):
        return list(map(", ".join, pairs))
    return [text]


def _split_commas(text: str) -> list[str]:
    return list(filter(None, map(str.strip, text.split(","))))


def _has_only_initials(family_and_given: tuple[str, str]) -> bool:
    family, given = family_and_given
    return bool(_INITIALS.fullmatch(given)) and not _INITIALS.fullmatch(family)


def _is_full_name(part: str) -> bool:
    part = part.strip()
    return " " in part and not _INITIALS.fullmatch(part)
