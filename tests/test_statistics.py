"""Statistics against values by hand and against full enumeration."""

import math
import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.harness.statistics import (
    CalibrationBin,
    Difference,
    Interval,
    aurc,
    bootstrap,
    calibration_bins,
    expected_calibration_error,
    harmonic_interval,
    holm_adjust,
    is_non_inferior,
    paired_difference,
    risk_coverage,
    rule_of_three,
    sign_flip_test,
)

# Eighths are exact in binary, so that sums do not depend on rounding.
eighths = st.integers(0, 8).map(lambda count: count / 8)
questions = st.lists(st.tuples(eighths, st.sampled_from("abcde")), min_size=1, max_size=12)
pairs = st.lists(st.tuples(eighths, eighths, st.sampled_from("abcde")), min_size=1, max_size=12)
few_examples = settings(max_examples=40, deadline=None)


def values(record):
    return (record.mean, record.low, record.high)


def approx_values(record):
    return pytest.approx(values(record), abs=1e-9)


def enumerate_draws(statistic, clusters):
    """Return the statistic of every possible draw of clusters for which it is not None."""
    names = sorted(set(clusters))
    drawn = map(statistic, product(names, repeat=len(names)))
    return [value for value in drawn if value is not None]


def assert_ends_at_percentiles(interval, drawn):
    """Check that 2.5 % of the draws lie beyond each end.

    The tolerance of 0.015 is six standard errors of 4,000 draws.
    """
    for end, share in ((interval.low, 0.025), (interval.high, 0.975)):
        assert sum(value < end - 1e-9 for value in drawn) / len(drawn) <= share + 0.015
        assert sum(value <= end + 1e-9 for value in drawn) / len(drawn) >= share - 0.015


def mean_of(scored, draw):
    drawn = []
    for name in draw:
        drawn += [score for score, label in scored if label == name]
    return sum(drawn) / len(drawn) if drawn else None


def test_bootstrap_of_single_scores():
    # the draws hold Binomial(4, 1/4) ones: P(4) is 0.004, P(at least 3) is 0.051, P(0) is 0.32
    assert values(bootstrap([0, 1, 0, 0])) == (0.25, 0, 0.75)


def test_bootstrap_is_seeded_and_its_interval_contains_the_mean():
    scores = [0, 1, 1, 0, 1, 0.5]
    interval = bootstrap(scores)
    assert interval.mean == pytest.approx(3.5 / 6)
    assert interval.low < interval.mean < interval.high
    assert bootstrap(scores) == interval
    assert values(bootstrap([0.25] * 9)) == (0.25, 0.25, 0.25)


def test_bootstrap_draws_whole_clusters_and_averages_over_questions():
    # If x of 4 draws are "a", the mean is 3x / (3x + 4 - x).
    # The 97.5th percentile is x = 3, which gives 9/10.
    assert values(bootstrap([1, 0, 1, 0, 1, 0], "abacad")) == approx_values(Interval(0.5, 0, 0.9))
    # the same scores alone are Binomial(6, 1/2): P(6) is 0.016, P(0) too
    assert values(bootstrap([1, 0, 1, 0, 1, 0])) == approx_values(Interval(0.5, 1 / 6, 5 / 6))


@few_examples
@given(questions.filter(lambda scored: len({label for _, label in scored}) < 5))
def test_bootstrap_intervals_are_percentiles_of_all_draws(scored):
    scores, clusters = zip(*scored, strict=True)
    interval = bootstrap(scores, clusters)
    assert interval.mean == pytest.approx(sum(scores) / len(scores))
    assert_ends_at_percentiles(
        interval, enumerate_draws(lambda draw: mean_of(scored, draw), clusters)
    )


@few_examples
@given(questions, st.randoms(use_true_random=False))
def test_bootstrap_ignores_order_and_cluster_labels(scored, random):
    shuffled = random.sample(scored, len(scored))
    before, after = (
        zip(*scored, strict=True),
        zip(*[(s, ("new", ord(name))) for s, name in shuffled], strict=True),
    )
    assert bootstrap(*before) == bootstrap(*after)


@few_examples
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter_when_sums_are_rounded(scores, random):
    labels = [number % 4 for number in range(len(scores))]
    numbers = random.sample(range(len(scores)), len(scores))
    shuffled, shuffled_labels = [scores[n] for n in numbers], [labels[n] for n in numbers]
    assert bootstrap(scores, labels) == bootstrap(shuffled, shuffled_labels)
    assert paired_difference(scores, scores[::-1], labels) == paired_difference(
        shuffled, [scores[::-1][n] for n in numbers], shuffled_labels
    )


@few_examples
@given(st.lists(eighths, min_size=2, max_size=8, unique=True), st.integers(3, 5))
def test_cluster_of_copies_is_as_wide_as_one_question(scores, copies):
    repeated = np.repeat(scores, copies)
    alone, together = (
        bootstrap(scores),
        bootstrap(repeated, [n // copies for n in range(len(repeated))]),
    )
    assert values(together) == approx_values(alone)
    as_if_independent = bootstrap(repeated)
    assert as_if_independent.high - as_if_independent.low < together.high - together.low


@few_examples
@given(questions)
def test_without_clusters_each_score_is_its_own_cluster(scored):
    scores = [score for score, _ in scored]
    assert bootstrap(scores) == bootstrap(scores, range(len(scores)))


def test_many_questions_need_several_blocks_and_have_the_known_width():
    # 3,000 scores of 0 and 1: the standard error is 0.5 / sqrt(3000), and the ends are 1.96 times
    # that away.
    interval = bootstrap([0, 1] * 1500)
    half = 1.96 * 0.5 / math.sqrt(3000)
    assert values(interval) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=0.06 * half)
    shifted = sign_flip_test([0.25, 0.75] * 1500, [0.25 + half / 2, 0.75 - half / 2] * 1500)
    assert shifted == 1  # the differences cancel: every flip is as extreme


@pytest.mark.parametrize("wrong", [[], [[0, 1]], [0.5, math.nan], [math.inf]])
def test_invalid_scores_are_refused(wrong):
    other = [0.5] * len(wrong)
    calls = (
        lambda: bootstrap(wrong),
        lambda: sign_flip_test(wrong, other),
        lambda: sign_flip_test(other, wrong),
        lambda: harmonic_interval(wrong, [1]),
        lambda: harmonic_interval([1], wrong),
        lambda: is_non_inferior(wrong, other, 0.1),
        lambda: risk_coverage(wrong, other),
        lambda: aurc(other, wrong),
    )
    for call in calls:
        with pytest.raises(ValueError, match="scores"):
            call()


def test_lists_of_different_lengths_are_refused():
    calls = (
        lambda: bootstrap([1, 0], "a"),
        lambda: paired_difference([1, 0], [1]),
        lambda: sign_flip_test([1], [1, 0]),
        lambda: paired_difference([1, 0], [0, 1], "abc"),
        lambda: harmonic_interval([1, 0], [1], "ab", "ab"),
        lambda: is_non_inferior([1, 0], [1], 0.1),
        lambda: aurc([1, 0], [1]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="same length, not"):
            call()


def test_sign_flips_swap_whole_clusters():
    # six gains alike: 2 of 2^6 sign patterns are as extreme; in three clusters, 2 of 2^3
    scores, others = [1.0] * 6, [0.5] * 6
    assert sign_flip_test(scores, others) == pytest.approx(2 / 64, abs=0.01)
    assert sign_flip_test(scores, others, "aabbcc") == pytest.approx(2 / 8, abs=0.025)
    assert sign_flip_test(scores, others, "aaaaaa") == 1


def test_sign_flip_test_tells_a_steady_gain_from_no_difference():
    # 12 gains alike: two of 2^12 sign patterns are as extreme
    assert sign_flip_test([0.6] * 12, [0.5] * 12) == pytest.approx(2 / 2**12, abs=5e-4)
    assert sign_flip_test([0.5, 0.4], [0.5, 0.4]) == 1


def test_p_is_never_0():
    assert sign_flip_test([1] * 60, [0] * 60) == 1 / 10_001


@few_examples
@given(pairs)
def test_p_is_the_share_of_equally_extreme_sign_patterns(paired_scores):
    scores, baseline, clusters = zip(*paired_scores, strict=True)
    sums = Counter()
    for first, second, label in paired_scores:
        sums[label] += first - second
    differences = np.array(list(sums.values()))
    patterns = np.array(list(product((-1, 1), repeat=len(differences))))
    is_extreme = np.abs(patterns @ differences) >= abs(differences.sum())
    p = sign_flip_test(scores, baseline, clusters)
    assert p == pytest.approx(is_extreme.mean(), abs=0.03)
    assert p == sign_flip_test(baseline, scores, clusters)


def test_flips_that_differ_only_by_rounding_are_ties():
    # 0.3 - 0.2 is not exactly 1 - 0.9; all true gains are 0.1, in units of any size
    for unit in (1, 1e9, 1e-13):
        scores = [unit * score for score in (0.3, 0.4, 0.8, 1.0)]
        baseline = [unit * score for score in (0.2, 0.3, 0.7, 0.9)]
        assert sign_flip_test(scores, baseline) == pytest.approx(2 / 16, abs=0.02)
        # 0.1 + 0.2 - 0.3 is not quite 0, and no flip is less extreme than 0
        assert sign_flip_test([unit * 0.1, unit * 0.2, 0], [0, 0, unit * 0.3]) == 1


@few_examples
@given(pairs)
def test_paired_difference_combines_bootstrap_and_sign_flip_test(paired_scores):
    scores, baseline, clusters = zip(*paired_scores, strict=True)
    difference = paired_difference(scores, baseline, clusters)
    assert values(difference) == values(
        bootstrap([a - b for a, b in zip(scores, baseline, strict=True)], clusters)
    )
    assert difference.p == sign_flip_test(scores, baseline, clusters)


def test_paired_difference():
    # differences 1, 0, 0, 0; any flip of the single 1 is as extreme
    assert paired_difference([1, 1, 0, 1], [0, 1, 0, 1]) == Difference(0.25, 0, 0.75, 1)
    assert str(Difference(0.25, 0, -0.75, 0.01234)) == "+0.250 [+0.000, -0.750] p 0.0123"


def test_harmonic_interval():
    # means 1/2 and 1
    assert harmonic_interval([1, 0], [1, 1], "ab", "cd").mean == pytest.approx(2 / 3)
    # With shared clusters both means are x / 4, and so is their harmonic mean. Without, both would
    # rarely be high at once.
    assert values(harmonic_interval([1, 0, 0, 0], [1, 0, 0, 0], "abcd", "abcd")) == approx_values(
        Interval(0.25, 0, 0.75)
    )
    apart = harmonic_interval([1, 0, 0, 0], [1, 0, 0, 0], "abcd", "efgh")
    assert apart.high < 0.75
    assert harmonic_interval([1, 0, 0, 0], [1, 0, 0, 0]) == apart


def test_harmonic_interval_is_0_if_a_mean_is_0():
    assert harmonic_interval([0, 0], [1, 1], "ab", "cd") == Interval(0, 0, 0)
    assert harmonic_interval([1], [0, 0]) == Interval(0, 0, 0)
    assert harmonic_interval([0], [0]) == Interval(0, 0, 0)


def test_harmonic_interval_refuses_negative_scores():
    with pytest.raises(ValueError, match="negative"):
        harmonic_interval([1, -1], [1])


small = st.lists(st.tuples(eighths, st.sampled_from("abcd")), min_size=1, max_size=6)


@few_examples
@given(small, small)
def test_harmonic_intervals_are_percentiles_of_all_draws_with_both_samples(first, second):
    def harmonic_mean_of(draw):
        first_mean, second_mean = mean_of(first, draw), mean_of(second, draw)
        if first_mean is None or second_mean is None:
            return None
        total = first_mean + second_mean
        return 2 * first_mean * second_mean / total if total else 0

    (first_scores, first_clusters), (second_scores, second_clusters) = (
        zip(*first, strict=True),
        zip(*second, strict=True),
    )
    drawn = enumerate_draws(harmonic_mean_of, first_clusters + second_clusters)
    interval = harmonic_interval(first_scores, second_scores, first_clusters, second_clusters)
    assert interval == harmonic_interval(
        first_scores[::-1], second_scores[::-1], first_clusters[::-1], second_clusters[::-1]
    )
    assert_ends_at_percentiles(interval, drawn)


def test_rule_of_three():
    assert rule_of_three(100) == 0.03
    assert rule_of_three(2) == 1
    # the exact bound b has (1 - b)^n = 0.05
    assert rule_of_three(500) == pytest.approx(1 - 0.05 ** (1 / 500), rel=0.01)
    with pytest.raises(ValueError, match="at least one trial"):
        rule_of_three(0)


def test_holm_adjustment():
    # in order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 must not fall below the 0.06 before it
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.6, 0.7]) == [1, 1]
    assert holm_adjust([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_holm_adjustment_keeps_order_and_lies_between_raw_p_and_bonferroni(ps, random):
    adjusted = holm_adjust(ps)
    for p, q in zip(ps, adjusted, strict=True):
        assert p <= q <= min(1, len(ps) * p)
    ordered = [q for _, q in sorted(zip(ps, adjusted, strict=True))]
    assert ordered == sorted(adjusted)
    assert min(adjusted) == min(1, len(ps) * min(ps))
    numbers = random.sample(range(len(ps)), len(ps))
    assert holm_adjust([ps[n] for n in numbers]) == [adjusted[n] for n in numbers]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_holm_adjustment_refuses_invalid_p_values(wrong):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm_adjust([0.5, wrong])


@pytest.mark.parametrize(
    ("differences", "margin", "inferior"),
    [
        ([-0.25] * 8, 0.125, True),
        ([-0.25] * 8, 0.25, False),  # the margin itself may be lost
        ([-0.25] * 8, 0.5, False),
        ([1, -1, 1, -1, 1], 0.125, False),  # wide, yet better in the mean
        ([-1, 1, -1, 1, -1], 0.125, True),
        ([1, -1], 0.125, False),  # no difference in the mean
        ([0] * 8, 0, False),
    ],
)
def test_inferior_means_worse_and_possibly_beyond_the_margin(differences, margin, inferior):
    scores = [0.5 + difference for difference in differences]
    assert is_non_inferior(scores, [0.5] * len(scores), margin) is not inferior


def test_non_inferiority_tolerates_rounding():
    # 0.6 - 0.65 is a little below -0.05, and -0.2 - 0.1 + 0.3 a little below 0
    assert is_non_inferior([0.6] * 8, [0.65] * 8, 0.05)
    assert is_non_inferior([0, 0, 0.3], [0.1, 0.2, 0], 0.05)


def test_clusters_make_a_loss_less_certain():
    # -1/4 ten times and +1/8 ten times: low is about -0.15 for single questions, and -0.25 for two
    # clusters.
    scores, baseline = [0.25] * 10 + [0.625] * 10, [0.5] * 20
    assert is_non_inferior(scores, baseline, 0.2)
    assert not is_non_inferior(scores, baseline, 0.2, "a" * 10 + "b" * 10)


@pytest.mark.parametrize("margin", [-0.1, math.nan])
def test_negative_margin_is_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        is_non_inferior([1], [1], margin)


def test_risk_coverage_curve_and_its_area():
    assert risk_coverage([0.6, 0.9, 0.7, 0.8], [1, 0, 1, 0]) == [
        (0.25, 0),
        (0.5, 0),
        (0.75, pytest.approx(1 / 3)),
        (1, 0.5),
    ]
    assert aurc([0.6, 0.9, 0.7, 0.8], [1, 0, 1, 0]) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_ties_in_confidence_are_covered_together():
    confidences, losses = [0.8, 0.3, 0.9, 0.8], [1, 1, 0, 0]
    assert risk_coverage(confidences, losses) == [(0.25, 0), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    # 0.1 + 0.2 + 0.3 is not quite 0.3 + 0.2 + 0.1
    assert risk_coverage([1, 1, 1], [0.1, 0.2, 0.3]) == risk_coverage([1, 1, 1], [0.3, 0.2, 0.1])
    # both of the tied questions count the risk of covering both
    assert aurc(confidences, losses) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)


answers = st.lists(st.tuples(st.integers(0, 5), eighths), min_size=1, max_size=12)


@given(answers, st.randoms(use_true_random=False))
def test_aurc_is_the_mean_risk_at_each_questions_confidence(answered, random):
    risks = []
    for threshold, _ in answered:
        covered = [loss for confidence, loss in answered if confidence >= threshold]
        risks.append(sum(covered) / len(covered))
    confidences, losses = zip(*answered, strict=True)
    assert aurc(confidences, losses) == pytest.approx(sum(risks) / len(risks))
    shuffled = zip(*random.sample(answered, len(answered)), strict=True)
    assert risk_coverage(confidences, losses) == risk_coverage(*shuffled)
    assert aurc([10.0**confidence for confidence in confidences], losses) == aurc(
        confidences, losses
    )


@given(answers)
def test_perfect_order_has_the_smallest_aurc_and_the_opposite_the_largest(answered):
    confidences, losses = zip(*answered, strict=True)
    ordered, places = sorted(losses), range(len(losses))
    area, mean = aurc(confidences, losses), sum(losses) / len(losses)
    assert aurc([-place for place in places], ordered) <= area + 1e-12
    assert area <= aurc(places, ordered) + 1e-12
    assert aurc([1] * len(losses), losses) == pytest.approx(mean)
    coverage, risk = risk_coverage(confidences, losses)[-1]
    assert (coverage, risk) == (1, pytest.approx(mean))


def test_calibration_bins_hold_equal_numbers_and_the_error_is_weighted_by_them():
    confidences = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    outcomes = [0, 0, 1, 0, 1, 0, 1, 1]
    low, high = calibration_bins(confidences, outcomes, 2)
    assert (low.confidence, low.outcome, low.n) == (pytest.approx(0.25), 0.25, 4)
    assert (high.confidence, high.outcome, high.n) == (pytest.approx(0.75), 0.75, 4)
    assert expected_calibration_error([low, high]) == pytest.approx(0)
    uneven = [CalibrationBin(0.9, 0.5, 3), CalibrationBin(0.2, 0.4, 1)]
    assert expected_calibration_error(uneven) == pytest.approx(0.75 * 0.4 + 0.25 * 0.2)


def test_equal_confidences_share_a_bin():
    assert calibration_bins([0.5] * 6, [0, 1] * 3) == [CalibrationBin(0.5, 0.5, 6)]
    (zero, one) = calibration_bins([0.0] * 5 + [1.0] * 5, [0] * 5 + [1] * 5)
    assert (zero, one) == (CalibrationBin(0, 0, 5), CalibrationBin(1, 1, 5))


@few_examples
@given(st.lists(st.tuples(eighths, st.booleans()), min_size=1, max_size=40), st.randoms())
def test_calibration_bins_cover_every_question_in_any_order(scored, random):
    shuffled = list(scored)
    random.shuffle(shuffled)
    bins, other_bins = (calibration_bins(*zip(*rows, strict=True)) for rows in (scored, shuffled))
    assert sum(each.n for each in bins) == len(scored)
    assert [each.n for each in bins] == [each.n for each in other_bins]
    total = sum(each.outcome * each.n for each in bins)
    assert total == pytest.approx(sum(outcome for _, outcome in scored))
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    assert 0 <= expected_calibration_error(bins) <= 1


def test_results_are_the_same_in_another_process_and_need_only_numpy():
    code = (
        "import sys; from eval.harness.statistics import harmonic_interval, paired_difference;"
        "print(paired_difference([0.1, 0.9, 0.4], [0.3, 0.2, 0.4], 'aab'));"
        "print(repr(harmonic_interval([0.1, 0.9, 0.4], [0.3, 0.7])));"
        "print([name for name in ('scipy', 'sklearn', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    difference = paired_difference([0.1, 0.9, 0.4], [0.3, 0.2, 0.4], "aab")
    interval = harmonic_interval([0.1, 0.9, 0.4], [0.3, 0.7])
    assert run.stdout.splitlines() == [str(difference), repr(interval), "[]"]
