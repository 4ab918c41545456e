"""The reader in OpenVINO, from the files in `rag/models/reader_model`; so is the entailment model.

The encoder reads a question and an abstract together, except that the question does not see the
abstract. It returns a vector for each token and three numbers that are added to the scores.
Scores start from cosines, as those of the embedding model that the training starts from: of the
mean vectors of the question and of each sentence, and of the question and of the abstract.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from rag.models import entailment_model, reader_model
from rag.models.files import fingerprint_files
from rag.models.reader import ReaderInput, Reading
from rag.models.runtimes.openvino_encoder import OpenVinoEncoder, TokenIds
from rag.models.vectors import Vectors, normalize

MODEL_FOLDER = Path(reader_model.__file__).parent
ENTAILMENT_FOLDER = Path(entailment_model.__file__).parent
MAX_TOKENS = 512
_MAX_QUESTION_TOKENS = 64
_MAX_TITLE_TOKENS = 40
_BATCH_SIZE = 4
# Numbers behind the vector of a token, in this order.
SENTENCE, RELEVANCE, ANSWERS = 0, 1, 2
FURTHER_OUTPUTS = 3


def open_reader(folder: Path = MODEL_FOLDER) -> "OpenVinoReader":
    """Load the reader in a folder."""
    return OpenVinoReader(folder)


@dataclass(frozen=True, slots=True)
class ReaderText:
    """Token ids of a question with an abstract, or with a part of it that fits.

    `ends` are the positions of the separators that end the title and each sentence.
    """

    tokens: TokenIds
    ends: tuple[int, ...]

    @property
    def question(self) -> slice:
        """Tokens of the question."""
        return slice(1, self.tokens.first_segment - 1)

    @property
    def abstract(self) -> slice:
        """Tokens of title and sentences, with their separators."""
        return slice(self.tokens.first_segment, len(self.tokens.ids))

    @property
    def sentences(self) -> list[slice]:
        """Tokens of each sentence."""
        return [slice(before + 1, end) for before, end in pairwise(self.ends)]


@dataclass(frozen=True, slots=True)
class ReaderScales:
    """Factors of the scores, fitted: of cosines, and of the best sentence's score."""

    sentence: float
    abstract: float
    best_cosine: float
    best_sentence: float


class ReaderTokenizer:
    """Turns a question and an abstract into `[CLS] question [SEP] title [SEP] (sentence [SEP])*`.

    An abstract that is too long is split between sentences.
    """

    def __init__(self, file: Path, max_tokens: int = MAX_TOKENS) -> None:
        """Load a tokenizer of the WordPiece kind."""
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        special = self._tokenizer.encode("").ids
        self._start, self._end = special[0], special[-1]
        self._max_tokens = max_tokens

    def split(self, question: str, abstract: ReaderInput) -> Iterator[ReaderText]:
        """Yield the texts to read, at least one."""
        question_ids = [self._start, *self._ids(question)[:_MAX_QUESTION_TOKENS], self._end]
        head = [*question_ids, *self._ids(abstract.title)[:_MAX_TITLE_TOKENS], self._end]
        ids = list(head)
        ends = [len(head) - 1]
        for sentence in abstract.sentences:
            added = self._ids(sentence)[: self._max_tokens - len(head) - 1]
            if len(ends) > 1 and len(ids) + len(added) + 1 > self._max_tokens:
                yield ReaderText(TokenIds(ids, len(question_ids)), tuple(ends))
                ids, ends = list(head), [len(head) - 1]
            ids += [*added, self._end]
            ends.append(len(ids) - 1)
        yield ReaderText(TokenIds(ids, len(question_ids)), tuple(ends))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class OpenVinoReader:
    """`Reader` in OpenVINO. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.fingerprint = fingerprint_files([folder / "model.bin"])
        self._tokenizer = ReaderTokenizer(folder / "tokenizer.json")
        self._encoder = OpenVinoEncoder(folder / "model.xml")
        scales = json.loads((folder / "scales.json").read_text(encoding="utf-8"))
        self._scales = ReaderScales(**scales)

    def read(self, question: str, abstracts: Sequence[ReaderInput]) -> list[Reading]:
        """Return a reading of each abstract."""
        texts: list[ReaderText] = []
        owners: list[int] = []
        for owner, abstract in enumerate(abstracts):
            parts = list(self._tokenizer.split(question, abstract))
            texts += parts
            owners += [owner] * len(parts)
        readings: list[list[Reading]] = [[] for _ in abstracts]
        for owner, text, output in zip(owners, texts, self._encode(texts), strict=True):
            readings[owner].append(score(text, output, self._scales))
        return list(map(_join, readings))

    def _encode(self, texts: Sequence[ReaderText]) -> list[Vectors]:
        """Return the outputs at each token, in batches of texts of similar length."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index].tokens.ids))
        outputs: dict[int, Vectors] = {}
        for start in range(0, len(order), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            encoded = self._encoder.encode([texts[index].tokens for index in batch])
            outputs.update(zip(batch, encoded, strict=True))
        return [outputs[index] for index in range(len(texts))]


def score(text: ReaderText, output: Vectors, scales: ReaderScales) -> Reading:
    """Return the reading from the outputs at each token, (tokens, width + 3)."""
    vectors, further = output[:, :-FURTHER_OUTPUTS], output[:, -FURTHER_OUTPUTS:]
    question = _mean(vectors[text.question])
    whole = further[text.abstract].mean(axis=0)
    cosines, sentences = [], []
    for sentence in text.sentences:
        cosine = float(_mean(vectors[sentence]) @ question)
        cosines.append(cosine)
        shift = further[sentence, SENTENCE].mean() if sentence.start < sentence.stop else 0.0
        sentences.append(scales.sentence * cosine + float(shift))
    of_abstract = float(_mean(vectors[text.abstract]) @ question)
    best_cosine = scales.best_cosine * max(cosines, default=0.0)
    relevance = scales.abstract * of_abstract + best_cosine + float(whole[RELEVANCE])
    best_sentence = scales.best_sentence * max(sentences, default=0.0)
    answers = best_sentence + float(whole[ANSWERS])
    return Reading(relevance, answers, tuple(sentences))


def _mean(vectors: Vectors) -> Vectors:
    """Return the unit vector of the mean of vectors, (n, width); zeros when there are none."""
    if not len(vectors):
        return np.zeros(vectors.shape[1], np.float32)
    return normalize(vectors.mean(axis=0))


def _join(parts: Sequence[Reading]) -> Reading:
    """Return the reading of an abstract from those of its parts: the most of any part."""
    sentences: list[float] = []
    for part in parts:
        sentences += part.sentences
    relevance = max(part.relevance for part in parts)
    answers = max(part.answers for part in parts)
    return Reading(relevance, answers, tuple(sentences))
