"""The rows behind `dvc plots`: small tables of numbers, one object a row, made of the reports of other stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reporting.training import Curve

Rows = list[dict[str, Any]]
Report = Mapping[str, Any]


def loss_rows(curves: Sequence[Curve]) -> Rows:
    """Loss of train and, where measured, dev by optimizer step of the whole chain, in nats per token."""
    return [point for curve in curves for point in curve.points]


def rate_rows(steps: Mapping[str, Sequence[Report]], before: Mapping[str, int]) -> Rows:
    """The learning rate by optimizer step of the whole chain.

    ``steps`` has each checkpoint's recorded steps, ``before`` how many steps its parents took.
    """
    return [
        {"model": name, "step": before[name] + step["step"], "learning_rate": step["learning_rate"]}
        for name, recorded in steps.items()
        for step in recorded
    ]


def score_rows(scores: Mapping[str, Report]) -> Rows:
    """Each model's mean index with its 95 % interval, and its share of degenerate replies."""
    return [
        {
            "model": model,
            "index": s["index"],
            "low": s["ci_low"],
            "high": s["ci_high"],
            "degenerate_rate": s["degenerate_rate"],
        }
        for model, s in scores.items()
    ]


def mixture_rows(receipt: Report) -> Rows:
    """Each source's share of the mixture as asked for and as realised, and how many examples that is."""
    return [
        {
            "source": source,
            "requested": receipt["requested"][source],
            "realised": receipt["realised"][source],
            "examples": rows,
        }
        for source, rows in sorted(receipt["rows"].items())
    ]


def removal_rows(records: Report, split: Report, dedup: Report, leakage: Report) -> Rows:
    """How many rows each rule of each stage removed from each source; a rule that removed none has no row."""
    found: list[tuple[str, str, str, int]] = [
        ("records", "quarantined", source, r["raw_rows_quarantined"]) for source, r in records.items()
    ]
    found += [
        ("split", "group in a later split", source, sum(counts.values()))
        for source, counts in split["removed_by_source_and_split"].items()
    ]
    for stage, report in (("dedup", dedup), ("leakage", leakage)):
        found += [
            (stage, rule.removeprefix(f"{stage}-"), source, n)
            for source, counts in report["removed_by_source_and_rule"].items()
            for rule, n in counts.items()
        ]
    return [
        {"stage": stage, "rule": f"{stage}: {rule}", "source": source, "removed": n}
        for stage, rule, source, n in found
        if n
    ]
