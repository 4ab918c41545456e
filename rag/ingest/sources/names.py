"""The names of authors, from lists and from the several ways of writing many names in one string."""

import re

from rag.text.cleaning import clean, value_to_text

_AND = re.compile(r"\s+(?:and|&)\s+")
_INITIALS = re.compile(r"(?:[A-Z]\.?[\s-]?){1,4}")
_SUFFIX = re.compile(r"jr|sr|ii|iii|iv|m\.?d|ph\.?d", re.IGNORECASE)
_CORPORATE = re.compile(
    r"\b(?:collaboration|consortium|group|team|network|committee|university|institute|society|inc|ltd|llc|gmbh)\b",
    re.IGNORECASE,
)
_NOBODY = re.compile(
    r"(?:and\s+)?(?:others|et\.? al\.?)|nan|none|null|n/a|unknown|anonymous|"
    r"\[?no authors?(?: names?)?(?: available| listed| found)?\]?",
    re.IGNORECASE,
)
# In the order of reading; a record has either the words of CSL or those of Zotero.
_NAME_PARTS = (
    "given",
    "firstName",
    "dropping-particle",
    "non-dropping-particle",
    "family",
    "lastName",
    "suffix",
)
_ET_AL = re.compile(r",?\s+et\.? al\.?$")


def author_names(value: object) -> tuple[str, ...]:
    """Names as they are read aloud, `Given Family`; those of organisations as they stand."""
    if isinstance(value, (list, tuple)) and not (len(value) == 1 and isinstance(value[0], str)):
        names = map(_name, value)
    elif isinstance(value, dict):
        names = map(_name, [value])
    else:
        names = map(_turned, _split(value_to_text(value)))
    return tuple(name for name in names if name and not _NOBODY.fullmatch(name))


def _name(item: object) -> str:
    if not isinstance(item, dict):
        return _turned(clean(value_to_text(item)))
    for key in ("literal", "name", "display_name", "full_name"):
        if whole := clean(value_to_text(item.get(key))):
            return whole if key == "literal" else _turned(whole)
    return clean(" ".join(filter(None, (value_to_text(item.get(key)) for key in _NAME_PARTS))))


def _turned(name: str) -> str:
    """`Family, Given` as `Given Family`; what is not surely of that form stays as it is."""
    name = _ET_AL.sub("", name.strip())
    parts = [part.strip() for part in name.split(",") if part.strip()]
    if len(parts) not in (2, 3) or _CORPORATE.search(name):
        return name.strip(" ,")
    if len(parts) == 2:
        family, given = parts
        return f"{family} {given}" if _SUFFIX.fullmatch(given.rstrip(".")) else f"{given} {family}"
    family, middle, last = parts
    if _SUFFIX.fullmatch(middle.rstrip(".")):
        return f"{last} {family} {middle}"
    return f"{middle} {family} {last}" if _SUFFIX.fullmatch(last.rstrip(".")) else name


def _split(text: str) -> list[str]:
    text = clean(text)
    if ";" in text:
        return [piece.strip() for piece in text.split(";")]
    pieces = _AND.split(text)
    if len(pieces) == 1:
        return _split_at_commas(text)
    if len(pieces) == 2 and _is_enumeration(*pieces):
        return [*(part.strip() for part in pieces[0].split(",")), pieces[1]]
    return pieces


def _is_enumeration(listed: str, last: str) -> bool:
    """Whether `listed and last` reads `A, B and C`, rather than BibTeX's `Family, Given and Family, Given`."""
    if "," in last or "," not in listed:
        return False
    return listed.endswith(",") or all(_is_full_name(part) for part in listed.split(","))


def _split_at_commas(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > 1 and all(map(_is_full_name, parts)):
        return parts
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    if len(parts) % 2 == 0 and all(
        _INITIALS.fullmatch(given) and not _INITIALS.fullmatch(f) for f, given in pairs
    ):
        return [f"{family}, {given}" for family, given in pairs]
    return [text]


def _is_full_name(part: str) -> bool:
    part = part.strip()
    return " " in part and not _INITIALS.fullmatch(part)
