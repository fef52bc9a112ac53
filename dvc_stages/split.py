"""Records to train, dev and test, no structural group in two of them."""

from curation.ledger import write_ledger
from curation.records import collector_paused, read_records, write_records
from curation.splits import split_records
from pipelines.layout import LEDGER, RECORDS, REPORTS, SPLIT, by_source
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import SourceParams, SplitParams


@collector_paused()
def main(run: Run) -> None:
    """Write the three splits, the ledger of removed records and the counts."""
    params = run.section("split", SplitParams)
    sources = run.entries("sources", SourceParams)
    records = [c for name in sorted(sources) for c in read_records(RECORDS / f"{name}.parquet")]
    result = split_records(records, seed=params.seed, dev_share=params.dev_share, test_share=params.test_share)
    for name, path in SPLIT.items():
        write_records(result.splits[name], path)
    write_ledger(result.removals, LEDGER["split"])
    write_json(
        REPORTS / "split.json",
        {
            "records": len(records),
            "removed": len(result.removals),
            "removed_by_source_and_split": result.removed_by_source_and_split(),
            "straddling_groups": result.straddling_groups,
            "assigned": result.assigned,
            **{name: by_source(rows) for name, rows in result.splits.items()},
        },
    )


if __name__ == "__main__":
    execute(main)
