"""Verification: a sentence that a language model wrote against the quotations that it cites.

Shared words tell related from unrelated text and are blind to contradiction (on SciFact their area under the ROC
curve is .87 against "not enough information" and .55 against "contradicts"). So the words only have to be there
in sufficient share, and what turns a true sentence into a false one is looked for by itself: numbers with their
units, names, negation, direction, and which side of a comparison is which. Where a rule is in doubt the sentence
is not supported: what is lost then is a wording, for the quotation is shown in its place.
`python -m eval.benchmarks.support` measures how much each rule catches and how many honest sentences it costs.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Protocol

from rag.models.nli import NliModel
from rag.text.terms import STOP_WORDS, content_terms, index_text, query_terms

# Chosen by `python -m eval.benchmarks.support` on the dev split of scitldr, so that at most one in a hundred sentences is carried
# by another paper's abstract: with weights by rarity, and without them.
_THRESHOLD_WEIGHTED = 0.4
_THRESHOLD_PLAIN = 0.52
# "It depends." says nothing that could be looked up.
_FEWEST_CONTENT_WORDS = 2


@dataclass(frozen=True, slots=True)
class Support:
    """The outcome of a check.

    `score` is the share of the sentence's content that the sources carry, in 0..1; with a language-inference model
    it is the probability that they entail the sentence. `why` is empty when supported, else a phrase for the reader.
    """

    supported: bool
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One cited quotation. Words and names may also come from its `context`, the paper's title; numbers may not."""

    text: str
    context: str = ""


class Verifier(Protocol):
    """Whatever can check a sentence against the quotations it cites."""

    def check(self, sentence: str, sources: Sequence[Source]) -> Support: ...


class LexicalVerifier:
    """Checks by words and rules alone: no model, a few milliseconds for a sentence and its source.

    `weight` gives a term's weight, its idf in the library, at least 0; without it all terms weigh the same, and more of
    the sentence has to be carried. `threshold` is that share, in 0..1.
    """

    def __init__(
        self, weight: Callable[[str], float] | None = None, threshold: float | None = None
    ) -> None:
        self._weight = weight or (lambda _term: 1.0)
        chosen = _THRESHOLD_WEIGHTED if weight else _THRESHOLD_PLAIN
        self._threshold = chosen if threshold is None else threshold

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Whether the sources together carry the sentence; their order does not matter."""
        if _is_copied(sentence, sources):
            return Support(True, 1.0, "")
        text, quotes = _plain(sentence), [_plain(source.text) for source in sources]
        score, words = self._share(text, _terms_of(sources))
        quoted, _ = self._share(text, _terms_of(Source(source.text) for source in sources))
        why = _foreign(text, quotes, sources) or _contrary(text, quotes)
        if words < _FEWEST_CONTENT_WORDS:
            why = "the sentence says too little to be checked"
        elif score < self._threshold:
            why = why or "the source does not speak of most of this"
        elif not quoted:
            why = why or "only the title of the source speaks of this"
        return Support(not why, score, why)

    def _share(self, text: str, carried: frozenset[str]) -> tuple[float, int]:
        """The weighted share of the text's content words that is carried, and how many content words there are."""
        words = {
            forms[0]: forms
            for word in text.split()
            if content_terms(word) and (forms := _forms(word))
        }
        weights = {term: max(0.0, self._weight(term)) for term in sorted(words)}
        total = sum(weights.values())
        held = sum(weight for term, weight in weights.items() if _holds(words[term], carried))
        return (min(1.0, held / total) if total else 0.0), len(words)


class NliVerifier:
    """Numbers and names by rule, the meaning by a natural-language-inference model (`rag.models.nli.load_nli`).

    Each quotation is a premise, and so are all of them together. The sentence is supported when the likeliest
    relation to the premise that entails it most is entailment, and no quotation contradicts it more than that.
    """

    def __init__(self, model: NliModel) -> None:
        self._model = model

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Whether the sources entail the sentence; their order does not matter. Raises `ModelFailed`."""
        if _is_copied(sentence, sources):
            return Support(True, 1.0, "")
        text = _plain(sentence)
        why = _foreign(text, [_plain(source.text) for source in sources], sources)
        if not sources or len(content_terms(text)) < _FEWEST_CONTENT_WORDS:
            why = "the sentence says too little to be checked" if sources else "there is no source"
        if why:
            return Support(False, 0.0, why)
        return self._judge(
            _MARK.sub("", sentence).strip(), sorted({source.text for source in sources})
        )

    def _judge(self, sentence: str, quotes: list[str]) -> Support:
        premises = quotes if len(quotes) == 1 else [*quotes, " ".join(quotes)]
        relations = self._model.relations([(premise, sentence) for premise in premises])
        best = max(relations, key=lambda relation: relation.entailment)
        if max(relation.contradiction for relation in relations) >= best.entailment:
            contrary = max(relations, key=lambda relation: relation.contradiction)
            if contrary.contradiction > contrary.neutral:
                return Support(False, best.entailment, "the source says the opposite")
        entailed = best.entailment > max(best.neutral, best.contradiction)
        return Support(
            entailed, best.entailment, "" if entailed else "the source does not say this"
        )


# --- text -------------------------------------------------------------------------------------------------

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
    "|".join(re.escape(name) + ("(?![A-Za-z])" if name[-1].isalpha() else "") for name in _TEX)
)
_TEX_STYLE = re.compile(
    r"\\(?:text[a-z]*|math[a-z]*|emph|em|it|bf|rm|left|right|operatorname)(?![A-Za-z])"
)
_TO_ASCII = str.maketrans({"−": "-", "‐": "-", "‑": "-", "’": "'"} | dict.fromkeys("${}\\"))
_TOKEN = re.compile(r"[^\W_]+(?:[-./_^'&][^\W_]+)*\+*")


def _plain(text: str) -> str:
    r"""The text without footnote marks and TeX ("\beta" is "beta"); raised digits follow a caret, hyphens are one."""
    text = _TEX_STYLE.sub("", _TEX_COMMAND.sub(lambda found: _TEX[found[0]], _MARK.sub("", text)))
    text = _SUPERSCRIPT.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFKC", text.translate(_TO_ASCII)).translate(_TO_ASCII)


def _is_copied(sentence: str, sources: Sequence[Source]) -> bool:
    """Whether the sentence is one of the quotations, but for its marks, its spacing and the full stop."""
    copied = _bare(sentence)
    return any(c.isalnum() for c in copied) and any(
        copied == _bare(source.text) for source in sources
    )


def _bare(text: str) -> str:
    return " ".join(_MARK.sub("", text).split()).strip("\"'“”‘’ ").rstrip(".!? ")


def _terms_of(sources: Iterable[Source]) -> frozenset[str]:
    return frozenset(
        term
        for source in sources
        for part in (source.text, source.context)
        for term in _terms(part)
    )


def _terms(text: str) -> set[str]:
    """All terms, names in every spelling: joined, in parts, and joined with their neighbours."""
    plain = _plain(text)
    return {*index_text(plain).split(), *query_terms(plain)}


@lru_cache(maxsize=20_000)
def _forms(word: str) -> list[str]:
    """The terms of a single word, the word as a whole first; empty where it has none. Not to be changed."""
    return index_text(word).split()


def _holds(forms: list[str], carried: frozenset[str]) -> bool:
    """Whether a word is carried as it is, or all of its parts are: `mixed-precision` by `mixed precision`."""
    return forms[0] in carried or (len(forms) > 1 and all(form in carried for form in forms[1:]))


# --- what the source does not hold ------------------------------------------------------------------------


def _foreign(text: str, quotes: Sequence[str], sources: Sequence[Source]) -> str:
    """The first number or name of the text that the sources do not hold, as a phrase; empty when they hold all."""
    carried = {
        reading for quote in quotes for number in _numbers(quote) for reading in number.readings
    }
    carried |= {
        reading
        for quote in quotes
        for word, reading in _IMPLIED.items()
        if re.search(word, quote, re.I)
    }
    joined = _terms_of(sources)
    for number in _numbers(text):
        if not (number.readings & carried or _is_numbered(number, joined)):
            return f"the source does not hold the number {number.text}"
    names = list(_names(text))
    return (
        _unmentioned(names, [*quotes, *(_plain(source.context) for source in sources)], joined)
        if names
        else ""
    )


def _unmentioned(names: Sequence[str], quotes: Sequence[str], joined: frozenset[str]) -> str:
    tokens = [frozenset(_forms(token)) for quote in quotes for token in quote.split()]
    initials = [
        "".join(word[0] for word in re.findall(r"[^\W\d_]+", quote)).lower() for quote in quotes
    ]
    for name in names:
        if not _mentions(name, joined, tokens, initials):
            return f"the source does not mention {name}"
    return ""


def _is_numbered(number: "_Number", terms: frozenset[str]) -> bool:
    """Whether the number belongs to the name before it: "GPT 4" where the source has GPT-4."""
    return bool(_TOKEN.fullmatch(number.before) and number.text[0].isdigit()) and (
        _stem(number.before + number.text) in terms
    )


EvidenceSelection = tuple[Fraction | str, str]


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in a plain text, the word before it, and what it can be read as: (value, unit)."""

    text: str
    before: str
    readings: frozenset[EvidenceSelection]


_SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORDS = {word: n for n, word in enumerate(_SMALL)} | {
    word: 10 * n for n, word in enumerate(_TENS, 1)
}
_FACTORS = {"twice": 2, "doubl": 2, "thrice": 3, "tripl": 3, "quadr": 4}
# Words of a source that say a number without naming it.
_IMPLIED: dict[str, EvidenceSelection] = {
    r"\bboth\b": (Fraction(2), ""),
    r"\b(?:single|sole)\b": (Fraction(1), ""),
}
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
_UNITS = {
    "%": "%,percent,per cent,pct",
    "points": "% points,% point,percentage points,percentage point,percent points,points,point,pp",
    "x": "x,×,times,fold",
    "bits": "bits,bit", "bytes": "bytes,byte", "kb": "kb,kilobytes", "mb": "mb,megabytes", "gb": "gb,gigabytes",
    "tb": "tb,terabytes", "kib": "kib", "mib": "mib", "gib": "gib", "tib": "tib",
    "ns": "ns,nanoseconds", "us": "us,μs,microseconds", "ms": "ms,msec,milliseconds", "s": "s,sec,secs,seconds,second",
    "min": "min,mins,minutes,minute", "h": "h,hr,hrs,hours,hour", "days": "days,day", "weeks": "weeks,week",
    "months": "months,month", "years": "years,year",
    "hz": "hz,hertz", "khz": "khz", "mhz": "mhz", "ghz": "ghz", "db": "db,decibels", "fps": "fps",
    "w": "w,watts,watt", "kw": "kw", "mw": "mw", "j": "j,joules,joule", "kwh": "kwh",
    "nm": "nm,nanometers,nanometres", "um": "um,μm,micrometers,micrometres", "mm": "mm,millimeters,millimetres",
    "cm": "cm,centimeters,centimetres", "m": "meters,metres,meter,metre", "km": "km,kilometers,kilometres",
    "ug": "ug,μg,micrograms", "mg": "mg,milligrams", "g": "g,grams,gram", "kg": "kg,kilograms",
    "ml": "ml,milliliters,millilitres", "l": "l,liters,litres", "°": "°c,°,degrees,degree",
}  # fmt: skip
_UNIT_OF = {name: unit for unit, names in _UNITS.items() for name in names.split(",")}
_UNIT = re.compile(
    rf"[\s-]?({'|'.join(sorted(_UNIT_OF, key=lambda name: -len(name)))})(?![^\W_])".replace(
        "% ", r"%\s?"
    ),
    re.IGNORECASE,
)
_SCALE = re.compile(r"(?:([kKMBT])|[\s-]?(thousand|million|billion|trillion))(?![^\W_])")
# "one" is a pronoun as often as a number.
_ONE = (
    "".join(f"(?<!{word} )" for word in "no any each every the this that".split())
    + r"one(?= [a-z])(?! (?:of|can|could|may|must|another|or|is|has)\b)"
)
_WORD = "|".join(word for word in _WORDS if word not in ("zero", "one")) + "|zero(?!-)|" + _ONE
_NUMBER = re.compile(
    r"(?P<grid>(?<![\w.])\d{1,9}(?:\s?[x×]\s?\d{1,9})+(?![\w.^]))"
    r"|(?P<sign>(?:(?<=[\s(\[=~<>])|^)-)?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|(?<![\w.])\.\d+)"
    r"(?:\s?[×x*·]\s?10\^(?P<ten>-?\d{1,3})(?!\d)|e(?P<exp>[-+]?\d{1,3})(?!\w)|\^(?P<power>-?\d{1,3})(?!\d))?"
    rf"|\b(?P<word>{_WORD})(?=\b|fold)"
    r"|\b(?P<factor>twice|thrice|(?:doubl|tripl|quadrupl)(?:e|es|ed|ing)|hal(?:f(?![- ]precision)|ve|ves|ved|ving))\b",
    re.IGNORECASE,
)
# Its digits belong to the name: ResNet-50, FP8, top-1, CIFAR10/100.
_LETTERS_FIRST = re.compile(r"(?<![\w.])[^\W\d_][^\W_]*(?:[-/.^][^\W_]+)*")
_IS_FACTOR = re.compile(
    r"(?:factors? (?:of )?|(?:speed-?ups?|speeds? (?:\w+ )?up|sped up|ratio) (?:of|by) )(?:about |up to |over )?$",
    re.I,
)
_ONE_UNIT_FOR_BOTH = re.compile(r"\s?(?:[-–/,]|,? ?\b(?:to|and|or|vs)\b)\s?")
_LAST_WORD = re.compile(r"(\S+)\s+$")
# What is longer is compared as it is written; what stands before a number is looked for this far.
_LONGEST_NUMBER = 60
_WINDOW = 40


def _numbers(text: str) -> list[_Number]:
    """The numbers of a plain text, those inside names left out. "2 to 3 times": the 2 may be read as 2 times too."""
    text = _LETTERS_FIRST.sub(
        lambda f: "_" * len(f[0]) if any(map(str.isdigit, f[0])) else f[0], text
    )
    numbers: list[_Number] = []
    next_start, next_units = len(text), {""}
    for found in reversed(list(_NUMBER.finditer(text))):
        values, units, end = _read_number(text, found)
        if not units:
            continue
        if units == {""} and _ONE_UNIT_FOR_BOTH.fullmatch(text[end:next_start]):
            units = units | next_units
        before = text[max(0, found.start() - _WINDOW) : found.start()]
        last = _LAST_WORD.search(before)
        if units == {""} and _IS_FACTOR.search(before):
            units = {"", "x"}
        readings = _HALF if not values else {(value, unit) for value in values for unit in units}
        numbers.append(
            _Number(text[found.start() : end], last[1] if last else "", frozenset(readings))
        )
        next_start, next_units = found.start(), units
    return numbers


_HALF: frozenset[EvidenceSelection] = frozenset(
    {(Fraction(1, 2), ""), (Fraction(50), "%"), (Fraction(2), "x")}
)


def _read_number(text: str, found: re.Match[str]) -> tuple[list[Fraction | str], set[str], int]:
    """Its values (none for a half), its units and where it ends; no units when it is a name, such as "3D" or "2nd"."""
    if found["grid"]:
        return [re.sub(r"\s", "", found[0]).replace("×", "x")], {""}, found.end()
    if found["factor"]:
        times = _FACTORS.get(found[0].lower()[:6].rstrip("e")) or _FACTORS.get(found[0].lower()[:5])
        return [Fraction(times)] if times else [], {"x"}, found.end()
    scale = _SCALE.match(text, found.end())
    end = scale.end() if scale else found.end()
    unit = _UNIT.match(text, end)
    if unit:
        return [_value(found, scale)], {_UNIT_OF[_unit_name(unit[1])]}, unit.end()
    is_name = not scale and not found["word"] and text[end : end + 1].isalpha()
    return [_value(found, scale)], set() if is_name else {""}, end


def _unit_name(unit: str) -> str:
    name = re.sub(r"%\s?p", "% p", unit.lower())
    return name if name in _UNIT_OF else name.replace("µ", "μ")


def _value(found: re.Match[str], scale: re.Match[str] | None) -> Fraction | str:
    """The exact value; the text itself where that is no number that anybody writes out."""
    if found["word"]:
        value = Fraction(_WORDS[found["word"].lower()])
    else:
        digits = found["digits"].replace(",", "")
        if len(digits) > _LONGEST_NUMBER:
            return found[0]
        value = Fraction(digits if digits[0] != "." else f"0{digits}")
        power = int(found["power"] or 1)
        if power < 1 and not value:
            return found[0]
        value = value**power * Fraction(10) ** int(found["ten"] or found["exp"] or 0)
    value *= 10 ** _SCALES[(scale[1] or scale[2]).lower()] if scale else 1
    return -value if found["sign"] else value


_START = re.compile(r"(?:^|[.!?:]\s)[\s\"'“‘(\[]*")
_ACRONYM = re.compile(r"[A-Z]{3,}")
_SMALL_LETTERS_AROUND = re.compile(r"^(?:[a-z]+-)+(?=[A-Z])|(?:-[a-z]+)+$")


def _names(text: str) -> Iterator[str]:
    """Names of a plain text, in order: words with digits or capitals inside, and capitalised within the sentence."""
    starts = {found.end() for found in _START.finditer(text)}
    for found in _TOKEN.finditer(text):
        if _is_name(found[0], found.start() in starts):
            yield found[0]


def _is_name(word: str, starts_sentence: bool) -> bool:
    if word.lower() in STOP_WORDS or not any(map(str.isalpha, word)):
        return False
    if any(map(str.isdigit, word)):
        return not word[0].isdigit() or not any(
            number.text[0].isdigit() for number in _numbers(word)
        )
    pieces = [piece for piece in re.split(r"[-./_^'&]", word) if len(piece) > 1]
    if any(piece[1:] != piece[1:].lower() for piece in pieces):
        return True
    capitals = [piece for piece in pieces if piece[0].isupper() and piece.lower() not in STOP_WORDS]
    return bool(capitals) and not starts_sentence


def _mentions(
    name: str, terms: frozenset[str], tokens: Sequence[frozenset[str]], initials: Sequence[str]
) -> bool:
    """Whether a name occurs: as it is, inside a longer one ("CIFAR-10" in "CIFAR10/100"), or as words in full."""
    forms = _forms(name)
    if not forms or forms[0] in terms:
        return True
    if len(forms) > 1 and any(all(form in token for form in forms[1:]) for token in tokens):
        return True
    acronym = name.removesuffix("s")
    if _ACRONYM.fullmatch(acronym) and any(acronym.lower() in words for words in initials):
        return True
    core = _SMALL_LETTERS_AROUND.sub("", name)
    parts = [part for part in re.split(r"[-/&]", core) if part]
    if len(parts) > 1 and not any(map(str.isdigit, core)):
        return all(_mentions(part, terms, tokens, initials) for part in parts)
    return core not in ("", name) and _mentions(core, terms, tokens, initials)


# --- what the source says the other way round -------------------------------------------------------------


def _contrary(text: str, quotes: Sequence[str]) -> str:
    """Whether a source contradicts the plain text, as a phrase; empty when none does."""
    clauses, theirs = _clauses(text), [_clauses(quote) for quote in quotes]
    own, known = set(_comparisons(text)), {pair for quote in quotes for pair in _comparisons(quote)}
    if any((b, a) in known and (a, b) not in known for a, b in own):
        return "the source compares the other way round"
    # "Worse than A" where the source has "A is better than" is no change of direction.
    directed = [clause for clause in clauses if not (own & known and _compares(clause))]
    return _otherwise_negated(clauses, theirs) or _otherwise_directed(directed, theirs)


_CLAUSE_END = re.compile(
    r",(?!\d)|[;:()—.!?](?!\w)|\b(?:but|while|whereas|although|though|yet|because|since)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a clause, in small letters, and its stem; `is_content` when it is neither stop word nor direction."""

    text: str
    stem: str
    is_content: bool


Clause = list[_Word]


def _clauses(text: str) -> list[Clause]:
    return [
        [_word(found[0]) for found in _TOKEN.finditer(part)] for part in _CLAUSE_END.split(text)
    ]


@cache
def _poles() -> dict[str, tuple[str, int]]:
    """The kind of change that a stem tells (amount, quality, speed) and its direction, 1 or -1."""
    words = {
        (
            "amount",
            1,
        ): "increase raise rise grow growth gain boost lift higher more larger greater bigger longer "
        "rises rose risen grew grown raised gains expand",
        (
            "amount",
            -1,
        ): "decrease reduce reduction lower drop fall fell fallen shrink shrank shrunk cut less fewer "
        "smaller decline diminish lessen lose loses lost shorter minimize minimise compress",
        (
            "quality",
            1,
        ): "improve improvement better enhance outperform surpass exceed beat beats superior",
        (
            "quality",
            -1,
        ): "worsen worse degrade degradation underperform inferior deteriorate hurt harm",
        ("speed", 1): "faster accelerate acceleration speedup quicker quickly",
        ("speed", -1): "slower slow slowdown decelerate",
    }
    return {_stem(word): pole for pole, listed in words.items() for word in listed.split()}


# Less of these is better: an improved error is a lower one.
_COSTS = (
    "error errors loss perplexity latency cost costs memory time runtime overhead complexity parameters size energy "
    "power consumption bits wer fid footprint"
)


@cache
def _costs() -> frozenset[str]:
    return frozenset(map(_stem, _COSTS.split()))


def _stem(word: str) -> str:
    return (_forms(word) or [""])[0]


def _word(text: str) -> _Word:
    small = text.lower()
    stem = (_forms(text) or [small])[0]
    return _Word(
        small, stem, bool(content_terms(text)) and stem not in _poles() and not _is_cue(small)
    )


_CUES = frozenset(
    "not no never without cannot neither nor none nothing hardly barely rarely seldom scarcely lack lacks lacked "
    "lacking unable".split()
)
_CUES_BEFORE_TO = frozenset("fail fails failed failing".split())
_NO_DENIAL_AFTER_NOT = frozenset("only just merely simply".split())
_LONGEST_SCOPE = 4


def _is_cue(word: str) -> bool:
    return word in _CUES or word in _CUES_BEFORE_TO or word.endswith("n't")


def _denied(clause: Clause) -> list[tuple[str, ...]]:
    """For each negation of the clause the stems it denies; what is denied twice ("not without errors") is affirmed."""
    scopes = [scope for position in range(len(clause)) if (scope := _scope(clause, position))]
    odd = {i for i in range(len(clause)) if sum(i in scope for scope in scopes) % 2}
    return [
        stems
        for scope in scopes
        if (stems := tuple(_bare_stem(clause[i]) for i in scope if i in odd))
    ]


def _bare_stem(word: _Word) -> str:
    return _stem(word.text.removesuffix("-free").removeprefix("non-"))


def _scope(clause: Clause, position: int) -> list[int]:
    """Where the words stand that a negation here denies: those after it, or before it when none follow."""
    word = clause[position].text
    following = clause[position + 1].text if position + 1 < len(clause) else ""
    if word.endswith("-free") or word.startswith("non-"):
        return [position]
    if (
        not _is_cue(word)
        or (word in _CUES_BEFORE_TO and following != "to")
        or following in _NO_DENIAL_AFTER_NOT
    ):
        return []
    after = [i for i in range(position + 1, len(clause)) if _can_be_denied(clause[i])]
    before = [i for i in range(position) if _can_be_denied(clause[i])]
    return after[:_LONGEST_SCOPE] or before[-_LONGEST_SCOPE:]


def _can_be_denied(word: _Word) -> bool:
    return word.is_content or word.stem in _poles()


def _otherwise_negated(clauses: list[Clause], theirs: Sequence[list[Clause]]) -> str:
    """Whether one side denies what the other does not.

    The sentence may only deny something that a quotation denies too. It may leave a denial of theirs out, yet not
    affirm it: that is, say its first word and at least half of its words.
    """
    denials = [set(stems) for clause in clauses for stems in _denied(clause)]
    denied = {
        stem for quote in theirs for clause in quote for stems in _denied(clause) for stem in stems
    }
    if any(not stems & denied for stems in denials):
        return "the source does not deny this"
    affirmed = _stems(clauses) - {stem for stems in denials for stem in stems}
    for quote in _nearest(clauses, theirs):
        said = affirmed - _affirmed(other for other in theirs if other is not quote)
        for stems in (stems for clause in quote for stems in _denied(clause)):
            affirms = stems[0] in said and 2 * len(said.intersection(stems)) >= len(stems)
            if affirms and not any(own.intersection(stems) for own in denials):
                return "the source denies this"
    return ""


def _stems(clauses: Iterable[Clause]) -> set[str]:
    return {word.stem for clause in clauses for word in clause if _can_be_denied(word)}


def _affirmed(quotes: Iterable[list[Clause]]) -> set[str]:
    clauses = [clause for quote in quotes for clause in quote]
    return _stems(clauses) - {
        stem for clause in clauses for stems in _denied(clause) for stem in stems
    }


def _nearest(clauses: list[Clause], theirs: Sequence[list[Clause]]) -> list[list[Clause]]:
    """The quotations that share at least half as many words with the sentence as the best one does."""
    own = _stems(clauses)
    shared = [len(own & _stems(quote)) for quote in theirs]
    return [
        quote
        for quote, count in zip(theirs, shared, strict=True)
        if count and 2 * count >= max(shared)
    ]


Change = tuple[str, int]


def _changes(clauses: Iterable[Clause]) -> list[dict[str, Change]]:
    """For each word of direction the content stems nearest to it, each with what is said of it."""
    changes = []
    for clause in clauses:
        places = [i for i, word in enumerate(clause) if word.stem in _poles()]
        about: dict[int, dict[str, Change]] = {place: {} for place in places}
        for i, word in enumerate(clause):
            if word.is_content and places:
                place = min(places, key=lambda place: (abs(place - i), place > i))
                about[place][word.stem] = _change(clause, place)
        changes += list(about.values())
    return changes


def _change(clause: Clause, place: int) -> Change:
    """What the word there says of the words near it; whatever improves a cost, the first word after it, lowers it."""
    kind, direction = _poles()[clause[place].stem]
    if kind != "quality":
        return kind, direction
    after = [word.stem for word in clause[place + 1 :] if word.is_content]
    before = [word.stem for word in clause[:place] if word.is_content]
    is_cost = bool({*(after[:1] or before[-1:])} & _costs())
    return "amount", -direction if is_cost else direction


def _otherwise_directed(clauses: list[Clause], theirs: Sequence[list[Clause]]) -> str:
    """Whether most words that the sentence says to change one way are only said to change the other way."""
    said: dict[str, set[Change]] = {}
    for quote in theirs:
        for changes in _changes(quote):
            for stem, change in changes.items():
                said.setdefault(stem, set()).add(change)
    for changes in _changes(clauses):
        agreed = sum(change in said.get(stem, ()) for stem, change in changes.items())
        opposed = sum(
            change not in said.get(stem, ()) and (change[0], -change[1]) in said.get(stem, ())
            for stem, change in changes.items()
        )
        if opposed > agreed:
            return "the source says the opposite"
    return ""


_COMPARED = re.compile(
    r"\b(?P<passive>(?:outperformed|beaten|surpassed|exceeded) by)\b|\b(?P<worse>underperform\w*|inferior to)\b"
    r"|\b(?P<better>outperform\w*|beats?|beating|surpass\w*|exceed\w*|superior to)\b"
    r"|(?<!rather )(?<!other )(?P<than>\bthan)\b",
    re.IGNORECASE,
)


def _compares(clause: Clause) -> bool:
    return bool(_COMPARED.search(" ".join(word.text for word in clause)))


def _comparisons(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of names, the first of which has more, or is better, than the second."""
    for found in _COMPARED.finditer(text):
        before = text[: found.start()]
        near = _CLAUSE_END.split(before)[-1]
        left = [_stem(name) for name in list(_names(f"x {near}")) or _names(f"x {before}")]
        right = [_stem(name) for name in _names("x " + _CLAUSE_END.split(text[found.end() :])[0])]
        pairs = [(a, b) for a in left for b in right if a != b]
        yield from pairs if _puts_first_ahead(near, found) else [(b, a) for a, b in pairs]


def _puts_first_ahead(near: str, found: re.Match[str]) -> bool:
    if not found["than"]:
        return bool(found["better"])
    clause = _clauses(near)[-1]
    poles = [i for i, word in enumerate(clause) if word.stem in _poles()]
    if not poles:
        return True
    kind, direction = _poles()[clause[poles[-1]].stem]
    is_cost = kind == "amount" and any(word.stem in _costs() for word in clause)
    return (direction > 0) != is_cost
