"""Great Expectations over the tables; a critical expectation that fails stops the pipeline."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curation.expectations import conversation_frame, require, split_frame, validate_table, warnings_of
from curation.records import collector_paused, read_records
from curation.sources import LABELS
from pipelines.layout import CLEAN, RECORDS, REPORTS, SPLIT
from pipelines.progress import progress
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import DedupParams, RecordsParams, ValidateParams, parse_sources

if TYPE_CHECKING:
    import pandas as pd


def tables(sources: list[str]) -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Each table's name, which is its suite's, and frame."""
    yield "records", conversation_frame(c for name in sources for c in read_records(RECORDS / f"{name}.parquet"))
    splits = {"train": read_records(CLEAN), "dev": read_records(SPLIT["dev"]), "test": read_records(SPLIT["test"])}
    for name, records in splits.items():
        yield name, conversation_frame(records)
    yield "splits", split_frame(c for records in splits.values() for c in records)


@collector_paused()
@progress("validating tables")
def main(run: Run) -> None:
    """Write the outcome of every expectation on records, clean train, dev and test."""
    sources = parse_sources(run.value("sources"))
    dedup = run.section("dedup", DedupParams)
    contact = run.section("records", RecordsParams).contact
    labels = {name: LABELS[source.format] for name, source in sources.items()}
    parameters = {
        **run.section("validate", ValidateParams).model_dump(),
        "sources": sorted(sources),
        "label_sets": {name: None if allowed is None else sorted(allowed) for name, allowed in labels.items()},
        "contact_free_share": 0.0 if contact == "keep" else 1.0,
        "stock_words": dedup.generic_words,
        "label_conflicts": dedup.label_conflicts,
    }
    results = [validate_table(name, frame, parameters) for name, frame in tables(sorted(sources))]
    write_json(REPORTS / "validation.json", {r.table: r.as_dict() for r in results})
    for line in warnings_of(results):
        print(f"heartwood: validate: warning: {line}", file=sys.stderr)
    require(results)


if __name__ == "__main__":
    execute(main)
