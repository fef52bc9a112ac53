"""Paired comparison of models by their ratings: difference, interval, test, smallest detectable difference, verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.score import (
    DEGENERATE,
    RATED,
    STOCK_FROM,
    UNSCORED,
    StockOpening,
    refuse_constant,
    stock_opening,
)
from pipelines.evaluation.statistics import (
    ALPHA,
    Interval,
    PairedComparison,
    holm,
    paired_comparison,
    rate_rose,
    verdict,
)

STATUSES = (RATED, DEGENERATE, UNSCORED)

_SCORE_AGAIN = "score the model again: dvc repro score@MODEL"
_SAME_PROMPTS = "run `dvc repro` so that all models answer the same prompts"

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Contrast:
    """One model against another: the paired numbers, the adjusted p, and what follows.

    ``left_out`` counts the prompts that one side has unscored: no pair has a made-up number. A stock opening is None
    for ratings that name no openings.
    """

    first: str
    second: str
    paired: PairedComparison
    p_holm: float
    degenerate_rates: tuple[float, float]
    degenerate_rate_rose: bool
    stock_openings: tuple[StockOpening | None, StockOpening | None]
    left_out: int
    min_effect: float
    outcome: str

    def as_dict(self) -> dict[str, Any]:
        """For reports and ``--json``."""
        numbers = {k: _round(v) if isinstance(v, float) else v for k, v in asdict(self.paired).items()}
        stock = {
            f"stock_opening_{key}_{side}": _round(value)
            for side, found in zip(("from", "to"), self.stock_openings, strict=True)
            for key, value in (asdict(found) if found else {}).items()
            if value is not None
        }
        return {
            "from": self.first,
            "to": self.second,
            **numbers,
            "p_holm": _round(self.p_holm),
            "degenerate_rate_from": _round(self.degenerate_rates[0]),
            "degenerate_rate_to": _round(self.degenerate_rates[1]),
            "degenerate_rate_rose": self.degenerate_rate_rose,
            **stock,
            "left_out": self.left_out,
            "min_effect": self.min_effect,
            "verdict": self.outcome,
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """The same in words."""
        c = self.paired
        if c.up == c.down == 0:
            return f"{self.second} against {self.first}: the same rating on all {c.n} prompts, {self.outcome}"
        enough = f" by more than {self.min_effect:g}" if self.min_effect and self.outcome != "inconclusive" else ""
        return (
            f"{self.second} against {self.first}: {c.difference:+.3f} (95 % interval {c.low:+.3f} to {c.high:+.3f},"
            f" Holm-adjusted p {say_p(self.p_holm)}), {self.outcome}{enough}"
            f"{'; its degenerate rate rose' if self.degenerate_rate_rose else ''}"
            f"{say_stock(*self.stock_openings)};"
            f" these prompts could have shown a difference of {c.mde:.3f}"
            f"{f'; {self.left_out} prompts left out, unscored on a side' if self.left_out else ''}"
        )


def compare_ratings(
    ratings: Mapping[str, Rows],
    seed: int,
    *,
    min_effect: float = 0.0,
    interval: Interval = "t",
    level: float = 0.95,
) -> list[Contrast]:
    """Every pair of models on the prompts that both were scored on, in the order given (earlier against later).

    The p values are Holm-adjusted over the contrasts; the smallest detectable difference is that of the first step
    of Holm's procedure (level `ALPHA` over their number), so that it is found with the stated power whatever the
    other contrasts show. With ``min_effect``, a direction needs a difference larger than it: the test and the interval
    are against a true difference of at most ``min_effect``, and the detectable difference lies as much further out.

    Raises:
        HeartwoodError: fewer than two models, different prompts, a row without a usable rating, a model all of whose
            rated replies got one and the same index, or fewer than two prompts scored on both sides.
    """
    if len(ratings) < 2:
        raise HeartwoodError(f"{len(ratings)} model cannot be compared", hint="name two or more models")
    if not (math.isfinite(min_effect) and min_effect >= 0):
        raise HeartwoodError(f"the smallest effect is {min_effect}; allowed: 0 or more", hint="correct --min-effect")
    index = {model: scored(rows, model) for model, rows in ratings.items()}
    broken = {m: {r["prompt_id"]: r["status"] == DEGENERATE for r in rows} for m, rows in ratings.items()}
    first = next(iter(broken))
    for model, found in broken.items():
        if found.keys() != broken[first].keys():
            odd = min(found.keys() ^ broken[first].keys())
            raise HeartwoodError(
                f"{first} and {model} were scored on different prompts ({len(broken[first])} and {len(found)});"
                f" {odd} stands on one side only",
                hint=_SAME_PROMPTS,
            )
    pairs = list(combinations(ratings, 2))
    compared = []
    for a, b in pairs:
        shared = sorted(index[a].keys() & index[b].keys())
        if len(shared) < 2:
            raise HeartwoodError(
                f"{a} and {b} have {len(shared)} prompts scored on both sides; at least 2 are needed", hint=_SCORE_AGAIN
            )
        compared.append(
            paired_comparison(
                [index[a][i] for i in shared],
                [index[b][i] for i in shared],
                seed,
                level,
                alpha=ALPHA / len(pairs),
                min_effect=min_effect,
                interval=interval,
            )
        )
    adjusted = holm([c.p for c in compared])
    order = sorted(broken[first])
    contrasts = []
    for (a, b), comparison, p in zip(pairs, compared, adjusted, strict=True):
        sides = [[broken[m][i] for i in order] for m in (a, b)]
        rose = rate_rose(*sides)
        contrasts.append(
            Contrast(
                a,
                b,
                comparison,
                p,
                (sum(sides[0]) / len(order), sum(sides[1]) / len(order)),
                rose,
                (stock_opening(ratings[a]), stock_opening(ratings[b])),
                len(order) - comparison.n,
                min_effect,
                verdict(comparison, p, rose, min_effect),
            )
        )
    return contrasts


def compare_models(ratings: Mapping[str, Rows], seed: int) -> dict[str, Any]:
    """What the stage ``compare`` writes: `compare_ratings` as plain data."""
    return {"contrasts": [contrast.as_dict() for contrast in compare_ratings(ratings, seed)]}


def scored(rows: Rows, model: str) -> dict[str, float]:
    """The index by prompt of the replies that have one.

    Raises:
        HeartwoodError: a row of no known status, a prompt twice, a rating that is missing or no finite number, no
            scored row at all, or several rated replies that all have one index: such a judge told nothing apart.
    """
    found: dict[str, float] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{model}: row {number} of its ratings"
        prompt, status, value = row.get("prompt_id"), row.get("status"), row.get("index")
        if not isinstance(prompt, str) or prompt in seen:
            raise HeartwoodError(
                f"{where}: prompt {prompt!r} is {'there twice' if prompt in seen else 'no id'}", hint=_SCORE_AGAIN
            )
        seen.add(prompt)
        if status not in STATUSES:
            raise HeartwoodError(f"{where}: status {status!r}; allowed: {', '.join(STATUSES)}", hint=_SCORE_AGAIN)
        if status == UNSCORED:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise HeartwoodError(
                f"{where}: prompt {prompt} is {status}, its index is {value!r}, not a finite number", hint=_SCORE_AGAIN
            )
        found[prompt] = float(value)
    if not found:
        raise HeartwoodError(f"{model}: none of its {len(rows)} replies is scored", hint=_SCORE_AGAIN)
    refuse_constant([found[r["prompt_id"]] for r in rows if r["status"] == RATED], model)
    return found


def say_share(rate: float | None) -> str:
    """A share for people, and a dash where it is not known."""
    return "-" if rate is None else f"{100 * rate:.1f} %"


def say_stock(before: StockOpening | None, after: StockOpening | None) -> str:
    """Part of a sentence: the stock openings of both sides where one of them has `STOCK_FROM` or more; else empty."""
    rates = [found.rate if found else None for found in (before, after)]
    if max(rate or 0.0 for rate in rates) < STOCK_FROM:
        return ""
    said = f"; {say_share(rates[1])} of its replies begin with the same three words (against {say_share(rates[0])})"
    if after and after.rate >= STOCK_FROM and after.index is not None and after.others is not None:
        said += f": their index {after.index:.3f}, that of the others {after.others:.3f}"
    return said


def say_p(value: float) -> str:
    """A p value for people."""
    return "under 0.001" if value < 0.001 else f"{value:.3f}"


def _round(value: float) -> float:
    return round(float(value), 6)
