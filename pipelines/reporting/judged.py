"""What ``heartwood judge`` says of a file: ratings, rows that could not be rated, agreement with people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipelines.evaluation.compare import say_share
from pipelines.evaluation.judges.rated_file import PairFile, label_of
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.evaluation.score import DEGENERATE, RATED, UNSCORED, Judge, Metered, opening, stock_opening

JUDGED_COLUMNS = pa.schema(
    [
        ("row", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("index", pa.float64()),
        *((m, pa.float64()) for m in MECHANISMS),
    ]
)
SHORT = {"emotional_reactions": "ER", "interpretations": "IP", "explorations": "EX"}


def judged(
    pairs: PairFile,
    rated: Sequence[Mapping[str, Any]],
    agreed: Mapping[str, Any],
    card: Mapping[str, Any],
    judge: Judge,
) -> dict[str, Any]:
    """The whole result, JSON-able. ``in_sample``: the judge was fitted to this very file.

    ``rubric`` and ``method`` (how digits are read) are None for the judge that was fitted to ratings, ``usage`` (calls,
    tokens, cost) for one that costs nothing. ``stock_opening`` says how many replies begin with the same three words, and
    what these and the others are rated.
    """
    openings = [{**r, "opening": opening(pair.reply)} for r, pair in zip(rated, pairs.rows, strict=True)]
    stock = stock_opening(openings)
    by_status = {s: [r for r in rated if r["status"] == s] for s in (RATED, DEGENERATE, UNSCORED)}
    scored = [r["index"] for r in rated if r["status"] != UNSCORED]
    return {
        "file": pairs.file,
        "judge": f"{card['judge']}@{card['digest'][:12]}",
        "kind": card["kind"],
        "label": label_of(card),
        "rubric": card.get("rubric"),
        "method": getattr(judge, "method", None),
        "usage": judge.usage() if isinstance(judge, Metered) else None,
        "tolerance": card.get("tolerance"),
        "rows": len(pairs.rows) + len(pairs.unusable),
        "rated": len(by_status[RATED]),
        "degenerate": len(by_status[DEGENERATE]),
        "unscored": len(by_status[UNSCORED]),
        "unusable": [{"row": bad.row, "reason": bad.reason, "detail": bad.detail} for bad in pairs.unusable],
        "mean_index": round(sum(scored) / len(scored), 6) if scored else None,
        **{
            f"mean_{m}": round(sum(r[m] for r in by_status[RATED]) / len(by_status[RATED]), 6)
            if by_status[RATED]
            else None
            for m in MECHANISMS
        },
        "stock_opening": asdict(stock) if stock else None,
        "in_sample": pairs.sha256 in card.get("data", {}).get("sha256", {}).values(),
        "agreement": dict(agreed),
        "ratings": list(rated),
    }


def print_judged(console: Console, found: Mapping[str, Any], show: int) -> None:
    """The first ``show`` rows, the sums, the rows that could not be rated, and the agreement."""
    if show:
        table = Table(box=None, pad_edge=False)
        for name in ("row", "index", *SHORT.values(), "status"):
            table.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
        for row in found["ratings"][:show]:
            numbers = ["-" if row[k] is None else f"{row[k]:.2f}" for k in ("index", *MECHANISMS)]
            why = f": {row['reason']}" if row["reason"] else ""
            table.add_row(str(row["row"]), *numbers, f"{row['status']}{why}")
        console.print(table)
        if len(found["ratings"]) > show:
            console.print(f"... and {len(found['ratings']) - show:,} more (--show, --out, --json)")
    console.print(f"judge {found['judge']} ({found['label']})")
    if found["rubric"]:
        console.print(f"rubric {found['rubric']}, read by {found['method']}; not fitted to people's ratings")
    if found["usage"]:
        u = found["usage"]
        console.print(
            f"{u['calls']:,} calls, {u['prompt_tokens']:,} + {u['completion_tokens']:,} tokens, cost {u['cost']:g}"
        )
    console.print(
        f"{found['rows']:,} rows: {found['rated']:,} rated, {found['degenerate']:,} degenerate (index 1),"
        f" {found['unscored']:,} unscored, {len(found['unusable']):,} unusable"
    )
    if found["mean_index"] is not None:
        console.print(f"mean index {found['mean_index']:.3f} (1 to 5: a sum of three mechanisms, no 1-5 rubric)")
    if stock := found["stock_opening"]:
        both = stock["index"] is not None and stock["others"] is not None
        rated = f": their index {stock['index']:.3f}, that of the others {stock['others']:.3f}" if both else ""
        console.print(f"{say_share(stock['rate'])} of the replies begin with the same three words{rated}")
    for bad in found["unusable"][: max(show, 1)]:
        console.print(f"  row {bad['row']}: {bad['reason']}, {bad['detail']}")
    if found["agreement"]:
        _print_agreement(console, found)


def _print_agreement(console: Console, found: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("mechanism", "n", "kappa", "95 % interval", "people", "accuracy", "most common"):
        table.add_column(name, justify="left" if name == "mechanism" else "right", no_wrap=True)
    for m, numbers in found["agreement"].items():
        kappa, low, high = (numbers[k] for k in ("qwk", "qwk_low", "qwk_high"))
        table.add_row(
            m,
            f"{numbers['ratings']:,}",
            "-" if kappa is None else f"{kappa:.3f}",
            "-" if low is None or high is None else f"{low:.3f} to {high:.3f}",
            f"{numbers['human_ceiling']['qwk']:.2f}",
            f"{numbers['accuracy']:.3f}",
            f"{numbers['majority_accuracy']:.3f}",
        )
    console.print(table)
    for m, numbers in found["agreement"].items():
        console.print(f"{m}: people's level (rows) by the judge's (0 1 2)")
        for level, counts in enumerate(numbers["confusion"]):
            console.print(f"  {level}  {'  '.join(f'{count:6,}' for count in counts)}")
    if found["in_sample"]:
        console.print("The judge was fitted to this very file: held-out agreement stands in its card.")
