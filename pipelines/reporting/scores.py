"""The table of scores: every model with interval, degenerate and stock replies, and data hash."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from pipelines.evaluation.compare import say_share
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import read_yaml


def read_scores(revision: Revision) -> dict[str, dict[str, Any]]:
    """The score file of every model that ``params.yaml`` names at a revision, in that order.

    Raises:
        HeartwoodError: a score file is missing.
    """
    scores = {}
    for model in look_up(read_yaml(revision, "params.yaml"), "models"):
        data = revision.read(f"reports/eq/{model}.json")
        if data is None:
            raise HeartwoodError(
                f"reports/eq/{model}.json: not there at {revision.name}", hint="run `dvc repro` and commit its results"
            )
        scores[model] = json.loads(data)
    return scores


def read_contrasts(revision: Revision) -> list[dict[str, Any]]:
    """The paired comparisons at a revision; empty if ``compare`` has not run."""
    data = revision.read("reports/comparison.json")
    contrasts: list[dict[str, Any]] = json.loads(data)["contrasts"] if data else []
    return contrasts


def read_judge(revision: Revision) -> dict[str, Any]:
    """What ``reports/judge.json`` says at a revision; empty if it is not there."""
    data = revision.read("reports/judge.json")
    judge: dict[str, Any] = json.loads(data) if data else {}
    return judge


def say_agreement(judge: dict[str, Any]) -> list[str]:
    """A judge's agreement with people in lines: each mechanism with interval, the people's own, and the lexical floor."""
    if not judge:
        return []
    lines = []
    for mechanism, short in zip(MECHANISMS, ("ER", "IP", "EX"), strict=True):
        part = judge.get("agreement", {}).get(mechanism)
        if not part:
            continue
        beside = []
        if ceiling := part.get("human_ceiling"):
            beside.append(f"people with each other {ceiling['qwk']:.2f}")
        if floor := part.get("lexical_floor"):
            # Cards of fitted heads give it with its interval.
            beside.append(f"lexical floor {floor['value'] if isinstance(floor, dict) else floor:.2f}")
        lines.append(
            f"{short} {part['qwk']:.2f}, 95 % {part['qwk_low']:.2f} to {part['qwk_high']:.2f}"
            f"{' (' + ', '.join(beside) + ')' if beside else ''}"
        )
    if not lines:
        return ["agreement with people: not measured"]
    failed = judge.get("invariance", {}).get("failed", [])
    said = [f"agreement with people (weighted kappa, {judge['agreement_from']}):", *lines]
    return said + ([f"checks of the judge that fail: {', '.join(failed)}"] if failed else [])


def print_scores(
    console: Console,
    scores: dict[str, dict[str, Any]],
    contrasts: list[dict[str, Any]],
    judge: dict[str, Any] | None = None,
) -> None:
    """Print the table, what is known of the judge, then what the differences amount to."""
    table = Table(box=None, pad_edge=False)
    for name in ("model", "index", "95 % interval", "ER", "IP", "EX", "degen.", "stock", "data hash"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("model", "data hash") else "right")
    for model, score in scores.items():
        table.add_row(
            model,
            f"{score['index']:.3f}",
            f"{score['ci_low']:.3f} to {score['ci_high']:.3f}",
            *(f"{score[m]:.2f}" if m in score else "-" for m in MECHANISMS),
            f"{100 * score['degenerate_rate']:.1f} %",
            say_share(score.get("stock_opening_rate")),
            score["mixture"][:12],
        )
    console.print(table)
    first = next(iter(scores.values()))
    counts = [score["n"] for score in scores.values()]
    scored = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    console.print(f"judge {first['judge']}, prompts {first['prompts'][:12]}")
    console.print(
        f"index 1 to 5 (a degenerate reply: 1) over {scored} replies; ER, IP, EX: emotional reactions, interpretations,"
        " explorations, each 0 to 2; stock: replies that begin with the model's commonest three words"
    )
    for line in say_agreement(judge or {}):
        console.print(line)
    for contrast in contrasts:
        console.print(contrast["sentence"])
