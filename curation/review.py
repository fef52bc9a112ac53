"""Decisions near a threshold: how many there are, and a fixed sample of them for a person to read."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Decisions whose score is within this of their rule's threshold are counted and shown: another threshold turns them.
MARGIN = 0.02
PER_GROUP = 25


@dataclass(frozen=True, slots=True)
class Decision:
    """Two texts, the rule and score that compare them, and whether the rule calls them the same."""

    rule: str
    score: float
    flagged: bool
    uid: str
    text: str
    other_uid: str
    other_text: str


def count_by_rule(decisions: Iterable[Decision]) -> dict[str, dict[str, int]]:
    """How many decisions each rule took for and against, ``flagged`` and ``passed``."""
    counts: dict[str, Counter[str]] = {}
    for d in decisions:
        counts.setdefault(d.rule, Counter(flagged=0, passed=0))["flagged" if d.flagged else "passed"] += 1
    return {rule: dict(sorted(found.items())) for rule, found in sorted(counts.items())}


def sample(decisions: Sequence[Decision], per_group: int = PER_GROUP) -> list[dict[str, Any]]:
    """Up to ``per_group`` decisions of each rule and outcome, drawn in sha256 order, sorted by rule and score."""
    groups: dict[tuple[str, bool], list[Decision]] = {}
    for d in sorted(decisions, key=lambda d: hashlib.sha256(f"{d.uid}/{d.other_uid}/{d.text}".encode()).hexdigest()):
        groups.setdefault((d.rule, d.flagged), []).append(d)
    drawn = [d for group in groups.values() for d in group[:per_group]]
    drawn.sort(key=lambda d: (d.rule, -d.score, d.uid, d.text))
    return [
        {
            "rule": d.rule,
            "score": round(d.score, 6),
            "flagged": d.flagged,
            "uid": d.uid,
            "text": d.text,
            "other_uid": d.other_uid,
            "other_text": d.other_text,
        }
        for d in drawn
    ]
