"""The leak detector measured on every run: known leaks of six kinds, and how many of them it finds."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.leakage.detect import Detector, pieces
from curation.records import Conversation, Turn, content_id
from curation.text import is_generic, words

KINDS = ("verbatim", "recased", "truncated", "rewrapped", "role_swapped", "paraphrased")
PARAPHRASES = Path(__file__).parent / "paraphrases.jsonl"
PER_KIND = 250
TRUNCATED_SHARE = 2 / 3


@dataclass(frozen=True)
class Recall:
    """How many planted leaks of a kind were found, with the 95 % Wilson interval."""

    planted: int
    found: int
    low: float
    high: float

    @property
    def recall(self) -> float:
        """The point estimate; 0 when nothing was planted."""
        return self.found / self.planted if self.planted else 0.0


def wilson(found: int, planted: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927)."""
    if planted == 0:
        return 0.0, 1.0
    p = found / planted
    centre = p + z * z / (2 * planted)
    spread = z * math.sqrt(p * (1 - p) / planted + z * z / (4 * planted * planted))
    scale = 1 + z * z / planted
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _recase(text: str) -> str:
    return " ".join(w.upper() if i % 3 else w.capitalize() for i, w in enumerate(text.split())) + " !!"


def _truncate(text: str) -> str:
    parts = text.split()
    return " ".join(parts[: math.ceil(len(parts) * TRUNCATED_SHARE)])


def _rewrap(text: str) -> str:
    return f"Let me tell you how it was. {text} So that is what happened to me."


ALTER: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "recased": _recase,
    "truncated": _truncate,
    "rewrapped": _rewrap,
    "role_swapped": lambda text: text,
}


def plant(held_out: Sequence[Conversation], kind: str, seed: int, generic_words: int) -> list[Conversation]:
    """Train records that each repeat one held-out turn in the named way.

    Turns are drawn in sha256 order; stock phrases are left out, since equality alone speaks of them. A
    role-swapped leak is an assistant's turn where the held-out one is the user's, and the other way round.
    """
    found: dict[str, tuple[str, str]] = {}
    for conversation in held_out:
        for piece in pieces(conversation):
            if not is_generic(piece.text, generic_words):
                key = hashlib.sha256(f"{seed}/{kind}/{piece.text}".encode()).hexdigest()
                found.setdefault(key, (piece.text, piece.side))
    planted = []
    for key in sorted(found)[:PER_KIND]:
        text, side = found[key]
        role = "assistant" if (side == "response") != (kind == "role_swapped") else "user"
        planted.append(_record((Turn(role, ALTER[kind](text)),)))
    return planted


def _record(turns: tuple[Turn, ...]) -> Conversation:
    record = Conversation("planted", "dialogue", "planted", "train", turns)
    return replace(record, id=content_id(record))


def measure_recall(
    train: Sequence[Conversation],
    held_out: Sequence[Conversation],
    detector: Detector,
    paraphrases: Sequence[tuple[str, str]],
    seed: int,
) -> dict[str, Recall]:
    """Plant leaks of every kind into a scratch copy of train and count those that the detector finds.

    Args:
        paraphrases: (text, the same in other words); the first is held out, the second planted in train.
    """
    result = {}
    generic_words = detector.settings.generic_words
    for kind in KINDS[:-1]:
        planted = plant(held_out, kind, seed, generic_words)
        result[kind] = _recall(planted, detector, train)
    pairs = [(a, b) for a, b in paraphrases if len(words(a)) > generic_words]
    originals = [_record((Turn("user", a),)) for a, _ in pairs]
    against = Detector([*held_out, *originals], detector.settings, detector.encode)
    result["paraphrased"] = _recall([_record((Turn("user", b),)) for _, b in pairs], against, train)
    return result


def _recall(planted: Sequence[Conversation], detector: Detector, train: Sequence[Conversation]) -> Recall:
    # What is found for a train text does not depend on its neighbours, so of the scratch copy (train plus
    # planted) only the planted records need to be looked at again.
    taken = {c.uid for c in train}
    fresh = [c for c in planted if c.uid not in taken]
    leaks = detector.leaks_of(fresh)
    found = sum(c.uid in leaks for c in fresh)
    low, high = wilson(found, len(fresh))
    return Recall(len(fresh), found, low, high)
