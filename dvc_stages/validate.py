"""Great Expectations over the tables; a critical expectation that fails stops the pipeline."""

from typing import Any

from curation.errors import HeartwoodError
from curation.expectations import SuiteResult, conversation_frame, validate_frame
from curation.records import read_records
from curation.sources import LABELS
from pipelines.layout import CLEAN, RECORDS, REPORTS, SPLIT
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import RecordsParams, SourceParams, ValidateParams


def main(run: Run) -> None:
    """Write the outcome of every expectation on records, clean train, dev and test."""
    params = run.section("validate", ValidateParams)
    sources = run.entries("sources", SourceParams)
    contact = run.section("records", RecordsParams).contact
    labels = {name: LABELS.get(source.format) for name, source in sources.items()}
    common = {"sources": sorted(sources), "max_contacts": 0 if contact == "mask" else 10**9}
    records = [c for name in sorted(sources) for c in read_records(RECORDS / f"{name}.parquet")]
    tables: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("records", "records", records, {"min_rows": 1}),
        ("train", "train", read_records(CLEAN), {"min_rows": params.min_train_rows}),
        ("dev", "held_out", read_records(SPLIT["dev"]), {"min_rows": params.min_dev_rows, "splits": ["dev"]}),
        ("test", "held_out", read_records(SPLIT["test"]), {"min_rows": 1, "splits": ["test"]}),
    ]
    results = [
        validate_frame(table, suite, conversation_frame(rows, labels), {**common, **bounds})
        for table, suite, rows, bounds in tables
    ]
    write_json(REPORTS / "validation.json", {r.table: r.as_dict() for r in results})
    stop_on_failure(results)


def stop_on_failure(results: list[SuiteResult]) -> None:
    """Raise on the first critical expectation that a table does not meet."""
    for result in results:
        for failed in result.failed:
            where = failed["arguments"].get("column", "the table")
            raise HeartwoodError(
                f"{result.table}: {failed['expectation']} fails for {where}"
                f" (allowed: {failed['arguments']}; found: {failed['result']})",
                hint="look at the rows it names and correct the data, or the suite in curation/expectations/suites",
            )


if __name__ == "__main__":
    execute(main)
