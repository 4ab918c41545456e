"""Find the papers that mention a topic, in a way that can be stated and checked.

A topic is mentioned where all of its words, in any inflection, are in the title or in one sentence
of the abstract. "X or Y" is either, and an abbreviation also counts where it is spelled out, as far
as the library itself explains it: "named entity recognition (NER)". Similarity is not used, because
no threshold fits two libraries and nobody could check the number (`eval/LOG.md` has figures).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rag.library.library import Library
from rag.records import Paper, Sentence
from rag.text.terms import STOP_WORDS, content_terms, index_text

_OR = re.compile(r"\s+or\s+", re.IGNORECASE)
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

    `papers` are all of them, and `word_for_word` those in which the words stand next to each other.
    `wordings` are what was looked for.
    """

    papers: frozenset[int]
    word_for_word: frozenset[int]
    wordings: tuple[str, ...]

    @property
    def terms(self) -> list[str]:
        """Distinct stems of all wordings."""
        terms: list[str] = []
        for wording in self.wordings:
            terms += _terms(wording)
        return list(dict.fromkeys(terms))


def find_mentions(topic: str, library: Library, column: str = "") -> Mentions:
    """Return the papers that mention a topic; call it inside `Library.snapshot()`.

    `column` limits the search to the `title` or the `abstract`.
    """
    wordings: dict[str, None] = {}
    for part in _OR.split(topic):
        name = part.strip().strip(_QUOTES).strip()
        for wording in (name, *_expand(name, library)):
            if _terms(wording):
                wordings[wording] = None
    papers: set[int] = set()
    word_for_word: set[int] = set()
    for wording in wordings:
        found, exact = _find_wording(_terms(wording), library, column)
        papers |= found
        word_for_word |= exact
    return Mentions(frozenset(papers), frozenset(word_for_word), tuple(wordings))


def best_mention(sentences: Iterable[Sentence], wordings: Sequence[str]) -> Sentence | None:
    """Return the first sentence that mentions a topic, if possible word for word."""
    terms = list(map(_terms, wordings))
    mentioning = []
    for sentence in sentences:
        matches = [_match(sentence.text, wording) for wording in terms]
        if any(matches):
            mentioning.append((-max(matches), sentence.start, sentence))
    return min(mentioning)[2] if mentioning else None


def _terms(wording: str) -> list[str]:
    """Return the stems of a wording; of one that consists of stop words, all words."""
    return content_terms(wording) or index_text(wording).split()


def _find_wording(terms: Sequence[str], library: Library, column: str) -> tuple[set[int], set[int]]:
    """Return the papers with all terms in title or in one sentence, and those word for word."""
    candidates = library.match_full_text(terms, column)
    if len(terms) == 1:
        return candidates, candidates
    papers, word_for_word = set(), set()
    titles = {key: paper.title for key, paper in library.papers_by_key(candidates).items()}
    sentences = {} if column == "title" else library.sentences(candidates)
    for key, title in titles.items():
        texts = [] if column == "abstract" else [title]
        texts += [sentence.text for sentence in sentences.get(key, ([], None))[0]]
        match = max((_match(text, terms) for text in texts), default=0)
        if match:
            papers.add(key)
        if match == _WORD_FOR_WORD:
            word_for_word.add(key)
    return papers, word_for_word


_WORD_FOR_WORD = 2


def _match(text: str, terms: Sequence[str]) -> int:
    """Return 2 when a text contains the terms next to each other, 1 when apart, else 0."""
    if not set(terms) <= set(index_text(text).split()):
        return 0
    # "Pre-trained" is one word or two, depending on who writes.
    forms = (content_terms(text), content_terms(_HYPHENS.sub(" ", text)))
    return _WORD_FOR_WORD if any(_contains(form, terms) for form in forms) else 1


def _contains(words: Sequence[str], terms: Sequence[str]) -> bool:
    length = len(terms)
    return any(words[start : start + length] == terms for start in range(len(words) - length + 1))


# --- abbreviations ----------------------------------------------------------------------------


def _expand(name: str, library: Library) -> list[str]:
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
    return {short for short, names in explained.items() if any(_terms(n) == terms for n in names)}


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
