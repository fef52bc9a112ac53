"""One checkpoint: QLoRA on the mixture in file order, from the base or on from an earlier checkpoint."""

import sys
from dataclasses import asdict
from pathlib import Path

from curation.jsonl import read_jsonl
from pipelines.layout import MIXTURE, REPORTS
from pipelines.provenance.environment import describe
from pipelines.provenance.lineage import build_lineage, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.training import CheckpointParams, SftParams
from pipelines.sft.train import TrainSettings, next_row, train


def main(run: Run) -> None:
    """Write ``models/<name>/`` with adapter, base pointer, consumed rows and lineage, and the loss curve."""
    shared = run.section("sft", SftParams)
    checkpoint = run.section(f"checkpoints.{run.key}", CheckpointParams)
    settings = TrainSettings(
        steps=checkpoint.steps,
        learning_rate=checkpoint.learning_rate,
        batch_size=shared.batch_size,
        gradient_accumulation=shared.gradient_accumulation,
        context=shared.context,
        warmup_ratio=shared.warmup_ratio,
        lora_rank=shared.lora.rank,
        lora_alpha=shared.lora.alpha,
        lora_dropout=shared.lora.dropout,
        lora_targets=tuple(shared.lora.targets),
        quantisation=shared.quantisation,
        device=shared.device,
        seed=shared.seed,
        threads=shared.threads,
    )
    parent, out = Path(checkpoint.parent), Path("models") / run.key
    result = train(read_jsonl(MIXTURE), parent, out, settings, skip=next_row(parent))
    hardware = result.hardware
    environment = describe(
        "training", run.locks(), device=hardware.device, dtype=hardware.dtype, threads=hardware.threads
    )
    lineage = build_lineage(run, environment, parent)
    lineage["consumed"] = result.consumed.uids_sha256
    lineage["consumed_rows"] = asdict(result.consumed)
    write_json(out / "lineage.json", lineage)
    curve = [
        {"step": s.step, "loss": round(s.loss, 6), "learning_rate": s.learning_rate, "tokens": s.supervised_tokens}
        for s in result.losses
    ]
    write_json(REPORTS / "training" / f"{run.key}.json", curve)
    share = 100 * result.trainable_parameters / result.total_parameters
    print(
        f"{run.key}: {result.hardware.reason}; {result.trainable_parameters:,} of {result.total_parameters:,}"
        f" parameters trained ({share:.4f} %)",
        file=sys.stderr,
    )


if __name__ == "__main__":
    execute(main)
