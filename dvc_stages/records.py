"""Raw files to records: ids, contact details treated, bad rows in quarantine, every raw row accounted for."""

from dataclasses import asdict
from typing import Any

from curation.errors import HeartwoodError
from curation.jsonl import write_jsonl
from curation.records import Conversation, Origin, collector_paused, write_origins, write_records
from curation.sources import parse
from curation.sources.intake import take_in
from pipelines.layout import ORIGINS, QUARANTINE, RAW, RECORDS, REPORTS
from pipelines.progress import progress
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import RecordsParams, parse_sources


@collector_paused()
@progress("reading raw files")
def main(run: Run) -> None:
    """Write one Parquet table and one quarantine file a source, the origins and the counts."""
    params = run.section("records", RecordsParams)
    report: dict[str, Any] = {}
    found: list[tuple[Conversation, Origin]] = []
    for name, source in parse_sources(run.value("sources")).items():
        intake = take_in(parse(source.format, RAW / name, name), params.contact)
        found += intake.records
        write_records([c for c, _ in intake.records], RECORDS / f"{name}.parquet")
        write_jsonl([asdict(q) for q in intake.quarantined], QUARANTINE / f"{name}.jsonl")
        report[name] = intake.counts
        if intake.quarantined_share > params.max_quarantined:
            first = intake.quarantined[0]
            raise HeartwoodError(
                f"{name}: {intake.counts['raw_rows_quarantined']} of {intake.counts['raw_rows']} raw rows are set"
                f" aside, more than records.max_quarantined = {params.max_quarantined:g}, by reason"
                f" {intake.counts['quarantined_by_reason']}; the first: {first.file}, row {first.first_row}:"
                f" {first.reason} ({first.detail})",
                hint="restore the source's files, or raise records.max_quarantined if the loss is understood",
            )
    write_origins(found, ORIGINS)
    write_json(REPORTS / "records.json", report)


if __name__ == "__main__":
    execute(main)
