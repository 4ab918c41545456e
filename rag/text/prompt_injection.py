"""Sentences that tell a program what to do instead of telling a reader what was found.

An abstract is text from strangers, and some of it is written for the language models that will read it. Such a sentence
is shown as what it is, and is never evidence. It is told by what only a conversation with a model holds (turns, forged
roles, letters that look like others), and by a linear model of words and pairs of words, fitted and measured by
`python -m eval.benchmarks.injection`. Neither finds every such sentence. What does not depend on them: whatever a model writes is
held against what it cites, and nothing that it writes is obeyed (Greshake et al., 2023, describe the attack).
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
from rag.text.sentences import split_sentences

_WORDS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)
# Turns of a conversation, as chat templates and their imitations mark them.
_TURNS = re.compile(
    r"<\|[^|>\n]{1,40}\|>|\[/?inst\]|<</?sys>>|</?(?:start|end)_of_turn>|</s>\s*<s>|"
    r"(?:^|\s)#{2,}\s*(?:instruction|system|response)\b|"
    r"(?:^|[.\]\n]\s*)[\[(<*]*(?:system|developer|assistant|user)(?: (?:note|message|prompt|update))?[\])>*]*\s?:",
    re.IGNORECASE,
)
# The order that most of the others begin with, in the imperative.
_OVERRIDES = re.compile(
    r"(?:^|[.:;!,*>\]]\s*+|\b(?:please|now|must|should|and)\s++)(?:ignore|disregard|forget|override|discard)\b"
    r"(?=\W++(?:\w++\W++){0,4}?(?:previous|prior|earlier|above|preceding|foregoing|other|your|system)\b)"
    r"\W++(?:\w++\W++){0,6}?(?:instructions?|prompts?|directions?|rules|guidelines|commands?|context)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_LATIN, _CYRILLIC = re.compile("[a-z]", re.IGNORECASE), re.compile("[\u0400-\u04ff]")
# Words of Latin and Cyrillic letters, which no language has; a single one may be a slip.
_SLIPS = 1
# Letters of other alphabets that look like Latin ones, in the order of what they look like.
_LOOKS = str.maketrans(
    "аеорсухіѕјԁһӏкмтвнАВЕКМНОРСТХУІЅЈαεροτικυνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxisjdhlkmtbhABEKMHOPCTXYISJaepotikuvABEZHIKMNOPTYX",
)


def find_injections(text: str) -> tuple[tuple[int, int], ...]:
    """Spans `[start, end)` of the sentences of a text that read like instructions to a program."""
    return tuple(
        (start, end) for start, end in split_sentences(text) if is_injection(text[start:end])
    )


def paper_injections(paper: Paper) -> tuple[str, ...]:
    """The sentences of a paper that read like instructions to a program."""
    abstract = paper.abstract
    return (
        *_in_title(paper.title),
        *(abstract[start:end] for start, end in find_injections(abstract)),
    )


def title_is_injection(title: str) -> bool:
    """Whether a title holds an instruction to a program, beside its own words or in the form of a turn."""
    return bool(_in_title(title))


def _in_title(title: str) -> list[str]:
    """Of a title of one sentence only turns tell: many honest ones ("Keep, Hide, Invert") are in the imperative."""
    sentences = [title[start:end] for start, end in split_sentences(title)]
    return [
        one
        for one in sentences
        if (is_injection(one) if len(sentences) > 1 else _TURNS.search(one))
    ]


def is_injection(sentence: str) -> bool:
    """Whether a sentence reads like an instruction to a program."""
    plain = unicodedata.normalize("NFKC", sentence)
    seen = plain.translate(_LOOKS)
    if _TURNS.search(seen) or _OVERRIDES.search(seen) or _mixed_words(plain) > _SLIPS:
        return True
    return max(_score(ngrams(plain)), _score(ngrams(seen))) > 0


def _mixed_words(text: str) -> int:
    return sum(bool(_LATIN.search(word) and _CYRILLIC.search(word)) for word in _WORD.findall(text))


def ngrams(sentence: str) -> frozenset[str]:
    """Its words and marks, and the pairs of them that stand side by side."""
    words = _WORDS.findall(sentence.casefold())
    return frozenset([*words, *map(" ".join, pairwise(words))])


def _score(found: frozenset[str]) -> float:
    """Log-odds above the threshold; a word weighs more the rarer it is, and a sentence has length one."""
    model = _model()
    known = [model.words[gram] for gram in found if gram in model.words]
    length = sum(rarity**2 for rarity, _ in known) + model.rarest**2 * (len(found) - len(known))
    return model.offset + sum(rarity * weight for rarity, weight in known) / math.sqrt(
        max(1.0, length)
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """For words and pairs their rarity (inverse document frequency) and weight; what is not among them is `rarest`."""

    offset: float
    rarest: float
    words: Mapping[str, tuple[float, float]]


@cache
def _model() -> _Model:
    return _Model(**json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))
