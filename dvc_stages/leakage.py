"""Train without text of dev and test, and the detector's own recall on planted leaks."""

from collections import Counter
from dataclasses import asdict

from curation.embedding import Encoder, VectorStore
from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from curation.leakage import KINDS, Detector, LeakageSettings, measure_recall, remove_leaks
from curation.leakage.planted import PARAPHRASES
from curation.ledger import write_ledger
from curation.records import read_records, write_records
from pipelines.layout import CLEAN, DEDUPLICATED, LEDGER, REPORTS, SPLIT, by_source
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import LeakageParams


def main(run: Run) -> None:
    """Write clean train, the ledger, the leaks by kind and the recall by kind; recall under its gate fails."""
    params = run.section("leakage", LeakageParams)
    train = read_records(DEDUPLICATED)
    held_out = read_records(SPLIT["dev"]) + read_records(SPLIT["test"])
    detector = Detector(held_out, LeakageSettings(**params.detector.model_dump()), Encoder(VectorStore()).encode)
    kept, removals, leaks = remove_leaks(train, detector, remove_generic=params.generic == "remove")
    pairs = [(row["text"], row["paraphrase"]) for row in read_jsonl(PARAPHRASES)]
    recall = measure_recall(train, held_out, detector, pairs, params.seed)

    strongest = [found[0] for found in leaks.values()]
    write_records(kept, CLEAN)
    write_ledger(removals, LEDGER["leakage"])
    write_json(
        REPORTS / "leakage.json",
        {
            "records": len(train),
            "kept": by_source(kept),
            "removed": by_source(r.record for r in removals),
            "leaking_records": {
                "substantive": sum(not x.generic for x in strongest),
                "generic": sum(x.generic for x in strongest),
            },
            "leaks_by_rule": dict(sorted(Counter(x.rule for x in strongest).items())),
            "leaks_by_side": dict(
                sorted(Counter(f"{x.train_side} repeats {x.held_out.side}" for x in strongest).items())
            ),
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
