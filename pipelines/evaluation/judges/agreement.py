"""How well a judge agrees with the people whose ratings it learnt from.

Agreement is quadratic-weighted kappa (Cohen 1968) of the rounded expectation with the human level, on predictions for
seekers and responses that the judge never saw. Level 1 is rare in two of the three mechanisms, so macro-F1 is fragile.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.text import fold
from pipelines.evaluation.ratings import RatedPair

FOLDS = 5
DRAWS = 2_000
LEVEL_COUNT = 3
DIGITS = 6

HUMAN_CEILING: Mapping[str, Mapping[str, float]] = {
    "emotional_reactions": {"qwk": 0.74, "low": 0.56, "high": 0.87},
    "interpretations": {"qwk": 0.72, "low": 0.53, "high": 0.88},
    "explorations": {"qwk": 0.66, "low": 0.24, "high": 0.96},
}
"""Kappa of people with people, 95 % interval: the 60 pairs of the full Reddit part that were rated twice."""

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of out-of-fold predictions with human levels for one mechanism.

    ``qwk`` with its 95 % percentile interval from a bootstrap over groups of seekers; ``accuracy`` beside that of always
    answering the most common level (whose kappa is 0); ``confusion[human][judge]`` counts ratings.
    """

    ratings: int
    qwk: float
    qwk_low: float
    qwk_high: float
    accuracy: float
    majority_accuracy: float
    majority_qwk: float
    confusion: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """Flat object, floats rounded to six decimals."""
        return {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in asdict(self).items()} | {
            "confusion": [list(row) for row in self.confusion]
        }


def groups(pairs: Sequence[RatedPair]) -> _Ints:
    """The group of each pair: connected components over seeker ids, response ids and both folded texts. Shape (pairs,).

    Groups are numbered in the order in which they first occur.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for pair in pairs:
        for other in (
            ("response id", pair.response_id),
            ("seeker text", fold(pair.seeker)),
            ("response text", fold(pair.response)),
        ):
            parent[root(other)] = root(("seeker id", pair.seeker_id))
    roots = [root(("seeker id", pair.seeker_id)) for pair in pairs]
    numbers = {node: number for number, node in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[node] for node in roots], dtype=np.int64)


def folds(pairs: Sequence[RatedPair], seed: int) -> _Ints:
    """The fold (0..4) of each pair; a group never straddles two. Shape (pairs,).

    Groups are dealt out in turn, in order of sha256(seed, the smallest seeker id of the group), so that row order is
    without effect.
    """
    group = groups(pairs)
    names: dict[int, str] = {}
    for number, pair in zip(group.tolist(), pairs, strict=True):
        names[number] = min(names.get(number, pair.seeker_id), pair.seeker_id)
    dealt = sorted(names, key=lambda number: hashlib.sha256(f"{seed}/{names[number]}".encode()).digest())
    fold_of = {number: turn % FOLDS for turn, number in enumerate(dealt)}
    return np.array([fold_of[number] for number in group.tolist()], dtype=np.int64)


def confusion(human: _Ints, judge: _Ints, size: int = LEVEL_COUNT) -> _Ints:
    """Counts, human level by judge level; shape (size, size)."""
    return np.bincount(human * size + judge, minlength=size * size).reshape(size, size).astype(np.int64)


def quadratic_weighted_kappa(counts: _Ints | _Floats) -> float:
    """Kappa of one confusion matrix (levels x levels); NaN if it is undefined, as with one level on both sides."""
    return float(_kappas(np.asarray(counts, dtype=np.float64)[None])[0])


def rounded(expectation: _Floats, highest: int = LEVEL_COUNT - 1) -> _Ints:
    """The nearest level of each expectation, halves up."""
    return np.clip(np.floor(expectation + 0.5), 0, highest).astype(np.int64)


def agreement(human: _Ints, expectation: _Floats, group: _Ints, seed: int) -> Agreement:
    """Agreement of ``expectation`` (0..2) with ``human`` levels, both of shape (ratings,).

    ``group`` numbers the group of each rating; `DRAWS` bootstrap draws resample groups, from PCG64 with ``seed``.
    """
    judge = rounded(expectation)
    total = confusion(human, judge)
    low, high = kappa_interval(human, judge, group, seed)
    n = len(human)
    return Agreement(
        ratings=n,
        qwk=quadratic_weighted_kappa(total),
        qwk_low=low,
        qwk_high=high,
        accuracy=float(np.trace(total)) / n,
        majority_accuracy=float(total.sum(axis=1).max()) / n,
        majority_qwk=0.0,
        confusion=tuple(tuple(int(v) for v in row) for row in total),
    )


def kappa_interval(human: _Ints, judge: _Ints, group: _Ints, seed: int, size: int = LEVEL_COUNT) -> tuple[float, float]:
    """95 % percentile interval of the kappa over bootstrap draws of whole groups."""
    count = int(group.max()) + 1
    cells = np.zeros((count, size * size))
    np.add.at(cells, (group, human * size + judge), 1)
    generator = np.random.default_rng(seed)
    kappas = []
    for _ in range(DRAWS):
        times = np.bincount(generator.integers(0, count, count), minlength=count)
        kappas.append(quadratic_weighted_kappa((times @ cells).reshape(size, size)))
    low, high = np.nanpercentile(kappas, [2.5, 97.5])
    return float(low), float(high)


def kappa_gain(
    human: _Ints, judge: _Ints, other: _Ints, group: _Ints, seed: int, size: int = LEVEL_COUNT
) -> tuple[float, float, float]:
    """How much higher the kappa of ``judge`` is than that of ``other``, with its 95 % percentile interval.

    Both are redrawn together, by whole groups (paired bootstrap).
    """
    count = int(group.max()) + 1
    cells = np.zeros((2, count, size * size))
    for which, answers in enumerate((judge, other)):
        np.add.at(cells[which], (group, human * size + answers), 1)
    generator = np.random.default_rng(seed)
    gains = []
    for _ in range(DRAWS):
        times = np.bincount(generator.integers(0, count, count), minlength=count)
        first, second = _kappas((times @ cells).reshape(2, size, size))
        gains.append(first - second)
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    first, second = _kappas(cells.sum(axis=1).reshape(2, size, size))
    return float(first - second), float(low), float(high)


def _kappas(counts: _Floats) -> _Floats:
    size = counts.shape[-1]
    weights = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    expected = counts.sum(2)[:, :, None] * counts.sum(1)[:, None, :] / counts.sum((1, 2))[:, None, None]
    observed_cost = (weights * counts).sum((1, 2))
    expected_cost = (weights * expected).sum((1, 2))
    kappas: _Floats = np.where(
        expected_cost > 0, 1 - observed_cost / np.where(expected_cost > 0, expected_cost, 1), math.nan
    )
    return kappas
