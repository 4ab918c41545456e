"""Recognize questions that the records of the library answer, and what they are about.

A question that asks for a number of papers, or for the authors, year, venue or identifier of one,
is not answered by a sentence of an abstract. A linear model over words, pairs of neighboring words
and the embedded question tells such questions from all others ("How many papers did they
annotate?"). `eval.training.question_types` fits it and measures it on questions held out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from rag.models.vectors import Vectors
from rag.text.sentences import Span
from rag.text.terms import STOP_WORDS

QuestionType = Literal["count", "authors", "year", "venue", "identifier", "unrecorded", "other"]
# `unrecorded` asks for a fact about a paper that no record holds, such as its citations.
QUESTION_TYPES: tuple[QuestionType, ...] = (
    "count", "authors", "year", "venue", "identifier", "unrecorded", "other"
)  # fmt: skip
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_START = "<start>"
# As `rag.text.terms` splits words, but with the possessive apart.
_WORD = re.compile(r"(?<![^\W_]['’])[^\W_](?:[\w+#]|[-./&](?=\w)|['’](?!s\b)(?=\w))*")

_BEFORE_SUBJECT = frozenset("on about for of in".split())


def classify_question(question: str, vector: Vectors | None, embedder: str) -> QuestionType:
    """Return the type of a question; `other` for all that the abstracts may answer.

    `vector` is the question as `embedder` embeds it. The vector of another embedder than the one
    that the model was fitted with is ignored.
    """
    model = _model()
    scores = np.array(model.intercepts)
    for ngram in question_ngrams(question):
        if ngram in model.ngrams:
            scores += model.ngrams[ngram]
    if vector is not None and embedder == model.embedder:
        scores += np.array(model.vector) @ vector
    return QUESTION_TYPES[int(np.argmax(scores))]


def question_ngrams(question: str) -> frozenset[str]:
    """Return the words and marks of a question and the pairs of neighbors; numbers become `0`."""
    tokens = [_START]
    for token in _TOKEN.findall(question.casefold()):
        tokens.append("0" if token.isdigit() else token)
    return frozenset([*tokens, *map(" ".join, pairwise(tokens))])


def question_words(text: str) -> list[str]:
    """Return the words of a text in lower case without stop words; GPT-4 is one word."""
    return list(filter(_is_content, map(str.casefold, _WORD.findall(text))))


def _is_content(word: str) -> bool:
    return word not in STOP_WORDS


def find_subject(question: str, type_: QuestionType, skipped: Sequence[Span] = ()) -> str:
    """Return what a question of the library is about: from its first specific word to its last.

    Not specific are stop words, the words that frame such questions ("how many … are there on …"),
    and the words in the spans `skipped`. Empty if there is no specific word.
    """
    words = []
    for match in _WORD.finditer(question):
        if not any(start <= match.start() < end for start, end in skipped):
            words.append(match)
    first, last = _specific_range([word[0].casefold() for word in words], type_)
    pieces = []
    position = words[first].start() if first < last else len(question)
    for word in words[first:last]:
        # What lies between two words is kept, unless a skipped span does.
        is_adjacent = not any(position <= start < word.start() for start, _ in skipped)
        pieces.append(question[position : word.start()] if is_adjacent else " ")
        pieces.append(word[0])
        position = word.end()
    return "".join(pieces)


def _specific_range(words: Sequence[str], type_: QuestionType) -> tuple[int, int]:
    """Return the range of words from the first specific one to the last."""
    frame = _model().count_frame if type_ == "count" else _model().record_frame
    specific = []
    for position, word in enumerate(words):
        if word not in frame and _is_content(word):
            specific.append(position)
    if not specific:
        return 0, 0
    first = specific[0]
    # In "on citation recommendation", the first word belongs to the subject.
    if first > 1 and words[first - 2] in _BEFORE_SUBJECT and _is_content(words[first - 1]):
        first -= 1
    return first, specific[-1] + 1


@dataclass(frozen=True, slots=True)
class _LinearModel:
    """Weights for each of `QUESTION_TYPES`: of n-grams, and of the dimensions of the vector."""

    embedder: str
    count_frame: frozenset[str]
    record_frame: frozenset[str]
    intercepts: list[float]
    ngrams: Mapping[str, list[float]]
    vector: list[list[float]]


@cache
def _model() -> _LinearModel:
    path = Path(__file__).with_suffix(".json")
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("count_frame", "record_frame"):
        values[name] = frozenset(values[name])
    return _LinearModel(**values)
