"""Train without text of dev and test, and the detector's own recall on planted leaks."""

from collections import Counter
from dataclasses import asdict

from curation.embedding import Encoder, VectorStore
from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl, write_jsonl
from curation.leakage import KINDS, Detector, LeakageSettings, measure_recall, remove_leaks
from curation.leakage.planted import PARAPHRASES
from curation.ledger import by_source_and_rule, write_ledger
from curation.records import collector_paused, read_records, write_records
from curation.review import count_by_rule, sample
from pipelines.layout import CLEAN, DEDUPLICATED, LEDGER, REPORTS, REVIEW, SPLIT, by_source
from pipelines.progress import progress
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import LeakageParams


@collector_paused()
@progress("looking for leaks")
def main(run: Run) -> None:
    """Write clean train, the ledger, the leaks by kind and the recall by kind; recall under its gate fails."""
    params = run.section("leakage", LeakageParams)
    train = read_records(DEDUPLICATED)
    held_out = read_records(SPLIT["dev"]) + read_records(SPLIT["test"])
    encoder = Encoder(VectorStore())
    detector = Detector(held_out, LeakageSettings(**params.detector.model_dump()), encoder.encode)
    result = remove_leaks(train, detector, generic=params.generic)
    paraphrases = [(row["text"], row["paraphrase"]) for row in read_jsonl(PARAPHRASES)]
    recall = measure_recall(train, held_out, detector, paraphrases, params.seed)

    run.record("encode_seconds", round(encoder.seconds, 3))
    removed = {r.record.uid for r in result.removals}
    source = {c.uid: c.source for c in train}
    pairs = result.pairs.values()
    write_records(result.kept, CLEAN)
    write_ledger(result.removals, LEDGER["leakage"])
    write_jsonl(sample(result.close_calls), REVIEW["leakage"])
    write_json(
        REPORTS / "leakage.json",
        {
            "records": len(train),
            "kept": by_source(result.kept),
            "removed": by_source(r.record for r in result.removals),
            "removed_by_source_and_rule": by_source_and_rule(result.removals),
            "generic": params.generic,
            "records_with_leaks": {
                kind: {
                    "found": sum(p.generic == generic for p in pairs),
                    "removed": sum(p.generic == generic and p.train.uid in removed for p in pairs),
                    "found_by_source": dict(
                        sorted(Counter(source[p.train.uid] for p in pairs if p.generic == generic).items())
                    ),
                    "removed_by_source": dict(
                        sorted(
                            Counter(
                                source[p.train.uid] for p in pairs if p.generic == generic and p.train.uid in removed
                            ).items()
                        )
                    ),
                }
                for kind, generic in (("substantive", False), ("generic", True))
            },
            "leaks_by_rule": dict(sorted(Counter(p.rule for p in pairs).items())),
            "leaks_by_side": dict(sorted(Counter(p.sides for p in pairs).items())),
            "decisions_within_0.02_of_threshold": count_by_rule(result.close_calls),
            "recall": {
                kind: {**asdict(r), "recall": round(r.recall, 6), "low": round(r.low, 6), "high": round(r.high, 6)}
                for kind, r in recall.items()
            },
        },
    )
    for kind in KINDS:
        wanted = params.min_recall.model_dump().get(kind)
        if wanted is not None and recall[kind].recall < wanted:
            raise HeartwoodError(
                f"the leak detector found {recall[kind].found} of {recall[kind].planted} planted {kind} leaks;"
                f" leakage.min_recall.{kind} is {wanted:g}",
                hint="lower the thresholds under leakage so that more is found, or lower the gate knowingly",
            )


if __name__ == "__main__":
    execute(main)
