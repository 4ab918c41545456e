"""Metrics and statistics against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.harness.measures import area_under_roc, ndcg, recall, reciprocal_rank, success
from eval.harness.statistics import bootstrap, sign_flip

GRADES = {"a": 3.0, "b": 1.0, "c": 0.0}


def test_ndcg_by_hand():
    # found: b (1) at rank 1, a (3) at rank 3; ideal: 3 at rank 1, 1 at rank 2
    expected = (1 / 1 + 3 / 2) / (3 / 1 + 1 / math.log2(3))
    assert ndcg(["b", "x", "a"], GRADES, 10) == pytest.approx(expected)
    assert ndcg(["b", "x", "a"], GRADES, 2) == pytest.approx(1 / (3 + 1 / math.log2(3)))
    assert ndcg(["a", "b"], GRADES, 10) == 1
    assert ndcg(["a"], {}, 10) == 0


def test_recall_success_and_reciprocal_rank_by_hand():
    assert recall(["c", "b"], GRADES, 10) == 0.5
    assert recall(["c", "b"], GRADES, 1) == 0
    assert recall(["a"], {"c": 0.0}, 1) == 0
    assert (success(["c", "b"], GRADES, 1), success(["c", "b"], GRADES, 2)) == (0, 1)
    assert reciprocal_rank(["c", "x", "b", "a"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank(["c", "x"], GRADES) == 0


def test_area_under_roc_by_hand():
    # pairs won: (3>1), (3>2), (2>1), and (2=2) counts half: 3.5 of 4
    assert area_under_roc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)
    assert area_under_roc([1, 1], [1, 1]) == 0.5
    assert math.isnan(area_under_roc([], [1]))


rankings = st.lists(st.sampled_from("abcdefgh"), unique=True)
judgments = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1.0, 2.0]))


@given(rankings, judgments, st.integers(1, 10))
def test_metrics_stay_between_nothing_and_everything(ranking, grades, k):
    for metric in (ndcg, recall, success):
        assert 0 <= metric(ranking, grades, k) <= 1 + 1e-12
    best = sorted(grades, key=lambda document: -grades[document])
    assert ndcg(ranking, grades, k) <= ndcg(best, grades, k) + 1e-12


def test_intervals_hold_the_mean_and_are_the_same_every_time():
    scores = [0, 1, 1, 0, 1, 0.5]
    interval = bootstrap(scores)
    assert interval.mean == pytest.approx(3.5 / 6)
    assert interval.low < interval.mean < interval.high
    assert bootstrap(scores) == interval
    steady = bootstrap([0.25] * 9)
    assert (steady.low, steady.mean, steady.high) == (0.25, 0.25, 0.25)


def test_a_paired_test_sees_a_steady_gain_and_no_difference():
    # 12 gains alike: two of 2^12 sign patterns are as extreme
    assert sign_flip([0.6] * 12, [0.5] * 12) == pytest.approx(2 / 2**12, abs=5e-4)
    assert sign_flip([0.5, 0.4], [0.5, 0.4]) == 1
