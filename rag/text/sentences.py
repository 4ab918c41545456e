"""Sentence splitting with exact character spans. The sentence is the unit of evidence.

The rules fit scientific English: a full stop ends a sentence unless it belongs to an abbreviation,
an initial, a formula, a closed bracket, the number of a list item or a heading.
"""

import re
from bisect import bisect_left
from itertools import chain

Span = tuple[int, int]

_CLOSERS = "\"'”’»)]}*$"
_CJK_STOPS = "。！？｡"
_END = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSERS)}]*+(?=\s)|"
    rf"(?<![{_CJK_STOPS}])[{_CJK_STOPS}]++[」』）】〉》”’]*+"
)
# A full stop without a space after it, before a word that starts many sentences.
_END_WITHOUT_SPACE = re.compile(
    r"(?:(?<=[a-z]{3})|(?<=[\w%]\))|(?<=\d%))[.!?]"
    r"(?=(?:We|The|This|These|Our|In|However|It|To|Here|For|Code|Codes|Moreover|Furthermore|Finally"
    r"|Extensive|Experiments|Experimental|Specifically|Additionally|By|As|While|A|An)[\s,])"
)
_NEXT_WORD = re.compile(r"\s*([\"'“‘«(\[{$\\*%•]*)(\S{0,40})")
_BEFORE_WORD = re.compile(r"[\s~—–(\[{\"'“‘«*,;:]")
_OPENERS = "\"'“‘«([{*"
# Names that start in lower case (k-means, n-grams) and the items of a list: (ii), b).
_LOWERCASE_START = re.compile(r"[a-z]-\w|(?:[ivx]+|[a-h])\)")

# Abbreviations that never end a sentence, because something always follows.
_NEVER_FINAL = frozenset(
    "i.e e.g cf vs viz fig figs eq eqs eqn pp approx ca resp incl esp w.r.t s.t a.k.a "
    "c.f spp".split()
)
_TITLES_OF_PERSONS = frozenset("Dr Prof Mr Mrs Ms St".split())
# Abbreviations before a number or label (Sec. 3, App. B), and words elsewhere ("in 5 sec.").
_BEFORE_LABEL = frozenset(
    "p vol sec secs sect tab ref refs ch chap thm lem def prop alg algs app suppl var ed "
    "eds art".split()
)
_LABEL = re.compile(r"[A-Z]?\d|[IVX]{2,}\b|[A-Z]\b")
# Abbreviations that end a sentence only when a word follows that starts sentences.
_SOMETIMES_FINAL = frozenset(
    "al inc ltd co corp jr sr dept univ i.i.d a.m p.m u.s u.k u.s.a ph.d".split()
)
_STARTERS = frozenset(
    "a an the this these those we our it its in on at to for from with by as while when where "
    "although though however moreover furthermore finally thus therefore hence here there then "
    "using experiments results experimental extensive code unlike despite because since such "
    "each both many most recent recently additionally specifically instead yet but and so if "
    "one two given based through among empirically they their that all some any another every "
    "several various existing current previous prior compared first second third next overall "
    "notably importantly surprisingly interestingly consequently nevertheless nonetheless "
    "meanwhile similarly conversely further besides also without within under over after before "
    "during across along only not no what how why which who can does do is are".split()
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_ITEM_NUMBER = re.compile(r"[:;]\s+\(?\d{1,2}\.$")
_HEADING = re.compile(
    r"(?:background|introduction|context|purpose|objectives?|aims?|goals?|motivation|"
    r"(?:materials? and )?methods?|methodology|design|setting|participants|patients|findings|"
    r"results?|interpretation|discussion|conclusions?|significance|summary|limitations|"
    r"availability)\.",
    re.IGNORECASE,
)
# As in TeX, no space inside the dollars; and no digit after them ("from $5 to $10" is text).
_FORMULA = re.compile(r"(?<!\\)\$(?!\s)[^$]{1,300}?(?<![\s\\])\$(?!\d)")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPENING_BRACKETS = {")": "(", "]": "[", "}": "{"}
# Characters. An unclosed bracket must not swallow the rest of the abstract.
_MAX_BRACKET = 400
# Characters to look back or ahead. No abbreviation and no run of closing marks is longer.
_WINDOW = 60


def split_sentences(text: str) -> list[Span]:
    """Return the spans `[start, end)` of the sentences in order, without the space around them."""
    protected = _find_formulas_and_brackets(text)
    protected_starts = [start for start, _ in protected]
    spans: list[Span] = []
    start = _skip_space(text, 0)
    for end in _find_possible_ends(text):
        before = bisect_left(protected_starts, end) - 1
        is_protected = before >= 0 and end < protected[before][1]
        if end <= start or is_protected:
            continue
        if _ends_sentence(text, start, end):
            spans.append((start, end))
            start = _skip_space(text, end)
    if start < len(text):
        spans.append((start, len(text.rstrip())))
    return spans


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _find_possible_ends(text: str) -> list[int]:
    matches = chain(_END.finditer(text), _END_WITHOUT_SPACE.finditer(text))
    return sorted(set(map(re.Match.end, matches)))


def _find_formulas_and_brackets(text: str) -> list[Span]:
    """Return the outermost formulas and closed brackets in order. No sentence ends inside one."""
    spans = [*map(re.Match.span, _FORMULA.finditer(text)), *_find_brackets(text)]
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _find_brackets(text: str) -> list[Span]:
    open_brackets: dict[str, list[int]] = {opening: [] for opening in _OPENING_BRACKETS.values()}
    spans: list[Span] = []
    for match in _BRACKET.finditer(text):
        if match[0] in open_brackets:
            open_brackets[match[0]].append(match.start())
        elif starts := open_brackets[_OPENING_BRACKETS[match[0]]]:
            start = starts.pop()
            if match.end() - start <= _MAX_BRACKET:
                spans.append((start, match.end()))
    return spans


def _ends_sentence(text: str, start: int, end: int) -> bool:
    mark = text[max(start, end - _WINDOW) : end].rstrip(_CLOSERS + "」』）】〉》")
    if mark.endswith(tuple(_CJK_STOPS)):
        return True
    opener, following = _find_next_word(text, end)
    if not _can_start(opener, following) or _is_label(text[start : min(end, start + _WINDOW)]):
        return False
    if mark.endswith("!"):
        return not following[:1].isdigit()  # a factorial, or what is left of LaTeX's "\!"
    if mark.endswith(("?", "…")):
        return True
    return not _is_abbreviation(mark, opener, following)


def _find_next_word(text: str, end: int) -> tuple[str, str]:
    """Return the next word and the opening marks before it."""
    match = _NEXT_WORD.match(text, end)
    return (match[1], match[2]) if match else ("", "")


def _can_start(opener: str, word: str) -> bool:
    """Tell if a word can start a sentence.

    It starts with a capital, digit or formula, or is a name like `mT5`, `k-means` or `ε-greedy`.
    """
    if not word:
        return bool(opener)
    first = word[0]
    if first.isupper() or first.isdigit() or "$" in opener or "\\" in opener:
        return True
    if not first.isalpha():
        return False
    return not (first.islower() and first.isascii()) or _is_lowercase_start(word)


def _is_lowercase_start(word: str) -> bool:
    return (
        _LOWERCASE_START.match(word) is not None
        or any(map(str.isupper, word))
        or any(map(str.isdigit, word))
    )


def _is_label(sentence: str) -> bool:
    """Tell if a sentence is only an item number ("1.", "(ii).") or a heading ("METHODS.")."""
    return not sentence.strip(_OPENERS + "0123456789.)]ivx") or bool(_HEADING.fullmatch(sentence))


def _is_abbreviation(mark: str, opener: str, following: str) -> bool:
    """Tell if the full stop that ends `mark` belongs to an abbreviation within a sentence."""
    word = _BEFORE_WORD.split(mark.rstrip("."))[-1].removeprefix("non-")
    lower = word.lower()
    if lower in _NEVER_FINAL or word in _TITLES_OF_PERSONS or _ITEM_NUMBER.search(mark):
        return True
    if lower in ("no", "nos"):
        return following[:1].isdigit()
    if lower in _BEFORE_LABEL:
        return "$" in opener or bool(_LABEL.match(following))
    return _may_be_final(word) and not _is_starter(following)


def _may_be_final(word: str) -> bool:
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    return word.lower() in _SOMETIMES_FINAL or _DOTTED.fullmatch(word) is not None or is_initial


def _is_starter(word: str) -> bool:
    return word[:1].isupper() and word.lower().strip(",;:'\"") in _STARTERS
