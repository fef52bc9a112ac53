"""The ledger of removals: one row for each removed record, with the rule, the score and what survives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.records import SCHEMA, Conversation, as_row, canonical_json, from_row, write_table

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
    rows = [
        {
            **as_row(r.record),
            "rule": r.rule,
            "parameters": canonical_json(r.parameters),
            "survivor": r.survivor,
            "score": round(r.score, 6),
            "detail": r.detail,
        }
        for r in sorted(removals, key=lambda r: (r.record.id, r.record.copy))
    ]
    write_table(pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), path)


def read_removed(path: Path) -> list[Conversation]:
    """The removed records of a ledger, as they were."""
    return [from_row(row) for row in pq.read_table(path).to_pylist()]


def by_source_and_rule(removals: Iterable[Removal]) -> dict[str, dict[str, int]]:
    """How many records each rule removed from each source."""
    counts = Counter((r.record.source, r.rule) for r in removals)
    return {s: {rule: n for (of, rule), n in sorted(counts.items()) if of == s} for s in sorted({s for s, _ in counts})}
