"""Find the papers that mention a topic, in a way that can be stated and checked.

A topic is mentioned where its words stand side by side, in any inflection, in the title or in the
abstract. Around function words it is divided: the parts of "guidelines for named entities" must be
in one sentence. "X or Y" is either, and an abbreviation also counts where it is spelled out, as far
as the library itself explains it: "named entity recognition (NER)". Similarity is not used, because
no threshold fits two libraries and nobody could check the number (`eval/LOG.md` has figures).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from rag.records import Paper, Sentence
from rag.text.cleaning import remove_invisible
from rag.text.terms import STOP_WORDS, content_terms, index_text

if TYPE_CHECKING:
    from rag.library.library import Library

# In "MT (machine translation)", either may stand.
_OR = re.compile(r"\s+or\s+|\s*[()]\s*", re.IGNORECASE)
_EITHER = re.compile(r"(?:either|both)\s+", re.IGNORECASE)
_QUOTES = "\"'“”‘’«»"
_ABBREVIATION = re.compile(r"(?=[^\W_]*[A-Z])[^\W_][\w-]{0,8}[^\W_a-z]s?|[A-Z]{2,}s?")
_IN_BRACKETS = re.compile(r"\(([^\s()]{2,10})\)")
# Papers that are read to find out what an abbreviation stands for.
_MAX_READ = 200
_MAX_EXPLANATION_WORDS = 12
_HYPHENS = re.compile(r"[-‐‑–−/]")


@dataclass(frozen=True, slots=True)
class Mentions:
    """Papers that mention a topic, by row number.

    `apart` are other papers, which have all words of the topic in one sentence or in the title, but
    not side by side. `wordings` are what was looked for.
    """

    papers: frozenset[int]
    apart: frozenset[int]
    wordings: tuple[str, ...]

    @property
    def terms(self) -> list[str]:
        """Distinct stems of all wordings."""
        return list(dict.fromkeys(chain.from_iterable(map(_terms, self.wordings))))


def find_mentions(topic: str, library: "Library", column: str = "") -> Mentions:
    """Return the papers that mention a topic; call it inside `Library.snapshot()`.

    `column` limits the search to the `title` or the `abstract`.
    """
    wordings: dict[str, None] = {}
    # The wording is shown in the answer, where control characters would disturb.
    plain = " ".join(remove_invisible(topic).split())
    names = [part.strip(_QUOTES).strip() for part in _OR.split(_EITHER.sub("", plain, count=1))]
    for name in _share_first_words(names, library, column):
        for wording in (name, *_expand(name, library)):
            if _terms(wording):
                wordings[wording] = None
    papers: set[int] = set()
    apart: set[int] = set()
    for wording in wordings:
        together, scattered = _find_wording(wording, library, column)
        papers |= together
        apart |= scattered
    return Mentions(frozenset(papers), frozenset(apart - papers), tuple(wordings))


def best_mention(sentences: Iterable[Sentence], wordings: Sequence[str]) -> Sentence | None:
    """Return the first sentence that mentions a topic."""
    for sentence in sentences:
        if any(_mentions(sentence.text, _parts(wording)) for wording in wordings):
            return sentence
    return None


def _terms(wording: str) -> list[str]:
    """Return the stems of a wording; of one that consists of stop words, all words."""
    return content_terms(wording) or index_text(wording).split()


def _parts(wording: str) -> list[list[str]]:
    """Return the stems of a wording, divided at its function words."""
    parts: list[list[str]] = [[]]
    for word in wording.split():
        terms = content_terms(word)
        if terms:
            parts[-1] += terms
        elif parts[-1]:
            parts.append([])
    return list(filter(None, parts)) or [_terms(wording)]


def _share_first_words(names: list[str], library: "Library", column: str) -> list[str]:
    """Complete the second of two names: "joint parsing or tagging" may mean "joint tagging".

    It does if the library has the completed name.
    """
    if len(names) != 2 or len(names[1].split()) != 1:
        return names
    first_words = names[0].split()[:-1]
    completed = " ".join([*first_words, names[1]])
    if first_words and _find_wording(completed, library, column)[0]:
        return [names[0], completed]
    return names


def _find_wording(wording: str, library: "Library", column: str) -> tuple[set[int], set[int]]:
    """Return the papers that mention a wording, and those with its words apart."""
    terms, parts = _terms(wording), _parts(wording)
    candidates = library.match_full_text(terms, column)
    if len(terms) == 1:
        return candidates, set()
    papers = library.papers_by_key(candidates)
    sentences = {} if column == "title" else library.sentences(candidates)
    together, apart = set(), set()
    for key, paper in papers.items():
        texts = [] if column == "abstract" else [paper.title]
        if key in sentences:
            texts += [sentence.text for sentence in sentences[key][0]]
        if any(_mentions(text, parts) for text in texts):
            together.add(key)
        elif any(set(terms) <= set(index_text(text).split()) for text in texts):
            apart.add(key)
    return together, apart


def _mentions(text: str, parts: Iterable[Sequence[str]]) -> bool:
    """Return True when a text contains every part, its terms side by side."""
    # "Pre-trained" is one word or two, depending on who writes.
    forms = [content_terms(text), content_terms(_HYPHENS.sub(" ", text))]
    return all(_contains(forms, part) for part in parts)


def _contains(forms: Iterable[Sequence[str]], terms: Sequence[str]) -> bool:
    """Return True when one form of a text has the terms side by side."""
    for words in forms:
        starts = [position for position, word in enumerate(words) if word == terms[0]]
        if any(words[start : start + len(terms)] == terms for start in starts):
            return True
    return False


# --- abbreviations ----------------------------------------------------------------------------


def _expand(name: str, library: "Library") -> list[str]:
    """Return what an abbreviation stands for in the library, or the abbreviation of a name.

    The explanation that most papers give is used (after Schwartz and Hearst, 2003).
    """
    is_abbreviation = bool(_ABBREVIATION.fullmatch(name))
    if not is_abbreviation and len(name.split()) < 2:
        return []
    counts: Counter[str] = Counter()
    keys = sorted(library.match_full_text(_terms(name)))[:_MAX_READ]
    for paper in library.papers_by_key(keys).values():
        explained = _explanations(paper)
        if is_abbreviation:
            counts.update(explained.get(_singular(name), ()))
        else:
            counts.update(_abbreviations_of(name, explained))
    return [wording for wording, _ in counts.most_common(1)]


def _abbreviations_of(name: str, explained: dict[str, set[str]]) -> set[str]:
    terms = _terms(name)
    found = set()
    for short, names in explained.items():
        if terms in map(_terms, names):
            found.add(short)
    return found


def _singular(abbreviation: str) -> str:
    return abbreviation.removesuffix("s") if abbreviation[:-1].isupper() else abbreviation


def _explanations(paper: Paper) -> dict[str, set[str]]:
    """Map the abbreviations that a paper explains in brackets to the words before them."""
    found: dict[str, set[str]] = {}
    for text in (paper.title, paper.abstract):
        for match in _IN_BRACKETS.finditer(text):
            short = _singular(match[1])
            name = _words_with_initials(text[: match.start()], short)
            if name and _ABBREVIATION.fullmatch(short):
                found.setdefault(short, set()).add(name)
    return found


def _words_with_initials(before: str, short: str) -> str:
    """Return the last words of a text that begin with the letters of an abbreviation.

    Stop words between them have no letter: "bag of words (BW)". Empty if there are none.
    """
    words = re.findall(r"[^\W_]+", before.casefold())[-_MAX_EXPLANATION_WORDS:]
    letters = [char for char in short.casefold() if char.isalpha()]
    position = len(words)
    while letters and position:
        position -= 1
        if words[position][0] == letters[-1]:
            letters.pop()
        elif words[position] not in STOP_WORDS:
            return ""
    return "" if letters else " ".join(words[position:])
