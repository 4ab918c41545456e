"""Measure how well automatic metrics agree with people.

`python -m eval.benchmarks.agreement`

Short answers (`evouna`; Wang et al., 2023): people judged the answers of five systems to two sets
of questions right or wrong. `eval.harness.nuggets.contains_nugget`, which this project uses, is
compared with other metrics, and with calling every answer right. Whole questions are resampled for
the intervals. Improper questions and answers without a judgment are left out.

Long answers (`ragchecker_meta`; Ru et al., 2024): two people judged for pairs of answers which one
is better, and by how much. There are no nuggets to match, so the benchmark prints how a metric's
difference between the two answers correlates with the mean judgment, and with the judgment of one
person. The correlation of the two people with each other is the ceiling.
"""

import argparse
import json
import math
import string
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval.benchmarks.collections import Row, data_folder
from eval.benchmarks.tables import Columns
from eval.harness.nuggets import contains_nugget
from eval.harness.statistics import Interval, Values, bootstrap

_SETS = ("NQ", "TQ")
_SYSTEMS = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
_ASPECTS = ("correctness", "completeness", "overall")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset(("a", "an", "the"))
_FUNCTION_WORDS = frozenset(
    "also and are as at be been being but by can could did do does for from had has have he her "
    "his how i if in into is it its may might more most no not of on or our she should so some "
    "such than that their them then there these they this those to was we were what when where "
    "which while who will with would you your".split()
)

# --- metrics -------------------------------------------------------------------------------------


def answer_tokens(text: str) -> list[str]:
    """Return words as SQuAD compares them (Rajpurkar et al., 2016).

    They are in lower case, without punctuation and articles.
    """
    words = text.lower().translate(_PUNCTUATION).split()
    return [word for word in words if word not in _ARTICLES]


def content_tokens(text: str) -> list[str]:
    """Return `answer_tokens` without the commonest function words."""
    return [word for word in answer_tokens(text) if word not in _FUNCTION_WORDS]


def exact_match(tokens: Sequence[str], reference: Sequence[str]) -> float:
    """Return 1 if both are the same tokens in the same order, else 0."""
    return float(list(tokens) == list(reference))


def token_f1(tokens: Sequence[str], reference: Sequence[str]) -> float:
    """Return the harmonic mean of token precision and recall, counting repeats."""
    shared = _shared_count(tokens, reference)
    return 2 * shared / (len(tokens) + len(reference)) if shared else 0.0


def token_recall(tokens: Sequence[str], reference: Sequence[str]) -> float:
    """Return the share of the reference's tokens that occur, counting repeats; 0 if it has none."""
    return _shared_count(tokens, reference) / len(reference) if reference else 0.0


def _shared_count(tokens: Sequence[str], reference: Sequence[str]) -> int:
    return (Counter(tokens) & Counter(reference)).total()


# --- agreement and correlation -------------------------------------------------------------------


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return the agreement of two raters beyond chance (Cohen, 1960).

    Returns NaN if both raters give every item the same single label, or if there are no items.
    """
    chance = _chance_agreement(first, second)
    agreed = sum(map(eq, first, second)) / max(1, len(first))
    return (agreed - chance) / (1 - chance) if chance < 1 else math.nan


def _chance_agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return how often two raters with these label frequencies agree by chance; 1 without items."""
    if not first:
        return 1.0
    first_counts, second_counts = Counter(first), Counter(second)
    pairs = 0
    for label, count in first_counts.items():
        pairs += count * second_counts[label]
    return pairs / len(first) ** 2


def kappa_values(first: Sequence[bool], second: Sequence[bool]) -> Values:
    """Return a value per item, (n,), whose mean is Cohen's kappa, which must not be NaN.

    This linearizes kappa in the contribution of each item (the large-sample variance of Fleiss,
    Cohen and Everitt, 1969): the mean over a resample is nearly the resample's kappa, and the
    interval is that of a mean.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    agreed, kappa = (a == b).astype(float), cohens_kappa(first, second)
    by_chance = (2 * b.mean() - 1) * (a - a.mean()) + (2 * a.mean() - 1) * (b - b.mean())
    excess = agreed - agreed.mean() - (1 - kappa) * by_chance
    values: Values = kappa + excess / (1 - _chance_agreement(first, second))
    return values


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return the linear correlation of two arrays, (n,).

    Returns NaN if either is constant.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if not len(a) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return the correlation of the ranks (Spearman, 1904); ties share their mean rank.

    Returns NaN if either is constant.
    """
    return pearson(_mean_ranks(first), _mean_ranks(second))


def _mean_ranks(values: ArrayLike) -> Values:
    _, group, sizes = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    means: Values = np.cumsum(sizes) - (sizes - 1) / 2
    return means[group]


def fisher_interval(correlation: float, n: int) -> Interval:
    """Return a linear correlation in `n` pairs with its 95 % interval (Fisher, 1921).

    With three pairs or fewer, the interval is -1 to 1.
    """
    if not abs(correlation) < 1:
        return Interval(correlation, correlation, correlation)
    centre = math.atanh(correlation)
    half = 1.96 / math.sqrt(n - 3) if n > 3 else math.inf
    return Interval(correlation, math.tanh(centre - half), math.tanh(centre + half))


# --- judgments of people -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """An answer to a question (by number), the accepted answers, and the judgment of people."""

    question: int
    text: str
    accepted: tuple[str, ...]
    is_right: bool


@dataclass(frozen=True, slots=True)
class LongPair:
    """Two answers, a reference, and the judgments of two people for each aspect.

    A judgment runs from -2 (the first answer is better) to 2 (the second is).
    """

    reference: str
    first: str
    second: str
    judgments: dict[str, tuple[int, int]]


def load_short_answers(path: Path) -> list[ShortAnswer]:
    """Load the judged answers of one set."""
    answers: list[ShortAnswer] = []
    question = 0
    for row in _read_json(path):
        if not row["improper"]:
            answers += _judged_answers(question, row)
            question += 1
    return answers


def _judged_answers(question: int, row: Row) -> Iterator[ShortAnswer]:
    alternatives = (row["golden_answer"] or "").split("/")
    accepted = tuple(filter(_has_alphanumeric, alternatives))
    for system in _SYSTEMS:
        judgment = row[f"judge_{system}"]
        if isinstance(judgment, bool):  # null or "nan" where nobody judged
            yield ShortAnswer(question, row[f"answer_{system}"] or "", accepted, judgment)


def _has_alphanumeric(text: str) -> bool:
    return any(map(str.isalnum, text))


def load_long_pairs(path: Path) -> list[LongPair]:
    """Load the pairs; the file contains each pair twice, with the labels of one person each."""
    pairs = []
    for _, (first, second) in groupby(sorted(_read_json(path), key=_instance_id), _instance_id):
        judgments = {}
        for aspect in _ASPECTS:
            label = f"{aspect}_label"
            judgments[aspect] = (first[label], second[label])
        answers = first["model1"]["response"], first["model2"]["response"]
        pairs.append(LongPair(first["gt_answer"], *answers, judgments))
    return pairs


def _instance_id(row: Row) -> int:
    return int(row["instance_id"])


def _read_json(path: Path) -> list[Row]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


# --- tables --------------------------------------------------------------------------------------

TokenMetric = Callable[[Sequence[str], Sequence[str]], float]


def _contains_accepted(answer: ShortAnswer) -> bool:
    return contains_nugget(answer.text, answer.accepted, ())


def _reaches(answer: ShortAnswer, metric: TokenMetric, threshold: float) -> bool:
    """Return True if the metric reaches a threshold for one of the accepted answers."""
    tokens = answer_tokens(answer.text)
    scores = map(partial(metric, tokens), map(answer_tokens, answer.accepted))
    return max(scores, default=0.0) >= threshold


SHORT_METRICS: dict[str, Callable[[ShortAnswer], bool]] = {
    "contains_nugget, as used": _contains_accepted,
    "exact match": partial(_reaches, metric=exact_match, threshold=1.0),
    "token F1 >= 1/2": partial(_reaches, metric=token_f1, threshold=1 / 2),
    "gold-token recall >= 1/2": partial(_reaches, metric=token_recall, threshold=1 / 2),
    "gold-token recall >= 2/3": partial(_reaches, metric=token_recall, threshold=2 / 3),
    "everything is right": lambda _answer: True,
}


def _compare_content(text: str, reference: str, metric: TokenMetric) -> float:
    return metric(content_tokens(text), content_tokens(reference))


LONG_METRICS: dict[str, Callable[[str, str], float]] = {
    "content-token F1": partial(_compare_content, metric=token_f1),
    "content-token recall": partial(_compare_content, metric=token_recall),
    "length in words": lambda text, _reference: float(len(text.split())),
}


def print_short(name: str, answers: Sequence[ShortAnswer]) -> None:
    """Print for each metric how well its "right" agrees with that of people."""
    clusters = [answer.question for answer in answers]
    judged = np.array([answer.is_right for answer in answers])
    questions = len(set(clusters))
    share = f"{judged.mean():.3f}"
    print(f"{name}: {len(answers)} answers to {questions} questions, {share} of them right")
    columns = Columns("<26", "<22", "<22", "<22", "", indent=2)
    columns.print_row("", "accuracy", "kappa", "precision of right", "recall of right")
    for metric, is_right in SHORT_METRICS.items():
        predicted = np.array(list(map(is_right, answers)))
        columns.print_row(metric, *agreement_intervals(predicted, judged, np.array(clusters)))


def agreement_intervals(
    predicted: Values, judged: Values, clusters: Values
) -> Iterator[Interval | str]:
    """Yield accuracy, Cohen's kappa, and precision and recall of "right", each with its interval.

    All arrays are (answers,). A dash replaces what is undefined: kappa if all labels are the same,
    precision if no answer is predicted right, recall if no answer is judged right.
    """
    yield bootstrap(predicted == judged, clusters.tolist())
    predicted_labels, judged_labels = predicted.tolist(), judged.tolist()
    if math.isnan(cohens_kappa(predicted_labels, judged_labels)):
        yield "-"
    else:
        yield bootstrap(kappa_values(predicted_labels, judged_labels), clusters.tolist())
    for values, selected in ((judged, predicted), (predicted, judged)):
        yield bootstrap(values[selected], clusters[selected].tolist()) if selected.any() else "-"


def print_long(name: str, pairs: Sequence[LongPair]) -> None:
    """Print for each metric how its preferences correlate with those of people."""
    print(f"\n{name}: {len(pairs)} pairs of long answers")
    columns = Columns("<26", "<31", "<31", "", indent=2)
    columns.print_row("", *_ASPECTS)
    columns.print_row("", *[f"{'Pearson':22} Spearman"] * len(_ASPECTS))
    preferences = {}
    for metric, compute in LONG_METRICS.items():
        preferences[metric] = np.array([_preference(pair, compute) for pair in pairs])
    people = [_judgment_matrix(pairs, aspect) for aspect in _ASPECTS]
    print("  with the mean of two people")
    for metric, values in preferences.items():
        correlate = partial(_correlation_text, values, pairs=len(pairs))
        columns.print_row(f"  {metric}", *map(correlate, [_mean_judgment(both) for both in people]))
    print("  with one person, both counted")
    for metric, values in preferences.items():
        correlate = partial(_correlation_text, np.tile(values, 2), pairs=len(pairs))
        columns.print_row(f"  {metric}", *map(correlate, map(np.ravel, people)))
    ceilings = []
    for first, second in people:
        ceilings.append(_correlation_text(first, second, len(pairs)))
    columns.print_row("  the other person", *ceilings)


def _preference(pair: LongPair, metric: Callable[[str, str], float]) -> float:
    """Return by how much the metric prefers the second answer."""
    return metric(pair.second, pair.reference) - metric(pair.first, pair.reference)


def _judgment_matrix(pairs: Sequence[LongPair], aspect: str) -> Values:
    """Return the judgments of an aspect, (people, pairs)."""
    return np.array([pair.judgments[aspect] for pair in pairs], float).T


def _mean_judgment(judgments: Values) -> Values:
    means: Values = judgments.mean(axis=0)
    return means


def _correlation_text(first: ArrayLike, second: ArrayLike, pairs: int) -> str:
    interval = fisher_interval(pearson(first, second), pairs)
    return f"{interval!s:22} {spearman(first, second):<8.3f}"


def main() -> None:
    """Run the benchmark from the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = data_folder()
    short = {name: data / "evouna" / f"{name}.json" for name in _SETS}
    long = data / "ragchecker_meta" / "human_labeled_data.json"
    for path in (*short.values(), long):
        if not path.is_file():
            sys.exit(
                f"no judgments of people in {path}; set FOOTNOTE_DATA to the folder that holds them"
            )
    for name, path in short.items():
        print_short(name, load_short_answers(path))
    print_long("ragchecker_meta", load_long_pairs(long))


if __name__ == "__main__":
    main()
