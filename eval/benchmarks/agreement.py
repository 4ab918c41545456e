"""How well do metrics of correctness agree with people? `python -m eval.benchmarks.agreement`.

Short answers (`evouna`; Wang et al., 2023): five systems' answers to questions of two sets, judged right or wrong by
people. Facts are matched in this project by `eval.harness.measures.fact_found`; beside it stand its rivals, and calling
everything right. Intervals are resampled by question. Improper questions and answers without a judgment are left out.

Long answers (`ragchecker_meta`; Ru et al., 2024): pairs of answers, of which two people each said which is the better,
and by how much. There are no facts to match: printed is how the difference of a metric between the two answers
correlates with the mean of the two people, and with one person, where the other person is the ceiling.
"""

import argparse
import json
import math
import string
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.benchmarks.collections import data_folder
from eval.harness.measures import fact_found
from eval.harness.statistics import Interval, bootstrap

Values = NDArray[np.float64]

_SETS = ("NQ", "TQ")
_SYSTEMS = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
_ASPECTS = ("correctness", "completeness", "overall")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset(("a", "an", "the"))
_FUNCTION_WORDS = frozenset(
    "also and are as at be been being but by can could did do does for from had has have he her his how i if in into "
    "is it its may might more most no not of on or our she should so some such than that their them then there these "
    "they this those to was we were what when where which while who will with would you your".split()
)


def answer_tokens(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles (as in SQuAD; Rajpurkar et al., 2016)."""
    return [word for word in text.lower().translate(_PUNCTUATION).split() if word not in _ARTICLES]


def content_tokens(text: str) -> list[str]:
    """`answer_tokens` without the commonest function words."""
    return [word for word in answer_tokens(text) if word not in _FUNCTION_WORDS]


def exact_match(found: Sequence[str], expected: Sequence[str]) -> float:
    """1 when both are the same tokens in the same order, else 0."""
    return float(list(found) == list(expected))


def token_f1(found: Sequence[str], expected: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of tokens, repeated ones counted; 0 when none is shared."""
    shared = _shared(found, expected)
    return 2 * shared / (len(found) + len(expected)) if shared else 0.0


def token_recall(found: Sequence[str], expected: Sequence[str]) -> float:
    """Share of the expected tokens that were found, repeated ones counted; 0 when none is expected."""
    return _shared(found, expected) / len(expected) if expected else 0.0


def _shared(found: Sequence[str], expected: Sequence[str]) -> int:
    return (Counter(found) & Counter(expected)).total()


def cohens_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Agreement of two raters beyond chance (Cohen, 1960); not a number where chance alone agrees always."""
    chance = _chance(one, other)
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / max(1, len(one))
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def _chance(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Share of the items on which two raters with these habits agree when neither looks; 1 without items."""
    counts, others = Counter(one), Counter(other)
    return sum(counts[label] * others[label] for label in counts) / len(one) ** 2 if one else 1.0


def kappa_values(one: Sequence[bool], other: Sequence[bool]) -> Values:
    """A value per item, (n,): their mean is Cohen's kappa, and the mean of a resample is nearly the resample's kappa.

    This is kappa made linear in what each item adds to it (the large-sample variance of Fleiss, Cohen and Everitt,
    1969), so that its interval can be had like that of any mean. Kappa must be a number.
    """
    a, b = np.asarray(one, float), np.asarray(other, float)
    agreed, kappa = (a == b).astype(float), cohens_kappa(one, other)
    by_chance = (2 * b.mean() - 1) * (a - a.mean()) + (2 * a.mean() - 1) * (b - b.mean())
    values: Values = kappa + (agreed - agreed.mean() - (1 - kappa) * by_chance) / (
        1 - _chance(one, other)
    )
    return values


def pearson(one: ArrayLike, other: ArrayLike) -> float:
    """Linear correlation of two rows of values, (n,); not a number when either is constant."""
    a, b = np.asarray(one, float), np.asarray(other, float)
    if not len(a) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Correlation of the ranks (Spearman, 1904), ties sharing their mean rank; not a number when either is constant."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(values: ArrayLike) -> Values:
    _, group, sizes = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    means: Values = np.cumsum(sizes) - (sizes - 1) / 2
    return means[group]


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """An answer to a question (its number), the answers accepted, and whether people found it right."""

    question: int
    text: str
    accepted: tuple[str, ...]
    right: bool


@dataclass(frozen=True, slots=True)
class LongPair:
    """Two answers, the reference, and per aspect what two people said: -2 (the first is better) to 2 (the second)."""

    reference: str
    first: str
    second: str
    said: dict[str, tuple[int, int]]


def short_answers(path: Path) -> list[ShortAnswer]:
    """The judged answers of one set; accepted answers are divided by a slash there."""
    proper = [row for row in _read(path) if not row["improper"]]
    return [answer for number, row in enumerate(proper) for answer in _answers(number, row)]


def _answers(number: int, row: dict[str, Any]) -> Iterator[ShortAnswer]:
    accepted = tuple(
        one for one in (row["golden_answer"] or "").split("/") if any(map(str.isalnum, one))
    )
    for system in _SYSTEMS:
        right = row[f"judge_{system}"]
        if isinstance(right, bool):  # where nobody judged it says null, or "nan"
            yield ShortAnswer(number, row[f"answer_{system}"] or "", accepted, right)


def long_pairs(path: Path) -> list[LongPair]:
    """The pairs; each stands there twice, one person's labels each time."""
    rows = sorted(_read(path), key=lambda row: int(row["instance_id"]))
    return [_pair(*both) for _, both in groupby(rows, key=lambda row: int(row["instance_id"]))]


def _pair(one: dict[str, Any], other: dict[str, Any]) -> LongPair:
    said = {aspect: (one[f"{aspect}_label"], other[f"{aspect}_label"]) for aspect in _ASPECTS}
    return LongPair(one["gt_answer"], one["model1"]["response"], one["model2"]["response"], said)


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


TokenMetric = Callable[[Sequence[str], Sequence[str]], float]


def _at_least(threshold: float, metric: TokenMetric) -> Callable[[ShortAnswer], bool]:
    """Whether the metric reaches a threshold for one of the accepted answers."""

    def found_right(answer: ShortAnswer) -> bool:
        tokens = answer_tokens(answer.text)
        return any(metric(tokens, answer_tokens(one)) >= threshold for one in answer.accepted)

    return found_right


SHORT: dict[str, Callable[[ShortAnswer], bool]] = {
    "fact_found, as used": lambda answer: fact_found(answer.text, answer.accepted, ()),
    "exact match": _at_least(1.0, exact_match),
    "token F1 >= 1/2": _at_least(1 / 2, token_f1),
    "gold-token recall >= 1/2": _at_least(1 / 2, token_recall),
    "gold-token recall >= 2/3": _at_least(2 / 3, token_recall),
    "everything is right": lambda _answer: True,
}


def _on_content(metric: TokenMetric) -> Callable[[str, str], float]:
    return lambda text, reference: metric(content_tokens(text), content_tokens(reference))


LONG: dict[str, Callable[[str, str], float]] = {
    "content-token F1": _on_content(token_f1),
    "content-token recall": _on_content(token_recall),
    "length in words": lambda text, _reference: float(len(text.split())),
}


def report_short(name: str, answers: Sequence[ShortAnswer]) -> None:
    """Print for each metric how well its "right" agrees with that of people."""
    questions = len({answer.question for answer in answers})
    share = sum(answer.right for answer in answers) / len(answers)
    print(f"{name}: {len(answers)} answers to {questions} questions, {share:.3f} of them right")
    print(f"  {'':26} {'accuracy':22} {'kappa':22} {'precision of right':22} recall of right")
    for metric, found_right in SHORT.items():
        said = [found_right(answer) for answer in answers]
        columns = (*_agreements(answers, said), *_precision_and_recall(answers, said))
        print(f"  {metric:26} " + " ".join(f"{column or '-'!s:22}" for column in columns).rstrip())


def _agreements(answers: Sequence[ShortAnswer], said: Sequence[bool]) -> Iterator[Interval | None]:
    """Accuracy and kappa; no kappa where there is nothing to tell apart."""
    right = [answer.right for answer in answers]
    yield _mean(answers, [a == b for a, b in zip(said, right, strict=True)])
    yield (
        None if math.isnan(cohens_kappa(said, right)) else _mean(answers, kappa_values(said, right))
    )


def _precision_and_recall(
    answers: Sequence[ShortAnswer], said: Sequence[bool]
) -> Iterator[Interval | None]:
    """Of what the metric calls right; nothing where it calls nothing so, or people do not."""
    pairs = list(zip(answers, said, strict=True))
    called = [answer for answer, called_right in pairs if called_right]
    yield _mean(called, [answer.right for answer in called]) if called else None
    right = [(answer, called_right) for answer, called_right in pairs if answer.right]
    yield (
        _mean([answer for answer, _ in right], [called_right for _, called_right in right])
        if right
        else None
    )


def _mean(answers: Sequence[ShortAnswer], values: ArrayLike) -> Interval:
    return bootstrap(values, clusters=[answer.question for answer in answers])


def report_long(name: str, pairs: Sequence[LongPair]) -> None:
    """Print for each metric how its preferences correlate with those of people."""
    print(f"\n{name}: {len(pairs)} pairs of long answers")
    print(f"  {'':26} " + " ".join(f"{aspect:31}" for aspect in _ASPECTS).rstrip())
    print(f"  {'':26} " + " ".join(f"{'Pearson':22} {'Spearman':8}" for _ in _ASPECTS))
    preferred = {
        metric: [_preference(pair, value) for pair in pairs] for metric, value in LONG.items()
    }
    people = [np.array([pair.said[aspect] for pair in pairs], float) for aspect in _ASPECTS]
    print("  with the mean of two people")
    for metric, values in preferred.items():
        _print_correlations(metric, [(values, said.mean(axis=1)) for said in people], len(pairs))
    print("  with one person, both counted")
    for metric, values in preferred.items():
        _print_correlations(metric, [(values * 2, said.T.ravel()) for said in people], len(pairs))
    _print_correlations(
        "the other person", [(said[:, 0], said[:, 1]) for said in people], len(pairs)
    )


def _preference(pair: LongPair, metric: Callable[[str, str], float]) -> float:
    """By how much the second answer is better than the first."""
    return metric(pair.second, pair.reference) - metric(pair.first, pair.reference)


def _print_correlations(name: str, both: Iterable[tuple[ArrayLike, ArrayLike]], pairs: int) -> None:
    columns = [
        f"{fisher(pearson(one, other), pairs)!s:22} {spearman(one, other):<8.3f}"
        for one, other in both
    ]
    print(f"    {name:24} " + " ".join(columns).rstrip())


def fisher(correlation: float, n: int) -> Interval:
    """A linear correlation in `n` pairs with its 95 % interval (Fisher, 1921); of three pairs nothing is known."""
    if not abs(correlation) < 1:
        return Interval(correlation, correlation, correlation)
    centre, half = math.atanh(correlation), 1.96 / math.sqrt(n - 3) if n > 3 else math.inf
    return Interval(correlation, math.tanh(centre - half), math.tanh(centre + half))


def main() -> None:
    """Run the benchmark from the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = data_folder()
    short = {name: data / "evouna" / f"{name}.json" for name in _SETS}
    long = data / "ragchecker_meta" / "human_labeled_data.json"
    for path in (*short.values(), long):
        if not path.is_file():
            sys.exit(
                f"no judgments of people in {path}; FOOTNOTE_DATA is the folder that holds them"
            )
    for name, path in short.items():
        report_short(name, short_answers(path))
    report_long("ragchecker_meta", long_pairs(long))


if __name__ == "__main__":
    main()
