"""Agreement of metrics with people: statistics against values by hand, and the tables."""

import json
import math
import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.benchmarks import agreement
from eval.benchmarks.agreement import (
    answer_tokens,
    cohens_kappa,
    content_tokens,
    exact_match,
    fisher_interval,
    kappa_values,
    load_long_pairs,
    load_short_answers,
    pearson,
    spearman,
    token_f1,
    token_recall,
)
from eval.harness.ranking import harmonic_mean

SYSTEMS = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
HERON = [
    ("Heron", True),
    ("It was the grey heron", True),
    ("A stork", False),
    ("Some herons", True),
    (None, None),
]
MAY = [
    ("May 1931.", True),
    ("In June 1931, after a long and wet spring", False),
    ("It opened in May of that year, 1931", True),
    (None, False),
    ("It was 1931 and not 1930", False),
]
IMPROPER = [("yes", "nan")] * 5
# First answer, second answer, and the judgments of two people: correctness, completeness, overall.
REFERENCE = "Herons, canals, barley, and the salt"
PAIRS = [
    ("herons canals", "herons canals barley salt", (1, 2), (-1, -1), (1, 1)),
    ("Herons!", "Storks!", (-1, -2), (1, 1), (0, 0)),
    ("salt", "salt", (0, 1), (0, 0), (-1, -1)),
]


def judged_row(question, golden, answers, improper=False):
    row = {"question": question, "golden_answer": golden}
    for system, (answer, right) in zip(SYSTEMS, answers, strict=True):
        row |= {f"answer_{system}": answer, f"judge_{system}": right}
    return row | {"improper": improper}


def labelled_pair(number, person):
    first, second, *judgments = PAIRS[number]
    names = ("correctness_label", "completeness_label", "overall_label")
    labels = dict(zip(names, judgments, strict=True))
    return {
        "instance_id": number,
        "gt_answer": REFERENCE,
        "model1": {"response": first},
        "model2": {"response": second},
        **{name: people[person] for name, people in labels.items()},
    }


@pytest.fixture
def data(tmp_path, monkeypatch):
    for folder in ("evouna", "ragchecker_meta"):
        (tmp_path / folder).mkdir()
    rows = [
        judged_row("Which bird?", "Grey Heron/heron/", HERON),
        judged_row("When did it open?", "May 1931", MAY),
    ]
    rows.append(judged_row("Improper?", None, IMPROPER, improper=True))
    (tmp_path / "evouna" / "NQ.json").write_text(json.dumps(rows))
    (tmp_path / "evouna" / "TQ.json").write_text(json.dumps(rows[:1]))
    people = []
    for person in (0, 1):
        for number in (2, 0, 1):
            people.append(labelled_pair(number, person))
    (tmp_path / "ragchecker_meta" / "human_labeled_data.json").write_text(json.dumps(people))
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["agreement"])
    return tmp_path


def row_figures(printed, name):
    """Return the figures of a row without their intervals."""
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(f"{name} ")]
    return [
        float(word)
        for word in line.strip().removeprefix(name).split()
        if word[0] != "[" and word[-1] != "]"
    ]


# --- metrics and statistics ----------------------------------------------------------------------


def test_tokens_drop_case_punctuation_articles_and_content_tokens_also_function_words():
    assert answer_tokens("The Grey heron's U.S. canal, a 'weir' [4].") == [
        "grey",
        "herons",
        "us",
        "canal",
        "weir",
        "4",
    ]
    assert content_tokens("It was the heron, and not a stork.") == ["heron", "stork"]
    assert answer_tokens("... the --") == []


def test_exact_match_requires_the_same_tokens_in_the_same_order():
    assert exact_match(answer_tokens("The Grey Heron."), answer_tokens("grey heron")) == 1
    assert exact_match(["heron", "grey"], ["grey", "heron"]) == 0
    assert exact_match(["heron"], ["grey", "heron"]) == 0


def test_token_f1_and_recall_match_values_by_hand():
    found, expected = ["x", "y", "y", "z"], ["y", "y", "y", "w", "x", "v"]
    # shared: x once, y twice: 3 of 4 found and of 6 expected
    assert token_f1(found, expected) == pytest.approx(2 * 3 / (4 + 6))
    assert token_recall(found, expected) == pytest.approx(3 / 6)
    assert (token_f1(found, ["w"]), token_recall(found, ["w"])) == (0, 0)
    assert (token_f1([], []), token_recall(["x"], [])) == (0, 0)


def test_kappa_matches_values_by_hand():
    # Cohen's example: both yes 20, both no 15, yes-no 5, no-yes 10; chance .5 * .6 + .5 * .4 = .5
    first = [True] * 20 + [False] * 15 + [True] * 5 + [False] * 10
    second = [True] * 20 + [False] * 15 + [False] * 5 + [True] * 10
    assert cohens_kappa(first, second) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    # three labels: 1 of 4 agrees; by chance (1*2 + 2*1 + 1*1) / 16
    assert cohens_kappa("abbc", "cbaa") == pytest.approx((4 / 16 - 5 / 16) / (1 - 5 / 16))
    assert cohens_kappa([True, False], [True, False]) == 1
    assert cohens_kappa([True, False], [False, True]) == -1
    assert cohens_kappa([True, True], [True, False]) == 0
    assert math.isnan(cohens_kappa([True, True], [True, True]))
    assert math.isnan(cohens_kappa([], []))


def test_correlations_match_values_by_hand():
    # deviations -1, 0, 1 and -2, 1, 1
    assert pearson([1, 2, 3], [1, 4, 4]) == pytest.approx(3 / math.sqrt(2 * 6))
    # ranks 1, 2, 3 and 1, 2.5, 2.5: deviations -1, 0, 1 and -1, .5, .5
    assert spearman([1, 2, 3], [1, 4, 4]) == pytest.approx(1.5 / math.sqrt(2 * 1.5))
    assert spearman([1, 2, 3, 4], [1, 10, 100, 99]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert math.isnan(pearson([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1, 2], [0, 0]))
    assert math.isnan(pearson([], []))


def test_interval_of_a_correlation_matches_values_by_hand():
    # .196 either side of atanh(.5) = .5493
    interval = fisher_interval(0.5, 103)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (0.5, 0.3393, 0.6323), abs=1e-4
    )
    assert (fisher_interval(0.5, 3).low, fisher_interval(0.5, 3).high) == (-1, 1)
    assert fisher_interval(1.0, 50).low == 1


tokens = st.lists(st.sampled_from("abcd"), max_size=8)
ratings = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)
points = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30)


@given(tokens, tokens)
def test_f1_is_the_harmonic_mean_of_recall_in_both_directions(found, expected):
    both_ways = harmonic_mean(token_recall(found, expected), token_recall(expected, found))
    assert token_f1(found, expected) == pytest.approx(both_ways)
    assert token_recall(found, expected) >= exact_match(found, expected) * bool(expected)


@given(ratings)
def test_kappa_ignores_the_order_of_raters_and_the_names_of_labels(pairs):
    first, second = zip(*pairs, strict=True)
    kappa = cohens_kappa(first, second)
    flipped = cohens_kappa([not label for label in second], [not label for label in first])
    assert flipped == pytest.approx(kappa, nan_ok=True)
    assert math.isnan(kappa) or -1 <= kappa <= 1 + 1e-12


SQUARE = [(True, True)] * 20 + [(False, False)] * 15 + [(True, False)] * 5 + [(False, True)] * 10


@pytest.mark.parametrize("item", sorted(set(SQUARE)))
def test_kappa_value_of_an_item_is_its_effect_on_kappa(item):
    # with many items, one more moves the mean by its distance from the mean over their number
    first, second = zip(*SQUARE * 1000, strict=True)
    kappa, values = cohens_kappa(first, second), kappa_values(first, second)
    moved = cohens_kappa([*first, item[0]], [*second, item[1]]) - kappa
    assert values[SQUARE.index(item)] - kappa == pytest.approx(moved * len(first), rel=1e-3)


@given(ratings)
def test_mean_of_kappa_values_is_kappa(pairs):
    first, second = zip(*pairs, strict=True)
    kappa = cohens_kappa(first, second)
    assert math.isnan(kappa) or kappa_values(first, second).mean() == pytest.approx(kappa)


@given(points)
def test_pearson_matches_the_standard_library_and_spearman_ignores_scale(pairs):
    first, second = zip(*pairs, strict=True)
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert pearson(first, second) == pytest.approx(
            statistics.correlation(first, second), abs=1e-9
        )
    stretched = [value**3 + value for value in first]
    assert spearman(stretched, second) == pytest.approx(spearman(first, second), nan_ok=True)


# --- data and tables -----------------------------------------------------------------------------


def test_only_judged_answers_to_proper_questions_are_loaded(data):
    answers = load_short_answers(data / "evouna" / "NQ.json")
    assert [answer.question for answer in answers] == [0] * 4 + [1] * 5
    assert [answer.is_right for answer in answers] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    assert answers[0].accepted == ("Grey Heron", "heron")
    assert answers[7].text == ""


def test_judgments_of_two_people_on_a_pair_are_joined(data):
    pairs = load_long_pairs(data / "ragchecker_meta" / "human_labeled_data.json")
    assert [pair.second for pair in pairs] == [second for _, second, *_ in PAIRS]
    assert pairs[0].judgments == {
        "correctness": (1, 2),
        "completeness": (-1, -1),
        "overall": (1, 1),
    }


def test_table_of_short_answers_matches_values_by_hand(data, capsys):
    agreement.main()
    table, _ = capsys.readouterr().out.split("TQ: ")
    assert "NQ: 9 answers to 2 questions, 0.556 of them right" in table
    # accuracy, kappa, precision, recall; people say right of 5 in 9
    assert row_figures(table, "contains_nugget, as used") == pytest.approx(
        [7 / 9, 24 / 42, 1, 3 / 5], abs=6e-4
    )
    assert row_figures(table, "exact match") == pytest.approx([6 / 9, 16 / 43, 1, 2 / 5], abs=6e-4)
    assert row_figures(table, "token F1 >= 1/2") == pytest.approx(
        [7 / 9, 24 / 42, 1, 3 / 5], abs=6e-4
    )
    assert row_figures(table, "gold-token recall >= 1/2") == pytest.approx(
        [6 / 9, 12 / 39, 4 / 6, 4 / 5], abs=6e-4
    )
    assert row_figures(table, "gold-token recall >= 2/3") == pytest.approx(
        [8 / 9, 32 / 41, 1, 4 / 5], abs=6e-4
    )
    assert row_figures(table, "everything is right") == pytest.approx(
        [5 / 9, 0, 5 / 9, 1], abs=6e-4
    )


def test_answers_to_one_question_are_resampled_together(data, capsys):
    # all four answers belong to one question, so every resample is the same
    agreement.print_short("one", load_short_answers(data / "evouna" / "TQ.json"))
    assert "0.750 [0.750, 0.750]" in capsys.readouterr().out


def test_undefined_agreement_is_a_dash(capsys):
    wrong = [agreement.ShortAnswer(0, "a stork", ("heron",), False)]
    agreement.print_short("none", wrong)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "exact match" in line]
    assert line.split("]")[1].split() == ["-", "-", "-"]


def test_table_of_long_answers_matches_values_by_hand(data, capsys):
    agreement.main()
    table = capsys.readouterr().out.split("ragchecker_meta: 3 pairs")[1]
    mean, single = table.split("with one person")
    # recall differs by 1/2, -1/4, 0
    # the means of two people are 3/2, -3/2, 1/2, then -1, 1, 0 and 1, 0, -1
    recall = row_figures(mean, "content-token recall")
    assert recall[1::2] == pytest.approx([1, -1, 0.5], abs=6e-4)
    # deviations 5/12, -4/12, -1/12 with 8/6, -10/6, 2/6, then with -1, 1, 0 and 1, 0, -1
    assert recall[::2] == pytest.approx([78 / 84, -9 / math.sqrt(84), 6 / math.sqrt(84)], abs=6e-4)
    # lengths differ by 2, 0, 0
    assert row_figures(mean, "length in words")[1::2] == pytest.approx(
        [0.866, -0.866, 0.866], abs=6e-4
    )
    # the people: 1, -1, 0 and 2, -2, 1 for correctness, alike for the rest
    assert row_figures(single, "the other person") == pytest.approx(
        [4 / math.sqrt(2 * 78 / 9), 1, 1, 1, 1, 1], abs=6e-4
    )


@pytest.mark.parametrize("missing", ["evouna/TQ.json", "ragchecker_meta/human_labeled_data.json"])
def test_nothing_is_printed_when_part_of_the_data_is_missing(data, capsys, missing):
    (data / missing).unlink()
    with pytest.raises(SystemExit, match=f"no judgments of people in .*{missing}"):
        agreement.main()
    assert capsys.readouterr().out == ""


def test_missing_data_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["agreement"])
    with pytest.raises(SystemExit, match="FOOTNOTE_DATA"):
        agreement.main()
