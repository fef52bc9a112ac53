"""The ledger of removals: one row for each removed record, with the rule, the score and what survives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.records import SCHEMA, Conversation, canonical_json, column, read_records, to_table, write_table

LEDGER_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("rule", pa.string()),
        ("parameters", pa.string()),
        ("survivor", pa.string()),
        ("score", pa.float64()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Removal:
    """One removed record.

    ``rule`` carries its version (``dedup-exact-v1``), ``parameters`` its settings, ``survivor`` is the uid of
    the record that stands in its place in the output (or in dev or test), ``score`` is exact.
    """

    record: Conversation
    rule: str
    parameters: dict[str, float | int | str]
    survivor: str
    score: float
    detail: str = ""


def write_ledger(removals: Iterable[Removal], path: Path) -> None:
    """Write the ledger, sorted by uid: the complete removed records and why each was removed."""
    rows = sorted(removals, key=lambda r: (r.record.id, r.record.copy))
    columns = [
        *to_table([r.record for r in rows]).columns,
        column(pa.string(), [r.rule for r in rows]),
        column(pa.string(), [canonical_json(r.parameters) for r in rows]),
        column(pa.string(), [r.survivor for r in rows]),
        column(pa.float64(), [round(r.score, 6) for r in rows]),
        column(pa.string(), [r.detail for r in rows]),
    ]
    write_table(pa.Table.from_arrays(columns, schema=LEDGER_SCHEMA), path)


def read_removed(path: Path) -> list[Conversation]:
    """The removed records of a ledger, as they were."""
    return read_records(path)


def by_source_and_rule(removals: Iterable[Removal]) -> dict[str, dict[str, int]]:
    """How many records each rule removed from each source."""
    counts = Counter((r.record.source, r.rule) for r in removals)
    return {s: {rule: n for (of, rule), n in sorted(counts.items()) if of == s} for s in sorted({s for s, _ in counts})}
