"""Verify a generated sentence against the quotations that it cites.

Shared words separate related from unrelated text, but do not detect contradictions: on SciFact,
their area under the ROC curve is .87 against "not enough information" and .55 against
"contradicts". So a sufficient share of the words has to be in the sources, and separate rules check
what can make a true sentence false: numbers with their units, names, negation, direction of
change, and the sides of a comparison. When a rule is in doubt, the sentence counts as unsupported.
Little is lost then, because the quotation is shown instead.
`python -m eval.benchmarks.support` measures each rule.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import chain, product
from typing import TYPE_CHECKING, Protocol

from rag.text.quantities import NUMBER_WORDS, TIME_UNITS
from rag.text.terms import STOP_WORDS, content_terms, index_text, query_terms

if TYPE_CHECKING:
    from rag.models.nli import NliModel

# Chosen on the dev split of SciTLDR, so that another paper's abstract supports at most one in a
# hundred sentences: with weights by rarity, and without weights.
_WEIGHTED_THRESHOLD = 0.4
_UNWEIGHTED_THRESHOLD = 0.52
# "It depends." contains nothing to check.
_MIN_CONTENT_WORDS = 2
_TOO_SHORT = "the sentence is too short to check"


@dataclass(frozen=True, slots=True)
class Support:
    """Result of a check.

    `score` is the share of the sentence's content that the sources contain, between 0 and 1. With
    an NLI model it is the probability that they entail the sentence. `reason` tells the user why
    the sentence is not supported, and is empty when it is.
    """

    supported: bool
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Cited quotation. Words and names may also come from its `context`, the paper's title.

    Where a model checks the meaning, names may also come from the `question`, and a number may be
    the `year` of the paper. `log_odds` are those that the quotation answers the question.
    """

    text: str
    context: str = ""
    question: str = ""
    year: int | None = None
    log_odds: float = 0.0


class Verifier(Protocol):
    """Checks a sentence against the quotations that it cites."""

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources together support the sentence; the best one comes first."""
        ...


class LexicalVerifier:
    """Checks by words and rules, without a model, in a few milliseconds per sentence.

    `weight` returns the weight of a term, such as its inverse document frequency, at least 0.
    Without it, all terms weigh the same, and more of the sentence has to be in the sources.
    `threshold` is the required share of the weight, between 0 and 1.
    """

    def __init__(
        self, weight: Callable[[str], float] | None = None, threshold: float | None = None
    ) -> None:
        self._weight = weight or (lambda _term: 1.0)
        default = _WEIGHTED_THRESHOLD if weight else _UNWEIGHTED_THRESHOLD
        self._threshold = default if threshold is None else threshold

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources together support the sentence; their order is irrelevant."""
        if _is_copied(sentence, sources):
            return Support(True, 1.0, "")
        text = _normalize(sentence)
        content = _content_words(text)
        score = self._share(content, _source_terms(sources))
        if len(content) < _MIN_CONTENT_WORDS:
            return Support(False, score, _TOO_SHORT)
        quotes = _normalize_quotes(sources)
        reason = _find_unsupported_span(text, quotes, sources) or _find_contradiction(text, quotes)
        if not reason and score < self._threshold:
            reason = "the source does not cover most of this"
        if not reason and not self._share(content, _quoted_terms(sources)):
            reason = "only the title of the source mentions this"
        return Support(not reason, score, reason)

    def _share(self, content: dict[str, list[str]], terms: frozenset[str]) -> float:
        """Return the weighted share of the content words that are among the terms."""
        total = contained = 0.0
        for word in sorted(content):
            weight = max(0.0, self._weight(word))
            total += weight
            if _is_contained(content[word], terms):
                contained += weight
        return min(1.0, contained / total) if total else 0.0


class NliVerifier:
    """Checks numbers and names by rule, and the meaning with a natural-language-inference model.

    Each quotation is a premise, and so are all of them together. The sentence is supported when
    the premise that entails it most strongly entails it more probably than not, and no quotation
    contradicts it more strongly than that.
    """

    def __init__(self, model: "NliModel") -> None:
        self._model = model

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources entail the sentence. Raises `ModelFailed`."""
        if verdict := check_form(sentence, sources):
            return verdict
        premises = sorted({source.text for source in sources})
        return self._infer(_MARK.sub("", sentence).strip(), premises)

    def _infer(self, sentence: str, quotes: list[str]) -> Support:
        premises = quotes if len(quotes) == 1 else [*quotes, " ".join(quotes)]
        probabilities = self._model.predict(list(product(premises, [sentence])))
        best = max(probabilities, key=lambda item: item.entailment)
        worst = max(probabilities, key=lambda item: item.contradiction)
        if worst.contradiction >= best.entailment and worst.contradiction > worst.neutral:
            return Support(False, best.entailment, "the source says the opposite")
        if best.entailment > max(best.neutral, best.contradiction):
            return Support(True, best.entailment, "")
        return Support(False, best.entailment, "the source does not say this")


def check_form(sentence: str, sources: Sequence[Source]) -> Support | None:
    """Return what can be told without the meaning; None if the meaning decides.

    A copy is supported. A sentence is not if it is too short to check, or if it has a number or a
    name that the sources lack.
    """
    if _is_copied(sentence, sources):
        return Support(True, 1.0, "")
    if not sources:
        return Support(False, 0.0, "no source was cited")
    text = _normalize(sentence)
    if len(content_terms(text)) < _MIN_CONTENT_WORDS:
        return Support(False, 0.0, _TOO_SHORT)
    known, quotes = [], _normalize_quotes(sources)
    for source in sources:
        known.append(Source(source.text, f"{source.context}. {source.question}"))
        if source.year:
            quotes.append(str(source.year))
    reason = _find_unsupported_span(text, quotes, known)
    return Support(False, 0.0, reason) if reason else None


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


def _normalize_quotes(sources: Iterable[Source]) -> list[str]:
    return [_normalize(source.text) for source in sources]


def _is_copied(sentence: str, sources: Sequence[Source]) -> bool:
    """Return True for a quotation, apart from marks, white space and the full stop."""
    copy = _strip_marks(sentence)
    if not any(map(str.isalnum, copy)):
        return False
    return any(copy == _strip_marks(source.text) for source in sources)


def _strip_marks(text: str) -> str:
    one_line = " ".join(_MARK.sub("", text).split())
    return one_line.strip("\"'“”‘’ ").rstrip(".!? ")


def _source_terms(sources: Iterable[Source]) -> frozenset[str]:
    """Return all terms of the sources; names in every spelling, also joined with neighbours."""
    terms: set[str] = set()
    for source in sources:
        for text in map(_normalize, (source.text, source.context)):
            terms.update(index_text(text).split(), query_terms(text))
    return frozenset(terms)


def _quoted_terms(sources: Iterable[Source]) -> frozenset[str]:
    """Return the terms of the sources without those of their context."""
    return _source_terms(Source(source.text) for source in sources)


@lru_cache(maxsize=20_000)
def _forms(word: str) -> list[str]:
    """Return the terms of a word, the whole word first. The list must not be changed."""
    return index_text(word).split()


def _stem(word: str) -> str:
    forms = _forms(word)
    return forms[0] if forms else ""


def _content_words(text: str) -> dict[str, list[str]]:
    """Return the forms of the content words of a text, by stem."""
    words = {}
    for word in text.split():
        forms = _forms(word)
        if forms and content_terms(word):
            words[forms[0]] = forms
    return words


def _is_contained(forms: list[str], terms: frozenset[str]) -> bool:
    """Return True when a word is among the terms, or all its parts are.

    `mixed-precision` is contained in `mixed precision`.
    """
    return forms[0] in terms or (len(forms) > 1 and terms.issuperset(forms[1:]))


# --- unsupported numbers and names ----------------------------------------------------------------

# A number as a value and a unit, which is empty when there is none.
Quantity = tuple[Fraction | str, str]


@dataclass(frozen=True, slots=True)
class _Number:
    """Number in a normalized text, the word before it, and the quantities that it may mean."""

    text: str
    word_before: str
    quantities: frozenset[Quantity]


def _find_unsupported_span(text: str, quotes: Sequence[str], sources: Sequence[Source]) -> str:
    """Return a reason that names the first number or name that the sources lack, or nothing."""
    terms = _source_terms(sources)
    quantities = _quantities_of(quotes)
    for number in _find_numbers(text):
        is_supported = not quantities.isdisjoint(number.quantities)
        if not is_supported and not _is_part_of_name(number, terms):
            return f"the source does not contain the number {number.text}"
    names = list(_find_names(text))
    if names:
        contexts = [_normalize(source.context) for source in sources]
        mentions = _Mentions.of(terms, [*quotes, *contexts])
        for name in names:
            if not mentions.contain(name):
                return f"the source does not mention {name}"
    return ""


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


# --- contradictions -------------------------------------------------------------------------------


def _find_contradiction(text: str, quotes: Sequence[str]) -> str:
    """Return the reason why a source contradicts the normalized text, or nothing."""
    comparisons = set(_find_comparisons(text))
    source_comparisons = set(chain.from_iterable(map(_find_comparisons, quotes)))
    for better, worse in comparisons - source_comparisons:
        if (worse, better) in source_comparisons:
            return "the source compares them the other way round"
    clauses = _split_clauses(text)
    source_clauses = list(map(_split_clauses, quotes))
    if reason := _find_negation_mismatch(clauses, source_clauses):
        return reason
    if comparisons & source_comparisons:
        # "Worse than A" does not contradict the direction of "A is better than".
        clauses = [clause for clause in clauses if not _is_comparative(clause)]
    return _find_direction_mismatch(clauses, source_clauses)


_CLAUSE_END = re.compile(
    r",(?!\d)|[;:()—.!?](?!\w)|\b(?:but|while|whereas|although|though|yet|because|since)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Word:
    """Word of a clause in lower case, with its stem.

    `is_content` is False for stop words, negations and words with a polarity.
    """

    text: str
    stem: str
    is_content: bool

    @property
    def has_meaning(self) -> bool:
        """True for content words and words with a polarity, which can be negated."""
        return self.is_content or self.stem in _polarities()


Clause = list[_Word]
# Kind of change (amount, quality, speed) and its direction, 1 or -1.
Polarity = tuple[str, int]


def _split_clauses(text: str) -> list[Clause]:
    clauses = []
    for part in _CLAUSE_END.split(text):
        clauses.append(list(map(_parse_word, _TOKEN.findall(part))))
    return clauses


def _parse_word(text: str) -> _Word:
    word = text.lower()
    stem = _stem(text) or word
    is_special = stem in _polarities() or _is_negation_word(word)
    return _Word(word, stem, bool(content_terms(text)) and not is_special)


_WORDS_OF_POLARITY: dict[Polarity, str] = {
    ("amount", 1): (
        "increase raise rise grow growth gain boost lift higher more larger greater bigger longer "
        "rises rose risen grew grown raised gains expand"
    ),
    ("amount", -1): (
        "decrease reduce reduction lower drop fall fell fallen shrink shrank shrunk cut less fewer "
        "smaller decline diminish lessen lose loses lost shorter minimize minimise compress"
    ),
    ("quality", 1): (
        "improve improvement better enhance outperform surpass exceed beat beats superior"
    ),
    ("quality", -1): "worsen worse degrade degradation underperform inferior deteriorate hurt harm",
    ("speed", 1): "faster accelerate acceleration speedup quicker quickly",
    ("speed", -1): "slower slow slowdown decelerate",
}
# Less of these is better: an improved error is a lower one.
_COST_WORDS = (
    "error errors loss perplexity latency cost costs memory time runtime overhead complexity "
    "parameters size energy power consumption bits wer fid footprint"
)


@cache
def _polarities() -> dict[str, Polarity]:
    """Return the polarity of each stem that has one."""
    polarities: dict[str, Polarity] = {}
    for polarity, words in _WORDS_OF_POLARITY.items():
        polarities |= dict.fromkeys(map(_stem, words.split()), polarity)
    return polarities


@cache
def _cost_stems() -> frozenset[str]:
    return frozenset(map(_stem, _COST_WORDS.split()))


_NEGATIONS = frozenset(
    "not no never without cannot neither nor none nothing hardly barely rarely seldom scarcely "
    "lack lacks lacked lacking unable".split()
)
_NEGATIONS_BEFORE_TO = frozenset("fail fails failed failing".split())
# "not only" does not negate.
_AFTER_NOT_WITHOUT_NEGATION = frozenset("only just merely simply".split())
_MAX_SCOPE = 4


def _is_negation_word(word: str) -> bool:
    return word in _NEGATIONS or word in _NEGATIONS_BEFORE_TO or word.endswith("n't")


def _negated_stems(clause: Clause) -> list[tuple[str, ...]]:
    """Return the stems that each negation of a clause negates.

    A double negation affirms: "not without errors".
    """
    scopes = [_scope(clause, position) for position in range(len(clause))]
    counts = Counter(chain.from_iterable(scopes))
    negations = []
    for scope in scopes:
        stems = tuple(_affirmative_stem(clause[i]) for i in scope if counts[i] % 2)
        if stems:
            negations.append(stems)
    return negations


def _affirmative_stem(word: _Word) -> str:
    return _stem(word.text.removesuffix("-free").removeprefix("non-"))


def _scope(clause: Clause, position: int) -> list[int]:
    """Return the positions of the words that a word negates: after it, or else before it."""
    word = clause[position].text
    if word.endswith("-free") or word.startswith("non-"):
        return [position]
    if not _negates(clause, position):
        return []
    meaningful = [i for i, word in enumerate(clause) if word.has_meaning and i != position]
    end = bisect_left(meaningful, position)
    return meaningful[end : end + _MAX_SCOPE] or meaningful[:end][-_MAX_SCOPE:]


def _negates(clause: Clause, position: int) -> bool:
    word = clause[position].text
    following = clause[position + 1].text if position + 1 < len(clause) else ""
    if not _is_negation_word(word) or following in _AFTER_NOT_WITHOUT_NEGATION:
        return False
    return word not in _NEGATIONS_BEFORE_TO or following == "to"


def _find_negations(clauses: Iterable[Clause]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(map(_negated_stems, clauses)))


def _find_negation_mismatch(clauses: list[Clause], source_clauses: Sequence[list[Clause]]) -> str:
    """Return the reason why a negation differs between the sentence and the sources, or nothing.

    The sentence may only negate what a source negates too. It may leave out a negation of a source,
    but not affirm what that negates: its first word and at least half of its words.
    """
    negations = _find_negations(clauses)
    every_clause = list(chain.from_iterable(source_clauses))
    negated_by_sources = set(chain.from_iterable(_find_negations(every_clause)))
    for stems in negations:
        if negated_by_sources.isdisjoint(stems):
            return "the source does not deny this"
    negated = set(chain.from_iterable(negations))
    affirmed = _stems_of(clauses) - negated
    for source in _most_related(clauses, source_clauses):
        others = [other for other in source_clauses if other is not source]
        only_affirmed_here = affirmed - _affirmed_stems(others)
        for stems in _find_negations(source):
            if _affirms(only_affirmed_here, stems) and negated.isdisjoint(stems):
                return "the source denies this"
    return ""


def _affirms(affirmed: set[str], stems: Sequence[str]) -> bool:
    return stems[0] in affirmed and 2 * len(affirmed.intersection(stems)) >= len(stems)


def _affirmed_stems(sources: Iterable[list[Clause]]) -> set[str]:
    clauses = list(chain.from_iterable(sources))
    return _stems_of(clauses).difference(*_find_negations(clauses))


def _stems_of(clauses: Iterable[Clause]) -> set[str]:
    return {word.stem for word in chain.from_iterable(clauses) if word.has_meaning}


def _most_related(
    clauses: list[Clause], source_clauses: Sequence[list[Clause]]
) -> list[list[Clause]]:
    """Return the sources that share at least half as many words as the most similar one."""
    stems = _stems_of(clauses)
    shared = [len(stems & _stems_of(source)) for source in source_clauses]
    related = []
    for source, count in zip(source_clauses, shared, strict=True):
        if count and 2 * count >= max(shared):
            related.append(source)
    return related


def _polarity_places(clause: Clause) -> list[int]:
    return [i for i, word in enumerate(clause) if word.stem in _polarities()]


def _find_changes(clause: Clause) -> list[dict[str, Polarity]]:
    """Return the polarity of the content stems nearest to each word with a polarity."""
    places = _polarity_places(clause)
    if not places:
        return []
    changes: dict[int, dict[str, Polarity]] = {place: {} for place in places}
    for i, word in enumerate(clause):
        if word.is_content:
            nearest = min((abs(place - i), place > i, place) for place in places)[-1]
            changes[nearest][word.stem] = _polarity_at(clause, nearest)
    return list(changes.values())


def _polarity_at(clause: Clause, place: int) -> Polarity:
    """Return the polarity of a word in its context: improving a cost lowers its amount."""
    kind, direction = _polarities()[clause[place].stem]
    if kind != "quality":
        return kind, direction
    after, before = _content_stems(clause[place + 1 :]), _content_stems(clause[:place])
    is_cost = not _cost_stems().isdisjoint(after[:1] or before[-1:])
    return "amount", -direction if is_cost else direction


def _content_stems(words: Iterable[_Word]) -> list[str]:
    return [word.stem for word in words if word.is_content]


def _find_direction_mismatch(clauses: list[Clause], source_clauses: Sequence[list[Clause]]) -> str:
    """Return a reason when most words change only in the opposite direction in the sources."""
    polarities: dict[str, set[Polarity]] = {}
    for clause in chain.from_iterable(source_clauses):
        for changes in _find_changes(clause):
            for stem, polarity in changes.items():
                polarities.setdefault(stem, set()).add(polarity)
    for changes in chain.from_iterable(map(_find_changes, clauses)):
        agreed = opposed = 0
        for stem, (kind, direction) in changes.items():
            in_sources = polarities.get(stem, set())
            agrees = (kind, direction) in in_sources
            agreed += agrees
            opposed += not agrees and (kind, -direction) in in_sources
        if opposed > agreed:
            return "the source says the opposite"
    return ""


_COMPARATIVE = re.compile(
    r"\b(?P<passive>(?:outperformed|beaten|surpassed|exceeded) by)\b"
    r"|\b(?P<worse>underperform\w*|inferior to)\b"
    r"|\b(?P<better>outperform\w*|beats?|beating|surpass\w*|exceed\w*|superior to)\b"
    r"|(?<!rather )(?<!other )(?P<than>\bthan)\b",
    re.IGNORECASE,
)


def _is_comparative(clause: Clause) -> bool:
    return bool(_COMPARATIVE.search(" ".join(word.text for word in clause)))


def _find_comparisons(text: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of stems of names, of which the first has more, or is better."""
    for match in _COMPARATIVE.finditer(text):
        before = text[: match.start()]
        clause_before = _CLAUSE_END.split(before)[-1]
        clause_after = _CLAUSE_END.split(text[match.end() :])[0]
        left = _name_stems(clause_before) or _name_stems(before)
        is_first_ahead = _is_first_ahead(clause_before, match)
        for first, second in product(left, _name_stems(clause_after)):
            if first != second:
                yield (first, second) if is_first_ahead else (second, first)


def _name_stems(text: str) -> list[str]:
    # After another word, a name at the beginning counts as within a sentence.
    return list(map(_stem, _find_names(f"x {text}")))


def _is_first_ahead(clause_before: str, match: re.Match[str]) -> bool:
    if not match["than"]:
        return bool(match["better"])
    clause = _split_clauses(clause_before)[-1]
    places = _polarity_places(clause)
    if not places:
        return True
    kind, direction = _polarities()[clause[places[-1]].stem]
    is_cost = kind == "amount" and any(word.stem in _cost_stems() for word in clause)
    return (direction > 0) != is_cost
