"""Find the years, authors and venues that a question about the library restricts it to.

Years are read by patterns; authors and venues are looked up among those of the library, the longest
match first. A name on its own is an author only where the question says so ("by Levine"), and a
word is a venue only if it is that of many papers, compared with those that mention it: EMNLP, but
not NLP.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rag.library.filters import FILTERS, Condition
from rag.text.cleaning import title_key
from rag.text.sentences import Span
from rag.text.terms import STOP_WORDS, index_text

if TYPE_CHECKING:
    from rag.library.library import Library

_YEAR = r"((?:1[89]|20)\d\d)"
# Pattern of a phrase, the filter it stands for, and the phrase in words.
_YEAR_PHRASES = tuple(
    (re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE), filter_, words)
    for pattern, filter_, words in (
        (rf"between\s+{_YEAR}\s+and\s+{_YEAR}", "{}-{}", "from {} to {}"),
        (
            rf"(?:from\s+)?{_YEAR}\s*(?:-|–|to|until|till|through)\s*{_YEAR}",
            "{}-{}",
            "from {} to {}",
        ),
        (rf"(?:since|starting\s+(?:in|from))\s+{_YEAR}", ">={}", "since {}"),
        (rf"from\s+{_YEAR}\s+(?:on|onwards?)", ">={}", "since {}"),
        (rf"(?:after|later\s+than)\s+{_YEAR}", ">{}", "after {}"),
        (rf"{_YEAR}\s+or\s+later", ">={}", "since {}"),
        (rf"(?:before|prior\s+to|earlier\s+than)\s+{_YEAR}", "<{}", "before {}"),
        (rf"(?:until|till|up\s+to|by)\s+{_YEAR}", "<={}", "up to {}"),
        (rf"(?:(?:in|from|during|of)\s+)?(?:the\s+year\s+)?{_YEAR}", "{}", "in {}"),
    )
)
_WORD = re.compile(r"\b[A-Z]\.(?=\s)|(?:[^\W_]|(?<=\w)[-'’.](?=\w))+")
_MAX_NAME_WORDS = 4
_MAX_VENUE_WORDS = 10
# This many words of a venue's name identify it.
_MIN_PART_WORDS = 3
# A word is a venue if this many times as many papers are in venues of that name as mention it.
# Initials need more: many venues spell out "natural language processing", but few mean it by NLP.
_MIN_RATIO, _MIN_RATIO_OF_INITIALS = 1, 4
# Words before and after the name of an author.
_BEFORE_AUTHOR = frozenset("by of did has have does is with from author named called".split())
_AUXILIARIES = frozenset("did has have does".split())
_AFTER_AUTHOR = frozenset(
    "write writes wrote written publish published author authored coauthor co-author co-authored "
    "papers paper".split()
)
# Words before and after the name of a venue.
_BEFORE_VENUE = frozenset("in at from of by the".split())
_PUBLISHED = frozenset("published publish appeared appear presented accepted".split())
_AFTER_VENUE = frozenset(
    "papers paper articles article publications publication proceedings works".split()
)
_ACRONYM = re.compile(r"(?=\w*[A-Z]\w*[A-Z])\w{2,12}")
_NOT_IN_INITIALS = frozenset("of the on for and in an a at".split())


@dataclass(frozen=True, slots=True)
class Restriction:
    """Part of a question that restricts the papers, with the condition on their records.

    `field` is the restricted field, and `words` says how in the words of an answer: `since 2020`,
    `by “Ada Levine”`, `in “EMNLP”`. `matches` are the authors or venues that were found.
    """

    span: Span
    field: Literal["year", "author", "venue"]
    words: str
    condition: Condition
    matches: tuple[str, ...] = ()


def find_restrictions(question: str, library: "Library") -> list[Restriction]:
    """Return the restrictions in a question, in the order in which they stand there.

    Call it inside `Library.snapshot()`.
    """
    found: list[Restriction] = []
    for find in (_find_years, _find_venues, _find_authors):
        for restriction in find(question, library):
            if not any(_overlap(restriction.span, other.span) for other in found):
                found.append(restriction)
    return sorted(found, key=lambda restriction: restriction.span)


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


# --- years ------------------------------------------------------------------------------------


def _find_years(question: str, library: "Library") -> Iterator[Restriction]:
    taken: list[Span] = []
    for pattern, filter_, words in _YEAR_PHRASES:
        for match in pattern.finditer(question):
            years = sorted(match.groups())
            condition = FILTERS["year"].condition(filter_.format(*years))
            if condition and not any(_overlap(match.span(), span) for span in taken):
                taken.append(match.span())
                yield Restriction(match.span(), "year", words.format(*years), condition)


# --- words and names --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Words:
    """Words of a question, with their spans."""

    question: str
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, question: str) -> "_Words":
        return cls(question, tuple(match.span() for match in _WORD.finditer(question)))

    def __getitem__(self, position: int) -> str:
        """Return a word; empty outside of the question."""
        if not 0 <= position < len(self.spans):
            return ""
        start, end = self.spans[position]
        return re.sub(r"['’]s$", "", self.question[start:end])

    def text(self, start: int, stop: int) -> str:
        """Return a range of words as one text, without a possessive."""
        first, last = self.spans[start][0], self.spans[stop - 1][1]
        return re.sub(r"['’]s?$", "", self.question[first:last])

    def is_possessive(self, position: int) -> bool:
        start, end = self.spans[position]
        return bool(re.search(r"['’]s?$", self.question[start : end + 1]))

    def ranges(self, longest: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of up to `longest` words, the longest first."""
        for length in range(min(longest, len(self.spans)), 0, -1):
            for start in range(len(self.spans) - length + 1):
                yield start, start + length

    def span(self, start: int, stop: int) -> Span:
        return self.spans[start][0], self.spans[stop - 1][1]


def _is_capitalized(word: str) -> bool:
    return word[:1].isupper()


# --- authors ----------------------------------------------------------------------------------


def _find_authors(question: str, library: "Library") -> Iterator[Restriction]:
    words = _Words.of(question)
    candidates = [
        bounds for bounds in words.ranges(_MAX_NAME_WORDS) if _may_be_name(words, *bounds)
    ]
    if not candidates:
        return
    authors = _AuthorIndex(library.author_names())
    taken: set[int] = set()
    for start, stop in candidates:
        if not taken.isdisjoint(range(start, stop)):
            continue
        follows_author = words[start - 1].casefold() in ("and", "or") and start - 2 in taken
        has_cue = follows_author or _has_author_cue(words, start, stop)
        matches = authors.find(words.text(start, stop)) if has_cue or stop - start > 1 else ()
        if matches or (has_cue and _is_unknown_author(words, start, stop)):
            taken.update(range(start, stop))
            yield _restrict_author(words, start, stop, matches)


def _may_be_name(words: _Words, start: int, stop: int) -> bool:
    """Return True when the words could be a name: no stop words, capitals or "by" before them."""
    names = [words[position] for position in range(start, stop)]
    if any(name.casefold() in STOP_WORDS or name[:1].isdigit() for name in names):
        return False
    return all(map(_is_capitalized, names)) or _has_author_cue(words, start, stop)


def _has_author_cue(words: _Words, start: int, stop: int) -> bool:
    """Return True for words between "by" or "did" and the next verb, or before "'s papers"."""
    before, after = words[start - 1].casefold(), words[stop].casefold()
    if before == "by":
        return True
    if words.is_possessive(stop - 1):
        return after in _AFTER_AUTHOR
    return before in ("author", "named", "called", "of") or (
        before in _BEFORE_AUTHOR and after in ("", "and", "or", *_AFTER_AUTHOR)
    )


def _is_unknown_author(words: _Words, start: int, stop: int) -> bool:
    """Return True for the whole name of an author, as the words around it say."""
    names = [words[position] for position in range(start, stop)]
    if not all(map(_is_capitalized, names)) or _is_capitalized(words[stop]):
        return False
    before = words[start - 1].casefold()
    if before != "by":
        return before in _AUXILIARIES and words[stop].casefold() in _AFTER_AUTHOR
    # Not in "evaluated by BLEU".
    return len(names) > 1 or words[start - 2].casefold() in STOP_WORDS | _AFTER_AUTHOR


def _restrict_author(words: _Words, start: int, stop: int, matches: tuple[str, ...]) -> Restriction:
    sql = (
        "EXISTS (SELECT 1 FROM json_each(authors) WHERE value IN (SELECT value FROM json_each(?)))"
    )
    name = matches[0] if len(matches) == 1 else words.text(start, stop)
    condition = Condition(sql, (json.dumps(matches),))
    return Restriction(words.span(start, stop), "author", f"by “{name}”", condition, matches)


class _AuthorIndex:
    """Names of authors by their last word."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_last_word: dict[str, list[tuple[list[str], str]]] = {}
        for name in names:
            if parts := title_key(name).split():
                self._by_last_word.setdefault(parts[-1], []).append((parts, name))

    def find(self, text: str) -> tuple[str, ...]:
        """Return the names that the words of a text occur in, in order, with the same last word.

        "Noah Smith" finds "Noah A. Smith", and "N. Smith" too.
        """
        asked = title_key(text).split()
        matches = []
        for parts, name in self._by_last_word.get(asked[-1], ()) if asked else ():
            if _is_subsequence(asked[:-1], parts[:-1]):
                matches.append(name)
        return tuple(sorted(matches))


def _is_subsequence(asked: Sequence[str], parts: Sequence[str]) -> bool:
    """Return True when all words asked for are among the parts in order; J. stands for Jane."""
    remaining = iter(parts)
    for word in asked:
        if not any(part == word or (len(word) == 1 and part[0] == word) for part in remaining):
            return False
    return True


# --- venues -----------------------------------------------------------------------------------


def _find_venues(question: str, library: "Library") -> Iterator[Restriction]:
    words = _Words.of(question)
    candidates = [
        bounds for bounds in words.ranges(_MAX_VENUE_WORDS) if _has_venue_cue(words, *bounds)
    ]
    venues = library.venues() if candidates else {}
    taken: set[int] = set()
    for start, stop in candidates:
        text = words.text(start, stop)
        if not taken.isdisjoint(range(start, stop)) or not title_key(text):
            continue
        matches = _match_venues(text, venues)
        if _is_certain_venue(words, start, stop):
            is_venue = bool(matches or _ACRONYM.fullmatch(text))
        else:
            is_venue = bool(matches) and not _is_topic(text, matches, venues, library)
        if is_venue:
            taken.update(range(start, stop))
            yield _restrict_venue(words.span(start, stop), text, matches)


def _restrict_venue(span: Span, text: str, matches: tuple[str, ...]) -> Restriction:
    sql = "venue IN (SELECT value FROM json_each(?))"
    words = f"in “{text}”" if matches else f"in a venue called “{text}”"
    return Restriction(span, "venue", words, Condition(sql, (json.dumps(matches),)), matches)


def _has_venue_cue(words: _Words, start: int, stop: int) -> bool:
    before, after = words[start - 1].casefold(), words[stop].casefold()
    if words[start].casefold() in STOP_WORDS or words[stop - 1].casefold() in STOP_WORDS:
        return False
    is_dated = after.isdigit() or after in ("in", "since", "between", "before", "after")
    return before in _BEFORE_VENUE or after in _AFTER_VENUE or (is_dated and before == "many")


def _is_certain_venue(words: _Words, start: int, stop: int) -> bool:
    """Return True after "at" and "published in", where nothing but a venue makes sense."""
    before = words[start - 1].casefold()
    return before == "at" or (before == "in" and words[start - 2].casefold() in _PUBLISHED)


def _is_topic(
    text: str, matches: Iterable[str], venues: Mapping[str, int], library: "Library"
) -> bool:
    """Return True for a word that more papers mention than a venue of this name explains."""
    if " " in text.strip():
        return False
    named = total = 0
    for name in matches:
        is_named = text.casefold() in _abbreviations(name) or title_key(text) == _undated(name)
        named += venues[name] if is_named else 0
        total += venues[name]
    terms = index_text(text).split()
    mentions = len(library.match_full_text(terms)) if terms else 0
    return named < _MIN_RATIO * mentions and total < _MIN_RATIO_OF_INITIALS * mentions


def _match_venues(text: str, venues: Iterable[str]) -> tuple[str, ...]:
    """Return the venues with this name, or with this abbreviation in their name or initials."""
    key = title_key(text)
    words = key.split()
    matches = []
    for venue in venues:
        is_name = key == _undated(venue)
        is_part = len(words) >= _MIN_PART_WORDS and f" {key} " in f" {title_key(venue)} "
        if is_name or is_part or (len(words) == 1 and _is_abbreviation(venue, text)):
            matches.append(venue)
    return tuple(sorted(matches))


def _is_abbreviation(venue: str, text: str) -> bool:
    return text.casefold() in _abbreviations(venue) or _has_initials(venue, text)


def _abbreviations(venue: str) -> set[str]:
    """Return the abbreviations in the name of a venue: EMNLP, also of EMNLP-IJCNLP or EMNLP'20."""
    abbreviations = set()
    for word in re.findall(r"[A-Za-z]+", venue):
        if _ACRONYM.fullmatch(word) and not venue.isupper():
            abbreviations.add(word.casefold())
    return abbreviations


def _undated(venue: str) -> str:
    """Return the name of a venue as compared, without numbers and an article."""
    words = [word for word in title_key(venue).split() if not word[0].isdigit()]
    return " ".join(words[1:] if words[:1] == ["the"] else words)


def _has_initials(venue: str, text: str) -> bool:
    """Return True when an abbreviation consists of initials of the venue; one may be left out.

    ACL is "Annual Meeting of the Association for Computational Linguistics", and EACL is "European
    Chapter of the Association for Computational Linguistics".
    """
    if not text.isupper() or len(text) < 3:
        return False
    initials = ""
    for word in re.findall(r"[^\W\d_]+", venue):
        if word.casefold() not in _NOT_IN_INITIALS:
            initials += word[0] if word[0].isupper() else "."
    gaps = range(1, len(text))
    return any(re.search(f"{text[:gap]}.?{text[gap:]}", initials) for gap in gaps)
