"""Fit the model that recognizes questions that the records of the library answer.

`python -m eval.training.question_types FILE`

The model of `rag.retrieval.question_types` is a logistic regression on n-grams and on the embedded
question. It is fitted on the split `train` of the questions written for it and on the curated
questions of the split `dev`, all of which ask about abstracts; it is measured on their other
splits. Each question is used with and without its vector, so that the model also works with
another embedder. The frame words of counts, and those of the other types, are outside the marked
subjects more often than in them.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import eval.data
from eval.harness.statistics import Values
from rag.models.registry import load_embedder
from rag.retrieval.question_types import QUESTION_TYPES, question_ngrams, question_words

_DATA = Path(eval.data.__file__).parent
_CURATED = ("questions/sample.jsonl", "acl/questions.jsonl")
# Use an n-gram that occurs in this many questions.
_MIN_COUNT = 3
# Scales the vector, whose entries are small beside the 0 and 1 of the n-grams.
_VECTOR_SCALE = 4.0
_INVERSE_REGULARIZATION = 1.0

SparseMatrix = Any  # scipy has no types


@dataclass(frozen=True, slots=True)
class Example:
    """Question with its type, and the parts of it that are no frame words."""

    question: str
    type: str
    is_training: bool
    is_curated: bool
    parts: tuple[str, ...] = ()


def load_examples() -> list[Example]:
    """Load the questions written for the model, then the curated ones, all of type `other`."""
    examples = []
    for row in _read_rows("training/question_types.jsonl"):
        parts = (*row.get("subject", ()), *row.get("restrictions", ()))
        is_training = row["split"] == "train"
        examples.append(Example(row["question"], row["type"], is_training, False, parts))
    for name in _CURATED:
        for row in _read_rows(name):
            examples.append(Example(row["question"], "other", row["split"] == "dev", True))
    return examples


def _read_rows(name: str) -> Iterator[dict[str, Any]]:
    for line in (_DATA / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def find_frame_words(examples: Iterable[Example]) -> list[str]:
    """Return the words that are outside the subjects and restrictions more often than in them."""
    outside: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for example in examples:
        rest = example.question
        for part in sorted(example.parts, key=len, reverse=True):
            rest = rest.replace(part, " ")
            inside.update(question_words(part))
        outside.update(question_words(rest))
    return sorted(word for word in outside if outside[word] > inside[word])


def fit(examples: Sequence[Example], vectors: Values, embedder: str) -> dict[str, Any]:
    """Fit the model, in the form that `rag.retrieval.question_types` reads.

    `vectors` holds the embedded question of each example, (examples, dimension).
    """
    from scipy.sparse import csr_matrix, hstack, vstack
    from sklearn.linear_model import LogisticRegression

    counts: Counter[str] = Counter()
    for example in examples:
        counts.update(question_ngrams(example.question))
    ngrams = sorted(ngram for ngram in counts if counts[ngram] >= _MIN_COUNT)
    words = _features(examples, ngrams)
    dense = csr_matrix(_VECTOR_SCALE * vectors)
    features = vstack([hstack([words, dense]), hstack([words, 0 * dense])])
    labels = [QUESTION_TYPES.index(example.type) for example in examples]
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=2_000)
    model.fit(features, labels * 2)
    weights = np.asarray(model.coef_, float).T
    counting = [example for example in examples if example.type == "count"]
    recorded = [example for example in examples if example.type not in ("count", "other")]
    table = weights[: len(ngrams)].round(2).tolist()
    return {
        "embedder": embedder,
        "count_frame": find_frame_words(counting),
        "record_frame": find_frame_words(recorded),
        "intercepts": np.asarray(model.intercept_, float).round(3).tolist(),
        "ngrams": dict(zip(ngrams, table, strict=True)),
        "vector": (_VECTOR_SCALE * weights[len(ngrams) :]).T.round(2).tolist(),
    }


def _features(examples: Sequence[Example], ngrams: Sequence[str]) -> SparseMatrix:
    """Return a row for each question, 1 for each n-gram in it, (examples, n-grams)."""
    from scipy.sparse import lil_matrix

    columns = {ngram: column for column, ngram in enumerate(ngrams)}
    features = lil_matrix((len(examples), len(columns)))
    for row, example in enumerate(examples):
        for ngram in filter(columns.__contains__, question_ngrams(example.question)):
            features[row, columns[ngram]] = 1.0
    return features.tocsr()


def predict(model: Mapping[str, Any], examples: Sequence[Example], vectors: Values) -> list[str]:
    """Return the type of each question; zero vectors leave the decision to the words."""
    ngrams = list(model["ngrams"])
    scores = _features(examples, ngrams) @ np.array(list(model["ngrams"].values()))
    scores = scores + vectors @ np.array(model["vector"]).T + np.array(model["intercepts"])
    return [QUESTION_TYPES[column] for column in scores.argmax(axis=1)]


def print_accuracy(title: str, examples: Sequence[Example], predicted: Sequence[str]) -> None:
    """Print the accuracy, what was missed and what was wrongly taken for such a question."""
    pairs = [(example.type, type_) for example, type_ in zip(examples, predicted, strict=True)]
    right = sum(expected == type_ for expected, type_ in pairs)
    missed = sum(type_ == "other" != expected for expected, type_ in pairs)
    false = sum(expected == "other" != type_ for expected, type_ in pairs)
    accuracy = right / len(pairs)
    print(f"{title}: {len(pairs)} questions, accuracy {accuracy:.3f}, ", end="")
    print(f"{missed} taken for ordinary, {false} ordinary ones taken for such a question")


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the model")
    file = parser.parse_args().file
    embedder = load_embedder()
    examples = load_examples()
    vectors = np.array([embedder.embed_question(example.question) for example in examples])
    is_training = np.array([example.is_training for example in examples])
    is_curated = np.array([example.is_curated for example in examples])
    training = [example for example in examples if example.is_training]
    model = fit(training, vectors[is_training], embedder.name)
    for title, mask in (
        ("written for this", ~is_training & ~is_curated),
        ("curated", ~is_training & is_curated),
    ):
        held_out = [example for example, is_used in zip(examples, mask, strict=True) if is_used]
        print_accuracy(title, held_out, predict(model, held_out, vectors[mask]))
        words_only = predict(model, held_out, 0 * vectors[mask])
        print_accuracy(f"{title}, words only", held_out, words_only)
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
