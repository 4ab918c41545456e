"""Intervals, tests and curves against values worked out by hand, published ones and full enumeration."""

import math
import subprocess
import sys
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.harness.statistics import (
    Difference,
    Interval,
    aurc,
    bootstrap,
    harmonic,
    holm,
    non_inferior,
    paired,
    risk_coverage,
    rule_of_three,
    sign_flip,
    wilson,
)

# Eighths are exact in binary: sums do not depend on rounding.
eighths = st.integers(0, 8).map(lambda count: count / 8)
questions = st.lists(st.tuples(eighths, st.sampled_from("abcde")), min_size=1, max_size=12)
pairs = st.lists(st.tuples(eighths, eighths, st.sampled_from("abcde")), min_size=1, max_size=12)
fewer = settings(max_examples=40, deadline=None)


def values(record):
    return (record.mean, record.low, record.high)


def figures(record):
    return pytest.approx(values(record), abs=1e-9)


def enumerated(statistic, clusters):
    """The statistic of every draw of as many clusters; a draw without a value is left out."""
    names = sorted(set(clusters))
    drawn = [statistic(draw) for draw in product(names, repeat=len(names))]
    return [value for value in drawn if value is not None]


def assert_ends_at_percentiles(interval, drawn):
    """2.5 % of the draws lie outside each end; 0.015 is six standard errors of 4,000 draws that count."""
    for end, share in ((interval.low, 0.025), (interval.high, 0.975)):
        assert sum(value < end - 1e-9 for value in drawn) / len(drawn) <= share + 0.015
        assert sum(value <= end + 1e-9 for value in drawn) / len(drawn) >= share - 0.015


def mean_of(scored, draw):
    held = [score for name in draw for score, label in scored if label == name]
    return sum(held) / len(held) if held else None


def test_single_scores_by_hand():
    # the draws hold Binomial(4, 1/4) ones: P(4) is 0.004, P(at least 3) is 0.051, P(0) is 0.32
    assert values(bootstrap([0, 1, 0, 0])) == (0.25, 0, 0.75)


def test_clusters_are_drawn_whole_and_the_mean_is_over_their_questions():
    # x of 4 draws are "a": the mean is 3x / (3x + 4 - x); x = 3 is the 97.5th percentile, and gives 9/10
    assert values(bootstrap([1, 0, 1, 0, 1, 0], "abacad")) == figures(Interval(0.5, 0, 0.9))
    # the same scores alone are Binomial(6, 1/2): P(6) is 0.016, P(0) too
    assert values(bootstrap([1, 0, 1, 0, 1, 0])) == figures(Interval(0.5, 1 / 6, 5 / 6))


@fewer
@given(questions.filter(lambda scored: len({label for _, label in scored}) < 5))
def test_intervals_are_percentiles_of_all_draws(scored):
    scores, clusters = zip(*scored, strict=True)
    interval = bootstrap(scores, clusters)
    assert interval.mean == pytest.approx(sum(scores) / len(scores))
    assert_ends_at_percentiles(interval, enumerated(lambda draw: mean_of(scored, draw), clusters))


@fewer
@given(questions, st.randoms(use_true_random=False))
def test_neither_order_nor_the_names_of_clusters_change_anything(scored, random):
    shuffled = random.sample(scored, len(scored))
    before, after = (
        zip(*scored, strict=True),
        zip(*[(s, ("new", ord(name))) for s, name in shuffled], strict=True),
    )
    assert bootstrap(*before) == bootstrap(*after)


@fewer
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_count_where_sums_are_rounded(scores, random):
    labels = [number % 4 for number in range(len(scores))]
    numbers = random.sample(range(len(scores)), len(scores))
    shuffled, their_labels = [scores[n] for n in numbers], [labels[n] for n in numbers]
    assert bootstrap(scores, labels) == bootstrap(shuffled, their_labels)
    assert paired(scores, scores[::-1], labels) == paired(
        shuffled, [scores[::-1][n] for n in numbers], their_labels
    )


@fewer
@given(st.lists(eighths, min_size=2, max_size=8, unique=True), st.integers(3, 5))
def test_a_cluster_of_copies_is_as_wide_as_one_question(scores, copies):
    repeated = [score for score in scores for _ in range(copies)]
    alone, together = (
        bootstrap(scores),
        bootstrap(repeated, [n // copies for n in range(len(repeated))]),
    )
    assert values(together) == figures(alone)
    as_if_independent = bootstrap(repeated)
    assert as_if_independent.high - as_if_independent.low < together.high - together.low


@fewer
@given(questions)
def test_without_clusters_each_score_is_its_own(scored):
    scores = [score for score, _ in scored]
    assert bootstrap(scores) == bootstrap(scores, range(len(scores)))


def test_many_questions_take_more_than_one_block_and_have_the_known_width():
    # 3,000 scores of 0 and 1: the standard error is 0.5 / sqrt(3000), and the ends are 1.96 of it away
    interval = bootstrap([0, 1] * 1500)
    half = 1.96 * 0.5 / math.sqrt(3000)
    assert values(interval) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=0.06 * half)
    shifted = sign_flip([0.25, 0.75] * 1500, [0.25 + half / 2, 0.75 - half / 2] * 1500)
    assert shifted == 1  # the differences cancel: every flip is as extreme


@pytest.mark.parametrize("wrong", [[], [[0, 1]], [0.5, math.nan], [math.inf]])
def test_what_are_no_scores_is_refused(wrong):
    other = [0.5] * len(wrong)
    calls = (
        lambda: bootstrap(wrong),
        lambda: sign_flip(wrong, other),
        lambda: sign_flip(other, wrong),
        lambda: harmonic(wrong, [1]),
        lambda: harmonic([1], wrong),
        lambda: non_inferior(wrong, other, 0.1),
        lambda: risk_coverage(wrong, other),
        lambda: aurc(other, wrong),
    )
    for call in calls:
        with pytest.raises(ValueError, match="scores"):
            call()


def test_lists_that_do_not_fit_are_refused():
    calls = (
        lambda: bootstrap([1, 0], "a"),
        lambda: paired([1, 0], [1]),
        lambda: sign_flip([1], [1, 0]),
        lambda: paired([1, 0], [0, 1], "abc"),
        lambda: harmonic([1, 0], [1], "ab", "ab"),
        lambda: non_inferior([1, 0], [1], 0.1),
        lambda: aurc([1, 0], [1]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="one length, not"):
            call()


def test_flips_go_by_cluster():
    # six gains alike: 2 of 2^6 sign patterns are as extreme; in three clusters, 2 of 2^3
    scores, others = [1.0] * 6, [0.5] * 6
    assert sign_flip(scores, others) == pytest.approx(2 / 64, abs=0.01)
    assert sign_flip(scores, others, "aabbcc") == pytest.approx(2 / 8, abs=0.025)
    assert sign_flip(scores, others, "aaaaaa") == 1


def test_p_is_never_nothing():
    assert sign_flip([1] * 60, [0] * 60) == 1 / 10_001


@fewer
@given(pairs)
def test_p_is_the_share_of_sign_patterns_as_extreme(paired_scores):
    ours, theirs, clusters = zip(*paired_scores, strict=True)
    sums = [
        sum(a - b for a, b, label in paired_scores if label == name)
        for name in sorted(set(clusters))
    ]
    patterns = list(product((-1, 1), repeat=len(sums)))
    extreme = sum(
        abs(sum(s * d for s, d in zip(signs, sums, strict=True))) >= abs(sum(sums))
        for signs in patterns
    )
    p = sign_flip(ours, theirs, clusters)
    assert p == pytest.approx(extreme / len(patterns), abs=0.03)
    assert p == sign_flip(theirs, ours, clusters)


def test_flips_that_differ_only_by_rounding_are_ties():
    # 0.3 - 0.2 is not quite 1 - 0.9; all gains are 0.1 in truth, in units of any size
    for unit in (1, 1e9, 1e-13):
        ours = [unit * one for one in (0.3, 0.4, 0.8, 1.0)]
        theirs = [unit * one for one in (0.2, 0.3, 0.7, 0.9)]
        assert sign_flip(ours, theirs) == pytest.approx(2 / 16, abs=0.02)
        # 0.1 + 0.2 - 0.3 is not quite 0, and no flip is less extreme than 0
        assert sign_flip([unit * 0.1, unit * 0.2, 0], [0, 0, unit * 0.3]) == 1


@fewer
@given(pairs)
def test_a_paired_difference_is_the_interval_of_the_differences_and_their_p(paired_scores):
    ours, theirs, clusters = zip(*paired_scores, strict=True)
    difference = paired(ours, theirs, clusters)
    assert values(difference) == values(
        bootstrap([a - b for a, b in zip(ours, theirs, strict=True)], clusters)
    )
    assert difference.p == sign_flip(ours, theirs, clusters)


def test_a_paired_difference_by_hand():
    # differences 1, 0, 0, 0; any flip of the single 1 is as extreme
    assert paired([1, 1, 0, 1], [0, 1, 0, 1]) == Difference(0.25, 0, 0.75, 1)
    assert str(Difference(0.25, 0, -0.75, 0.01234)) == "+0.250 [+0.000, -0.750] p 0.0123"


def test_a_harmonic_mean_by_hand():
    # means 1/2 and 1
    assert harmonic([1, 0], [1, 1], "ab", "cd").mean == pytest.approx(2 / 3)
    # shared clusters: both means are x / 4, so is their harmonic mean; alone, both would rarely be high at once
    assert values(harmonic([1, 0, 0, 0], [1, 0, 0, 0], "abcd", "abcd")) == figures(
        Interval(0.25, 0, 0.75)
    )
    apart = harmonic([1, 0, 0, 0], [1, 0, 0, 0], "abcd", "efgh")
    assert apart.high < 0.75
    assert harmonic([1, 0, 0, 0], [1, 0, 0, 0]) == apart


def test_a_harmonic_mean_of_nothing_is_nothing():
    assert harmonic([0, 0], [1, 1], "ab", "cd") == Interval(0, 0, 0)
    assert harmonic([1], [0, 0]) == Interval(0, 0, 0)
    assert harmonic([0], [0]) == Interval(0, 0, 0)


def test_a_harmonic_mean_takes_no_negative_scores():
    with pytest.raises(ValueError, match="negative"):
        harmonic([1, -1], [1])


small = st.lists(st.tuples(eighths, st.sampled_from("abcd")), min_size=1, max_size=6)


@fewer
@given(small, small)
def test_harmonic_intervals_are_percentiles_of_all_draws_that_hold_both(first, second):
    def of(draw):
        one, other = mean_of(first, draw), mean_of(second, draw)
        if one is None or other is None:
            return None
        return 2 * one * other / (one + other) if one + other else 0

    (ours, our_clusters), (theirs, their_clusters) = (
        zip(*first, strict=True),
        zip(*second, strict=True),
    )
    drawn = enumerated(of, our_clusters + their_clusters)
    interval = harmonic(ours, theirs, our_clusters, their_clusters)
    assert interval == harmonic(ours[::-1], theirs[::-1], our_clusters[::-1], their_clusters[::-1])
    assert_ends_at_percentiles(interval, drawn)


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(successes, n, low, high):
    assert values(wilson(successes, n)) == pytest.approx((successes / n, low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_where_the_share_is_just_not_rejected(counted):
    successes, n = counted
    interval, other = wilson(successes, n), wilson(n - successes, n)
    for end in (interval.low, interval.high):
        assert (interval.mean - end) ** 2 == pytest.approx(
            1.959964**2 * end * (1 - end) / n, rel=1e-4, abs=1e-12
        )
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval.low < interval.high
    assert values(other) == pytest.approx((1 - interval.mean, 1 - interval.high, 1 - interval.low))


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_a_share_of_nothing_or_of_too_much_is_refused(successes, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, n)


def test_the_rule_of_three():
    assert rule_of_three(100) == 0.03
    assert rule_of_three(2) == 1
    # the exact bound b has (1 - b)^n = 0.05
    assert rule_of_three(500) == pytest.approx(1 - 0.05 ** (1 / 500), rel=0.01)
    with pytest.raises(ValueError, match="without trials"):
        rule_of_three(0)


def test_holm_by_hand():
    # in order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 must not fall below the 0.06 before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_the_raw_p_and_bonferroni(ps, random):
    adjusted = holm(ps)
    for p, q in zip(ps, adjusted, strict=True):
        assert p <= q <= min(1, len(ps) * p)
    ordered = [q for _, q in sorted(zip(ps, adjusted, strict=True))]
    assert ordered == sorted(adjusted)
    assert min(adjusted) == min(1, len(ps) * min(ps))
    numbers = random.sample(range(len(ps)), len(ps))
    assert holm([ps[n] for n in numbers]) == [adjusted[n] for n in numbers]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_p_is_refused(wrong):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, wrong])


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
def test_inferior_is_only_what_is_worse_and_maybe_by_more_than_the_margin(
    differences, margin, inferior
):
    scores = [0.5 + difference for difference in differences]
    assert non_inferior(scores, [0.5] * len(scores), margin) is not inferior


def test_neither_the_margin_nor_a_mean_of_nothing_is_missed_by_rounding():
    # 0.6 - 0.65 is a little below -0.05, and -0.2 - 0.1 + 0.3 a little below 0
    assert non_inferior([0.6] * 8, [0.65] * 8, 0.05)
    assert non_inferior([0, 0, 0.3], [0.1, 0.2, 0], 0.05)


def test_clusters_make_a_loss_less_certain():
    # -1/4 ten times and +1/8 ten times: low is about -0.15 for questions alone, -0.25 for two clusters
    scores, baseline = [0.25] * 10 + [0.625] * 10, [0.5] * 20
    assert non_inferior(scores, baseline, 0.2)
    assert not non_inferior(scores, baseline, 0.2, "a" * 10 + "b" * 10)


@pytest.mark.parametrize("margin", [-0.1, math.nan])
def test_a_margin_below_nothing_is_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        non_inferior([1], [1], margin)


def test_risk_and_coverage_by_hand():
    assert risk_coverage([0.6, 0.9, 0.7, 0.8], [1, 0, 1, 0]) == [
        (0.25, 0),
        (0.5, 0),
        (0.75, pytest.approx(1 / 3)),
        (1, 0.5),
    ]
    assert aurc([0.6, 0.9, 0.7, 0.8], [1, 0, 1, 0]) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_ties_in_confidence_are_taken_together():
    confidences, losses = [0.8, 0.3, 0.9, 0.8], [1, 1, 0, 0]
    assert risk_coverage(confidences, losses) == [(0.25, 0), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    # 0.1 + 0.2 + 0.3 is not quite 0.3 + 0.2 + 0.1
    assert risk_coverage([1, 1, 1], [0.1, 0.2, 0.3]) == risk_coverage([1, 1, 1], [0.3, 0.2, 0.1])
    # both of the tied questions count the risk of covering both
    assert aurc(confidences, losses) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)


answers = st.lists(st.tuples(st.integers(0, 5), eighths), min_size=1, max_size=12)


@given(answers, st.randoms(use_true_random=False))
def test_the_area_is_the_mean_risk_at_the_confidence_of_each_question(answered, random):
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
def test_the_perfect_order_has_the_least_area_and_the_opposite_the_greatest(answered):
    confidences, losses = zip(*answered, strict=True)
    ordered, places = sorted(losses), range(len(losses))
    area, mean = aurc(confidences, losses), sum(losses) / len(losses)
    assert aurc([-place for place in places], ordered) <= area + 1e-12
    assert area <= aurc(places, ordered) + 1e-12
    assert aurc([1] * len(losses), losses) == pytest.approx(mean)
    coverage, risk = risk_coverage(confidences, losses)[-1]
    assert (coverage, risk) == (1, pytest.approx(mean))


def test_figures_are_the_same_in_another_process_and_need_no_more_than_numpy():
    code = (
        "import sys; from eval.harness.statistics import harmonic, paired;"
        "print(paired([0.1, 0.9, 0.4], [0.3, 0.2, 0.4], 'aab'), repr(harmonic([0.1, 0.9, 0.4], [0.3, 0.7])));"
        "print([name for name in ('scipy', 'sklearn', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = f"{paired([0.1, 0.9, 0.4], [0.3, 0.2, 0.4], 'aab')} {harmonic([0.1, 0.9, 0.4], [0.3, 0.7])!r}"
    assert run.stdout.splitlines() == [here, "[]"]
