"""Measure which generated sentences pass verification.

`python -m eval.benchmarks.support [--split dev] [--failures KIND]`

True sentences should pass: one-line descriptions of papers, written by people (`scitldr`), checked
against the sentences of the abstract; and sentences of the sample library with a clause dropped,
checked against the whole sentence. False ones should not: the same descriptions, checked against
another abstract; and sentences of the sample library with one detail changed. Prints the shares
with 95 % intervals for several thresholds of term overlap, with equal weights for all terms and
with idf weights. The thresholds in `rag` were chosen on `dev`.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files

from eval.benchmarks.collections import (
    Document,
    Row,
    data_folder,
    load_documents,
    read_jsonl,
    read_split,
)
from eval.benchmarks.tables import Columns
from eval.harness.statistics import bootstrap
from rag.verification.verifier import LexicalVerifier, Source, Support

THRESHOLDS = (0.3, 0.4, 0.5, 0.52, 0.6)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MIN_WORDS = 5
# A description is also checked against the abstract this many rows further down.
_OTHER_OFFSET = 37


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, its sources, and whether they support it."""

    kind: str
    sentence: str
    sources: tuple[Source, ...]
    is_true: bool


Outcome = tuple[Case, Support]


# --- sentences written by people -----------------------------------------------------------------


def description_cases(documents: Sequence[Document], split: str) -> Iterator[Case]:
    """Yield descriptions of papers with the paper's own abstract, and with another one."""
    abstracts = {}
    for document in documents:
        abstracts[document.id] = _split_sources(document.title, document.text)
    rows = read_split(data_folder() / "scitldr" / "queries_known_item.jsonl", split)
    for index, row in enumerate(rows):
        other = rows[(index + _OTHER_OFFSET) % len(rows)]
        yield Case("own abstract", row["text"], abstracts[row["doc"]], True)
        if other["doc"] != row["doc"]:
            yield Case("other abstract", row["text"], abstracts[other["doc"]], False)


def _split_sources(title: str, abstract: str) -> tuple[Source, ...]:
    sentences = filter(str.strip, _SENTENCE_END.split(abstract))
    return tuple(Source(sentence, title) for sentence in sentences)


# --- sentences of the sample library -------------------------------------------------------------


def sample_cases() -> Iterator[Case]:
    """Yield shortened sentences of the sample papers, and sentences with one detail changed."""
    with as_file(files("rag.ingest.sample") / "papers.jsonl") as path:
        rows = list(read_jsonl(path))
    names: list[str] = []
    for row in rows:
        names += _NAME.findall(row["abstract"])
    for index, row in enumerate(rows):
        other_name = _find_foreign_name(row, names[index * 7 :] + names)
        for source in _split_sources(row["title"], row["abstract"]):
            yield from _sentence_cases(source, other_name)


def _sentence_cases(source: Source, other_name: str) -> Iterator[Case]:
    shortened = shorten_sentence(source.text)
    for sentence in shortened:
        yield Case("shortened", sentence, (source,), True)
    for sentence in (source.text, *shortened):
        for kind, changed in change_details(sentence, other_name):
            yield Case(kind, changed, (source,), False)


def _find_foreign_name(row: Row, names: Sequence[str]) -> str:
    """Return the first name that does not occur in a record."""
    record = str(row).lower()
    for name in names:
        if name.lower() not in record:
            return name
    raise ValueError("every name occurs in the record")


def shorten_sentence(sentence: str) -> list[str]:
    """Return the parts before and after the first comma as sentences, if they are long enough."""
    first, comma, rest = sentence.rstrip(".").partition(", ")
    parts = [first, rest[:1].upper() + rest[1:]] if comma else []
    return [f"{part}." for part in parts if len(part.split()) >= _MIN_WORDS]


_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]*[A-Z0-9][\w-]*")
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?(?![\w.]*[a-z])")
_OTHER_UNITS = {
    "%": "x",
    "x": "%",
    " times": "%",
    " GB": " MB",
    " ms": " s",
    "-bit": "-byte",
    " percent": " times",
}
_UNIT = re.compile(r"(?<=\d)(?:%(?! points)|x\b| times\b| GB\b| ms\b|-bit\b| percent\b)")
_AFFIRMATIONS = {
    "cannot": "can",
    "without": "with",
    "no": "",
    "not": "",
    "never": "",
    "neither": "both",
    "nor": "and",
}
_NEGATION = re.compile(rf"\b(?:{'|'.join(_AFFIRMATIONS)})\b(?! only)")
_AUXILIARY = re.compile(r"\b(?:is|are|was|were|can|could|may|does)\b(?! not|,)")
_DIRECTIONS = (
    "increases decreases,improves worsens,faster slower,higher lower,less more,fewer more,"
    "better worse,larger smaller,outperforms underperforms,gains loses,raises reduces,rises falls,"
    "grows shrinks,improve worsen,increase decrease,raise reduce,outperform underperform,"
    "grow shrink,gain lose,improved worsened,increased decreased,raised reduced,longer shorter,"
    "greater less,rises drops,increasing decreasing,improving worsening,raising reducing,"
    "raises lowers,boosts cuts"
)


def _opposite_directions() -> dict[str, str]:
    """Map each word of `_DIRECTIONS` to its opposite in the first pair that contains it."""
    forward: dict[str, str] = {}
    backward: dict[str, str] = {}
    for pair in _DIRECTIONS.split(","):
        up, down = pair.split()
        forward.setdefault(up, down)
        backward.setdefault(down, up)
    return backward | forward


_OPPOSITES = _opposite_directions()
_DIRECTION = re.compile(rf"\b(?:{'|'.join(_OPPOSITES)})\b(?! than \d)")
_COMPARISON = re.compile(
    r"(?P<a>[A-Z][\w-]*[A-Z0-9][\w-]*)"
    r"(?P<middle>[^,;:]*\b(?:outperforms?|beats?|surpass(?:es)?|exceeds?|than)\b[^,;:]*?)"
    r"(?P<b>[A-Z][\w-]*[A-Z0-9][\w-]*)"
)


def change_details(sentence: str, other_name: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, false sentence) for every kind of detail in the sentence that can be changed."""
    changes: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = {
        "number": (_NUMBER, lambda match: _other_number(match[0], sentence)),
        "unit": (_UNIT, lambda match: _OTHER_UNITS[match[0]]),
        "negation out": (_NEGATION, lambda match: _AFFIRMATIONS[match[0]]),
        "negation in": (_AUXILIARY, lambda match: f"{match[0]} not"),
        "direction": (_DIRECTION, lambda match: _OPPOSITES[match[0]]),
        "name": (_NAME, lambda _: other_name),
        "comparison": (_COMPARISON, lambda match: match["b"] + match["middle"] + match["a"]),
    }
    for kind, (pattern, change) in changes.items():
        changed = pattern.sub(change, sentence, count=1)
        if changed != sentence:
            yield kind, " ".join(changed.split())


def _other_number(number: str, sentence: str) -> str:
    """Return the number with another first digit, such that it does not occur in the sentence."""
    for first in "123456789":
        candidate = first + number[1:]
        if candidate not in sentence:
            return candidate
    return number + "7"


# --- verifying -----------------------------------------------------------------------------------


def fit_idf(texts: Sequence[str]) -> Callable[[str], float]:
    """Return a function from terms, as the verifier splits texts, to their idf in these texts."""
    counts: Counter[str] = Counter()

    def count_term(term: str) -> float:
        counts[term] += 1
        return 1.0

    for text in texts:
        LexicalVerifier(count_term).check(text, ())

    def idf(term: str) -> float:
        return math.log(1 + (len(texts) - counts[term] + 0.5) / (counts[term] + 0.5))

    return idf


def verify_cases(cases: Sequence[Case], weight: Callable[[str], float]) -> list[Outcome]:
    """Check every case with these weights of terms, without a threshold."""
    verifier = LexicalVerifier(weight, 0.0)
    return [(case, verifier.check(case.sentence, case.sources)) for case in cases]


def print_report(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print for each kind the share of true sentences accepted, or of false ones rejected."""
    by_kind: dict[tuple[bool, str], list[Support]] = {}
    for case, support in outcomes:
        is_false = not case.is_true
        by_kind.setdefault((is_false, case.kind), []).append(support)
    columns = Columns("<25", "<5", *["<22"] * len(THRESHOLDS))
    columns.print_row(name, "cases", *THRESHOLDS)
    for (is_false, kind), supports in sorted(by_kind.items()):
        shares = []
        for threshold in THRESHOLDS:
            hits = [_is_accepted(support, threshold) != is_false for support in supports]
            shares.append(bootstrap(hits))
        label = f"  {'rejected' if is_false else 'accepted'} {kind}"
        columns.print_row(label, f"{len(supports):5}", *shares)


def _is_accepted(support: Support, threshold: float) -> bool:
    return support.supported and support.score >= threshold


def print_failures(kind: str, outcomes: Sequence[Outcome]) -> None:
    """Print the cases of a kind that were judged wrongly."""
    for case, support in outcomes:
        if case.kind == kind and support.supported != case.is_true:
            print(f"\n{case.sentence}\n  {support.reason}")
            for source in case.sources:
                print(f"  {source.text}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    parser.add_argument(
        "--failures",
        default="",
        metavar="KIND",
        help="also print the cases of this kind that were judged wrongly, with idf weights",
    )
    options = parser.parse_args()
    documents = load_documents(data_folder() / "scitldr")
    cases = [*description_cases(documents, options.split), *sample_cases()]
    print_report("plain", verify_cases(cases, lambda _term: 1.0))
    idf = fit_idf([document.text for document in documents])
    weighted = verify_cases(cases, idf)
    print_report("idf", weighted)
    print_failures(options.failures, weighted)


if __name__ == "__main__":
    main()
