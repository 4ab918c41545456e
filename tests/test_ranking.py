"""Ranking and citation metrics against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.harness.ranking import (
    area_under_roc,
    group_precision,
    group_recall,
    harmonic_mean,
    ndcg,
    recall,
    reciprocal_rank,
    success,
)

GRADES = {"a": 3.0, "b": 1.0, "c": 0.0}


def test_ndcg():
    # b (gain 1) is at rank 1 and a (gain 3) at rank 3; ideally a is at rank 1 and b at rank 2.
    expected = (1 / 1 + 3 / 2) / (3 / 1 + 1 / math.log2(3))
    assert ndcg(["b", "x", "a"], GRADES, 10) == pytest.approx(expected)
    assert ndcg(["b", "x", "a"], GRADES, 2) == pytest.approx(1 / (3 + 1 / math.log2(3)))
    assert ndcg(["a", "b"], GRADES, 10) == 1
    assert ndcg(["a"], {}, 10) == 0


def test_recall_success_and_reciprocal_rank():
    assert recall(["c", "b"], GRADES, 10) == 0.5
    assert recall(["c", "b"], GRADES, 1) == 0
    assert recall(["a"], {"c": 0.0}, 1) == 0
    assert (success(["c", "b"], GRADES, 1), success(["c", "b"], GRADES, 2)) == (0, 1)
    assert reciprocal_rank(["c", "x", "b", "a"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank(["c", "x"], GRADES) == 0


def test_area_under_roc():
    # 3 > 1, 3 > 2 and 2 > 1 are won, and 2 = 2 counts half: 3.5 of 4 pairs.
    assert area_under_roc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)
    assert area_under_roc([1, 1], [1, 1]) == 0.5
    assert math.isnan(area_under_roc([], [1]))


def test_group_recall_and_precision():
    gold = [["a", "b"], ["c"]]
    assert group_recall(["b", "x"], gold) == group_recall(["a", "b"], gold) == 0.5
    assert group_recall(["c", "a"], gold) == 1
    assert group_recall([], gold) == group_recall(["a"], []) == 0
    assert group_precision(["a", "a", "x"], gold) == 0.5
    assert group_precision([], gold) == group_precision(["x"], gold) == 0


def test_harmonic_mean_of_two_numbers():
    assert harmonic_mean(0.5, 1) == pytest.approx(2 / 3)
    assert harmonic_mean(0, 1) == harmonic_mean(1, 0) == 0


rankings = st.lists(st.sampled_from("abcdefgh"), unique=True)
judgments = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1.0, 2.0]))


@given(rankings, judgments, st.integers(1, 10))
def test_ranking_metrics_lie_between_0_and_1_and_the_ideal_ranking_has_the_best_ndcg(
    ranking, grades, k
):
    for metric in (ndcg, recall, success):
        assert 0 <= metric(ranking, grades, k) <= 1 + 1e-12
    ideal = sorted(grades, key=lambda document: -grades[document])
    assert ndcg(ranking, grades, k) <= ndcg(ideal, grades, k) + 1e-12
