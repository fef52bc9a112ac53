"""Models by name, in one revision or in several, compared prompt by prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from pipelines.evaluation.compare import Contrast, compare_ratings, say_share
from pipelines.evaluation.statistics import ALPHA, POWER, Interval, detectable_difference, power_of, prompts_needed
from pipelines.experiments.scores import Scored, difference_of_basis, read_models, read_scored
from pipelines.provenance.revision import Revision, open_revision


@dataclass(frozen=True)
class Named:
    """One side of a comparison: the name it is shown by, and its score and ratings."""

    name: str
    scored: Scored


@dataclass(frozen=True)
class Comparison:
    """Several models on the same prompts, every pair of them compared."""

    sides: list[Named]
    contrasts: list[Contrast]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        first = self.sides[0].scored.summary
        return {
            "judge": first["judge"],
            "prompts": first["prompts"],
            "models": {side.name: _numbers(side.scored) for side in self.sides},
            "contrasts": [contrast.as_dict() for contrast in self.contrasts],
        }


def find_sides(names: Sequence[str], revision: str, model: str | None) -> list[Named]:
    """Each name as a model of ``revision``, as ``REVISION:MODEL``, or as a revision.

    Of a revision named alone, ``model`` is taken, by default the last that its ``params.yaml`` names.

    Raises:
        HeartwoodError: fewer than two names, a name twice, no such model or revision, or a model that is not scored
            there.
    """
    if len(names) < 2:
        raise HeartwoodError(f"{len(names)} name to compare", hint="name two or more models or revisions")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise HeartwoodError(f"{twice}: named twice", hint="name each model or revision once")
    opened = open_revision(revision)
    models = read_models(opened)
    return [_find(name, opened, models, model) for name in names]


def _find(name: str, opened: Revision, models: Sequence[str], model: str | None) -> Named:
    if name in models:
        return Named(name, _scored(opened, name))
    if ":" in name:
        where, _, wanted = name.rpartition(":")
        return Named(name, _scored(open_revision(where), wanted))
    try:
        other = open_revision(name)
    except HeartwoodError as error:
        raise HeartwoodError(
            f"{name!r} is no model of {opened.name} ({', '.join(models)}), and no revision: {error}",
            hint="name a model, a revision, or REVISION:MODEL; see `heartwood scores` and `dvc exp list`",
        ) from None
    chosen = model or read_models(other)[-1]
    return Named(f"{name}:{chosen}", _scored(other, chosen))


def _scored(revision: Revision, model: str) -> Scored:
    found = read_scored(revision, model)
    if found is None:
        raise HeartwoodError(
            f"{model}: no score or no ratings at {revision.name} (reports/eq/{model}.json, .ratings.jsonl)",
            hint=f"run `dvc repro score@{model}` there, or name another model",
        )
    return found


def compare_sides(
    sides: Sequence[Named], *, seed: int, min_effect: float = 0.0, interval: Interval = "t"
) -> Comparison:
    """Every pair of sides, in the order named.

    Raises:
        HeartwoodError: scores by different judges or on different prompts, and all that `compare_ratings` refuses.
    """
    for side in sides[1:]:
        if differing := difference_of_basis(sides[0].scored, side.scored):
            raise HeartwoodError(
                f"{sides[0].name} and {side.name} are not comparable: other {differing}",
                hint="score both with one judge on the same prompts: dvc repro",
            )
    ratings = {side.name: side.scored.ratings for side in sides}
    return Comparison(list(sides), compare_ratings(ratings, seed, min_effect=min_effect, interval=interval))


def print_comparison(console: Console, found: Comparison) -> None:
    """The table of models, that of contrasts, and the verdicts in words."""
    table = Table(box=None, pad_edge=False)
    for name in ("model", "index", "95 % interval", "degen.", "stock", "words", "n", "unscored"):
        table.add_column(name, no_wrap=True, justify="left" if name == "model" else "right")
    for side in found.sides:
        s = side.scored.summary
        table.add_row(
            side.name,
            f"{s['index']:.3f}",
            f"{s['ci_low']:.3f} to {s['ci_high']:.3f}",
            f"{100 * s['degenerate_rate']:.1f} %",
            say_share(s.get("stock_opening_rate")),
            f"{s['mean_words']:.1f}" if "mean_words" in s else "-",
            str(s["n"]),
            str(s["n_unscored"]),
        )
    console.print(table)
    first = found.sides[0].scored.summary
    console.print(f"judge {first['judge']}, prompts {first['prompts'][:12]}")
    console.print()
    table = Table(box=None, pad_edge=False)
    for name in ("model", "against", "difference", "up/down/same", "verdict"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("difference", "up/down/same") else "left")
    for c in found.contrasts:
        p = c.paired
        table.add_row(c.second, c.first, f"{p.difference:+.3f}", f"{p.up}/{p.down}/{p.same}", c.outcome)
    console.print(table)
    for c in found.contrasts:
        console.print(c.sentence)


@dataclass(frozen=True)
class Power:
    """What a number of prompts can show, at a standard deviation of the paired differences.

    ``needed`` is there if a difference was asked about, ``detectable`` if a number of prompts was, ``power`` if both.
    """

    sd: float
    sd_from: str
    alpha: float
    wanted_power: float
    contrasts: int
    difference: float | None
    prompts: int | None
    needed: int | None
    detectable: float | None
    power: float | None


def plan(
    sd: float,
    sd_from: str,
    *,
    difference: float | None,
    prompts: int | None,
    contrasts: int = 1,
    alpha: float = ALPHA,
    power: float = POWER,
) -> Power:
    """How many prompts a difference needs, what difference a number of prompts can show, or both.

    With several ``contrasts``, at level ``alpha`` over their number: the first step of Holm's procedure.

    Raises:
        HeartwoodError: neither a difference nor a number of prompts, or values that make no sense.
    """
    if difference is None and prompts is None:
        raise HeartwoodError(
            "neither a difference nor a number of prompts", hint="give --difference, --prompts, or both"
        )
    if not (math.isfinite(sd) and sd > 0):
        raise HeartwoodError(
            f"the standard deviation of the differences is {sd}: nothing can be planned from it",
            hint="give --sd above 0, or ratings that differ",
        )
    each = alpha / contrasts
    both = difference is not None and prompts is not None
    return Power(
        sd,
        sd_from,
        alpha,
        power,
        contrasts,
        difference,
        prompts,
        None if difference is None else prompts_needed(difference, sd, each, power),
        None if prompts is None else detectable_difference(sd, prompts, each, power),
        power_of(difference, sd, prompts, each) if both and difference is not None and prompts is not None else None,
    )


def print_power(console: Console, found: Power) -> None:
    """The plan in words."""
    level = f"two-sided level {found.alpha:g}" + (f" over {found.contrasts} contrasts" if found.contrasts > 1 else "")
    console.print(f"standard deviation of the paired differences {found.sd:.3f} ({found.sd_from}), {level}")
    if found.needed is not None:
        console.print(
            f"to find a true difference of {found.difference:g} with probability {found.wanted_power:g}:"
            f" {found.needed:,} prompts"
        )
    if found.detectable is not None:
        console.print(
            f"{found.prompts:,} prompts find a true difference of {found.detectable:.3f} or more with probability"
            f" {found.wanted_power:g}"
        )
    if found.power is not None:
        console.print(
            f"{found.prompts:,} prompts find a true difference of {found.difference:g} with probability"
            f" {found.power:.3f}"
        )


def _numbers(scored: Scored) -> dict[str, Any]:
    return {k: v for k, v in scored.summary.items() if isinstance(v, int | float)}
