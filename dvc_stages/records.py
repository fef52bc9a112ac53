"""Raw files to records: ids, contact details masked, bad rows in quarantine, every raw row accounted for."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from curation.contact import mask_conversation
from curation.errors import HeartwoodError
from curation.jsonl import write_jsonl
from curation.records import Conversation, Origin, identify, write_origins, write_records
from curation.sources import parse
from curation.sources.quarantine import Parsed, Quarantined
from pipelines.layout import ORIGINS, QUARANTINE, RAW, RECORDS, REPORTS
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import RecordsParams, SourceParams


def main(run: Run) -> None:
    """Write one Parquet table and one quarantine file a source, the origins and the counts."""
    params = run.section("records", RecordsParams)
    sources = run.entries("sources", SourceParams)
    report: dict[str, Any] = {}
    found: list[tuple[Conversation, Origin]] = []
    for name, source in sorted(sources.items()):
        kept: list[tuple[Conversation, Origin]] = []
        quarantined: list[Quarantined] = []
        rows: Counter[str] = Counter()
        contacts: Counter[str] = Counter()
        for item in parse(source.format, RAW / name, name):
            if isinstance(item, Quarantined):
                quarantined.append(item)
                rows["quarantined"] += item.rows
                continue
            rows["kept"] += item.rows
            kept.append(_masked(item, params.contact, contacts))
        identified = identify(kept)
        found += identified
        write_records([c for c, _ in identified], RECORDS / f"{name}.parquet")
        quarantined.sort(key=lambda q: (q.file, q.first_row))
        write_jsonl([asdict(q) for q in quarantined], QUARANTINE / f"{name}.jsonl")
        total = rows["kept"] + rows["quarantined"]
        report[name] = {
            "raw_rows": total,
            "raw_rows_kept": rows["kept"],
            "raw_rows_quarantined": rows["quarantined"],
            "quarantined_by_reason": dict(sorted(Counter(q.reason for q in quarantined).items())),
            "records": len(kept),
            "records_by_split": dict(sorted(Counter(c.split or "unassigned" for c, _ in kept).items())),
            "contacts_masked": dict(sorted(contacts.items())),
        }
        if rows["quarantined"] > params.max_quarantined * total:
            first = quarantined[0]
            raise HeartwoodError(
                f"{name}: {rows['quarantined']} of {total} raw rows cannot be used, more than"
                f" records.max_quarantined = {params.max_quarantined:g}; the first: {first.file}, row"
                f" {first.first_row}: {first.reason} ({first.detail})",
                hint="restore the corpus files, or raise records.max_quarantined if the loss is understood",
            )
    write_origins(found, ORIGINS)
    write_json(REPORTS / "records.json", report)


def _masked(item: Parsed, contact: str, contacts: Counter[str]) -> tuple[Conversation, Origin]:
    if contact == "keep":
        return item.conversation, item.origin
    conversation, counts = mask_conversation(item.conversation)
    contacts.update(counts)
    return conversation, item.origin


if __name__ == "__main__":
    execute(main)
