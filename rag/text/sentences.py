"""Splitting an abstract into sentences, the unit of evidence, with exact character spans.

The rules are for scientific English: a full stop ends a sentence unless it belongs to an
abbreviation, an initial, a formula, a closed bracket, the number of a list item or a heading.
"""

import re
from bisect import bisect_left

Span = tuple[int, int]

_CLOSERS = "\"'”’»)]}*$"
_CJK_STOPS = "。！？｡"
_BOUNDARY = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSERS)}]*+(?=\s)|(?<![{_CJK_STOPS}])[{_CJK_STOPS}]++[」』）】〉》”’]*+"
)
_GLUED = re.compile(
    r"(?:(?<=[a-z]{3})|(?<=[\w%]\))|(?<=\d%))[.!?]"
    r"(?=(?:We|The|This|These|Our|In|However|It|To|Here|For|Code|Codes|Moreover|Furthermore|Finally|Extensive"
    r"|Experiments|Experimental|Specifically|Additionally|By|As|While|A|An)[\s,])"
)
_NEXT_WORD = re.compile(r"\s*([\"'“‘«(\[{$\\*%•]*)(\S{0,40})")
_BEFORE_WORD = re.compile(r"[\s~—–(\[{\"'“‘«*,;:]")
_OPENERS = "\"'“‘«([{*"
# Names that start small: k-means, n-grams; and the items of a list: (ii), b).
_SMALL_START = re.compile(r"[a-z]-\w|(?:[ivx]+|[a-h])\)")

# Never the end of a sentence: something always follows.
_NEVER = frozenset(
    "i.e e.g cf vs viz fig figs eq eqs eqn pp approx ca resp incl esp w.r.t s.t a.k.a c.f spp".split()
)
_TITLES = frozenset("Dr Prof Mr Mrs Ms St".split())
# Abbreviations before a number or a label (Sec. 3, App. B), words elsewhere ("the answer is no", "in 5 sec").
_BEFORE_LABEL = frozenset(
    "p vol sec secs sect tab ref refs ch chap thm lem def prop alg algs app suppl var ed eds art".split()
)
_LABEL = re.compile(r"[A-Z]?\d|[IVX]{2,}\b|[A-Z]\b")
# May end a sentence, when what follows is a word that starts sentences.
_SOMETIMES = frozenset(
    "al inc ltd co corp jr sr dept univ i.i.d a.m p.m u.s u.k u.s.a ph.d".split()
)
_STARTERS = frozenset(
    "a an the this these those we our it its in on at to for from with by as while when where although though "
    "however moreover furthermore finally thus therefore hence here there then using experiments results "
    "experimental extensive code unlike despite because since such each both many most recent recently "
    "additionally specifically instead yet but and so if one two given based through among empirically "
    "they their that all some any another every several various existing current previous prior compared "
    "first second third next overall notably importantly surprisingly interestingly consequently nevertheless "
    "nonetheless meanwhile similarly conversely further besides also without within under over after before "
    "during across along only not no what how why which who can does do is are".split()
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_NUMBER_OF_ITEM = re.compile(r"[:;]\s+\(?\d{1,2}\.$")
_HEADING = re.compile(
    r"(?:background|introduction|context|purpose|objectives?|aims?|goals?|motivation|(?:materials? and )?methods?|"
    r"methodology|design|setting|participants|patients|findings|results?|interpretation|discussion|conclusions?|"
    r"significance|summary|limitations|availability)\.",
    re.IGNORECASE,
)
# Closed as in TeX made of words: no space inside the dollars, no digit after them ("from $5 to $10" is no formula).
_FORMULA = re.compile(r"(?<!\\)\$(?!\s)[^$]{1,300}?(?<![\s\\])\$(?!\d)")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPENING = {")": "(", "]": "[", "}": "{"}
# A bracket that never closes must not swallow the rest of the abstract.
_LONGEST_BRACKET = 400
# No abbreviation and no closing marks are longer: what lies further back need not be looked at.
_WINDOW = 60


def split_sentences(text: str) -> list[Span]:
    """Half-open spans `(start, end)` of the sentences, in order, without the space between them."""
    closed = _formulas_and_brackets(text)
    openings = [start for start, _ in closed]
    spans: list[Span] = []
    start = _skip_space(text, 0)
    for end in _candidates(text):
        around = bisect_left(openings, end) - 1
        if end <= start or (around >= 0 and end < closed[around][1]):
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


def _candidates(text: str) -> list[int]:
    ends = {match.end() for match in _BOUNDARY.finditer(text)}
    return sorted(ends | {match.end() for match in _GLUED.finditer(text)})


def _formulas_and_brackets(text: str) -> list[Span]:
    """The outermost formulas and closed brackets, in order: no sentence ends inside one."""
    merged: list[Span] = []
    for start, end in sorted(
        [*(match.span() for match in _FORMULA.finditer(text)), *_brackets(text)]
    ):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _brackets(text: str) -> list[Span]:
    opened: dict[str, list[int]] = {opening: [] for opening in _OPENING.values()}
    spans: list[Span] = []
    for match in _BRACKET.finditer(text):
        if match[0] in opened:
            opened[match[0]].append(match.start())
        elif starts := opened[_OPENING[match[0]]]:
            span = starts.pop(), match.end()
            spans += [span] if span[1] - span[0] <= _LONGEST_BRACKET else []
    return spans


def _ends_sentence(text: str, start: int, end: int) -> bool:
    mark = text[max(start, end - _WINDOW) : end].rstrip(_CLOSERS + "」』）】〉》")
    if mark.endswith(tuple(_CJK_STOPS)):
        return True
    opener, following = _following(text, end)
    if not _can_start(opener, following) or _is_label(text[start : min(end, start + _WINDOW)]):
        return False
    if mark.endswith("!"):
        return not following[:1].isdigit()  # a factorial, or what is left of LaTeX's "\!"
    if mark.endswith(("?", "…")):
        return True
    return not _is_abbreviation(mark, opener, following)


def _following(text: str, end: int) -> tuple[str, str]:
    match = _NEXT_WORD.match(text, end)
    return (match[1], match[2]) if match else ("", "")


def _can_start(opener: str, word: str) -> bool:
    """Sentences start with a capital, a digit, a formula, or a name such as `mT5`, `k-means` or `ε-greedy`."""
    if not word:
        return bool(opener)
    first = word[0]
    if first.isupper() or first.isdigit() or "$" in opener or "\\" in opener:
        return True
    if not first.isalpha():
        return False
    return not (first.islower() and first.isascii()) or _is_small_start(word)


def _is_small_start(word: str) -> bool:
    return bool(_SMALL_START.match(word)) or any(c.isupper() or c.isdigit() for c in word)


def _is_label(sentence: str) -> bool:
    """Whether all of it is the number of a list item ("1.", "(ii).") or a heading ("METHODS.")."""
    return not sentence.strip(_OPENERS + "0123456789.)]ivx") or bool(_HEADING.fullmatch(sentence))


def _is_abbreviation(mark: str, opener: str, following: str) -> bool:
    word = _BEFORE_WORD.split(mark.rstrip("."))[-1].removeprefix("non-")
    lower = word.lower()
    if lower in _NEVER or word in _TITLES or _NUMBER_OF_ITEM.search(mark):
        return True
    if lower in ("no", "nos"):
        return following[:1].isdigit()
    if lower in _BEFORE_LABEL:
        return "$" in opener or bool(_LABEL.match(following))
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    if lower in _SOMETIMES or _DOTTED.fullmatch(word) or is_initial:
        return not (following[:1].isupper() and following.lower().strip(",;:'\"") in _STARTERS)
    return False
