"""Train without duplicates, and the ledger that names a survivor for every removed record."""

from collections import Counter

from curation.dedup import DedupSettings, deduplicate, restore
from curation.embedding import VectorTable
from curation.errors import HeartwoodError
from curation.jsonl import write_jsonl
from curation.ledger import by_source_and_rule, write_ledger
from curation.records import collector_paused, read_records, write_records
from curation.review import count_by_rule, sample
from pipelines.layout import DEDUPLICATED, LEDGER, REPORTS, REVIEW, SPLIT, VECTORS, by_source
from pipelines.progress import progress
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import DedupParams


@collector_paused()
@progress("looking for duplicates")
def main(run: Run) -> None:
    """Write deduplicated train, the ledger, the counts and a sample of close decisions."""
    settings = DedupSettings(**run.section("dedup", DedupParams).model_dump())
    train = read_records(SPLIT["train"])
    result = deduplicate(train, settings, VectorTable(VECTORS).encode)
    kept = {c.uid for c in result.kept}
    if orphans := [r for r in result.removals if r.survivor and r.survivor not in kept]:
        raise HeartwoodError(
            f"{orphans[0].record.uid} was removed in favour of {orphans[0].survivor}, which is not in the output",
            hint="report this as a bug of deduplication",
        )
    if restore(result.kept, result.removals) != train:
        raise HeartwoodError("output and ledger do not give the input again", hint="report this as a bug")
    write_records(result.kept, DEDUPLICATED)
    write_ledger(result.removals, LEDGER["dedup"])
    write_jsonl(sample(result.close_calls), REVIEW["dedup"])
    write_json(
        REPORTS / "dedup.json",
        {
            "records": len(train),
            "kept": by_source(result.kept),
            "removed": by_source(r.record for r in result.removals),
            "removed_by_rule": dict(sorted(Counter(r.rule for r in result.removals).items())),
            "removed_by_source_and_rule": by_source_and_rule(result.removals),
            "label_conflicts": settings.label_conflicts,
            "label_conflict_groups": result.label_conflict_groups,
            "label_conflict_groups_of_stock_phrases": result.stock_label_conflict_groups,
            "stock_phrases_kept": result.stock_phrases,
            "decisions_within_0.02_of_threshold": count_by_rule(result.close_calls),
        },
    )


if __name__ == "__main__":
    execute(main)
