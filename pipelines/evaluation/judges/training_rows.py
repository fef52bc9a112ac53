"""The rows that the judge's heads are fitted to: rated pairs, and changed replies whose levels are known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.judges.variants import WRITTEN, denied, harmless
from pipelines.evaluation.ratings import MECHANISMS, RatedPair

_SHAPE = (len(MECHANISMS), 2)


@dataclass(frozen=True)
class Shares:
    """How many changed rows there are, as shares of the number of rated pairs."""

    harmless: float = 0.3
    stranger: float = 0.15
    denied: float = 0.07
    written: float = 0.06


SHARES = Shares()

CHANGED_WEIGHT = 0.5
"""Weight of a changed row beside a rated pair in the lexical heads."""


@dataclass(frozen=True)
class Row:
    """One training row. ``levels`` (mechanisms, 2): share of raters above 0 and above 1, NaN where unknown.

    ``marks``: reasons by mechanism, None where unknown. ``fit``: 1.0 or 0.0, NaN where unknown.
    """

    seeker: str
    reply: str
    levels: npt.NDArray[np.float32]
    marks: tuple[tuple[str, ...] | None, ...]
    fit: float


def training_rows(pairs: Sequence[RatedPair], shares: Shares, random: Random) -> list[Row]:
    """The rows of a training: every pair once (some with a harmless change), and the spoilt and written ones."""
    rows = []
    for pair in pairs:
        levels = _rounded_levels(pair)
        changed = random.random() < shares.harmless
        reply = harmless(pair.response, levels, random) if changed else pair.response
        marks = tuple(_marks(pair, m) for m in MECHANISMS)
        rows.append(Row(pair.seeker, reply, _shares(pair), marks, 1.0))
    unknown = np.full(_SHAPE, np.nan, dtype=np.float32)
    nothing: tuple[tuple[str, ...] | None, ...] = (None,) * len(MECHANISMS)
    for pair in random.sample(pairs, round(shares.stranger * len(pairs))):
        other = random.choice(pairs)
        if other.seeker_id != pair.seeker_id:
            rows.append(Row(other.seeker, pair.response, unknown, nothing, 0.0))
    rows += _denied_rows(pairs, shares, random)
    written = _written_rows(random)
    rows += random.choices(written, k=round(shares.written * len(pairs)))
    return rows


def lexical_rows(
    pairs: Sequence[RatedPair],
    seed: int,
    shares: Shares = SHARES,
) -> tuple[list[tuple[str, str]], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Texts, targets and weights for `fit_lexical`: every pair as it is, and one draw of the changed ones.

    Replies to strangers are left out: the lexical heads hardly look at the seeker.
    """
    random = Random(seed)
    rows = [
        (Row(p.seeker, p.response, _shares(p), (), 1.0), [float(len(p.levels[m])) for m in MECHANISMS]) for p in pairs
    ]
    light = [CHANGED_WEIGHT] * len(MECHANISMS)
    for pair in random.sample(pairs, round(shares.harmless * len(pairs))):
        reply = harmless(pair.response, _rounded_levels(pair), random)
        rows.append((Row(pair.seeker, reply, _shares(pair), (), 1.0), light))
    rows += [(row, light) for row in (*_denied_rows(pairs, shares, random), *_written_rows(random))]
    texts = [(row.seeker, row.reply) for row, _ in rows]
    targets = np.array([row.levels for row, _ in rows], dtype=np.float64)
    return texts, targets, np.array([weight for _, weight in rows])


def _denied_rows(pairs: Sequence[RatedPair], shares: Shares, random: Random) -> list[Row]:
    wanted = round(shares.denied * len(pairs))
    rows: list[Row] = []
    for pair in random.sample(pairs, len(pairs)):
        if len(rows) == wanted:
            break
        if found := denied(pair.response, _rounded_levels(pair), random):
            rows.append(Row(pair.seeker, found[0], _cumulative(found[1]), (None,) * len(MECHANISMS), math.nan))
    return rows


def _written_rows(random: Random) -> list[Row]:
    nothing: tuple[tuple[str, ...] | None, ...] = (None,) * len(MECHANISMS)
    zero = np.zeros(_SHAPE, dtype=np.float32)
    rows = []
    for case in WRITTEN:
        levels = dict(zip(MECHANISMS, case.levels, strict=True))
        rows.append(Row(case.seeker, case.reply, _cumulative(levels), nothing, 1.0))
        rows.append(Row(case.seeker, case.wrong, zero, nothing, 0.0))
        rows.append(Row(case.seeker, case.hostile, zero, nothing, math.nan))
        if found := denied(case.reply, levels, random):
            rows.append(Row(case.seeker, found[0], zero, nothing, math.nan))
    return rows


def _rounded_levels(pair: RatedPair) -> dict[str, int]:
    return {m: max(pair.levels[m]) for m in MECHANISMS}


def _shares(pair: RatedPair) -> npt.NDArray[np.float32]:
    return np.array([[np.mean([y > t for y in pair.levels[m]]) for t in (0, 1)] for m in MECHANISMS], dtype=np.float32)


def _cumulative(levels: Mapping[str, int | None]) -> npt.NDArray[np.float32]:
    return np.array(
        [[math.nan if (y := levels[m]) is None else y > t for t in (0, 1)] for m in MECHANISMS], dtype=np.float32
    )


def _marks(pair: RatedPair, mechanism: str) -> tuple[str, ...] | None:
    if not any(pair.levels[mechanism]):
        return ()
    return pair.rationales.get(mechanism) or None
