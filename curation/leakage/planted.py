"""The leak detector measured on every run: known leaks of six kinds, and how many of them it finds."""

import hashlib
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.leakage.detect import Detector, pieces
from curation.records import Conversation, Turn, content_id
from curation.text import equality_key, is_generic, words

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


ALTER: dict[str, Callable[[str], str]] = {"recased": _recase, "truncated": _truncate}
_HOST = Conversation("planted", "dialogue", "", "train", (Turn("user", "Let me tell you how it was. So it went."),))


@dataclass(frozen=True, slots=True)
class Planted:
    """A train record that repeats a held-out text, and that text as it stands there."""

    record: Conversation
    original: str


def plant(
    train: Sequence[Conversation], held_out: Sequence[Conversation], kind: str, seed: int, generic_words: int
) -> list[Planted]:
    """Train records that each repeat one held-out text in the named way.

    Texts are drawn in sha256 order; stock phrases are left out, since equality alone speaks of them. A rewrapped
    leak stands inside a turn of a train record, between that turn's own words. A role-swapped leak is an
    assistant's turn where the held-out one is the user's, and the other way round.
    """
    return _plant(_hosts(train, seed), _longer_texts(held_out, generic_words), kind, seed)


def _hosts(train: Sequence[Conversation], seed: int) -> list[Conversation]:
    hosts = heapq.nsmallest(PER_KIND, train, key=lambda c: hashlib.sha256(f"{seed}/host/{c.uid}".encode()).hexdigest())
    return hosts or [_HOST]


def _longer_texts(held_out: Sequence[Conversation], generic_words: int) -> dict[str, str]:
    """The distinct texts that are no stock phrases, each with the side where it stands first."""
    sides: dict[str, str] = {}
    for conversation in held_out:
        for piece in pieces(conversation):
            sides.setdefault(piece.text, piece.side)
    return {text: side for text, side in sides.items() if not is_generic(text, generic_words)}


def _plant(hosts: Sequence[Conversation], longer: Mapping[str, str], kind: str, seed: int) -> list[Planted]:
    planted = []
    drawn = heapq.nsmallest(
        PER_KIND, longer, key=lambda text: hashlib.sha256(f"{seed}/{kind}/{text}".encode()).hexdigest()
    )
    for number, text in enumerate(drawn):
        side = longer[text]
        if kind == "rewrapped":
            turns = _wrapped(text, hosts[number % len(hosts)].turns)
        else:
            role = "assistant" if (side == "response") != (kind == "role_swapped") else "user"
            turns = (Turn(role, ALTER[kind](text) if kind in ALTER else text),)
        planted.append(Planted(_record(turns), text))
    return planted


def _wrapped(text: str, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns with the text put into the middle of the last one."""
    *before, last = turns
    parts = last.text.split()
    middle = len(parts) // 2
    return (*before, replace(last, text=" ".join([*parts[:middle], text, *parts[middle:]])))


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
    hosts, longer = _hosts(train, seed), _longer_texts(held_out, generic_words)
    for kind in KINDS[:-1]:
        result[kind] = _recall(_plant(hosts, longer, kind, seed), detector)
    pairs = [(a, b) for a, b in paraphrases if len(words(a)) > generic_words]
    originals = [_record((Turn("user", a),)) for a, _ in pairs]
    planted = [Planted(_record((Turn("user", b),)), a) for a, b in pairs]
    result["paraphrased"] = _recall(planted, detector.extended(originals))
    return result


def _recall(planted: Sequence[Planted], detector: Detector) -> Recall:
    """Count the planted records for which the very text that they repeat is named.

    What is found for a record does not depend on its neighbours, so of the scratch copy (train plus planted) only
    the planted records need to be looked at.
    """
    leaks = detector.leaks_of([p.record for p in planted])
    found = 0
    for p in planted:
        named = {equality_key(h.piece.text) for leak in leaks.get(p.record.uid, []) for h in leak.hits}
        found += equality_key(p.original) in named
    low, high = wilson(found, len(planted))
    return Recall(len(planted), found, low, high)
