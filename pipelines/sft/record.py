"""What a training leaves behind: lineage, curves for ``dvc plots``, a summary for people, and its speed."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from curation.records import digest
from pipelines.provenance.environment import installed
from pipelines.provenance.stage import Run
from pipelines.sft.settings import TrainSettings
from pipelines.sft.train import TrainResult

_DECIMALS = 6


def training_key(run: Run) -> str:
    """sha256 over everything that a training depends on: input files, params, code and library versions."""
    return digest(
        {
            "files": {path: found.sha256 for path, found in run.inputs.files.items()},
            "params": repr(sorted(run.inputs.params.items())),
            "packages": installed("training"),
        }
    )


def lineage_of(lineage: dict[str, Any], result: TrainResult) -> dict[str, Any]:
    """The lineage with the rows that were consumed."""
    return {
        **lineage,
        "consumed": result.consumed.uids_sha256,
        "consumed_rows": asdict(result.consumed),
    }


def curve(result: TrainResult) -> list[dict[str, Any]]:
    """One entry a step: ``step``, ``loss``, ``learning_rate``, ``tokens`` (those in the loss)."""
    return [
        {
            "step": s.step,
            "loss": round(s.loss, _DECIMALS),
            "learning_rate": s.learning_rate,
            "tokens": s.supervised_tokens,
        }
        for s in result.losses
    ]


def dev_curve(result: TrainResult) -> list[dict[str, Any]]:
    """One entry for each time that the dev loss was taken: ``step`` and ``dev_loss``."""
    return [{"step": d.step, "dev_loss": round(d.loss, _DECIMALS)} for d in result.dev_losses]


def summary(result: TrainResult, settings: TrainSettings) -> dict[str, Any]:
    """Whether the run learned and whether it went past its best, with the evidence, and what it consumed."""
    consumed, verdict = result.consumed, result.verdict
    found: dict[str, Any] = {
        "steps": settings.steps,
        "rows": consumed.rows,
        "rows_truncated": consumed.truncated,
        "rows_too_long": consumed.too_long,
        "supervised_tokens": sum(s.supervised_tokens for s in result.losses),
        "first_train_loss": round(result.losses[0].loss, _DECIMALS),
        "last_train_loss": round(result.losses[-1].loss, _DECIMALS),
        "skipped_steps": result.outcome.skipped_steps,
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "trainable_share": round(result.trainable_parameters / result.total_parameters, _DECIMALS),
        "device": result.hardware.device,
        "dtype": result.hardware.dtype,
        "batches": settings.batches,
        "processes": settings.processes,
    }
    if verdict is not None:
        found |= {
            "dev_rows": len(verdict.last.sums),
            "first_dev_loss": round(result.dev_losses[0].loss, _DECIMALS),
            "best_step": verdict.best.step,
            "best_dev_loss": round(verdict.best.loss, _DECIMALS),
            "last_dev_loss": round(verdict.last.loss, _DECIMALS),
            "rise": round(verdict.rise, _DECIMALS),
            "rise_low": round(verdict.low, _DECIMALS) if math.isfinite(verdict.low) else None,
            "rise_high": round(verdict.high, _DECIMALS) if math.isfinite(verdict.high) else None,
            "verdict": verdict.verdict,
            "evidence": verdict.evidence,
        }
    return found


def speed(result: TrainResult) -> dict[str, float]:
    """Numbers that vary between equal runs: for the untracked record of the run."""
    seconds = max(1e-9, result.outcome.seconds)
    return {
        "training_seconds": round(seconds, 3),
        "tokens_per_second": round(result.outcome.trained_tokens / seconds, 1),
        "resumed_at_step": result.outcome.resumed_at,
    }
