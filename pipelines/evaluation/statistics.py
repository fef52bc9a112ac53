"""Intervals and paired tests for scores of models on the same prompts.

Prompts are a sample, so a mean has a standard error; models answer the same prompts, so they are compared by the
differences (Miller 2024, arXiv 2411.00640). With few prompts most differences are noise: every comparison carries the
smallest difference that it could have detected, and "inconclusive" is a normal verdict.

scipy is imported inside the functions that need it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from curation.errors import HeartwoodError

ALPHA = 0.05
"""Two-sided significance level of verdicts and detectable differences."""

POWER = 0.80
"""Probability with which a difference of the reported detectable size would be found."""

EXACT_ITEMS = 20
"""Up to so many non-zero differences the sign-flip test enumerates all 2^k sign patterns."""

MONTE_CARLO_DRAWS = 20_000
"""Random sign patterns drawn beyond that."""

BOOTSTRAP_DRAWS = 9_999
"""Resamples of a BCa interval."""

Verdict = Literal["improved", "worse", "inconclusive"]
Interval = Literal["t", "bca"]

_Floats = npt.NDArray[np.float64]
_DRAWS_AT_ONCE = 500
_DECIMALS = 6
_ROUNDING = 1e-9
_PAIR_HINT = "score both models on the same prompts (dvc repro), then compare again"


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its standard error and t interval, in the units of the values."""

    n: int
    mean: float
    se: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """What ``b`` is against ``a`` on the same ``n`` items; differences are ``b - a``.

    ``sd`` and ``se`` are of the differences, ``low`` and ``high`` bound the interval of their mean, ``interval`` its
    method: ``t``, or ``bca`` (bias-corrected and accelerated bootstrap). ``p`` is the two-sided sign-flip p,
    ``p_method`` ``exact`` or ``monte-carlo``. ``up``, ``down`` and ``same`` count items. ``mde`` is the smallest mean
    difference detectable with this ``n`` and ``sd`` (`detectable_difference`), larger by what the `resolution` of the
    ratings costs the sign-flip test.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    sd: float
    se: float
    low: float
    high: float
    interval: Interval
    p: float
    p_method: Literal["exact", "monte-carlo"]
    up: int
    down: int
    same: int
    mde: float


class Bounded(Protocol):
    """Anything with an interval of a difference."""

    @property
    def low(self) -> float: ...  # noqa: D102

    @property
    def high(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class CrossedComparison:
    """What treatment ``b`` is against ``a``, each trained several times, all runs on the same ``n`` items.

    ``runs_a`` and ``runs_b`` count the runs, ``se_items`` and ``se_runs`` are what the choice of items and that of
    runs each contribute to the standard error ``se`` of the difference ``b - a``; ``df`` are its degrees of freedom,
    ``p`` the two-sided t p, ``mde`` the smallest detectable difference.
    """

    n: int
    runs_a: int
    runs_b: int
    mean_a: float
    mean_b: float
    difference: float
    se_items: float
    se_runs: float
    se: float
    df: float
    low: float
    high: float
    p: float
    mde: float


def mean_interval(values: Sequence[float] | _Floats, level: float = 0.95) -> MeanInterval:
    """Mean, standard error and two-sided t interval at ``level``.

    Raises `HeartwoodError` for fewer than two values, NaN or infinity.
    """
    from scipy import stats

    x = _finite(values, "values")
    if len(x) < 2:
        raise HeartwoodError(f"an interval needs at least 2 values, here are {len(x)}", hint="score more prompts")
    mean = float(x.mean())
    se = float(x.std(ddof=1)) / math.sqrt(len(x))
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1)) * se
    return MeanInterval(len(x), mean, se, mean - half, mean + half)


def bca_interval(values: Sequence[float] | _Floats, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987), by ``scipy.stats.bootstrap``.

    `BOOTSTRAP_DRAWS` resamples from ``numpy``'s PCG64 with ``seed``. Raises `HeartwoodError` for fewer than two values,
    NaN or infinity, and for values that are all equal: resamples of a constant have no spread.
    """
    from scipy import stats

    x = _finite(values, "values")
    if len(x) < 2 or bool((x == x[0]).all()):
        raise HeartwoodError(
            f"no bootstrap interval of {len(x)} values without spread", hint="score more prompts, or take --interval t"
        )
    found = stats.bootstrap(
        (x,),
        np.mean,
        n_resamples=BOOTSTRAP_DRAWS,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_comparison(
    a: Mapping[str, float] | Sequence[float] | _Floats,
    b: Mapping[str, float] | Sequence[float] | _Floats,
    seed: int,
    level: float = 0.95,
    *,
    alpha: float = ALPHA,
    min_effect: float = 0.0,
    interval: Interval = "t",
) -> PairedComparison:
    """Compares ``b`` with ``a``, item by item.

    Mappings from item id to value are joined on the id, sequences by position. ``seed`` serves the Monte Carlo test
    and the bootstrap. ``alpha`` is the level at which the detectable difference is stated. With ``min_effect``, ``p``
    is against a true difference of that size in the direction found (1 if the mean difference is no larger), and
    ``mde`` lies as much further out.

    Raises `HeartwoodError` for different ids, unequal lengths, fewer than two items, NaN or infinity.
    """
    values_a, values_b = _pair(a, b)
    differences = values_b - values_a
    mean = mean_interval(differences, level)
    low, high = mean.low, mean.high
    if interval == "bca" and differences.any():
        low, high = bca_interval(differences, seed, level)
    sd = float(differences.std(ddof=1))
    p, method = sign_flip_p(differences - math.copysign(min_effect, mean.mean), seed)
    return PairedComparison(
        n=mean.n,
        mean_a=float(values_a.mean()),
        mean_b=float(values_b.mean()),
        difference=mean.mean,
        sd=sd,
        se=mean.se,
        low=low,
        high=high,
        interval=interval,
        p=p if abs(mean.mean) > min_effect or not min_effect else 1.0,
        p_method=method,
        up=int((differences > 0).sum()),
        down=int((differences < 0).sum()),
        same=int((differences == 0).sum()),
        mde=min_effect + detectable_difference(sd, mean.n, alpha) + resolution(differences) / mean.n,
    )


def resolution(differences: Sequence[float] | _Floats) -> float:
    """The largest step of which all differences are multiples (1 for whole ratings), to six decimals; 0 for none.

    Under random signs the sum of the differences moves in twice this step, and a sum that ties with the one observed
    counts against it. So the sign-flip test needs a sum larger by one step, a mean larger by a step over their number,
    than a test on a continuous scale: the continuity correction. For ratings of six decimals it is nothing.
    """
    whole = np.round(np.abs(_finite(differences, "differences")) * 10**_DECIMALS).astype(np.int64)
    return float(np.gcd.reduce(whole)) / 10**_DECIMALS if len(whole) else 0.0


def crossed_comparison(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]], level: float = 0.95
) -> CrossedComparison:
    """Compares ``b`` with ``a``, each a list of runs that map item id to value, for other items *and* other runs.

    Items are paired, runs are not. The variance of the difference is that of the mean difference over items plus that
    of each side's mean over its runs (Clark 1973, J. Verb. Learn. Verb. Behav. 12: items and runs are both random);
    the noise of a run on an item enters both, so the sum errs on the careful side. Degrees of freedom by Welch and
    Satterthwaite. Only items that every run has are used.

    Raises `HeartwoodError` for fewer than two runs a side, fewer than two common items, NaN or infinity.
    """
    from scipy import stats

    if min(len(a), len(b)) < 2:
        raise HeartwoodError(
            f"{len(a)} and {len(b)} runs: how much runs differ needs at least 2 a side", hint="train with more seeds"
        )
    ids = sorted(set.intersection(*(set(run) for run in (*a, *b))))
    if len(ids) < 2:
        raise HeartwoodError(f"the runs have {len(ids)} items in common, at least 2 are needed", hint=_PAIR_HINT)
    values_a, values_b = (
        np.stack([_finite([run[i] for i in ids], f"run {n}") for n, run in enumerate(side)]) for side in (a, b)
    )
    n = len(ids)
    by_item = values_b.mean(axis=0) - values_a.mean(axis=0)
    parts = [
        (float(by_item.var(ddof=1)) / n, n - 1),
        *((float(v.mean(axis=1).var(ddof=1)) / len(v), len(v) - 1) for v in (values_a, values_b)),
    ]
    variance = sum(v for v, _ in parts)
    difference = float(by_item.mean())
    # Ratings have six decimals: below that there is rounding alone.
    flat = variance < _ROUNDING**2
    df = float(n - 1) if flat else variance**2 / sum(v**2 / f for v, f in parts)
    se = 0.0 if flat else math.sqrt(variance)
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    p = float(abs(difference) < _ROUNDING) if flat else 2 * float(stats.t.sf(abs(difference) / se, df))
    return CrossedComparison(
        n=n,
        runs_a=len(a),
        runs_b=len(b),
        mean_a=float(values_a.mean()),
        mean_b=float(values_b.mean()),
        difference=difference,
        se_items=math.sqrt(parts[0][0]),
        se_runs=math.sqrt(parts[1][0] + parts[2][0]),
        se=se,
        df=df,
        low=difference - half,
        high=difference + half,
        p=p,
        mde=_detectable(se, df, ALPHA, POWER),
    )


def sign_flip_p(differences: Sequence[float] | _Floats, seed: int) -> tuple[float, Literal["exact", "monte-carlo"]]:
    """Two-sided p of the mean difference under random signs, and how it was found.

    The share of sign patterns whose absolute sum is at least the observed one. Up to `EXACT_ITEMS` non-zero
    differences every pattern is counted; beyond that `MONTE_CARLO_DRAWS` patterns are drawn from ``numpy``'s PCG64 with
    ``seed``, and the p is ``(1 + hits) / (1 + draws)``, which never is 0.
    """
    d = _finite(differences, "differences")
    magnitudes = np.abs(d[d != 0])
    tolerance = 1e-9 * float(magnitudes.sum())
    threshold = abs(float(d.sum())) - tolerance
    if len(magnitudes) <= EXACT_ITEMS:
        sums = np.zeros(1)
        for magnitude in magnitudes:
            sums = np.concatenate((sums + magnitude, sums - magnitude))
        return float((np.abs(sums) >= threshold).mean()), "exact"
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(MONTE_CARLO_DRAWS // _DRAWS_AT_ONCE):
        signs = generator.integers(0, 2, size=(_DRAWS_AT_ONCE, len(magnitudes)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ magnitudes) >= threshold).sum())
    return (1 + hits) / (1 + MONTE_CARLO_DRAWS), "monte-carlo"


def detectable_difference(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest true mean difference that a two-sided paired t test at ``alpha`` finds with probability ``power``.

    ``sd`` is the standard deviation of the ``n`` differences; the result has its units (0 if ``sd`` is 0). Solved on
    the noncentral t distribution.
    """
    if n < 2 or not math.isfinite(sd) or sd < 0:
        raise HeartwoodError(
            f"no detectable difference for n={n}, sd={sd}", hint="give at least 2 items and a finite standard deviation"
        )
    return _detectable(sd / math.sqrt(n), n - 1, alpha, power)


def power_of(difference: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Probability that a two-sided paired t test at ``alpha`` finds a true mean difference, with ``n`` items.

    ``sd`` is the standard deviation of the differences. Raises `HeartwoodError` for values that make no sense.
    """
    if n < 2 or not (math.isfinite(sd) and sd > 0) or not math.isfinite(difference):
        raise HeartwoodError(
            f"no power for n={n}, sd={sd}, difference={difference}",
            hint="give at least 2 items and a standard deviation above 0",
        )
    return _t_power(abs(difference) / sd * math.sqrt(n), n - 1, alpha)


MOST_PROMPTS = 100_000_000


def prompts_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Fewest items with which a two-sided paired t test finds ``difference`` with probability ``power``.

    Raises `HeartwoodError` for a difference or standard deviation of 0 or less, a level or power outside 0..1, and
    for more than `MOST_PROMPTS`.
    """
    sound = math.isfinite(difference) and difference > 0 and math.isfinite(sd) and sd > 0
    if not sound or not 0 < alpha < power < 1:
        raise HeartwoodError(
            f"no number of prompts for difference={difference}, sd={sd}, alpha={alpha}, power={power}",
            hint="give a difference and a standard deviation above 0, and a power between alpha and 1",
        )
    low, high = 1, 2
    while power_of(difference, sd, high, alpha) < power:
        low, high = high, 2 * high
        if low > MOST_PROMPTS:
            raise HeartwoodError(
                f"a difference of {difference} at a standard deviation of {sd} needs more than {MOST_PROMPTS} prompts",
                hint="ask for a larger difference",
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(difference, sd, middle, alpha) >= power else (middle, high)
    return high


def _t_power(noncentrality: float, freedom: float, alpha: float) -> float:
    from scipy import stats

    critical = float(stats.t.ppf(1 - alpha / 2, freedom))
    above = stats.nct.sf(critical, freedom, noncentrality)
    below = stats.nct.cdf(-critical, freedom, noncentrality)
    return float(above + np.nan_to_num(below))


def _detectable(se: float, freedom: float, alpha: float, power: float) -> float:
    from scipy import optimize, stats

    if se == 0:
        return 0.0
    upper = 2 * float(stats.t.ppf(1 - alpha / 2, freedom)) + 10.0
    return float(optimize.brentq(lambda x: _t_power(x, freedom, alpha) - power, 0.0, upper, xtol=1e-10)) * se


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given. Raises `HeartwoodError` outside 0..1."""
    if any(not 0 <= p <= 1 for p in ps):
        raise HeartwoodError(
            f"p values must lie in 0..1, here are {list(ps)}", hint="check the comparisons behind them"
        )
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def mcnemar_p(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact McNemar p for two yes/no outcomes on the same items (binomial test on the discordant pairs)."""
    from scipy import stats

    if len(a) != len(b):
        raise HeartwoodError(f"outcomes of {len(a)} and {len(b)} items cannot be paired", hint=_PAIR_HINT)
    gained = sum(y and not x for x, y in zip(a, b, strict=True))
    lost = sum(x and not y for x, y in zip(a, b, strict=True))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def rate_rose(a: Sequence[bool], b: Sequence[bool]) -> bool:
    """Whether ``b`` is true on significantly more items than ``a``: more of them, and `mcnemar_p` under `ALPHA`."""
    return sum(b) > sum(a) and mcnemar_p(a, b) < ALPHA


def rates_rose(a: Sequence[float] | _Floats, b: Sequence[float] | _Floats, seed: int) -> bool:
    """Whether rates by item (means of yes/no outcomes over runs) are significantly higher in ``b``, items paired.

    The sign-flip test under `ALPHA`; for single outcomes it is McNemar's.
    """
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    return float(differences.sum()) > 0 and sign_flip_p(differences, seed)[0] < ALPHA


def verdict(comparison: Bounded, p_adjusted: float, degenerate_rose: bool, min_effect: float = 0.0) -> Verdict:
    """``improved``, ``worse`` or ``inconclusive`` for ``b`` against ``a``.

    A direction needs an interval wholly beyond ``min_effect`` on that side (0: one that excludes 0) and an adjusted p
    under `ALPHA`. A model whose rate of degenerate replies rose significantly (`rate_rose`) is never ``improved``.
    """
    if p_adjusted < ALPHA and comparison.high < -min_effect:
        return "worse"
    if p_adjusted < ALPHA and comparison.low > min_effect and not degenerate_rose:
        return "improved"
    return "inconclusive"


def _finite(values: Sequence[float] | _Floats, what: str) -> _Floats:
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        position = int(np.flatnonzero(~np.isfinite(x))[0])
        raise HeartwoodError(
            f"{what}: item {position} is {x[position]}, not a finite number",
            hint="leave unscored items out on both sides; never fill them with a number",
        )
    return x


def _pair(
    a: Mapping[str, float] | Sequence[float] | _Floats, b: Mapping[str, float] | Sequence[float] | _Floats
) -> tuple[_Floats, _Floats]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            odd = min(a.keys() ^ b.keys())
            raise HeartwoodError(
                f"different items: {odd} is only on the {'first' if odd in a else 'second'} side", hint=_PAIR_HINT
            )
        ids = sorted(a)
        return _finite([a[i] for i in ids], "first side"), _finite([b[i] for i in ids], "second side")
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        raise HeartwoodError("one side has item ids and the other has not", hint=_PAIR_HINT)
    if len(a) != len(b):
        raise HeartwoodError(f"{len(a)} items against {len(b)} cannot be paired", hint=_PAIR_HINT)
    return _finite(a, "first side"), _finite(b, "second side")
