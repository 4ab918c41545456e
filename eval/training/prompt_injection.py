"""Fit the model that flags prompt injections.

`python -m eval.training.prompt_injection FILE`

The model is a logistic regression on words and pairs of words, weighted by inverse document
frequency, as `rag.text.prompt_injection` reads it. It is fitted on the `train` split of the
labelled sentences and on sentences of real abstracts. Its threshold flags one in a thousand of
further real sentences. `eval.benchmarks.injection` measures the result.
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

# An n-gram is used when this many of our own sentences hold it, or this many of all.
_MIN_OWN_COUNT, _MIN_COUNT = 2, 20
_INVERSE_REGULARIZATION = 100.0
_FALSE_POSITIVE_RATE = 1_000  # one real sentence in this many
# Weight of an honest sentence that is easily mistaken, relative to any other.
_BENIGN_WEIGHT = 2.0

Ngrams = frozenset[str]
SparseMatrix = Any  # scipy has no types


def fit(examples: Iterable[Example], real: Sequence[str]) -> dict[str, Any]:
    """Fit the model on examples and half of the real sentences; set its offset on the other half.

    Returns the model in the form that `rag.text.prompt_injection` reads.
    """
    from sklearn.linear_model import LogisticRegression

    hostile: list[Ngrams] = []
    benign: list[Ngrams] = []
    for example in examples:
        if example.split == "train":
            (hostile if example.hostile else benign).append(ngrams(clean(example.text)))
    real_ngrams = list(map(ngrams, real))
    half = len(real) // 2
    training = [*hostile, *benign, *real_ngrams[:half]]
    rarities, max_rarity = _rarities([*hostile, *benign], training)
    labels = np.arange(len(training)) < len(hostile)
    weights = [1.0] * len(hostile) + [_BENIGN_WEIGHT] * len(benign) + [1.0] * half
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=5_000)
    model.fit(_features(training, rarities, max_rarity), labels, weights)
    scores = np.sort(_features(real_ngrams[half:], rarities, max_rarity) @ model.coef_[0])
    threshold = float(scores[-1 - len(scores) // _FALSE_POSITIVE_RATE])
    words = {}
    for (ngram, rarity), weight in zip(rarities.items(), model.coef_[0], strict=True):
        words[ngram] = [round(rarity, 2), round(float(weight), 2)]
    return {"offset": round(-threshold, 3), "rarest": max_rarity, "words": words}


def _rarities(own: Sequence[Ngrams], every: Sequence[Ngrams]) -> tuple[dict[str, float], float]:
    """Return inverse document frequencies of the n-grams used, and the highest possible one."""
    own_counts, counts = _count(own), _count(every)
    texts = 1 + len(every)
    rarities = {}
    for ngram in sorted(counts):
        if own_counts[ngram] >= _MIN_OWN_COUNT or counts[ngram] >= _MIN_COUNT:
            rarities[ngram] = 1 + math.log(texts / (1 + counts[ngram]))
    return rarities, round(1 + math.log(texts / 2), 2)


def _count(texts: Iterable[Ngrams]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return counts


def _features(
    texts: Sequence[Ngrams], rarities: Mapping[str, float], max_rarity: float
) -> SparseMatrix:
    """Return one sparse row of length one or less for each text, (texts, n-grams)."""
    from scipy.sparse import lil_matrix

    columns = {ngram: column for column, ngram in enumerate(rarities)}
    features = lil_matrix((len(texts), len(columns)))
    for row, text in enumerate(texts):
        used = list(filter(columns.__contains__, text))
        squares = 0.0
        for ngram in used:
            squares += rarities[ngram] ** 2
        squares += max_rarity**2 * (len(text) - len(used))
        for ngram in used:
            features[row, columns[ngram]] = rarities[ngram] / max(1.0, squares) ** 0.5
    return features.tocsr()


def main() -> None:
    """Fit the model and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the model")
    file = parser.parse_args().file
    model = fit(load_examples(), training_sentences(data_folder()))
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(model['words']):,} words and pairs written to {file}")


if __name__ == "__main__":
    main()
