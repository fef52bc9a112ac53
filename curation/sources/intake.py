"""From what a parser yields to the records of one source: contact details treated, every raw row accounted for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from curation.contact import treat_contacts
from curation.records import Conversation, Origin, identify
from curation.sources.quarantine import Parsed, Quarantined, has_format_characters


@dataclass(frozen=True)
class Intake:
    """One source's records with their ids, by uid, its quarantined rows, by file and row, and its counts.

    The counts are those of ``reports/records.json``: raw rows are kept or quarantined, never both or neither.
    """

    records: list[tuple[Conversation, Origin]]
    quarantined: list[Quarantined]
    counts: dict[str, Any]

    @property
    def quarantined_share(self) -> float:
        """Quarantined raw rows as a share of all; 0 without any rows."""
        rows = self.counts["raw_rows"]
        return self.counts["raw_rows_quarantined"] / rows if rows else 0.0


def take_in(items: Iterable[Parsed | Quarantined], contact: str) -> Intake:
    """Sort a parser's yield into records and quarantine.

    Args:
        contact: what becomes of records with contact details, ``mask``, ``quarantine`` or ``keep``.
    """
    kept: list[tuple[Conversation, Origin]] = []
    quarantined: list[Quarantined] = []
    counts: Counter[str] = Counter()
    contacts: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Parsed):
            item, found = treat_contacts(item, contact)
            contacts.update(found)
            counts["with_contacts"] += bool(found)
        if isinstance(item, Quarantined):
            quarantined.append(item)
            continue
        conversation = item.conversation
        texts = [conversation.situation, *(t.text for t in conversation.turns)]
        counts["rows"] += item.rows
        counts["system_messages"] += item.system_messages
        counts["with_format_characters"] += any(map(has_format_characters, texts))
        kept.append((conversation, item.origin))
    reasons: Counter[str] = Counter()
    for row in quarantined:
        reasons[row.reason] += row.rows
    return Intake(
        identify(kept),
        sorted(quarantined, key=lambda q: (q.file, q.first_row)),
        {
            "raw_rows": counts["rows"] + reasons.total(),
            "raw_rows_kept": counts["rows"],
            "raw_rows_quarantined": reasons.total(),
            "quarantined_by_reason": dict(sorted(reasons.items())),
            "records": len(kept),
            "records_by_split": dict(sorted(Counter(c.split or "unassigned" for c, _ in kept).items())),
            "records_with_contacts": counts["with_contacts"],
            "contacts": dict(sorted(contacts.items())),
            "system_messages_left_out": counts["system_messages"],
            "records_with_format_characters": counts["with_format_characters"],
        },
    )
