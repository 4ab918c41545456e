"""Fit the model that flags prompt injections.

`python -m eval.training.prompt_injection FILE`

The model is a logistic regression on words and pairs of words, weighted by inverse document
frequency (idf); `rag.text.prompt_injection` applies it. It is fitted on the `train` split of the
labelled sentences and on half of the real sentences (from abstracts). Its threshold is set to flag
one in a thousand of the other half. `eval.benchmarks.injection` measures the result.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.collections import data_folder
from eval.benchmarks.injection import Example, load_examples, training_sentences
from rag.text.cleaning import clean
from rag.text.prompt_injection import ngrams

# Use an n-gram that occurs in this many labelled sentences, or in this many sentences of any kind.
_MIN_LABELLED_COUNT, _MIN_COUNT = 2, 20
_INVERSE_REGULARIZATION = 100.0
_SENTENCES_PER_FALSE_POSITIVE = 1_000
# Weight of a labelled honest sentence, which resembles an injection, relative to any other.
_HONEST_WEIGHT = 2.0

Ngrams = frozenset[str]
SparseMatrix = Any  # scipy has no types


def fit(examples: Iterable[Example], real: Sequence[str]) -> dict[str, Any]:
    """Fit the model on examples and half of the real sentences; set its offset on the other half.

    Returns the model in the form that `rag.text.prompt_injection` reads.
    """
    from sklearn.linear_model import LogisticRegression

    hostile: list[Ngrams] = []
    honest: list[Ngrams] = []
    for example in examples:
        if example.split == "train":
            (hostile if example.hostile else honest).append(ngrams(clean(example.text)))
    real_ngrams = list(map(ngrams, real))
    half = len(real) // 2
    training = [*hostile, *honest, *real_ngrams[:half]]
    idf, max_idf = _fit_idf([*hostile, *honest], training)
    labels = np.arange(len(training)) < len(hostile)
    weights = [1.0] * len(hostile) + [_HONEST_WEIGHT] * len(honest) + [1.0] * half
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=5_000)
    model.fit(_features(training, idf, max_idf), labels, weights)
    scores = np.sort(_features(real_ngrams[half:], idf, max_idf) @ model.coef_[0])
    threshold = float(scores[-1 - len(scores) // _SENTENCES_PER_FALSE_POSITIVE])
    words = {}
    for (ngram, ngram_idf), weight in zip(idf.items(), model.coef_[0], strict=True):
        words[ngram] = [round(ngram_idf, 2), round(float(weight), 2)]
    return {"offset": round(-threshold, 3), "rarest": max_idf, "words": words}


def _fit_idf(labelled: Sequence[Ngrams], texts: Sequence[Ngrams]) -> tuple[dict[str, float], float]:
    """Return the idf of each n-gram that is used, and the idf of one that no text contains."""
    labelled_counts, counts = _count(labelled), _count(texts)
    smoothed_total = 1 + len(texts)
    idf = {}
    for ngram in sorted(counts):
        if labelled_counts[ngram] >= _MIN_LABELLED_COUNT or counts[ngram] >= _MIN_COUNT:
            idf[ngram] = 1 + math.log(smoothed_total / (1 + counts[ngram]))
    return idf, round(1 + math.log(smoothed_total / 2), 2)


def _count(texts: Iterable[Ngrams]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return counts


def _features(texts: Sequence[Ngrams], idf: Mapping[str, float], max_idf: float) -> SparseMatrix:
    """Return a sparse row for each text, (texts, n-grams), of Euclidean norm 1 or less."""
    from scipy.sparse import lil_matrix

    columns = {ngram: column for column, ngram in enumerate(idf)}
    features = lil_matrix((len(texts), len(columns)))
    for row, text in enumerate(texts):
        used = list(filter(columns.__contains__, text))
        squares = 0.0
        for ngram in used:
            squares += idf[ngram] ** 2
        squares += max_idf**2 * (len(text) - len(used))
        for ngram in used:
            features[row, columns[ngram]] = idf[ngram] / max(1.0, squares) ** 0.5
    return features.tocsr()


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the model")
    file = parser.parse_args().file
    model = fit(load_examples(), training_sentences(data_folder()))
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(model['words']):,} words and pairs written to {file}")


if __name__ == "__main__":
    main()
