"""Clean train to the mixture, in training order, with its receipt."""

from curation.examples import content_digest, make_examples
from curation.jsonl import write_jsonl
from curation.mixture import mix, resolve_shares
from curation.records import read_records
from pipelines.layout import CLEAN, MIXTURE, REPORTS
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import SourceParams
from pipelines.settings.mixture import ChatParams, parse_mix


def main(run: Run) -> None:
    """Write ``train.jsonl`` and ``reports/mixture.json``."""
    sources = run.entries("sources", SourceParams)
    settings, asked = parse_mix(run.value("mix"), sources)
    shares = resolve_shares(asked)
    examples = make_examples(read_records(CLEAN), run.section("chat", ChatParams).system)
    mixture = mix(examples, shares, size=settings.size, seed=settings.seed, when_short=settings.when_short)
    write_jsonl(mixture.examples, MIXTURE)
    size = len(mixture.examples)
    write_json(
        REPORTS / "mixture.json",
        {
            "size": size,
            "requested": {name: round(float(share), 6) for name, share in mixture.requested.items()},
            "realised": {name: round(rows / size, 6) for name, rows in mixture.rows.items()},
            "rows": mixture.rows,
            "available": mixture.available,
            "repeats": mixture.repeats,
            "examples_sha256": content_digest(mixture.examples),
        },
    )


if __name__ == "__main__":
    execute(main)
