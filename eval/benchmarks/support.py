"""Measure which sentences pass verification: true ones should, false ones should not.

`python -m eval.benchmarks.support`

The claims of public collections and the answers written about ACL abstracts are those that the
entailment model was not trained with. Besides, there are one-line descriptions of papers, written
by people (`scitldr`, split `dev`), checked against the paper's abstract and against another one;
and sentences of the sample library with a clause dropped, and with one detail changed. Prints for
each kind how many true and how many false sentences pass, and the mean of the shares that are
judged rightly (balanced accuracy), with 95 % intervals.
"""

import argparse
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from operator import attrgetter

from eval.benchmarks.changed_sentences import NAME, change_details, shorten_sentence
from eval.benchmarks.collections import (
    Document,
    Row,
    data_folder,
    load_documents,
    read_jsonl,
    read_split,
)
from eval.benchmarks.reading_examples import Example
from eval.benchmarks.support_examples import load_claims
from eval.benchmarks.tables import Columns
from eval.harness.statistics import bootstrap
from rag.models.reader import Reader
from rag.models.registry import load_entailment_model
from rag.verification.details import check_details
from rag.verification.entailment import entailment_log_odds
from rag.verification.verifier import Source

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
# A description is also checked against the abstract this many rows further down.
_OTHER_OFFSET = 37


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, its sources, and whether they support it; `set` is where it comes from."""

    set: str
    kind: str
    sentence: str
    sources: tuple[Source, ...]
    is_true: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a case passes: by the entailment model alone, and if details are checked first."""

    case: Case
    is_entailed: bool
    passes_both: bool


_CHECKS: tuple[Callable[[Outcome], bool], ...] = (
    attrgetter("is_entailed"),
    attrgetter("passes_both"),
)


# --- claims with labels ---------------------------------------------------------------------------


def claim_cases() -> Iterator[Case]:
    """Yield the labelled claims that were held out when the entailment model was trained."""
    for example in filter(attrgetter("is_held_out"), load_claims()):
        yield _claim_case(example)


def _claim_case(example: Example) -> Case:
    (excerpts,) = example.papers
    sources = tuple(Source(text, excerpts.title) for text in excerpts.sentences)
    return Case(example.set, "claim", example.question, sources, excerpts.answers)


# --- sentences written by people -----------------------------------------------------------------


def description_cases(documents: Sequence[Document], split: str) -> Iterator[Case]:
    """Yield descriptions of papers with the paper's own abstract, and with another one."""
    abstracts = {}
    for document in documents:
        abstracts[document.id] = _split_sources(document.title, document.text)
    rows = read_split(data_folder() / "scitldr" / "queries_known_item.jsonl", split)
    for index, row in enumerate(rows):
        other = rows[(index + _OTHER_OFFSET) % len(rows)]
        yield Case("descriptions", "own abstract", row["text"], abstracts[row["doc"]], True)
        if other["doc"] != row["doc"]:
            sources = abstracts[other["doc"]]
            yield Case("descriptions", "other abstract", row["text"], sources, False)


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
        names += NAME.findall(row["abstract"])
    for index, row in enumerate(rows):
        other_name = _find_foreign_name(row, names[index * 7 :] + names)
        for source in _split_sources(row["title"], row["abstract"]):
            yield from _sentence_cases(source, other_name)


def _sentence_cases(source: Source, other_name: str) -> Iterator[Case]:
    shortened = shorten_sentence(source.text)
    for sentence in shortened:
        yield Case("sample", "shortened", sentence, (source,), True)
    for sentence in (source.text, *shortened):
        for kind, changed in change_details(sentence, other_name):
            yield Case("sample", kind, changed, (source,), False)


def _find_foreign_name(row: Row, names: Sequence[str]) -> str:
    """Return the first name that does not occur in a record."""
    record = str(row).lower()
    for name in names:
        if name.lower() not in record:
            return name
    raise ValueError("every name occurs in the record")


# --- verifying -----------------------------------------------------------------------------------


def verify_cases(cases: Iterable[Case], model: Reader) -> list[Outcome]:
    """Return for every case what lets it pass: the entailment model, and both checks."""
    outcomes = []
    for case in cases:
        is_entailed = entailment_log_odds(model, case.sentence, case.sources) > 0
        verdict = check_details(case.sentence, case.sources)
        passes_both = verdict.supported if verdict else is_entailed
        outcomes.append(Outcome(case, is_entailed, passes_both))
    return outcomes


def print_report(outcomes: Sequence[Outcome]) -> None:
    """Print for each set the balanced accuracy, and for its kinds the shares that pass."""
    columns = Columns("<40", ">6", "<22", "<22")
    columns.print_row("", "cases", "entailment model", "with numbers and names")
    by_set: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_set.setdefault(outcome.case.set, []).append(outcome)
    for name, of_set in by_set.items():
        cells = [_balanced_accuracy(of_set, check) for check in _CHECKS]
        columns.print_row(f"{name}, balanced accuracy", len(of_set), *cells)
        by_kind: dict[tuple[bool, str], list[Outcome]] = {}
        for outcome in of_set:
            by_kind.setdefault((not outcome.case.is_true, outcome.case.kind), []).append(outcome)
        for (is_false, kind), of_kind in sorted(by_kind.items()):
            shares = [bootstrap(list(map(float, map(check, of_kind)))) for check in _CHECKS]
            label = f"  passes: {'false' if is_false else 'true'}, {kind}"
            columns.print_row(label, len(of_kind), *shares)


def _balanced_accuracy(outcomes: Sequence[Outcome], check: Callable[[Outcome], bool]) -> str:
    """Return the mean of the shares of true and of false cases that are judged rightly.

    The interval is that of the mean of two independent shares.
    """
    means, errors = [], []
    for is_true in (True, False):
        of_label = [outcome for outcome in outcomes if outcome.case.is_true == is_true]
        if not of_label:
            return "-"
        interval = bootstrap([float(check(outcome) == is_true) for outcome in of_label])
        means.append(interval.mean)
        errors.append((interval.high - interval.low) / 4)
    mean, error = statistics.mean(means), math.hypot(*errors) / 2
    return f"{mean:.3f} [{mean - 2 * error:.3f}, {mean + 2 * error:.3f}]"


def main() -> None:
    """Run the benchmark from the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    documents = load_documents(data_folder() / "scitldr")
    cases = [*claim_cases(), *description_cases(documents, "dev"), *sample_cases()]
    print_report(verify_cases(cases, load_entailment_model()))


if __name__ == "__main__":
    main()
