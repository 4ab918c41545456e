"""Which written sentences pass verification? `python -m eval.benchmarks.support [--split dev]`.

Honest sentences should pass: one-line descriptions that people wrote of a paper (`scitldr`), against the sentences of
its abstract; and digests of the sample library with a clause dropped, against the whole sentence. False ones should
not: the same descriptions against another paper's abstract; and sentences of the sample library in which one thing
was changed. Printed are the shares with their 95 % intervals, for several thresholds of carried content, with all
words weighing the same and with rare words (in the collection) weighing more.
The thresholds of `rag` were chosen on `dev`.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from eval.benchmarks.collections import data_folder, read_jsonl
from eval.harness.statistics import bootstrap
from rag import LexicalVerifier, Source, Support

THRESHOLDS = (0.3, 0.4, 0.5, 0.52, 0.6)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_FEWEST_WORDS = 5
# The other abstract that a description is put to stands this far down the list.
_OTHER = 37


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence put to sources that do or do not carry it."""

    kind: str
    sentence: str
    sources: tuple[Source, ...]
    honest: bool


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    parser.add_argument(
        "--missed", default="", help="also print the cases of this kind that were judged wrongly"
    )
    options = parser.parse_args()
    corpus = list(read_jsonl(data_folder() / "scitldr" / "corpus.jsonl"))
    cases = [*described(corpus, options.split), *digested()]
    weights = {"plain": lambda _term: 1.0, "idf": rarity([row["text"] for row in corpus])}
    for name, weight in weights.items():
        judged = [
            (case, LexicalVerifier(weight, 0.0).check(case.sentence, case.sources))
            for case in cases
        ]
        report(name, judged)
    for case, support in judged:
        if case.kind == options.missed and support.supported != case.honest:
            print(
                f"\n{case.sentence}\n  {support.reason}\n  "
                + "\n  ".join(source.text for source in case.sources)
            )


def rarity(texts: Sequence[str]) -> Callable[[str], float]:
    """Idf of the verifier's own terms in these texts."""
    counts: Counter[str] = Counter()

    def count(term: str) -> float:
        counts[term] += 1
        return 1.0

    for text in texts:
        LexicalVerifier(count).check(text, ())
    return lambda term: math.log(1 + (len(texts) - counts[term] + 0.5) / (counts[term] + 0.5))


def described(corpus: list[dict[str, str]], split: str) -> Iterator[Case]:
    """Descriptions of papers by people, against their own abstract and against another one."""
    abstracts = {row["_id"]: _sources(row["title"], row["text"]) for row in corpus}
    rows = [
        row
        for row in read_jsonl(data_folder() / "scitldr" / "queries_known_item.jsonl")
        if row["split"] == split
    ]
    for number, row in enumerate(rows):
        other = rows[(number + _OTHER) % len(rows)]
        yield Case("own abstract", row["text"], abstracts[row["doc"]], True)
        if other["doc"] != row["doc"]:
            yield Case("other abstract", row["text"], abstracts[other["doc"]], False)


def _sources(title: str, text: str) -> tuple[Source, ...]:
    return tuple(
        Source(sentence, title) for sentence in _SENTENCE_END.split(text) if sentence.strip()
    )


def digested() -> Iterator[Case]:
    """Sentences of the sample library: shortened ones, and the whole and the shortened ones with one thing changed."""
    rows = list(read_jsonl(files("rag").joinpath("sample", "papers.jsonl")))  # type: ignore[arg-type]
    names = [name for row in rows for name in _NAME.findall(row["abstract"])]
    for number, row in enumerate(rows):
        foreign = [
            name for name in names[number * 7 :] + names if name.lower() not in str(row).lower()
        ]
        for source in _sources(row["title"], row["abstract"]):
            short = shortened(source.text)
            yield from (Case("shortened", sentence, (source,), True) for sentence in short)
            for sentence in (source.text, *short):
                yield from (
                    Case(kind, s, (source,), False) for kind, s in changed(sentence, foreign[0])
                )


def shortened(sentence: str) -> list[str]:
    """The sentence without what follows, and without what precedes, a comma."""
    first, comma, rest = sentence.rstrip(".").partition(", ")
    parts = [first, rest[:1].upper() + rest[1:]] if comma else []
    return [f"{part}." for part in parts if len(part.split()) >= _FEWEST_WORDS]


_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]*[A-Z0-9][\w-]*")
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?(?![\w.]*[a-z])")
_UNITS = {
    "%": "x",
    "x": "%",
    " times": "%",
    " GB": " MB",
    " ms": " s",
    "-bit": "-byte",
    " percent": " times",
}
_UNIT = re.compile(r"(?<=\d)(?:%(?! points)|x\b| times\b| GB\b| ms\b|-bit\b| percent\b)")
_DENIALS = {
    "cannot": "can",
    "without": "with",
    "no": "",
    "not": "",
    "never": "",
    "neither": "both",
    "nor": "and",
}
_DENIAL = re.compile(rf"\b(?:{'|'.join(_DENIALS)})\b(?! only)")
_AFFIRMED = re.compile(r"\b(?:is|are|was|were|can|could|may|does)\b(?! not|,)")
_OPPOSITES = (
    "increases decreases,improves worsens,faster slower,higher lower,less more,fewer more,better worse,larger smaller,"
    "outperforms underperforms,gains loses,raises reduces,rises falls,grows shrinks,improve worsen,increase decrease,"
    "raise reduce,outperform underperform,grow shrink,gain lose,improved worsened,increased decreased,raised reduced,"
    "longer shorter,greater less,rises drops,increasing decreasing,improving worsening,raising reducing,raises lowers,"
    "boosts cuts"
)
_PAIRS = [pair.split() for pair in _OPPOSITES.split(",")]
_OPPOSITE = {b: a for a, b in reversed(_PAIRS)} | dict(reversed(_PAIRS))
_DIRECTION = re.compile(rf"\b(?:{'|'.join(_OPPOSITE)})\b(?! than \d)")
_COMPARISON = re.compile(
    r"(?P<a>[A-Z][\w-]*[A-Z0-9][\w-]*)(?P<middle>[^,;:]*\b(?:outperforms?|beats?|surpass(?:es)?|exceeds?|than)\b[^,;:]*?)"
    r"(?P<b>[A-Z][\w-]*[A-Z0-9][\w-]*)"
)


def changed(sentence: str, foreign: str) -> Iterator[tuple[str, str]]:
    """The sentence with one thing changed, in every kind of way that it allows: (kind, false sentence)."""
    changes: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = {
        "number": (_NUMBER, lambda found: _other_number(found[0], sentence)),
        "unit": (_UNIT, lambda found: _UNITS[found[0]]),
        "negation out": (_DENIAL, lambda found: _DENIALS[found[0]]),
        "negation in": (_AFFIRMED, lambda found: f"{found[0]} not"),
        "direction": (_DIRECTION, lambda found: _OPPOSITE[found[0]]),
        "name": (_NAME, lambda _: foreign),
        "comparison": (_COMPARISON, lambda found: found["b"] + found["middle"] + found["a"]),
    }
    for kind, (pattern, change) in changes.items():
        other = pattern.sub(change, sentence, count=1)
        if other != sentence:
            yield kind, " ".join(other.split())


def _other_number(number: str, sentence: str) -> str:
    """The number with its first digit raised until the sentence does not hold it."""
    digits = [number] + [f"{digit}{number[1:]}" for digit in "123456789"]
    return next((other for other in digits if other not in sentence), number + "7")


def report(name: str, judged: Iterable[tuple[Case, Support]]) -> None:
    """Print for each kind the share of honest sentences accepted, or of false ones detected, at each threshold."""
    by_kind: dict[tuple[bool, str], list[Support]] = {}
    for case, support in judged:
        by_kind.setdefault((not case.honest, case.kind), []).append(support)
    print(f"{name:6} {'':16} cases " + "".join(f"{threshold:<23}" for threshold in THRESHOLDS))
    for (false, kind), outcomes in sorted(by_kind.items()):
        shares = [
            bootstrap(
                [float((one.supported and one.score >= threshold) != false) for one in outcomes]
            )
            for threshold in THRESHOLDS
        ]
        verb = "rejected" if false else "accepted"
        print(
            f"  {verb} {kind:14} {len(outcomes):5} " + " ".join(f"{share!s:22}" for share in shares)
        )


if __name__ == "__main__":
    main()
