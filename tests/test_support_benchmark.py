"""Benchmark of verification: the details it changes in a sentence, and the table it prints."""

import pytest

from eval.benchmarks import support
from eval.benchmarks.changed_sentences import change_details, shorten_sentence
from eval.benchmarks.support import Case, print_report, verify_cases
from rag.models.reader import Reading
from rag.verification.verifier import Source


def test_every_kind_of_detail_in_a_sentence_is_changed():
    sentence = "In tests FP8 is 50% faster than INT8 without tuning."
    assert dict(change_details(sentence, "GPT-9")) == {
        "number": "In tests FP8 is 10% faster than INT8 without tuning.",
        "unit": "In tests FP8 is 50x faster than INT8 without tuning.",
        "negation out": "In tests FP8 is 50% faster than INT8 with tuning.",
        "negation in": "In tests FP8 is not 50% faster than INT8 without tuning.",
        "direction": "In tests FP8 is 50% slower than INT8 without tuning.",
        "name": "In tests GPT-9 is 50% faster than INT8 without tuning.",
        "comparison": "In tests INT8 is 50% faster than FP8 without tuning.",
    }
    assert list(change_details("Barley tolerates salt.", "GPT-9")) == []


def test_a_sentence_is_shortened_at_its_first_comma():
    sentence = "Barley tolerates much salt now, and wheat does not tolerate it."
    assert shorten_sentence(sentence) == [
        "Barley tolerates much salt now.",
        "And wheat does not tolerate it.",
    ]
    assert shorten_sentence("Barley tolerates salt, wheat less.") == []


def test_the_sample_library_gives_true_and_false_sentences():
    cases = list(support.sample_cases())
    kinds = {(case.kind, case.is_true) for case in cases}
    assert ("shortened", True) in kinds
    assert {("number", False), ("name", False), ("direction", False)} <= kinds


class TrustingReader:
    """Entailment model that believes everything but what has "cold" in it."""

    def read(self, question, abstracts):
        return [Reading(0.0, -1.0 if "cold" in question else 1.0, ()) for _ in abstracts]


SOURCES = (Source("Barley tolerates 8 grams of salt."),)
CASES = [
    Case("farm", "own", "Some plants tolerate salt.", SOURCES, True),
    Case("farm", "own", "Some plants tolerate cold.", SOURCES, True),
    Case("farm", "number", "Some plants tolerate 9 grams.", SOURCES, False),
    Case("farm", "other", "All plants tolerate cold.", SOURCES, False),
    Case("town", "copy", "Barley tolerates 8 grams of salt.", SOURCES, True),
]


def test_a_case_passes_by_its_meaning_and_by_its_details():
    outcomes = verify_cases(CASES, TrustingReader())
    assert [outcome.is_entailed for outcome in outcomes] == [True, False, True, False, True]
    assert [outcome.passes_both for outcome in outcomes] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("start", "figures"),
    [
        # Of 2 true cases 1 passes; of 2 false ones 1 does not, with details none.
        ("farm, balanced accuracy", ["4", "0.500", "0.750"]),
        ("  passes: true, own", ["2", "0.500", "0.500"]),
        ("  passes: false, number", ["1", "1.000", "0.000"]),
        ("town, balanced accuracy", ["1", "-", "-"]),
    ],
)
def test_each_set_and_kind_has_a_row(start, figures, capsys):
    print_report(verify_cases(CASES, TrustingReader()))
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(start)]
    cells = [cell for cell in row.removeprefix(start).split() if not cell.endswith((",", "]"))]
    assert cells == figures
