"""Train without duplicates, and the ledger that names a survivor for every removed record."""

from collections import Counter

from curation.dedup import DedupSettings, deduplicate
from curation.embedding import VectorTable
from curation.errors import HeartwoodError
from curation.ledger import write_ledger
from curation.records import read_records, write_records
from pipelines.layout import DEDUPLICATED, LEDGER, REPORTS, SPLIT, VECTORS, by_source
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import DedupParams


def main(run: Run) -> None:
    """Write deduplicated train, the ledger and the counts."""
    settings = DedupSettings(**run.section("dedup", DedupParams).model_dump())
    train = read_records(SPLIT["train"])
    result = deduplicate(train, settings, VectorTable(VECTORS).encode)
    kept = {c.uid for c in result.kept}
    if orphans := [r for r in result.removals if r.survivor not in kept]:
        raise HeartwoodError(
            f"{orphans[0].record.uid} was removed in favour of {orphans[0].survivor}, which is not in the output",
            hint="report this as a bug of deduplication",
        )
    write_records(result.kept, DEDUPLICATED)
    write_ledger(result.removals, LEDGER["dedup"])
    write_json(
        REPORTS / "dedup.json",
        {
            "records": len(train),
            "kept": by_source(result.kept),
            "removed": by_source(r.record for r in result.removals),
            "removed_by_rule": dict(sorted(Counter(r.rule for r in result.removals).items())),
            "label_conflict_groups": result.label_conflict_groups,
            "stock_phrases_kept": result.generic_records,
            "pairs_within_0.02_above_threshold": result.near_threshold,
        },
    )


if __name__ == "__main__":
    execute(main)
