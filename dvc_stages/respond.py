"""One model's replies to the fixed prompts."""

from pathlib import Path

from curation.jsonl import read_jsonl, write_jsonl
from pipelines.evaluation.respond import RespondSettings, respond
from pipelines.layout import BASE, PROMPTS
from pipelines.progress import progress
from pipelines.provenance.environment import describe
from pipelines.provenance.lineage import build_lineage, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import RespondParams
from pipelines.sft.hardware import choose

RESPONSES = Path("data/responses")


def main(run: Run) -> None:
    """Write ``data/responses/<model>.jsonl`` and its lineage."""
    settings = RespondSettings(**run.section("respond", RespondParams).model_dump())
    model = BASE if run.key == "base" else Path("models") / run.key
    hardware = choose(settings.device, settings.threads)
    with progress(f"replies of {run.key}") as show:
        replies = respond(model, read_jsonl(PROMPTS), settings, progress=show)
    write_jsonl(replies, RESPONSES / f"{run.key}.jsonl")
    environment = describe(
        "training", run.locks(), device=hardware.device, dtype=hardware.dtype, threads=hardware.threads
    )
    write_json(RESPONSES / f"{run.key}.lineage.json", build_lineage(run, environment, model))


if __name__ == "__main__":
    execute(main)
