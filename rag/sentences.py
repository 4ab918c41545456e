"""Splitting an abstract into sentences, the unit of evidence, with exact character spans.

The rules are for scientific English: a full stop ends a sentence unless it belongs to an
abbreviation, an initial, a formula or an open bracket.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int]

_BOUNDARY = re.compile(r"[.!?]+[\"'”’»)\]}*]*(?=\s)|[。！？](?=\S)")
_GLUED = re.compile(r"(?<=[a-z]{3})[.!?](?=(?:We|The|This|These|Our|In|However|It|To|Here|For)\s)")
_NEXT_WORD = re.compile(r"\s*([\"'“‘«(\[{$\\]*)(\S*)")
_LAST_WORD = re.compile(r"(\S+)$")
_OPENERS = "\"'“‘«([{*"

# Never the end of a sentence: something always follows.
_NEVER = frozenset(
    "i.e e.g cf vs viz fig figs eq eqs eqn sec secs sect tab ref refs no nos vol pp ch chap thm lem def prop "
    "alg algs app dr prof mr mrs ms st approx ca resp incl esp w.r.t s.t a.k.a c.f i.e, sp spp var ed eds".split()
)
# May end a sentence, when what follows is a word that starts sentences.
_SOMETIMES = frozenset("al inc ltd co corp jr sr dept univ i.i.d a.m p.m u.s u.k u.s.a ph.d".split())
_STARTERS = frozenset(
    "a an the this these those we our it its in on at to for from with by as while when where although though "
    "however moreover furthermore finally thus therefore hence here there then to using experiments results "
    "experimental extensive code unlike despite because since such each both many most recent recently "
    "additionally specifically instead yet but and so if one two given based through among empirically".split()
)
_DOTTED = re.compile(r"(?:\w\.)+\w")
_FORMULA = re.compile(r"(?<!\\)\$[^$]{1,300}?(?<!\\)\$")
# A bracket that never closes must not swallow the rest of the abstract.
_LONGEST_BRACKET = 400
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


def split_sentences(text: str) -> list[Span]:
    """Half-open spans `(start, end)` of the sentences, in order, without the space between them."""
    formulas = [match.span() for match in _FORMULA.finditer(text)]
    spans: list[Span] = []
    start = 0
    for end in _candidates(text):
        if end <= start or any(a < end < b for a, b in formulas):
            continue
        if _ends_sentence(text, start, end):
            spans.append((start, end))
            start = end + len(text[end:]) - len(text[end:].lstrip())
    if text[start:].strip():
        spans.append((start, len(text.rstrip())))
    return [_trim(text, span) for span in spans]


def _candidates(text: str) -> Iterator[int]:
    ends = {match.end() for match in _BOUNDARY.finditer(text)}
    ends |= {match.end() for match in _GLUED.finditer(text)}
    return iter(sorted(ends))


def _ends_sentence(text: str, start: int, end: int) -> bool:
    if text[end - 1] in "。！？":
        return True
    opener, following = _following(text, end)
    if not _can_start(opener, following) or _inside_bracket(text, start, end):
        return False
    mark = text[start:end].rstrip("\"'”’»)]}*")
    if mark.endswith(("!", "?")):
        return True
    return not _is_abbreviation(mark, following, at_start=not text[start:end].strip(_OPENERS + "0123456789.)(ivx"))


def _following(text: str, end: int) -> tuple[str, str]:
    match = _NEXT_WORD.match(text, end)
    return (match[1], match[2]) if match else ("", "")


def _can_start(opener: str, word: str) -> bool:
    """Sentences start with a capital, a digit, a formula, or a name such as `mT5` or `k-NN`."""
    if not word:
        return bool(opener)
    if word[0].isupper() or word[0].isdigit() or "$" in opener or "\\" in opener:
        return True
    return word[0].isalpha() and (any(c.isupper() or c.isdigit() for c in word) or not word[0].islower())


def _is_abbreviation(mark: str, following: str, *, at_start: bool) -> bool:
    if at_start:  # "1." or "(ii)." opens an item of a list
        return True
    match = _LAST_WORD.search(mark.rstrip("."))
    word = match[1].lstrip(_OPENERS + "~").split("~")[-1] if match else ""
    if word.lower() in _NEVER:
        return True
    starts = following.lower().strip(",;:'\"") in _STARTERS and following[:1].isupper()
    if word.lower() in _SOMETIMES or _DOTTED.fullmatch(word):
        return not starts
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    return is_initial and not starts


def _inside_bracket(text: str, start: int, end: int) -> bool:
    stack: list[tuple[str, int]] = []
    for position in range(start, end):
        char = text[position]
        if char in _CLOSERS:
            stack.append((char, position))
        elif stack and char == _CLOSERS[stack[-1][0]]:
            stack.pop()
    return bool(stack) and _CLOSERS[stack[0][0]] in text[end : stack[0][1] + _LONGEST_BRACKET]


def _trim(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    return start, end
