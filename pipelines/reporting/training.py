"""What the reports of training say: loss by step of the whole chain, loss on dev, and whether a run went past its best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """One checkpoint's losses: rows of ``model``, ``step`` (over the whole chain), ``set`` (train or dev), ``loss``;
    and its learning rates."""

    model: str
    points: list[dict[str, Any]]
    rates: list[dict[str, Any]]


def curve_paths(model: str) -> tuple[str, str]:
    """Where a checkpoint's losses on train and, if it was watched, on dev stand."""
    return f"reports/training/{model}.json", f"reports/training/{model}.dev.json"


def steps_before(checkpoints: Mapping[str, Mapping[str, Any]], model: str) -> int:
    """The optimizer steps that a checkpoint's parents took."""
    parent = str(checkpoints[model].get("parent", "")).rpartition("/")[2]
    if parent not in checkpoints:
        return 0
    return int(checkpoints[parent]["steps"]) + steps_before(checkpoints, parent)


def read_curve(model: str, train: Rows, dev: Rows, before: int) -> Curve:
    """A checkpoint's curve from its reports.

    Args:
        train: rows of ``step``, ``loss`` and ``learning_rate``.
        dev: rows of ``step`` and ``dev_loss``; empty if dev loss was not taken.
        before: steps that the parents took.

    Raises:
        HeartwoodError: a report is not such a list.
    """
    try:
        points = [_point(model, "train", before + row["step"], row["loss"]) for row in train]
        points += [_point(model, "dev", before + row["step"], row["dev_loss"]) for row in dev]
        rates = [
            {"model": model, "step": before + row["step"], "learning_rate": float(row["learning_rate"])}
            for row in train
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise HeartwoodError(
            f"{curve_paths(model)[0]}: not a list of steps with their loss ({error!r})",
            hint="run `dvc repro`, or use the version of heartwood that belongs to that revision",
        ) from None
    return Curve(model, points, rates)


def _point(model: str, of: str, step: int, loss: float) -> dict[str, Any]:
    return {"model": model, "step": step, "set": of, "loss": float(loss)}
