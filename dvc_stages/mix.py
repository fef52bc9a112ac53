"""Clean train to the mixture, in training order, with its receipt."""

from curation.examples import make_examples
from curation.jsonl import write_jsonl
from curation.mixture import mix, read_request, receipt
from curation.records import read_records
from pipelines.layout import BASE, CLEAN, MIXTURE, REPORTS, by_source
from pipelines.progress import progress
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import SourceParams
from pipelines.settings.mixture import ChatParams, parse_mix
from pipelines.sft.base import read_pointer, tokenizer_of
from pipelines.sft.tokens import count_tokens


@progress("drawing the mixture")
def main(run: Run) -> None:
    """Write ``train.jsonl`` and ``reports/mixture.json``."""
    sources = run.entries("sources", SourceParams)
    settings, asked = parse_mix(run.value("mix"), sources)
    request = read_request(asked, settings.temperature)
    records = read_records(CLEAN)
    examples = make_examples(records, run.section("chat", ChatParams).system)
    pointer = read_pointer(BASE)
    tokenizer = tokenizer_of(pointer)
    weights = None
    if settings.unit == "tokens":
        weights = {uid: supervised for uid, (_, supervised) in count_tokens(tokenizer, examples).items()}
    mixture = mix(
        examples, request, size=settings.size, seed=settings.seed, when_short=settings.when_short, weights=weights
    )
    write_jsonl(mixture.examples, MIXTURE)
    split, clean = read_json(REPORTS / "split.json"), by_source(records)
    before = {
        name: split["train"].get(name, 0) + split["removed_by_source_and_split"].get(name, {}).get("train", 0)
        for name in sorted(sources)
    }
    write_json(
        REPORTS / "mixture.json",
        {
            **receipt(mixture, records, count_tokens(tokenizer, mixture.examples)),
            "settings": settings.model_dump(),
            "train_records": {"before_curation": before, "after_curation": {n: clean.get(n, 0) for n in before}},
            "tokenizer": {"base": pointer.name, "digest": pointer.digest},
        },
    )


if __name__ == "__main__":
    execute(main)
