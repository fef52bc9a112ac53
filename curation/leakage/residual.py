"""The finished mixture held against dev and test once more, from the examples back to their records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError
from curation.examples import examples_of
from curation.leakage.detect import Detector, gather, is_removed, texts_of
from curation.records import Conversation


@dataclass(frozen=True)
class Residual:
    """Records of the mixture that should have left train, and those that hold stock phrases of dev or test."""

    leaking: list[str]
    stock_phrases: list[str]


def records_of(examples: Iterable[Mapping[str, Any]], clean: Iterable[Conversation], system: str) -> list[Conversation]:
    """The clean train records that the examples were made of, in uid order.

    Raises:
        HeartwoodError: an example is not one that its record gives.
    """
    wanted: dict[str, list[Mapping[str, Any]]] = {}
    for example in examples:
        wanted.setdefault(example["conversation"], []).append(example)
    found = {c.uid: c for c in clean if c.uid in wanted}
    for uid, rows in sorted(wanted.items()):
        given = {e["uid"]: e for e in examples_of(found[uid], system)} if uid in found else {}
        for row in rows:
            # Repeated rows carry the number of the repeat; what they say is what counts.
            if not any(all(row[k] == e[k] for k in ("prompt", "completion", "source", "task")) for e in given.values()):
                raise HeartwoodError(
                    f"example {row['uid']} of the mixture is not one that clean train gives for record {uid}",
                    hint="run `dvc repro -f mix`; the mixture is not edited by hand",
                )
    return [found[uid] for uid in sorted(found)]


def residual_leaks(records: Sequence[Conversation], detector: Detector, *, generic: str) -> Residual:
    """What the rule that cleaned train (``is_removed``) still finds in these records."""
    leaks = gather(records, detector.search(text for c in records for text in texts_of(c)), detector)
    leaking = [c.uid for c in records if is_removed(c, leaks.get(c.uid, []), generic)]
    stock = [uid for uid in leaks if uid not in set(leaking)]
    return Residual(leaking, stock)
