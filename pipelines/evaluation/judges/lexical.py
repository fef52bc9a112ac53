"""The lexical heads of the judge: hashed n-grams and surface features of a pair, one logistic regression a question.

For each mechanism two decision values, of P(level > 0) and P(level > 1), over the features of `features`. The heads are
numbers only, with no vocabulary and no text. Rating needs numpy and nothing else; fitting also needs scikit-learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import HeartwoodError
from pipelines.evaluation.judges.features import BLOCKS, BUCKETS, SURFACE, hashed, surface
from pipelines.evaluation.ratings import MECHANISMS

STRENGTH = 3.0
"""Inverse strength of the L2 penalty (``C`` of scikit-learn)."""

SURFACE_SCALE = 0.3
"""Standard deviation to which surface features are scaled, beside n-gram blocks of length 1."""

SURFACE_LIMIT = 4.0
"""Surface features are clipped to so many standard deviations of the training data."""

THRESHOLDS = (0, 1)
"""The two questions of a cumulative model: is the level above 0, is it above 1."""

_TOLERANCE = 1e-5
_MOST_STEPS = 2_000

_Floats = npt.NDArray[np.float64]
_Hashed = tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]], ...]

SHAPES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "idf": ("float16", (len(BLOCKS), BUCKETS)),
    "weights": ("float16", (len(MECHANISMS), len(THRESHOLDS), len(BLOCKS), BUCKETS)),
    "surface_mean": ("float32", (len(SURFACE),)),
    "surface_scale": ("float32", (len(SURFACE),)),
    "surface_weights": ("float32", (len(MECHANISMS), len(THRESHOLDS), len(SURFACE))),
    "bias": ("float32", (len(MECHANISMS), len(THRESHOLDS))),
}
"""Type and shape of each array of the heads."""


@dataclass(frozen=True, eq=False)
class LexicalHeads:
    """The fitted numbers, as in `SHAPES`. M = 3 mechanisms, T = 2 thresholds, B = `BUCKETS`, S = surface features."""

    tensors: Mapping[str, npt.NDArray[Any]]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> _Floats:
        """Decision values of (seeker, reply) pairs; shape (pairs, M, T)."""
        found = np.zeros((len(pairs), len(MECHANISMS), len(THRESHOLDS)))
        for row, (seeker, reply) in enumerate(pairs):
            found[row] = self._decision(seeker, reply)
        return found

    def _decision(self, seeker: str, reply: str) -> _Floats:
        numbers = self.tensors
        scaled = _scale(surface(seeker, reply), _wide(numbers["surface_mean"]), _wide(numbers["surface_scale"]))
        value = _wide(numbers["bias"]) + _wide(numbers["surface_weights"]) @ scaled
        for block, (buckets, counts) in enumerate(hashed(reply)):
            if len(buckets):
                x = counts * _wide(numbers["idf"][block, buckets])
                value = value + _wide(numbers["weights"][:, :, block, buckets]) @ (x / np.linalg.norm(x))
        return value


def fit_lexical(pairs: Sequence[tuple[str, str]], targets: _Floats, weights: _Floats) -> LexicalHeads:
    """The heads fitted to (seeker, reply) pairs. Same arguments, same bytes (with the same versions on one machine).

    Linear algebra runs on one thread: with two, sums come in another order, and the last bits differ.

    Args:
        pairs: the texts.
        targets: share of raters above each threshold; shape (pairs, M, T), NaN where unknown.
        weights: number of ratings; shape (pairs, M).

    Raises:
        HeartwoodError: every answer of a question is the same, so that it cannot be fitted.
    """
    features = [hashed(reply) for _, reply in pairs]
    design = _Design.of(features, np.stack([surface(seeker, reply) for seeker, reply in pairs]))
    x = design.matrix()
    solved = {}
    for m, mechanism in enumerate(MECHANISMS):
        for t, threshold in enumerate(THRESHOLDS):
            known = np.flatnonzero(~np.isnan(targets[:, m, t]))
            target = targets[known, m, t]
            if not len(known) or target.min() == target.max():
                raise HeartwoodError(
                    f"{mechanism}: in one fold every level is on one side of {threshold}.5; too few ratings to fit it",
                    hint="use all rows of EPITOME's three files, or judge.ratings: shipped",
                )
            solved[m, t] = _logistic(x[known], target, weights[known, m])
    return LexicalHeads(design.tensors(solved))


@dataclass(frozen=True, eq=False)
class _Design:
    """Features scaled by what the training pairs show: idf of their replies, mean and spread of their surfaces."""

    features: Sequence[_Hashed]
    surfaces: _Floats
    idf: npt.NDArray[np.float16]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: Sequence[_Hashed], surfaces: _Floats) -> "_Design":
        documents = np.zeros((len(BLOCKS), BUCKETS))
        for blocks in features:
            for block, (buckets, _) in enumerate(blocks):
                documents[block, buckets] += 1
        idf = np.log((1 + len(features)) / (1 + documents)) + 1
        spread = surfaces.std(axis=0)
        return cls(
            features=features,
            surfaces=surfaces,
            idf=idf.astype(np.float16),
            mean=surfaces.mean(axis=0).astype(np.float32),
            scale=(np.where(spread > 0, spread, 1.0) / SURFACE_SCALE).astype(np.float32),
        )

    def matrix(self) -> Any:
        """Sparse features of the pairs: shape (pairs, 2 B + S)."""
        from scipy import sparse

        data, columns, starts = [], [], [0]
        for blocks, surfaces in zip(self.features, self.surfaces, strict=True):
            for block, (buckets, counts) in enumerate(blocks):
                if len(buckets):
                    x = counts * _wide(self.idf[block, buckets])
                    data.append(x / np.linalg.norm(x))
                    columns.append(buckets + block * BUCKETS)
            data.append(_scale(surfaces, _wide(self.mean), _wide(self.scale)))
            columns.append(np.arange(len(SURFACE)) + len(BLOCKS) * BUCKETS)
            starts.append(starts[-1] + sum(len(buckets) for buckets, _ in blocks) + len(SURFACE))
        shape = (len(self.features), len(BLOCKS) * BUCKETS + len(SURFACE))
        return sparse.csr_array((np.concatenate(data), np.concatenate(columns), starts), shape=shape)

    def tensors(self, solved: Mapping[tuple[int, int], tuple[_Floats, float]]) -> dict[str, npt.NDArray[Any]]:
        """The heads' arrays, from the primal weights and the bias of each question."""
        flat = np.array([[solved[m, t][0] for t in range(len(THRESHOLDS))] for m in range(len(MECHANISMS))])
        bias = np.array([[solved[m, t][1] for t in range(len(THRESHOLDS))] for m in range(len(MECHANISMS))])
        hashed_width = len(BLOCKS) * BUCKETS
        return {
            "idf": self.idf,
            "weights": flat[:, :, :hashed_width].reshape(SHAPES["weights"][1]).astype(np.float16),
            "surface_mean": self.mean,
            "surface_scale": self.scale,
            "surface_weights": np.ascontiguousarray(flat[:, :, hashed_width:], dtype=np.float32),
            "bias": bias.astype(np.float32),
        }


def _logistic(x: Any, target: _Floats, weight: _Floats) -> tuple[_Floats, float]:
    """L2-penalised logistic regression with shares as targets: weights (features,) and bias, which is not penalised.

    A row enters as a yes with the share and as a no with the rest, which gives the same likelihood.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    answers = np.repeat([1, 0], len(target))
    shares = np.concatenate((target * weight, (1 - target) * weight))
    used = shares > 0
    model = LogisticRegression(C=STRENGTH, tol=_TOLERANCE, max_iter=_MOST_STEPS)
    with threadpool_limits(1, user_api="blas"):
        model.fit(sparse.vstack((x, x)).tocsr()[used], answers[used], sample_weight=shares[used])
    return model.coef_[0], float(model.intercept_[0])


def _wide(array: npt.NDArray[Any]) -> _Floats:
    return array.astype(np.float64)


def _scale(values: _Floats, mean: _Floats, scale: _Floats) -> _Floats:
    limit = SURFACE_LIMIT * SURFACE_SCALE
    return np.clip((values - mean) / scale, -limit, limit)
