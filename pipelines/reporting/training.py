"""What a report of training says: loss by step of the whole chain, loss on dev and further findings where there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError


@dataclass(frozen=True)
class Training:
    """One checkpoint: its points (``step`` over the whole chain), and the report's other findings."""

    model: str
    points: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    findings: dict[str, Any]


def steps_before(checkpoints: Mapping[str, Mapping[str, Any]], checkpoint: Mapping[str, Any]) -> int:
    """The optimizer steps that a checkpoint's parents took."""
    parent = str(checkpoint.get("parent", "")).rpartition("/")[2]
    if parent not in checkpoints:
        return 0
    return int(checkpoints[parent]["steps"]) + steps_before(checkpoints, checkpoints[parent])


def read_report(model: str, path: str, report: Any, offset: int) -> Training:
    """A report's train and dev points; ``offset`` steps came before it.

    Raises:
        HeartwoodError: it holds no steps.
    """
    lists = {"train": report} if isinstance(report, list) else {k: v for k, v in report.items() if _is_points(v)}
    points: list[dict[str, Any]] = []
    rates: list[dict[str, Any]] = []
    for name, rows in lists.items():
        of = "dev" if name.startswith("dev") else "train"
        for row in rows:
            step = offset + int(row["step"])
            if "learning_rate" in row:
                rates.append({"model": model, "step": step, "learning_rate": float(row["learning_rate"])})
            for key, which in (("loss", of), ("dev_loss", "dev")):
                if isinstance(row.get(key), int | float):
                    points.append({"model": model, "step": step, "set": which, "loss": float(row[key])})
    if not points:
        raise HeartwoodError(f"{path}: holds no steps with a loss", hint="run `dvc repro`")
    findings = {} if isinstance(report, list) else {k: v for k, v in report.items() if k not in lists}
    return Training(model, points, rates, findings)


def _is_points(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and "step" in row for row in value)
        and any("loss" in row or "dev_loss" in row for row in value)
    )
