"""The offline judge: how much of three mechanisms of empathy people would see in a reply, learnt from EPITOME.

Each mechanism has a lexical head (`lexical`) and a head on a text-pair encoder (`pair`), of which there are two. A
stacked logistic regression blends their logits into P(level > 0) and P(level > 1), calibrated on out-of-fold values;
their sum is the expected level. The sentence encoder tells whether the reply answers this seeker at all (`fit`): the
expected levels are multiplied with twice the probability that it does, at most 1, for a prior of `STRANGER_PRIOR` that
it does not. Then

    index = 1 + min(4, emotional reactions + interpretations + explorations)

It is an *index*: no person ever rated that sum. The head is numbers only, with no vocabulary and no text of EPITOME.
Rating needs ONNX Runtime, a CPU and no network; equal heads give equal ratings within `TOLERANCE` on any machine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.embedding.graph import WIDTH
from curation.errors import HeartwoodError
from pipelines.evaluation.judges import lexical, pair
from pipelines.evaluation.judges.features import FEATURES
from pipelines.evaluation.judges.fit import FIT_FEATURES, fit_features, sentence_vectors
from pipelines.evaluation.judges.lexical import LexicalHeads
from pipelines.evaluation.judges.pair import LEVEL_LOGITS, PairEncoder

JUDGE = "epitome-pair-v1"
"""Name of this judge; the digest of its weights tells two fits apart."""

TOLERANCE = 1e-4
"""Two machines may differ by so much in an index or a mechanism: CPUs sum floats in different orders."""

MEMBERS = 2
"""Pair encoders in a judge; the means of their logits count."""

STRANGER_PRIOR = 0.1
"""Probability, before reading, that a reply belongs to another seeker."""

WEIGHTS_FILE = "head.safetensors"
CARD_FILE = "card.json"
DIGITS = 6

_SUM_LIMIT = 4.0
_HINT = "restore the folder (git checkout models/judge_head), or refit: dvc repro judge"

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rating:
    """Expected human level (0..2) of each mechanism, and their index (1..5)."""

    emotional_reactions: float
    interpretations: float
    explorations: float
    index: float


def shapes() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each array of a judge.

    ``stack`` (mechanisms, thresholds, 3): weights of the lexical and the pair logit, and intercept; a mechanism whose
    pair weight is 0 is lexical. ``fit_scale``: weights of `FIT_FEATURES`, and intercept, of the log odds that a reply
    answers its seeker, at even odds. ``mean_seeker``: mean of the seekers' unit vectors.
    """
    return {
        **{f"lexical.{name}": kind for name, kind in lexical.SHAPES.items()},
        **{f"pair.{n}.{name}": kind for n in range(MEMBERS) for name, kind in pair.shapes().items()},
        "stack": ("float32", (*LEVEL_LOGITS, 3)),
        "fit_scale": ("float32", (len(FIT_FEATURES) + 1,)),
        "mean_seeker": ("float32", (WIDTH,)),
    }


@dataclass(frozen=True, eq=False)
class EpitomeJudge:
    """A fitted judge: the arrays of `shapes` by name."""

    tensors: Mapping[str, npt.NDArray[Any]]

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        """Rates (seeker text, reply) pairs, in order. Replies are taken to have passed the gates.

        A rating does not depend on the pairs beside it.
        """
        if not pairs:
            return []
        expected = expectation(blend(self._lexical.logits(pairs), self.pair_logits(pairs), self.tensors["stack"]))
        expected *= self.fits(pairs)[:, None]
        return [_rating(row) for row in expected]

    def pair_logits(self, pairs: Sequence[tuple[str, str]]) -> _Floats:
        """Mean logits of the members; shape (pairs, mechanisms, 2)."""
        total: _Floats = np.mean([member.logits(pairs) for member in self._members], axis=0)
        return total

    def fits(self, pairs: Sequence[tuple[str, str]]) -> _Floats:
        """The factor of each pair's expected levels (`fitting`); shape (pairs,)."""
        replies = [reply for _, reply in pairs]
        vectors = sentence_vectors([seeker for seeker, _ in pairs] + replies)
        features = fit_features(vectors[: len(pairs)], vectors[len(pairs) :], replies, self.tensors["mean_seeker"])
        return fitting(features, self.tensors["fit_scale"])

    def to_bytes(self) -> bytes:
        """The safetensors file of this judge; equal judges give equal bytes."""
        from safetensors.numpy import save

        return save({name: np.ascontiguousarray(self.tensors[name]) for name in shapes()})

    @property
    def digest(self) -> str:
        """sha256 of `to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def _part(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {name.removeprefix(prefix): v for name, v in self.tensors.items() if name.startswith(prefix)}

    @cached_property
    def _lexical(self) -> LexicalHeads:
        return LexicalHeads(self._part("lexical."))

    @cached_property
    def _members(self) -> list[PairEncoder]:
        return [PairEncoder(self._part(f"pair.{n}.")) for n in range(MEMBERS)]


def blend(lexical_logits: _Floats, pair_logits: _Floats, stack: npt.NDArray[Any]) -> _Floats:
    """P(level > 0) and P(level > 1); all of shape (pairs, mechanisms, 2) but ``stack`` (mechanisms, 2, 3)."""
    wide = stack.astype(np.float64)
    return _sigmoid(wide[..., 0] * lexical_logits + wide[..., 1] * pair_logits + wide[..., 2])


def expectation(probability: _Floats) -> _Floats:
    """Expected levels (...) from P(level > 0) and P(level > 1) (..., 2)."""
    total: _Floats = probability[..., 0] + np.minimum(probability[..., 0], probability[..., 1])
    return total


def fitting(features: _Floats, scale: npt.NDArray[Any], prior: float = STRANGER_PRIOR) -> _Floats:
    """Factor of the expected levels, from `FIT_FEATURES` (pairs, 3); shape (pairs,).

    1 where the reply more likely than not answers its seeker, else twice the probability that it does.
    """
    wide = scale.astype(np.float64)
    factor: _Floats = np.minimum(1.0, 2 * _sigmoid(features @ wide[:-1] + wide[-1] + np.log((1 - prior) / prior)))
    return factor


def _sigmoid(x: _Floats) -> _Floats:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def _rating(expected: _Floats) -> Rating:
    reactions, interpretations, explorations = (round(float(v), DIGITS) for v in expected)
    total = reactions + interpretations + explorations
    return Rating(reactions, interpretations, explorations, round(1.0 + min(_SUM_LIMIT, total), DIGITS))


def write_judge(folder: Path | str, judge: EpitomeJudge, card: Mapping[str, Any]) -> dict[str, Any]:
    """Writes ``head.safetensors`` and ``card.json`` (``card`` with the digest added), and returns that card."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = judge.to_bytes()
    full = {**card, "digest": hashlib.sha256(data).hexdigest()}
    (folder / WEIGHTS_FILE).write_bytes(data)
    (folder / CARD_FILE).write_text(json.dumps(full, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return full


def load_card(folder: Path | str) -> dict[str, Any]:
    """The card of a judge. Raises `HeartwoodError` if it is missing or not one of this judge."""
    path = Path(folder) / CARD_FILE
    try:
        card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise HeartwoodError(f"{path}: no such file", hint=_HINT) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HeartwoodError(f"{path}: not JSON: {error}", hint=_HINT) from error
    if not isinstance(card, dict) or not isinstance(card.get("digest"), str):
        raise HeartwoodError(f"{path}: names no digest of {WEIGHTS_FILE}", hint=_HINT)
    for key, made in (("judge", JUDGE), ("features", FEATURES)):
        if card.get(key) != made:
            raise HeartwoodError(
                f"{path}: made for {key} {card.get(key)!r}, this version has {made!r}",
                hint="refit the judge with this version (dvc exp run -S judge.ratings=download)",
            )
    return card


def load_judge(folder: Path | str) -> EpitomeJudge:
    """Loads a judge, and checks its weights against the sha256 in its card.

    Raises `HeartwoodError` for a missing file, another digest, or arrays of the wrong name, type or shape.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    card = load_card(folder)
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        raise HeartwoodError(f"{path}: no such file", hint=_HINT)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card["digest"]:
        raise HeartwoodError(f"{path}: sha256 is {found}, its card says {card['digest']}", hint=_HINT)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise HeartwoodError(f"{path}: not a safetensors file: {error}", hint=_HINT) from error
    wanted = shapes()
    for name, (dtype, shape) in wanted.items():
        if name not in tensors or tensors[name].dtype != dtype or tensors[name].shape != shape:
            raise HeartwoodError(f"{path}: {name} should be {dtype} of shape {shape}", hint=_HINT)
        if not np.isfinite(tensors[name].astype(np.float32)).all():
            raise HeartwoodError(f"{path}: {name} holds a number that is not finite", hint=_HINT)
    return EpitomeJudge({name: tensors[name] for name in wanted})
