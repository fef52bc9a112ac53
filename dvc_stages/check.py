"""The finished mixture once more: no text of dev, test or prompts in it, the shares as asked, its suite."""

from fractions import Fraction
from pathlib import Path

from curation.embedding import VectorTable
from curation.errors import HeartwoodError
from curation.expectations import example_frame, require, validate_table
from curation.jsonl import read_jsonl
from curation.leakage import Detector, LeakageSettings, pieces
from curation.leakage.residual import records_of, residual_leaks
from curation.mixture import require_token_shares, resolve_shares
from curation.records import collector_paused, read_records
from curation.text import equality_key
from pipelines.layout import BASE, CLEAN, DEV_EXAMPLES, MIXTURE, PROMPTS, REPORTS, SPLIT, VECTORS
from pipelines.progress import progress
from pipelines.provenance.graph import require_independent
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import LeakageParams, SourceParams
from pipelines.settings.mixture import ChatParams, parse_mix
from pipelines.sft.base import read_pointer, tokenizer_of
from pipelines.sft.tokens import count_tokens


@collector_paused()
@progress("checking the mixture")
def main(run: Run) -> None:
    """Write ``reports/check.json``; training depends on it."""
    judged_on = [SPLIT["dev"], SPLIT["test"], DEV_EXAMPLES, PROMPTS]
    require_independent(judged_on, of="mix", params="mix", root=Path.cwd())
    leakage = run.section("leakage", LeakageParams)
    sources = run.entries("sources", SourceParams)
    settings, asked = parse_mix(run.value("mix"), sources)
    examples = read_jsonl(MIXTURE)
    receipt = read_json(REPORTS / "mixture.json")

    held_out = read_records(SPLIT["dev"]) + read_records(SPLIT["test"])
    detector = Detector(held_out, LeakageSettings(**leakage.detector.model_dump()), VectorTable(VECTORS).encode)
    records = records_of(examples, read_records(CLEAN), run.section("chat", ChatParams).system)
    residual = residual_leaks(records, detector, generic=leakage.generic)
    prompts = {equality_key(m["content"]) for p in read_jsonl(PROMPTS) for m in p["messages"] if m["role"] == "user"}
    repeated = [c.uid for c in records if prompts & {equality_key(p.text) for p in pieces(c)}]
    rows = {name: sum(e["source"] == name for e in examples) for name in receipt["rows"]}
    if receipt.get("unit") != settings.unit:
        raise HeartwoodError(
            f"{REPORTS / 'mixture.json'} is of a mixture by {receipt.get('unit')}, mix.unit is {settings.unit}",
            hint="run `dvc repro mix`",
        )
    in_tokens = settings.unit == "tokens"
    sizes = receipt["available_tokens" if in_tokens else "available"]
    shares = resolve_shares(asked, settings.temperature, sizes)
    if in_tokens:
        counts = count_tokens(tokenizer_of(read_pointer(BASE)), examples)
        require_token_shares(
            {name: sum(counts[e["uid"]][1] for e in examples if e["source"] == name) for name in rows},
            shares,
            sources=sum(1 for n in rows.values() if n),
            largest=receipt["largest_example_tokens"],
        )
        shares = {name: Fraction(n, len(examples)) for name, n in rows.items()}
    expected = {
        "size": receipt["size"] if settings.when_short == "shrink" else settings.size,
        "sources": sorted(sources),
        "shares": {name: float(share) for name, share in shares.items()},
        "rows": receipt["rows"],
    }
    suite = validate_table("mixture", example_frame(examples), expected)
    write_json(
        REPORTS / "check.json",
        {
            "examples": len(examples),
            "records": len(records),
            "residual_leaks": len(residual.leaking),
            "records_with_stock_phrases_of_dev_or_test": len(residual.stock_phrases),
            "records_with_evaluation_prompts": len(repeated),
            "independent_of_the_mixture": [path.as_posix() for path in judged_on],
            "rows": rows,
            "suite": suite.as_dict(),
        },
    )
    for found, what, hint in (
        (residual.leaking, "dev or test", "run `dvc repro leakage` with the same thresholds"),
        (repeated, "the evaluation prompts", "set prompts.min_words above leakage.detector.generic_words"),
    ):
        if found:
            raise HeartwoodError(
                f"{len(found)} records of the mixture repeat text of {what}; the first is {found[0]}; training does"
                " not start on leaked data",
                hint=hint,
            )
    require([suite])


if __name__ == "__main__":
    execute(main)
