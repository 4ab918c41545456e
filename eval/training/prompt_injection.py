"""Fit the model that flags prompt injections.

`python -m eval.training.prompt_injection FILE [--more TEXTS] [--without-dev]`

The model is a logistic regression on words and pairs of words, weighted by inverse document
frequency (idf); `rag.text.prompt_injection` applies it. It is fitted on the labelled sentences of
the splits `train` and `dev`, and on real sentences of several collections. Its threshold is set to
flag one in twenty thousand of other sentences of these collections, because it flags more in
collections that it has not seen. `eval.benchmarks.injection` measures the result on what is left,
and describes `--more`. Settings are chosen with `--without-dev`, which leaves the split `dev` for
comparison.

Hostile sentences in languages of which there is hardly any real text are left out: from these the
model would learn the language, and flag every honest sentence in it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.collections import data_folder
from eval.benchmarks.injection import (
    Example,
    add_more_option,
    load_examples,
    load_real_texts,
    sentences_for,
)
from rag.text.cleaning import clean
from rag.text.prompt_injection import LinearModel, ngrams

# Use an n-gram that occurs in this many labelled sentences, or in this many sentences of any kind.
_MIN_LABELLED_COUNT, _MIN_COUNT = 2, 100
_INVERSE_REGULARIZATION = 100.0
_SENTENCES_PER_FALSE_POSITIVE = 20_000
# Weight of a labelled honest sentence, which resembles an injection, relative to any other.
_HONEST_WEIGHT = 2.0
_MIN_NORM = 63.0
# A word that occurs in this many real sentences is known. At least this share of the words of a
# hostile sentence must be.
_MIN_KNOWN_COUNT, _MIN_KNOWN_SHARE = 10, 0.6

Matrix = Any  # scipy has no types


def fit(
    examples: Iterable[Example], real: Sequence[str], calibration: Sequence[str]
) -> LinearModel:
    """Fit the model on examples and real sentences; set its offset on the calibration sentences."""
    known = _known_words(real)
    hostile: list[str] = []
    honest: list[str] = []
    for example in examples:
        text = clean(example.text)
        if not example.hostile:
            honest.append(text)
        elif _known_share(text, known) >= _MIN_KNOWN_SHARE:
            hostile.append(text)
    model = _fit_weights(hostile, honest, real)
    scores = sorted((model.score(ngrams(text)) for text in calibration), reverse=True)
    threshold = scores[len(scores) // _SENTENCES_PER_FALSE_POSITIVE]
    return replace(model, offset=round(-threshold, 3))


def _known_words(texts: Iterable[str]) -> frozenset[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_words(text))
    return frozenset(word for word, count in counts.items() if count >= _MIN_KNOWN_COUNT)


def _known_share(text: str, known: frozenset[str]) -> float:
    words = _words(text)
    return len(words & known) / max(1, len(words))


def _words(text: str) -> frozenset[str]:
    return frozenset(filter(str.isalpha, ngrams(text)))


def _fit_weights(hostile: Sequence[str], honest: Sequence[str], real: Sequence[str]) -> LinearModel:
    """Fit a model without offset."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [*hostile, *honest, *real]
    labels = np.arange(len(texts)) < len(hostile)
    labelled = len(hostile) + len(honest)
    sample_weights = np.ones(len(texts))
    sample_weights[len(hostile) : labelled] = _HONEST_WEIGHT
    vectorizer = CountVectorizer(analyzer=ngrams)
    occurrences = vectorizer.fit_transform(texts)
    counts = np.asarray(occurrences.sum(axis=0)).ravel()
    labelled_counts = np.asarray(occurrences[:labelled].sum(axis=0)).ravel()
    idf = np.round(1 + np.log((1 + len(texts)) / (1 + counts)), 2)
    rarest = float(idf.max())
    used = (labelled_counts >= _MIN_LABELLED_COUNT) | (counts >= _MIN_COUNT)
    features = _scale(occurrences, np.where(used, idf, rarest))[:, used]
    regression = LogisticRegression(C=_INVERSE_REGULARIZATION, solver="liblinear")
    regression.fit(features, labels, sample_weights)
    names = vectorizer.get_feature_names_out()[used]
    weights = np.round(regression.coef_[0], 1).tolist()
    words = dict(zip(names, zip(idf[used].tolist(), weights, strict=True), strict=True))
    return LinearModel(0.0, rarest, _MIN_NORM, words)


def _scale(occurrences: Matrix, rarities: Matrix) -> Matrix:
    """Return a row of rarities for each text, scaled as in `LinearModel.score`."""
    from scipy.sparse import diags_array

    rows = occurrences @ diags_array(rarities)
    norms = np.sqrt(np.asarray(rows.power(2).sum(axis=1)).ravel())
    return (diags_array(1 / np.maximum(_MIN_NORM, norms)) @ rows).tocsc()


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the model")
    add_more_option(parser)
    parser.add_argument(
        "--without-dev", action="store_true", help="do not fit on the examples of the split dev"
    )
    options = parser.parse_args()
    splits = ("train",) if options.without_dev else ("train", "dev")
    examples = [example for example in load_examples() if example.split in splits]
    texts = load_real_texts(data_folder(), options.more)
    model = fit(examples, sentences_for(texts, "fit"), sentences_for(texts, "calibrate"))
    text = json.dumps(asdict(model), ensure_ascii=False, separators=(",", ":"))
    options.file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(model.words):,} words and pairs written to {options.file}")


if __name__ == "__main__":
    main()
