import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from curation.errors import HeartwoodError
from pipelines.evaluation.statistics import (
    EXACT_ITEMS,
    PairedComparison,
    bca_interval,
    crossed_comparison,
    detectable_difference,
    holm,
    mcnemar_p,
    mean_interval,
    paired_comparison,
    power_of,
    prompts_needed,
    rate_rose,
    rates_rose,
    resolution,
    sign_flip_p,
    verdict,
)


def spread(ups: list[int], downs: list[int], n: int = 30) -> list[float]:
    changed = [float(up) for up in ups] + [-float(down) for down in downs]
    return changed + [0.0] * (n - len(changed))


# Differences with the counts, means and standard deviations of the three published contrasts (reference/eval.md, 0).
PUBLISHED = [
    (spread([3, 2, 1, 1, 1, 1, 1], [3, 2, 1, 1, 1, 1]), 0.033, 1.10, (7, 6, 17), (-0.38, 0.44), 1.0),
    (spread([3, 1, 1, 1, 1, 1], [2, 1, 1, 1, 1, 1]), 0.033, 0.89, (6, 6, 18), (-0.30, 0.37), 1.0),
    (spread([4, 3, 1, 1, 1], [2, 2, 1, 1, 1, 1]), 0.067, 1.17, (5, 6, 19), (-0.37, 0.50), 0.88),
]


@pytest.mark.parametrize(("differences", "mean", "sd", "counts", "interval", "p"), PUBLISHED)
def test_published_contrasts_are_inconclusive(
    differences: list[float],
    mean: float,
    sd: float,
    counts: tuple[int, int, int],
    interval: tuple[float, float],
    p: float,
) -> None:
    found = paired_comparison([4.0] * 30, [4.0 + d for d in differences], seed=0)
    assert (found.up, found.down, found.same) == counts
    assert found.difference == pytest.approx(mean, abs=5e-4)
    assert found.sd == pytest.approx(sd, abs=5e-3)
    assert (found.low, found.high) == pytest.approx(interval, abs=6e-3)
    assert found.p == pytest.approx(p, abs=5e-3)
    assert found.p_method == "exact"
    assert verdict(found, found.p, False) == "inconclusive"


def test_intervals_agree_with_scipy() -> None:
    x = np.random.default_rng(1).normal(3, 1, 40)
    found = mean_interval(x, level=0.9)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, 39, x.mean(), stats.sem(x)))
    a, b = x, x + np.random.default_rng(2).normal(0.1, 0.5, 40)
    reference = stats.ttest_rel(b, a).confidence_interval()
    paired = paired_comparison(a, b, seed=0)
    assert (paired.low, paired.high) == pytest.approx((reference.low, reference.high))


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=10))
def test_exact_p_agrees_with_scipy(differences: list[int]) -> None:
    p, method = sign_flip_p([float(d) for d in differences], seed=0)
    assert method == "exact"
    reference = stats.permutation_test(
        (np.array(differences, dtype=float),), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(differences))).reshape(len(differences), -1)
    d = np.array(differences)
    brute = (np.abs(d @ signs) >= abs(int(d.sum()))).mean()
    assert p == pytest.approx(brute)
    if d.sum():
        assert p == pytest.approx(reference.pvalue, abs=1e-9)


def test_monte_carlo_is_seeded_never_zero_and_close_to_exact() -> None:
    d = np.random.default_rng(3).normal(0.25, 1, EXACT_ITEMS)
    exact, _ = sign_flip_p(d, seed=0)
    drawn, method = sign_flip_p(np.concatenate((d, [1e-12])), seed=0)
    assert method == "monte-carlo"
    assert drawn == pytest.approx(exact, abs=0.015)
    assert sign_flip_p(np.ones(60), seed=5) == (1 / 20_001, "monte-carlo")
    assert sign_flip_p(np.append(d, 0.3), seed=7) == sign_flip_p(np.append(d, 0.3), seed=7)


def test_bca_interval_is_seeded_and_follows_the_skew() -> None:
    x = np.random.default_rng(4).exponential(1.0, 60)
    low, high = bca_interval(x, seed=1)
    assert (low, high) == bca_interval(x, seed=1) != bca_interval(x, seed=2)
    assert low < x.mean() < high
    assert high - x.mean() > x.mean() - low
    t = mean_interval(x)
    assert (low, high) == pytest.approx((t.low, t.high), abs=0.12)
    for wrong in ([1.0], [2.0, 2.0, 2.0]):
        with pytest.raises(HeartwoodError, match="without spread"):
            bca_interval(wrong, seed=0)
    found = paired_comparison([0.0] * 60, x, seed=1, interval="bca")
    assert (found.low, found.high, found.interval) == (low, high, "bca")


def test_whole_ratings_have_a_resolution_and_a_larger_detectable_difference() -> None:
    assert resolution([0.0, 2.0, -4.0]) == 2.0
    assert resolution([0.5, 1.0]) == 0.5
    assert resolution([0.123456, 1.0]) == pytest.approx(1e-6 * math.gcd(123456, 10**6))
    assert resolution([0.0, 0.0]) == 0.0
    whole = paired_comparison([3.0] * 30, [4.0, 2.0, 4.0] * 10, seed=0)
    assert whole.mde == pytest.approx(detectable_difference(whole.sd, 30) + 1 / 30)


def test_needed_prompts_and_power_are_each_others_inverse() -> None:
    for difference, sd in ((0.033, 1.1), (0.3, 0.8), (2.0, 0.5), (0.1, 1.0)):
        n = prompts_needed(difference, sd)
        assert power_of(difference, sd, n) >= 0.8
        assert n == 2 or power_of(difference, sd, n - 1) < 0.8
        assert detectable_difference(sd, n) <= difference
    assert power_of(0.0, 1.0, 30) == pytest.approx(0.05)
    for n, sd, difference in ((1, 1.0, 0.1), (30, 0.0, 0.1), (30, math.nan, 0.1), (30, 1.0, math.inf)):
        with pytest.raises(HeartwoodError, match="no power"):
            power_of(difference, sd, n)
    for wrong in (0.0, -0.1, math.nan):
        with pytest.raises(HeartwoodError, match="no number of prompts"):
            prompts_needed(wrong, 1.0)


def test_few_changed_items_cannot_be_significant() -> None:
    assert sign_flip_p([1.0] * 5 + [0.0] * 25, 0)[0] == pytest.approx(0.0625)
    assert sign_flip_p([1.0] * 6 + [0.0] * 24, 0)[0] == pytest.approx(0.03125)


@pytest.mark.parametrize(("sd", "expected"), [(0.5, (0.265, 0.141, 0.100, 0.063)), (0.8, (0.423, 0.226, 0.159, 0.100))])
def test_detectable_difference_reproduces_the_reference_table(sd: float, expected: tuple[float, ...]) -> None:
    assert [detectable_difference(sd, n) for n in (30, 100, 200, 500)] == pytest.approx(expected, abs=6e-4)


def test_detectable_difference_has_the_stated_power() -> None:
    delta = detectable_difference(1.1, 30)
    t = stats.t.ppf(0.975, 29)
    noncentrality = delta / 1.1 * math.sqrt(30)
    assert stats.nct.sf(t, 29, noncentrality) + stats.nct.cdf(-t, 29, noncentrality) == pytest.approx(0.8)
    assert detectable_difference(1.0, 30, 0.05 / 3) == pytest.approx(0.622, abs=6e-4)
    assert detectable_difference(0.0, 30) == 0.0
    assert detectable_difference(1.0, 2) > detectable_difference(1.0, 3)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    for wrong in (math.nan, -0.1, 1.1):
        with pytest.raises(HeartwoodError, match=r"0\.\.1"):
            holm([wrong])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_p_and_keeps_the_order(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    a = [False] * 12 + [True] * 3 + [True] * 5
    b = [True] * 12 + [False] * 3 + [True] * 5
    assert mcnemar_p(a, b) == pytest.approx(stats.binomtest(12, 15).pvalue)
    assert mcnemar_p(a, a) == 1.0
    assert rate_rose(a, b)
    assert not rate_rose(b, a)
    with pytest.raises(HeartwoodError, match="cannot be paired"):
        mcnemar_p([True], [True, False])


def comparison(difference: float) -> PairedComparison:
    values = [difference - 0.1, difference, difference + 0.1] * 10
    return paired_comparison([0.0] * 30, values, seed=0)


def test_verdicts() -> None:
    assert verdict(comparison(0.5), 0.01, False) == "improved"
    assert verdict(comparison(-0.5), 0.01, False) == "worse"
    assert verdict(comparison(0.5), 0.06, False) == "inconclusive"
    assert verdict(comparison(0.0), 0.01, False) == "inconclusive"


def test_a_model_that_breaks_more_often_is_never_improved() -> None:
    assert verdict(comparison(0.5), 0.01, True) == "inconclusive"
    assert verdict(comparison(-0.5), 0.01, True) == "worse"


def test_pairing_joins_ids_and_refuses_everything_else() -> None:
    a, b = {"x": 1.0, "y": 2.0, "z": 3.0}, {"z": 4.0, "x": 1.0, "y": 2.0}
    assert paired_comparison(a, b, seed=0).up == 1
    with pytest.raises(HeartwoodError, match="different items: w is only on the second side"):
        paired_comparison(a, {**b, "w": 1.0}, seed=0)
    with pytest.raises(HeartwoodError, match="one side has item ids"):
        paired_comparison(a, [1.0, 2.0, 3.0], seed=0)
    with pytest.raises(HeartwoodError, match="2 items against 3"):
        paired_comparison([1.0, 2.0], [1.0, 2.0, 3.0], seed=0)
    with pytest.raises(HeartwoodError, match="item 1 is nan"):
        paired_comparison([1.0, math.nan], [1.0, 2.0], seed=0)
    with pytest.raises(HeartwoodError, match="at least 2 values"):
        paired_comparison([1.0], [2.0], seed=0)
    with pytest.raises(HeartwoodError, match="at least 2 values"):
        mean_interval([])


def test_identical_models_differ_by_nothing() -> None:
    same = paired_comparison([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], seed=0)
    assert (same.difference, same.p, same.low, same.high, same.mde, same.same) == (0, 1, 0, 0, 0, 3)
    assert verdict(same, same.p, False) == "inconclusive"


def runs_of(matrix: list[list[float]]) -> list[dict[str, float]]:
    return [{f"p{i}": v for i, v in enumerate(row)} for row in matrix]


def test_crossed_comparison_adds_the_variance_of_items_to_that_of_runs() -> None:
    a = runs_of([[1.0, 2.0, 3.0, 4.0], [1.2, 2.2, 3.2, 4.2]])
    b = runs_of([[2.0, 2.5, 4.0, 4.5], [2.0, 2.5, 4.0, 4.5], [2.3, 2.8, 4.3, 4.8]])
    found = crossed_comparison(a, b)
    by_item = np.array([1.0, 0.5, 1.0, 0.5])
    items = by_item.var(ddof=1) / 4
    sides = [np.var([2.5, 2.7], ddof=1) / 2, np.var([3.25, 3.25, 3.55], ddof=1) / 3]
    assert found.difference == pytest.approx(by_item.mean())
    assert (found.n, found.runs_a, found.runs_b) == (4, 2, 3)
    assert found.se_items == pytest.approx(np.sqrt(items))
    assert found.se_runs == pytest.approx(np.sqrt(sum(sides)))
    assert found.se == pytest.approx(np.sqrt(items + sum(sides)))
    assert found.df == pytest.approx((items + sum(sides)) ** 2 / (items**2 / 3 + sides[0] ** 2 / 1 + sides[1] ** 2 / 2))
    half = stats.t.ppf(0.975, found.df) * found.se
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half))
    assert found.p == pytest.approx(2 * stats.t.sf(found.difference / found.se, found.df))
    back = crossed_comparison(b, a)
    assert (back.difference, back.p, back.se) == pytest.approx((-found.difference, found.p, found.se))


def test_crossed_comparison_uses_the_items_that_all_runs_have() -> None:
    a = runs_of([[1.0, 2.0, 3.0, 9.0], [1.5, 2.0, 3.0]])
    assert crossed_comparison(a, a[::-1]).n == 3


def test_crossed_comparison_of_runs_that_never_differ() -> None:
    a, b = runs_of([[1.0, 2.0]] * 2), runs_of([[1.5, 2.5]] * 2)
    same, other = crossed_comparison(a, a), crossed_comparison(a, b)
    assert (same.difference, same.se, same.p, same.mde) == (0, 0, 1, 0)
    assert (other.difference, other.se, other.p) == (0.5, 0, 0)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]] * 3, "1 and 3 runs"),
        ([[1.0]] * 2, [[1.0]] * 2, "1 items in common"),
        ([[1.0, float("nan")]] * 2, [[1.0, 2.0]] * 2, "run 0: item 1 is nan"),
    ],
)
def test_crossed_comparison_refuses(a: list[list[float]], b: list[list[float]], message: str) -> None:
    with pytest.raises(HeartwoodError, match=message):
        crossed_comparison(runs_of(a), runs_of(b))


def test_rates_of_single_outcomes_rise_as_mcnemar_says() -> None:
    a, b = [False] * 20, [True] * 7 + [False] * 13
    assert rates_rose([float(x) for x in a], [float(x) for x in b], 0) is rate_rose(a, b) is True
    few = [True] * 4 + [False] * 16
    assert rates_rose([float(x) for x in a], [float(x) for x in few], 0) is rate_rose(a, few) is False
    assert not rates_rose([float(x) for x in b], [float(x) for x in a], 0)
