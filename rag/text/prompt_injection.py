"""Detection of prompt injections: sentences that give orders to a program.

An abstract is untrusted text, and some are written for the language models that will read them.
A sentence is flagged only when it is an order to a program with near certainty, because an honest
sentence that is flagged is lost as evidence. It is recognized by turns of a conversation, forged
roles and lookalike letters, and by a linear model of words and word pairs, which
`eval.training.prompt_injection` fits and `eval.benchmarks.injection` measures. A flagged sentence
is marked wherever it is shown, is never quoted, and never reaches the language model. A good part
of all injections is not flagged. Two protections do not depend on flags: generated sentences are
checked against their sources, and nothing that a model writes is executed (Greshake et al., 2023,
describe the attack).
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from rag.records import Paper
from rag.text.sentences import Span, split_sentences

_WORD_OR_MARK = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|"
    r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)
# Neighbors of the first and the last word, which no text contains. Orders often start with a verb.
_START, _END = "^^", "$$"
# Turns of a conversation as chat templates mark them, and imitations of these.
_TURNS = re.compile(
    r"<\|[^|>\n]{1,40}\|>|\[/?inst\]|<</?sys>>|</?(?:start|end)_of_turn>|</s>\s*<s>|"
    r"(?:^|\s)#{2,}\s*(?:instruction|system|response)\b|"
    r"(?:^|[.\]\n]\s*)[\[(<*]*(?:system|developer|assistant|user)"
    r"(?: (?:note|message|prompt|update))?[\])>*]*\s?:",
    re.IGNORECASE,
)
# Most other injections start with this command.
_OVERRIDES = re.compile(
    r"(?:^|[.:;!,*>\]]\s*+|\b(?:please|now|must|should|and)\s++)"
    r"(?:ignore|disregard|forget|override|discard)\b"
    r"(?=\W++(?:\w++\W++){0,4}?"
    r"(?:previous|prior|earlier|above|preceding|foregoing|other|your|system)\b)"
    r"\W++(?:\w++\W++){0,6}?"
    r"(?:instructions?|prompts?|directions?|rules|guidelines|commands?|context)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_LATIN, _CYRILLIC = re.compile("[a-z]", re.IGNORECASE), re.compile("[\u0400-\u04ff]")
# Words that mix Latin and Cyrillic letters, as no language does. A single one may be a typo.
_MAX_MIXED_WORDS = 1
# Letters of other alphabets, and the Latin letters that they look like.
_HOMOGLYPHS = str.maketrans(
    "аеорсухіѕјԁһӏкмтвнАВЕКМНОРСТХУІЅЈαεροτικυνηωΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxisjdhlkmtbhABEKMHOPCTXYISJaepotikuvnwABEZHIKMNOPTYX",
)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Linear model over n-grams: for each, its rarity (inverse document frequency) and weight.

    N-grams that are not in `words` have the rarity `rarest` and no weight.
    """

    offset: float
    rarest: float
    min_norm: float
    words: Mapping[str, tuple[float, float]]

    def score(self, grams: frozenset[str]) -> float:
        """Return the log-odds above the threshold.

        The vector of rarities is scaled to unit length. A shorter one than `min_norm` is scaled as
        if it had this length: in a fragment, one word must not decide.
        """
        in_model = [self.words[gram] for gram in grams if gram in self.words]
        unknown = len(grams) - len(in_model)
        squared_norm = sum(rarity**2 for rarity, _ in in_model) + self.rarest**2 * unknown
        product = sum(rarity * weight for rarity, weight in in_model)
        return self.offset + product / max(self.min_norm, math.sqrt(squared_norm))


def find_injections(text: str) -> tuple[Span, ...]:
    """Return the spans `[start, end)` of the sentences that are orders to a program."""
    return tuple(span for span in split_sentences(text) if is_injection(text[slice(*span)]))


def paper_injections(paper: Paper) -> tuple[str, ...]:
    """Return the sentences of a paper that are orders to a program."""
    in_abstract = [paper.abstract[start:end] for start, end in find_injections(paper.abstract)]
    return (*_find_title_injections(paper.title), *in_abstract)


def title_is_injection(title: str) -> bool:
    """Tell if a title contains an order to a program."""
    return bool(_find_title_injections(title))


def _find_title_injections(title: str) -> list[str]:
    """Return the flagged sentences of a title.

    A title of one sentence is flagged only when it contains a turn of a conversation: many honest
    titles ("Keep, Hide, Invert") are in the imperative.
    """
    sentences = [title[start:end] for start, end in split_sentences(title)]
    if len(sentences) > 1:
        return list(filter(is_injection, sentences))
    return list(filter(_TURNS.search, sentences))


def is_injection(sentence: str) -> bool:
    """Tell if a sentence is an order to a program, with near certainty."""
    normalized = unicodedata.normalize("NFKC", sentence)
    as_seen = normalized.translate(_HOMOGLYPHS)
    if _TURNS.search(as_seen) or _OVERRIDES.search(as_seen):
        return True
    if _count_mixed_words(normalized) > _MAX_MIXED_WORDS:
        return True
    return any(_model().score(ngrams(form)) > 0 for form in {normalized, as_seen})


def _count_mixed_words(text: str) -> int:
    return sum(map(_is_mixed, _WORD.findall(text)))


def _is_mixed(word: str) -> bool:
    return bool(_LATIN.search(word) and _CYRILLIC.search(word))


def ngrams(sentence: str) -> frozenset[str]:
    """Return the words and punctuation marks of a sentence, and the pairs of neighbors.

    The start and the end of the sentence count as neighbors.
    """
    words = _WORD_OR_MARK.findall(sentence.casefold())
    return frozenset([*words, *map(" ".join, pairwise((_START, *words, _END)))])


@cache
def _model() -> LinearModel:
    path = Path(__file__).with_suffix(".json")
    return LinearModel(**json.loads(path.read_text(encoding="utf-8")))
