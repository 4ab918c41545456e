"""Check exactly what can be told without the meaning: copies, numbers with their units, and names.

A sentence with a number or a name that its sources lack is not supported, however well it reads.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

from rag.text.quantities import NUMBER_WORDS, TIME_UNITS
from rag.text.terms import STOP_WORDS, content_terms, index_text, query_terms
from rag.verification.verifier import Source, Support

# "It depends." contains nothing to check.
_MIN_CONTENT_WORDS = 2


def check_details(sentence: str, sources: Sequence[Source]) -> Support | None:
    """Return what can be told without the meaning; None if the meaning decides.

    A copy is supported. A sentence is not if it is too short to check, or if it has a number or a
    name that the sources lack.
    """
    quotations, contexts = [], []
    for source in sources:
        quotations.append(source.text)
        contexts.append(f"{source.context}. {source.question}")
    if _is_copy(sentence, quotations):
        return Support(True, 1.0, "")
    if not sources:
        return Support(False, 0.0, "no source was cited")
    years = [str(source.year) for source in sources if source.year]
    reason = _find_unsupported_detail(sentence, [*quotations, *years], contexts)
    return Support(False, 0.0, reason) if reason else None


def _is_copy(sentence: str, quotations: Iterable[str]) -> bool:
    """Return True for a copy of a quotation, apart from marks, white space and the full stop."""
    copy = _strip_marks(sentence)
    if not any(map(str.isalnum, copy)):
        return False
    return any(copy == _strip_marks(quotation) for quotation in quotations)


def without_marks(text: str) -> str:
    """Return a text without footnote marks."""
    return _MARK.sub("", text).strip()


def _find_unsupported_detail(
    sentence: str, quotations: Sequence[str], contexts: Sequence[str]
) -> str:
    """Return why a sentence is unsupported whatever it means; nothing if the meaning decides.

    That is, the first number that the quotations lack, or the first name that is neither there nor
    in the contexts; or that the sentence is too short to check.
    """
    text = _normalize(sentence)
    if len(content_terms(text)) < _MIN_CONTENT_WORDS:
        return "the sentence is too short to check"
    quotes = list(map(_normalize, quotations))
    known = [*quotes, *map(_normalize, contexts)]
    terms = _terms_of(known)
    quantities = _quantities_of(quotes)
    for number in _find_numbers(text):
        is_supported = not quantities.isdisjoint(number.quantities)
        if not is_supported and not _is_part_of_name(number, terms):
            return f"the source does not contain the number {number.text}"
    names = list(_find_names(text))
    mentions = _Mentions.of(terms, known if names else ())
    for name in names:
        if not mentions.contain(name):
            return f"the source does not mention {name}"
    return ""


# --- text -----------------------------------------------------------------------------------------

_MARK = re.compile(r"\s?\[\^?[1-9]\d{0,2}(?:\s*[,;–-]\s*[1-9]\d{0,2})*\]")
_SUPERSCRIPT = re.compile("[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_TEX = {
    r"\%": "%",
    r"\times": "×",
    r"\sim": "~",
    r"\pm": "±",
    r"\,": "",
    r"\cdot": "·",
    r"\approx": "~",
    r"\leq": "≤",
}
_TEX_COMMAND = re.compile(
    r"\\times(?![A-Za-z])|\\sim(?![A-Za-z])|\\pm(?![A-Za-z])|\\cdot(?![A-Za-z])"
    r"|\\approx(?![A-Za-z])|\\leq(?![A-Za-z])|\\%|\\,"
)
_TEX_STYLE = re.compile(
    r"\\(?:text[a-z]*|math[a-z]*|emph|em|it|bf|rm|left|right|operatorname)(?![A-Za-z])"
)
_TO_ASCII = str.maketrans({"−": "-", "‐": "-", "‑": "-", "’": "'"} | dict.fromkeys("${}\\"))
_TOKEN = re.compile(r"[^\W_]+(?:[-./_^'&][^\W_]+)*\+*")
# First letter of each run of letters.
_INITIAL = re.compile(r"(?<![^\W\d_])[^\W\d_]")


def _normalize(text: str) -> str:
    r"""Return a text without footnote marks and TeX: "\beta" becomes "beta".

    Superscripts become digits after a caret, and all hyphens the same character.
    """
    text = _TEX_COMMAND.sub(lambda match: _TEX[match[0]], _MARK.sub("", text))
    text = _SUPERSCRIPT.sub(_to_caret, _TEX_STYLE.sub("", text))
    return unicodedata.normalize("NFKC", text.translate(_TO_ASCII)).translate(_TO_ASCII)


def _to_caret(superscript: re.Match[str]) -> str:
    return "^" + unicodedata.normalize("NFKC", superscript[0])


def _strip_marks(text: str) -> str:
    one_line = " ".join(_MARK.sub("", text).split())
    return one_line.strip("\"'“”‘’ ").rstrip(".!? ")


def _terms_of(texts: Iterable[str]) -> frozenset[str]:
    """Return all terms of texts; names in every spelling, also joined with neighbours."""
    terms: set[str] = set()
    for text in texts:
        terms.update(index_text(text).split(), query_terms(text))
    return frozenset(terms)


@lru_cache(maxsize=20_000)
def _forms(word: str) -> list[str]:
    """Return the terms of a word, the whole word first. The list must not be changed."""
    return index_text(word).split()


def _stem(word: str) -> str:
    forms = _forms(word)
    return forms[0] if forms else ""


# --- numbers and names ----------------------------------------------------------------------------

# A number as a value and a unit, which is empty when there is none.
Quantity = tuple[Fraction | str, str]


@dataclass(frozen=True, slots=True)
class _Number:
    """Number in a normalized text, the word before it, and the quantities that it may mean."""

    text: str
    word_before: str
    quantities: frozenset[Quantity]


def _quantities_of(quotes: Iterable[str]) -> set[Quantity]:
    quantities: set[Quantity] = set()
    for quote in quotes:
        for number in _find_numbers(quote):
            quantities |= number.quantities
        for pattern, quantity in _IMPLIED.items():
            if re.search(pattern, quote, re.IGNORECASE):
                quantities.add(quantity)
    return quantities


def _is_part_of_name(number: _Number, terms: frozenset[str]) -> bool:
    """Return True for a number that belongs to the name before it: "GPT 4" for GPT-4."""
    if not _TOKEN.fullmatch(number.word_before) or not number.text[0].isdigit():
        return False
    return _stem(number.word_before + number.text) in terms


_VALUE_OF_WORD = {word: value for value, word in enumerate(("zero", *NUMBER_WORDS))}
_VALUE_OF_WORD |= {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
_FACTORS = {"twice": 2, "doubl": 2, "thrice": 3, "tripl": 3, "quadr": 4}
# Patterns of words that imply a number.
_IMPLIED: dict[str, Quantity] = {
    r"\bboth\b": (Fraction(2), ""),
    r"\b(?:single|sole)\b": (Fraction(1), ""),
}
# "Halved": one half, 50 % or a factor of 2.
_HALF: frozenset[Quantity] = frozenset(
    {(Fraction(1, 2), ""), (Fraction(50), "%"), (Fraction(2), "x")}
)
_SCALES = {
    "k": 3,
    "thousand": 3,
    "m": 6,
    "million": 6,
    "b": 9,
    "billion": 9,
    "t": 12,
    "trillion": 12,
}
# Spellings of each unit, separated by commas.
_SPELLINGS = {
    "%": "%,percent,per cent,pct",
    "points": "% points,% point,percentage points,percentage point,percent points,points,point,pp",
    "x": "x,×,times,fold",
    "bits": "bits,bit", "bytes": "bytes,byte",
    "kb": "kb,kilobytes", "mb": "mb,megabytes", "gb": "gb,gigabytes", "tb": "tb,terabytes",
    "kib": "kib", "mib": "mib", "gib": "gib", "tib": "tib",
    "ns": "ns,nanoseconds", "us": "us,μs,microseconds", "ms": "ms,msec,milliseconds",
    "s": "s,sec,secs,seconds,second", "min": "min,mins,minutes,minute",
    "hz": "hz,hertz", "khz": "khz", "mhz": "mhz", "ghz": "ghz", "db": "db,decibels", "fps": "fps",
    "w": "w,watts,watt", "kw": "kw", "mw": "mw", "j": "j,joules,joule", "kwh": "kwh",
    "nm": "nm,nanometers,nanometres", "um": "um,μm,micrometers,micrometres",
    "mm": "mm,millimeters,millimetres", "cm": "cm,centimeters,centimetres",
    "m": "meters,metres,meter,metre", "km": "km,kilometers,kilometres",
    "ug": "ug,μg,micrograms", "mg": "mg,milligrams", "g": "g,grams,gram", "kg": "kg,kilograms",
    "ml": "ml,milliliters,millilitres", "l": "l,liters,litres", "°": "°c,°,degrees,degree",
} | {unit: ",".join(spellings) for unit, spellings in TIME_UNITS.items()}  # fmt: skip
_UNIT_OF_SPELLING: dict[str, str] = {}
for _unit, _spellings in _SPELLINGS.items():
    _UNIT_OF_SPELLING |= dict.fromkeys(_spellings.split(","), _unit)
_LONGEST_FIRST = sorted(_UNIT_OF_SPELLING, key=len, reverse=True)
_UNIT = re.compile(
    rf"[\s-]?({'|'.join(_LONGEST_FIRST)})(?![^\W_])".replace("% ", r"%\s?"), re.IGNORECASE
)
_SCALE = re.compile(r"(?:([kKMBT])|[\s-]?(thousand|million|billion|trillion))(?![^\W_])")
# "one" is a pronoun as often as a number.
_ONE = (
    r"(?<!no )(?<!any )(?<!each )(?<!every )(?<!the )(?<!this )(?<!that )"
    r"one(?= [a-z])(?! (?:of|can|could|may|must|another|or|is|has)\b)"
)
_FROM_TWO = tuple(_VALUE_OF_WORD)[2:]
_NUMBER_WORD = f"{'|'.join(_FROM_TWO)}|zero(?!-)|{_ONE}"
_NUMBER = re.compile(
    r"(?P<grid>(?<![\w.])\d{1,9}(?:\s?[x×]\s?\d{1,9})+(?![\w.^]))"
    r"|(?P<sign>(?:(?<=[\s(\[=~<>])|^)-)?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
    r"(?:\s?[×x*·]\s?10\^(?P<ten>-?\d{1,3})(?!\d)|e(?P<exp>[-+]?\d{1,3})(?!\w)"
    r"|\^(?P<power>-?\d{1,3})(?!\d))?"
    rf"|\b(?P<word>{_NUMBER_WORD})(?=\b|fold)"
    r"|\b(?P<factor>twice|thrice|(?:doubl|tripl|quadrupl)(?:e|es|ed|ing)"
    r"|hal(?:f(?![- ]precision)|ve|ves|ved|ving))\b",
    re.IGNORECASE,
)
# Names with digits: ResNet-50, FP8, top-1, CIFAR10/100.
_STARTS_WITH_LETTER = re.compile(r"(?<![\w.])[^\W\d_][^\W_]*(?:[-/.^][^\W_]+)*")
_BEFORE_FACTOR = re.compile(
    r"(?:factors? (?:of )?|(?:speed-?ups?|speeds? (?:\w+ )?up|sped up|ratio) (?:of|by) )"
    r"(?:about |up to |over )?$",
    re.IGNORECASE,
)
_BETWEEN_NUMBERS_OF_ONE_UNIT = re.compile(r"\s?(?:[-–/,]|,? ?\b(?:to|and|or|vs)\b)\s?")
_LAST_WORD = re.compile(r"(\S+)\s+$")
# A longer number is compared as text.
_MAX_DIGITS = 60
_MAX_CHARS_BEFORE = 40


def _find_numbers(text: str) -> list[_Number]:
    """Return the numbers of a normalized text, last first, except those inside names.

    In "2 to 3 times", the 2 may mean 2 times as well.
    """
    text = _STARTS_WITH_LETTER.sub(_mask_digits, text)
    numbers: list[_Number] = []
    next_start, next_units = len(text), {""}
    for match in reversed(list(_NUMBER.finditer(text))):
        value, units, end = _parse_number(text, match)
        if not units:
            continue
        before = text[max(0, match.start() - _MAX_CHARS_BEFORE) : match.start()]
        if units == {""}:
            units = _infer_units(before, text[end:next_start], next_units)
        quantities = _HALF if value is None else frozenset(product([value], units))
        last_word = _LAST_WORD.search(before)
        word_before = last_word[1] if last_word else ""
        numbers.append(_Number(text[match.start() : end], word_before, quantities))
        next_start, next_units = match.start(), units
    return numbers


def _mask_digits(match: re.Match[str]) -> str:
    """Replace a word that contains digits, which are part of a name."""
    return "_" * len(match[0]) if any(map(str.isdigit, match[0])) else match[0]


def _infer_units(before: str, after: str, next_units: set[str]) -> set[str]:
    """Return the possible units of a bare number, from the text around it."""
    units = {""}
    if _BETWEEN_NUMBERS_OF_ONE_UNIT.fullmatch(after):
        units = units | next_units
    if units == {""} and _BEFORE_FACTOR.search(before):
        units = {"", "x"}
    return units


def _parse_number(text: str, match: re.Match[str]) -> tuple[Fraction | str | None, set[str], int]:
    """Return value, units and end of a number; the value of a half is None.

    There are no units when it is a name such as "3D" or "2nd".
    """
    if match["grid"]:
        return re.sub(r"\s", "", match[0]).replace("×", "x"), {""}, match.end()
    if match["factor"]:
        return _parse_factor(match[0].lower()), {"x"}, match.end()
    scale = _SCALE.match(text, match.end())
    end = scale.end() if scale else match.end()
    value = _parse_value(match, scale)
    if unit := _UNIT.match(text, end):
        return value, {_canonical_unit(unit[1])}, unit.end()
    is_name = not scale and not match["word"] and text[end : end + 1].isalpha()
    return value, set() if is_name else {""}, end


def _parse_factor(word: str) -> Fraction | None:
    factor = _FACTORS.get(word[:6].rstrip("e")) or _FACTORS.get(word[:5])
    return Fraction(factor) if factor else None


def _canonical_unit(spelling: str) -> str:
    spelling = re.sub(r"%\s?p", "% p", spelling.lower())
    if spelling not in _UNIT_OF_SPELLING:
        spelling = spelling.replace("µ", "μ")
    return _UNIT_OF_SPELLING[spelling]


def _parse_value(match: re.Match[str], scale: re.Match[str] | None) -> Fraction | str:
    """Return the exact value, or the text itself when that is not an ordinary number."""
    if match["word"]:
        value = Fraction(_VALUE_OF_WORD[match["word"].lower()])
    else:
        parsed = _parse_digits(match)
        if parsed is None:
            return match[0]
        value = parsed
    if scale:
        value *= 10 ** _SCALES[(scale[1] or scale[2]).lower()]
    return -value if match["sign"] else value


def _parse_digits(match: re.Match[str]) -> Fraction | None:
    digits = match["digits"].replace(",", "")
    if len(digits) > _MAX_DIGITS:
        return None
    value = Fraction(f"0{digits}")
    power = int(match["power"] or 1)
    if power < 1 and not value:
        return None
    exponent = int(match["ten"] or match["exp"] or 0)
    return value**power * Fraction(10) ** exponent


_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s)[\s\"'“‘(\[]*")
_ACRONYM = re.compile(r"[A-Z]{3,}")
_LOWERCASE_AFFIXES = re.compile(r"^(?:[a-z]+-)+(?=[A-Z])|(?:-[a-z]+)+$")


def _find_names(text: str) -> Iterator[str]:
    """Yield words with digits or inner capitals, and capitalized words within a sentence."""
    starts = set(map(re.Match.end, _SENTENCE_START.finditer(text)))
    for match in _TOKEN.finditer(text):
        if _is_name(match[0], match.start() in starts):
            yield match[0]


def _is_name(word: str, starts_sentence: bool) -> bool:
    if word.lower() in STOP_WORDS or not any(map(str.isalpha, word)):
        return False
    if any(map(str.isdigit, word)):
        return not word[0].isdigit() or not _contains_number(word)
    pieces = re.split(r"[-./_^'&]", word)
    if any(map(_has_inner_capital, pieces)):
        return True
    return not starts_sentence and any(map(_is_capitalized, pieces))


def _contains_number(word: str) -> bool:
    return any(number.text[0].isdigit() for number in _find_numbers(word))


def _has_inner_capital(piece: str) -> bool:
    return piece[1:] != piece[1:].lower()


def _is_capitalized(piece: str) -> bool:
    return len(piece) > 1 and piece[0].isupper() and piece.lower() not in STOP_WORDS


@dataclass(frozen=True, slots=True)
class _Mentions:
    """Terms of the sources, forms of each token, and initials of each text, to look names up."""

    terms: frozenset[str]
    tokens: list[frozenset[str]]
    initials: list[str]

    @classmethod
    def of(cls, terms: frozenset[str], texts: Iterable[str]) -> "_Mentions":
        tokens: list[frozenset[str]] = []
        initials: list[str] = []
        for text in texts:
            tokens += map(frozenset, map(_forms, text.split()))
            initials.append("".join(_INITIAL.findall(text)).lower())
        return cls(terms, tokens, initials)

    def contain(self, name: str) -> bool:
        """Return True when a name occurs as it is, inside a longer one, or spelt out.

        "CIFAR-10" occurs in "CIFAR10/100".
        """
        forms = _forms(name)
        if not forms or forms[0] in self.terms or self._contain_parts(forms[1:]):
            return True
        if self._spell_out(name.removesuffix("s")):
            return True
        core = _LOWERCASE_AFFIXES.sub("", name)
        parts = list(filter(None, re.split(r"[-/&]", core)))
        if len(parts) > 1 and not any(map(str.isdigit, core)):
            return all(map(self.contain, parts))
        return core not in ("", name) and self.contain(core)

    def _contain_parts(self, parts: Sequence[str]) -> bool:
        return bool(parts) and any(token.issuperset(parts) for token in self.tokens)

    def _spell_out(self, acronym: str) -> bool:
        if not _ACRONYM.fullmatch(acronym):
            return False
        return any(acronym.lower() in initials for initials in self.initials)
