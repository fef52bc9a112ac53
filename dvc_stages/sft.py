"""One checkpoint: QLoRA on the mixture in file order, from the base or on from an earlier checkpoint."""

import sys
from pathlib import Path

from curation.jsonl import read_jsonl
from pipelines.layout import DEV_EXAMPLES, MIXTURE, REPORTS, main_checkout
from pipelines.provenance.environment import describe
from pipelines.provenance.lineage import build_lineage, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.training import CheckpointParams, SftParams
from pipelines.sft.launch import launch_processes, launched
from pipelines.sft.parent import end_with_parent
from pipelines.sft.record import curve, dev_curve, lineage_of, speed, summary, training_key
from pipelines.sft.rows import next_row
from pipelines.sft.scratch import held
from pipelines.sft.settings import TrainSettings
from pipelines.sft.train import train


def main(run: Run) -> None:
    """Write ``models/<name>/`` with adapter, base pointer, consumed rows, samples and lineage, and the loss curves."""
    end_with_parent()
    shared = run.section("sft", SftParams)
    checkpoint = run.section(f"checkpoints.{run.key}", CheckpointParams)
    if shared.processes > 1 and not launched():
        launch_processes("dvc_stages.sft", shared.processes)
        return
    settings = TrainSettings(
        steps=checkpoint.steps,
        learning_rate=checkpoint.learning_rate,
        batch_size=shared.batch_size,
        gradient_accumulation=shared.gradient_accumulation,
        processes=shared.processes,
        context=shared.context,
        warmup_ratio=shared.warmup_ratio,
        lora_rank=shared.lora.rank,
        lora_alpha=shared.lora.alpha,
        lora_dropout=shared.lora.dropout,
        lora_targets=tuple(shared.lora.targets),
        quantisation=shared.quantisation,
        precision=shared.precision,
        batches=shared.batches,
        device=shared.device,
        seed=shared.seed,
        threads=shared.threads,
        gradient_checkpointing=shared.gradient_checkpointing,
        watch_every=shared.watch.every,
        dev_rows=shared.watch.dev_rows,
        samples=shared.watch.samples,
    )
    parent, out = Path(checkpoint.parent), Path("models") / run.key
    with held(main_checkout(Path.cwd()), run.key, training_key(run)) as scratch:
        result = train(
            read_jsonl(MIXTURE),
            parent,
            out,
            settings,
            skip=next_row(parent),
            dev=read_jsonl(DEV_EXAMPLES),
            scratch=scratch,
        )
        if not scratch.first:
            return
        hardware = result.hardware
        environment = describe(
            "training", run.locks(), device=hardware.device, dtype=hardware.dtype, threads=hardware.threads
        )
        lineage = build_lineage(run, environment, parent)
        write_json(out / "lineage.json", lineage_of(lineage, result))
        write_json(REPORTS / "training" / f"{run.key}.json", curve(result))
        write_json(REPORTS / "training" / f"{run.key}.dev.json", dev_curve(result))
        write_json(REPORTS / "training" / f"{run.key}.summary.json", summary(result, settings))
        for name, value in speed(result).items():
            run.record(name, value)
        scratch.remove()
    print(f"{run.key}: {result.describe()}", file=sys.stderr)


if __name__ == "__main__":
    execute(main)
