"""The finished mixture once more: no text of dev, test or prompts in it, the shares as asked, its suite."""

from typing import Any

from curation.embedding import VectorTable
from curation.errors import HeartwoodError
from curation.examples import EMOTION_INSTRUCTION
from curation.expectations import example_frame, require, validate_table
from curation.jsonl import read_jsonl
from curation.leakage import Detector, LeakageSettings
from curation.mixture import resolve_shares
from curation.records import read_records
from curation.text import fold
from pipelines.layout import MIXTURE, PROMPTS, REPORTS, SPLIT, VECTORS
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import LeakageParams, SourceParams
from pipelines.settings.mixture import parse_mix


def texts_of(example: dict[str, Any]) -> list[str]:
    """The corpus texts in an example: without system message and without the fixed instruction."""
    texts = [m["content"] for m in example["prompt"] if m["role"] != "system"]
    if example["task"] == "emotion":
        return [texts[0].removeprefix(f"{EMOTION_INSTRUCTION}\n")]
    return texts + [m["content"] for m in example["completion"]]


def main(run: Run) -> None:
    """Write ``reports/check.json``; training depends on it."""
    leakage = run.section("leakage", LeakageParams)
    sources = run.entries("sources", SourceParams)
    settings, asked = parse_mix(run.value("mix"), sources)
    examples = read_jsonl(MIXTURE)
    receipt = read_json(REPORTS / "mixture.json")

    held_out = read_records(SPLIT["dev"]) + read_records(SPLIT["test"])
    detector = Detector(held_out, LeakageSettings(**leakage.detector.model_dump()), VectorTable(VECTORS).encode)
    texts = {text: example["uid"] for example in reversed(examples) for text in texts_of(example)}
    hits = detector.find(list(texts))
    generic = {text for text in hits if detector.is_generic(text)}
    residual = sorted(hits) if leakage.generic == "remove" else sorted(set(hits) - generic)
    prompts = {fold(m["content"]) for p in read_jsonl(PROMPTS) for m in p["messages"] if m["role"] == "user"}
    repeated = sorted(text for text in texts if fold(text) in prompts)
    rows = {name: sum(e["source"] == name for e in examples) for name in receipt["rows"]}
    expected = {
        "size": receipt["size"] if settings.when_short == "shrink" else settings.size,
        "sources": sorted(sources),
        "shares": {name: float(share) for name, share in resolve_shares(asked).items()},
        "rows": receipt["rows"],
    }
    suite = validate_table("mixture", example_frame(examples), expected)
    write_json(
        REPORTS / "check.json",
        {
            "examples": len(examples),
            "residual_leaks": len(residual),
            "generic_leaks_kept": len(generic) if leakage.generic == "keep" else 0,
            "prompts_in_mixture": len(repeated),
            "rows": rows,
            "suite": suite.as_dict(),
        },
    )
    for found, what in ((residual, "dev or test"), (repeated, "the evaluation prompts")):
        if found:
            raise HeartwoodError(
                f"{len(found)} texts of the mixture also stand in {what}; the first in example {texts[found[0]]}",
                hint="run `dvc repro leakage` with the same thresholds; training does not start on leaked data",
            )
    require([suite])


if __name__ == "__main__":
    execute(main)
