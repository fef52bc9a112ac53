"""The offline judge: three lexical ordinal heads fitted to EPITOME's human ratings.

For each mechanism two logistic regressions, P(level > 0) and P(level > 1), over hashed n-grams and surface features
(`features`), calibrated by Platt scaling on out-of-fold values. Their sum is the expected level, and

    index = 1 + min(4, emotional reactions + interpretations + explorations)

It is an *index*: no person ever rated that sum. The head is numbers only, with no vocabulary and no text.
Rating needs numpy and nothing else; fitting also needs scipy.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import HeartwoodError
from pipelines.evaluation.judges.agreement import (
    DIGITS,
    DRAWS,
    FOLDS,
    HUMAN_CEILING,
    LEXICAL_FLOOR,
    agreement,
    confusion,
    folds,
    groups,
    kappa_interval,
    quadratic_weighted_kappa,
    rounded,
)
from pipelines.evaluation.judges.features import BLOCKS, BUCKETS, FEATURES, SURFACE, hashed, surface
from pipelines.evaluation.ratings import MECHANISMS, RatedPair, Ratings

JUDGE = "epitome-lexical-v1"
"""Name of this judge; the digest of its weights tells two fits apart."""

WEIGHTS_FILE = "head.safetensors"
CARD_FILE = "card.json"

STRENGTH = 3.0
"""Inverse strength of the L2 penalty (``C`` of scikit-learn)."""

SURFACE_SCALE = 0.3
"""Standard deviation to which surface features are scaled, beside n-gram blocks of length 1."""

SURFACE_LIMIT = 4.0
"""Surface features are clipped to so many standard deviations of the training data."""

THRESHOLDS = (0, 1)
"""The two questions of a cumulative model: is the level above 0, is it above 1."""

_SUM_LIMIT = 4.0
_NEWTON_STEPS = 100
_NEWTON_TOLERANCE = 1e-8
_SMALLEST_WEIGHT = 1e-9
_FEWEST_PAIRS = 50

_Floats = npt.NDArray[np.float64]
_Hashed = tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]], ...]


@dataclass(frozen=True)
class Rating:
    """Expected human level (0..2) of each mechanism, and their index (1..5)."""

    emotional_reactions: float
    interpretations: float
    explorations: float
    index: float


@dataclass(frozen=True, eq=False)
class Head:
    """The fitted numbers. M = 3 mechanisms, T = 2 thresholds, B = `BUCKETS`, S = surface features.

    ``idf`` (2 blocks, B) and ``weights`` (M, T, 2 blocks, B) are float16; ``surface_mean``, ``surface_scale`` (S),
    ``surface_weights`` (M, T, S), ``bias`` (M, T) and ``platt`` (M, T, 2: slope, intercept) float32.
    """

    idf: npt.NDArray[np.float16]
    weights: npt.NDArray[np.float16]
    surface_mean: npt.NDArray[np.float32]
    surface_scale: npt.NDArray[np.float32]
    surface_weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    platt: npt.NDArray[np.float32]

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        """Rates (seeker text, reply) pairs, in order. Replies are taken to have passed the gates."""
        return [_rating(_expectation(self._decision(seeker, reply), _wide(self.platt))) for seeker, reply in pairs]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, as stored."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in _SHAPES}

    def to_bytes(self) -> bytes:
        """The safetensors file of this head; equal heads give equal bytes."""
        from safetensors.numpy import save

        return save(self.tensors())

    @property
    def digest(self) -> str:
        """sha256 of `to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def _decision(self, seeker: str, reply: str) -> _Floats:
        """Decision values before calibration; shape (M, T)."""
        scaled = _scale(surface(seeker, reply), _wide(self.surface_mean), _wide(self.surface_scale))
        value = _wide(self.bias) + _wide(self.surface_weights) @ scaled
        for block, (buckets, counts) in enumerate(hashed(reply)):
            if len(buckets):
                x = counts * _wide(self.idf[block, buckets])
                value = value + _wide(self.weights[:, :, block, buckets]) @ (x / np.linalg.norm(x))
        return value


_SHAPES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "idf": ("float16", (len(BLOCKS), BUCKETS)),
    "weights": ("float16", (len(MECHANISMS), len(THRESHOLDS), len(BLOCKS), BUCKETS)),
    "surface_mean": ("float32", (len(SURFACE),)),
    "surface_scale": ("float32", (len(SURFACE),)),
    "surface_weights": ("float32", (len(MECHANISMS), len(THRESHOLDS), len(SURFACE))),
    "bias": ("float32", (len(MECHANISMS), len(THRESHOLDS))),
    "platt": ("float32", (len(MECHANISMS), len(THRESHOLDS), 2)),
}


def fit(ratings: Ratings, seed: int) -> Head:
    """Fits the head. Same ratings and seed, same bytes (with the same versions of numpy and scipy on one machine)."""
    return fit_with_agreement(ratings, seed)[0]


def fit_with_agreement(ratings: Ratings, seed: int) -> tuple[Head, dict[str, Any]]:
    """The head fitted on all ratings, and its agreement with people on held-out ones.

    Agreement comes from `FOLDS` folds that neither a seeker nor a response straddles: idf, scaling and weights are
    fitted without the fold, and its Platt scaling on out-of-fold values of the other folds. The final head's Platt
    scaling is fitted on all out-of-fold values. The agreement is a JSON-able object by mechanism, each with the human
    ceiling and the lexical floor, and ``index``, the kappa of the rounded index (1..5).

    Raises `HeartwoodError` if there are too few ratings to fit every threshold in every fold.
    """
    pairs = ratings.pairs
    if len(pairs) < _FEWEST_PAIRS:
        raise HeartwoodError(
            f"{len(pairs)} rated pairs are too few to fit a judge; it needs at least {_FEWEST_PAIRS}",
            hint="use all rows of EPITOME's three files, or judge.ratings: shipped",
        )
    features = [hashed(pair.response) for pair in pairs]
    surfaces = np.stack([surface(pair.seeker, pair.response) for pair in pairs])
    rows = {
        m: np.array([i for i, pair in enumerate(pairs) for _ in pair.levels[m]], dtype=np.int64) for m in MECHANISMS
    }
    levels = {m: np.array([y for pair in pairs for y in pair.levels[m]], dtype=np.int64) for m in MECHANISMS}
    fold_of = folds(pairs, seed)
    everyone = np.arange(len(pairs), dtype=np.int64)
    values = {m: np.zeros((len(rows[m]), len(THRESHOLDS))) for m in MECHANISMS}
    for fold in range(FOLDS):
        inside, outside = everyone[fold_of != fold], everyone[fold_of == fold]
        design = _Design.of(features, surfaces, inside)
        across = design.matrix(outside) @ design.matrix(inside).T
        solved = _solve_all(design, inside, rows, levels)
        position = np.full(len(pairs), -1, dtype=np.int64)
        position[outside] = np.arange(len(outside))
        for (m, t), (alpha, bias) in solved.items():
            here = fold_of[rows[m]] == fold
            values[m][here, t] = (across @ alpha + bias)[position[rows[m][here]]]
    design = _Design.of(features, surfaces, everyone)
    solved = _solve_all(design, everyone, rows, levels)
    platt = np.array(
        [[_platt(values[m][:, t], levels[m] > threshold) for t, threshold in enumerate(THRESHOLDS)] for m in MECHANISMS]
    )
    expectations = {m: _held_out(values[m], levels[m], fold_of[rows[m]]) for m in MECHANISMS}
    report = _report(pairs, rows, levels, expectations, seed)
    return design.head(solved, platt), report


def head_card(ratings: Ratings, agreement_report: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What is known of a fitted head, for ``card.json``; `write_head` adds the digest."""
    return {
        "judge": JUDGE,
        "features": FEATURES,
        "method": "hashed TF-IDF n-grams and surface features; cumulative logistic regression; Platt scaling",
        "penalty_c": STRENGTH,
        "data": {
            "name": "EPITOME, Reddit part (behavioral-data/Empathy-Mental-Health)",
            "paper": "https://arxiv.org/abs/2009.08441",
            "pairs": len(ratings.pairs),
            "rows": dict(sorted(ratings.rows.items())),
            "sha256": dict(sorted(ratings.sha256.items())),
            "terms": "academic, non-commercial research; the head holds none of its text",
        },
        "folds": {
            "count": FOLDS,
            "seed": seed,
            "groups": "connected components over seeker ids, response ids and both folded texts",
            "calibration": "Platt scaling of each fold on out-of-fold values of the other folds",
            "interval": f"95 % percentile bootstrap over groups, {DRAWS} draws",
        },
        "agreement": dict(agreement_report),
        "limits": [
            "It counts words: it knows neither whether a reply fits the seeker nor whether it is meant.",
            "Explorations follow the question mark; appending a question raises the index.",
            "Raters judged Reddit peer support in English; replies of chat models are another domain.",
            "The index is a sum that no person rated; it is not a 1-5 empathy rubric.",
            "Features and penalty were chosen among about ten variants by cross-validation on these ratings, "
            "so the agreement is somewhat optimistic.",
            "It says nothing about safety, truth or clinical quality.",
        ],
    }


def write_head(folder: Path | str, head: Head, card: Mapping[str, Any]) -> dict[str, Any]:
    """Writes ``head.safetensors`` and ``card.json`` (``card`` with the digest added), and returns that card."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = head.to_bytes()
    full = {**card, "digest": hashlib.sha256(data).hexdigest()}
    (folder / WEIGHTS_FILE).write_bytes(data)
    (folder / CARD_FILE).write_text(json.dumps(full, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return full


def load_card(folder: Path | str) -> dict[str, Any]:
    """The card of a head. Raises `HeartwoodError` if it is missing or not one of this judge."""
    path = Path(folder) / CARD_FILE
    hint = "restore the folder (git checkout models/judge_head), or refit: dvc repro judge"
    try:
        card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise HeartwoodError(f"{path}: no such file", hint=hint) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HeartwoodError(f"{path}: not JSON: {error}", hint=hint) from error
    if not isinstance(card, dict) or not isinstance(card.get("digest"), str):
        raise HeartwoodError(f"{path}: names no digest of {WEIGHTS_FILE}", hint=hint)
    if card.get("features") != FEATURES:
        raise HeartwoodError(
            f"{path}: made for features {card.get('features')!r}, this version computes {FEATURES!r}",
            hint="refit the judge with this version (dvc exp run -S judge.ratings=download)",
        )
    return card


def load_head(folder: Path | str) -> Head:
    """Loads a head, and checks its weights against the sha256 in its card.

    Raises `HeartwoodError` for a missing file, another digest, or arrays of the wrong name, type or shape.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    card = load_card(folder)
    path = Path(folder) / WEIGHTS_FILE
    hint = "restore the folder (git checkout models/judge_head), or refit: dvc repro judge"
    if not path.is_file():
        raise HeartwoodError(f"{path}: no such file", hint=hint)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card["digest"]:
        raise HeartwoodError(f"{path}: sha256 is {found}, its card says {card['digest']}", hint=hint)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise HeartwoodError(f"{path}: not a safetensors file: {error}", hint=hint) from error
    for name, (dtype, shape) in _SHAPES.items():
        if name not in tensors or tensors[name].dtype != dtype or tensors[name].shape != shape:
            raise HeartwoodError(f"{path}: {name} should be {dtype} of shape {shape}", hint=hint)
    return Head(**{name: tensors[name] for name in _SHAPES})


@dataclass(frozen=True, eq=False)
class _Design:
    """Features scaled by what some training pairs show: idf of their replies, mean and spread of their surfaces."""

    features: Sequence[_Hashed]
    surfaces: _Floats
    idf: npt.NDArray[np.float16]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: Sequence[_Hashed], surfaces: _Floats, inside: npt.NDArray[np.int64]) -> "_Design":
        documents = np.zeros((len(BLOCKS), BUCKETS))
        for i in inside.tolist():
            for block, (buckets, _) in enumerate(features[i]):
                documents[block, buckets] += 1
        idf = np.log((1 + len(inside)) / (1 + documents)) + 1
        spread = surfaces[inside].std(axis=0)
        return cls(
            features=features,
            surfaces=surfaces,
            idf=idf.astype(np.float16),
            mean=surfaces[inside].mean(axis=0).astype(np.float32),
            scale=(np.where(spread > 0, spread, 1.0) / SURFACE_SCALE).astype(np.float32),
        )

    def matrix(self, inside: npt.NDArray[np.int64]) -> Any:
        """Sparse features of pairs: shape (pairs, 2 B + S)."""
        from scipy import sparse

        data, columns, starts = [], [], [0]
        for i in inside.tolist():
            for block, (buckets, counts) in enumerate(self.features[i]):
                if len(buckets):
                    x = counts * _wide(self.idf[block, buckets])
                    data.append(x / np.linalg.norm(x))
                    columns.append(buckets + block * BUCKETS)
            data.append(_scale(self.surfaces[i], _wide(self.mean), _wide(self.scale)))
            columns.append(np.arange(len(SURFACE)) + len(BLOCKS) * BUCKETS)
            starts.append(starts[-1] + sum(len(buckets) for buckets, _ in self.features[i]) + len(SURFACE))
        shape = (len(inside), len(BLOCKS) * BUCKETS + len(SURFACE))
        return sparse.csr_array((np.concatenate(data), np.concatenate(columns), starts), shape=shape)

    def head(self, solved: Mapping[tuple[str, int], tuple[_Floats, float]], platt: _Floats) -> Head:
        """The head of all pairs, from the solutions of `_solve_all`."""
        x = self.matrix(np.arange(len(self.features), dtype=np.int64))
        flat = np.array([[x.T @ solved[m, t][0] for t in range(len(THRESHOLDS))] for m in MECHANISMS])
        hashed_width = len(BLOCKS) * BUCKETS
        return Head(
            idf=self.idf,
            weights=flat[:, :, :hashed_width].reshape(_SHAPES["weights"][1]).astype(np.float16),
            surface_mean=self.mean,
            surface_scale=self.scale,
            surface_weights=flat[:, :, hashed_width:].astype(np.float32),
            bias=np.array([[solved[m, t][1] for t in range(len(THRESHOLDS))] for m in MECHANISMS]).astype(np.float32),
            platt=platt.astype(np.float32),
        )


def _solve_all(
    design: _Design,
    inside: npt.NDArray[np.int64],
    rows: Mapping[str, npt.NDArray[np.int64]],
    levels: Mapping[str, npt.NDArray[np.int64]],
) -> dict[tuple[str, int], tuple[_Floats, float]]:
    """Dual weights over ``inside`` and bias, by mechanism and threshold.

    A pair with several ratings enters once, with the mean of its answers as target and their number as weight: the
    likelihood is the same.
    """
    x = design.matrix(inside)
    gram = (x @ x.T).toarray()
    position = np.full(len(design.features), -1, dtype=np.int64)
    position[inside] = np.arange(len(inside))
    solved = {}
    for m in MECHANISMS:
        at = position[rows[m]]
        kept = at >= 0
        weight = np.bincount(at[kept], minlength=len(inside)).astype(np.float64)
        for t, threshold in enumerate(THRESHOLDS):
            yes = (levels[m][kept] > threshold).astype(np.float64)
            if yes.min() == yes.max():
                raise HeartwoodError(
                    f"{m}: in one fold every level is on one side of {threshold}.5; too few ratings to fit it",
                    hint="use all rows of EPITOME's three files, or judge.ratings: shipped",
                )
            target = np.bincount(at[kept], weights=yes, minlength=len(inside)) / weight
            solved[m, t] = _kernel_logistic(gram, target, weight)
    return solved


def _kernel_logistic(gram: _Floats, target: _Floats, weight: _Floats) -> tuple[_Floats, float]:
    """L2-penalised logistic regression in its dual: alpha (items,) and bias.

    Decision values are ``gram @ alpha + bias``. Minimises ``sum(weight * log-loss) + alpha' gram alpha / (2 C)`` by
    Newton's method; the bias is not penalised.
    """
    from scipy import linalg

    n = len(target)
    value = np.zeros(n)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-value))
        curvature = np.maximum(weight * p * (1 - p), _SMALLEST_WEIGHT)
        system = gram.copy()
        system[np.diag_indices(n)] += 1 / (STRENGTH * curvature)
        wanted = value + weight * (target - p) / curvature
        factor = linalg.cho_factor(system, overwrite_a=True, check_finite=False)
        solution = linalg.cho_solve(factor, np.column_stack((wanted, np.ones(n))))
        bias = solution[:, 0].sum() / solution[:, 1].sum()
        alpha = solution[:, 0] - bias * solution[:, 1]
        new = gram @ alpha + bias
        moved = float(np.abs(new - value).max())
        value = new
        if moved < _NEWTON_TOLERANCE:
            return alpha, float(bias)
    raise HeartwoodError(
        f"the fit of the judge did not converge in {_NEWTON_STEPS} steps (last change {moved:.2g})",
        hint="check the ratings for a mechanism with next to no positive level",
    )


def _platt(value: _Floats, yes: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of Platt scaling, with Platt's smoothed targets; Newton's method in two unknowns."""
    positives, negatives = int(yes.sum()), int((~yes).sum())
    target = np.where(yes, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.column_stack((value, np.ones(len(value))))
    theta = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(x @ theta)))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-12 * np.eye(2), x.T @ (target - p))
        theta = theta + step
        if float(np.abs(step).max()) < _NEWTON_TOLERANCE:
            break
    return float(theta[0]), float(theta[1])


def _held_out(value: _Floats, level: npt.NDArray[np.int64], fold_of: npt.NDArray[np.int64]) -> _Floats:
    """Expected levels (ratings,): each fold calibrated on out-of-fold values of the others."""
    expectation = np.zeros(len(level))
    for fold in range(FOLDS):
        here = fold_of == fold
        platt = np.array([_platt(value[~here, t], level[~here] > threshold) for t, threshold in enumerate(THRESHOLDS)])
        expectation[here] = _expectation(value[here], platt)
    return expectation


def _report(
    pairs: Sequence[RatedPair],
    rows: Mapping[str, npt.NDArray[np.int64]],
    levels: Mapping[str, npt.NDArray[np.int64]],
    expectations: Mapping[str, _Floats],
    seed: int,
) -> dict[str, Any]:
    group = groups(pairs)
    report: dict[str, Any] = {}
    human, judge = np.zeros(len(pairs)), np.zeros(len(pairs))
    for m in MECHANISMS:
        found = agreement(levels[m], expectations[m], group[rows[m]], seed)
        report[m] = {**found.as_json(), "human_ceiling": dict(HUMAN_CEILING[m]), "lexical_floor": LEXICAL_FLOOR[m]}
        first = np.searchsorted(rows[m], np.arange(len(pairs)))
        human += levels[m][first]
        judge += expectations[m][first]
    human_index = np.minimum(_SUM_LIMIT, human).astype(np.int64)
    judge_index = rounded(np.minimum(_SUM_LIMIT, judge), int(_SUM_LIMIT))
    size = int(_SUM_LIMIT) + 1
    low, high = kappa_interval(human_index, judge_index, group, seed, size)
    report["index"] = {
        "pairs": len(pairs),
        "qwk": round(quadratic_weighted_kappa(confusion(human_index, judge_index, size)), DIGITS),
        "qwk_low": round(low, DIGITS),
        "qwk_high": round(high, DIGITS),
    }
    return report


def _wide(array: npt.NDArray[Any]) -> _Floats:
    return array.astype(np.float64)


def _scale(values: _Floats, mean: _Floats, scale: _Floats) -> _Floats:
    limit = SURFACE_LIMIT * SURFACE_SCALE
    return np.clip((values - mean) / scale, -limit, limit)


def _expectation(value: _Floats, platt: _Floats) -> _Floats:
    """Expected levels (...) from decision values (..., T) and Platt parameters (..., T, 2)."""
    p = 1 / (1 + np.exp(-(platt[..., 0] * value + platt[..., 1])))
    total: _Floats = p[..., 0] + np.minimum(p[..., 0], p[..., 1])
    return total


def _rating(expectation: _Floats) -> Rating:
    reactions, interpretations, explorations = (round(float(v), DIGITS) for v in expectation)
    total = reactions + interpretations + explorations
    return Rating(reactions, interpretations, explorations, round(1.0 + min(_SUM_LIMIT, total), DIGITS))
