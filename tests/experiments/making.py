"""Score files and ratings as the stage ``score`` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.project import Project


def ratings(values: Sequence[float | None], first: int = 0) -> list[dict[str, Any]]:
    """One row a prompt; 1.0 is a degenerate reply, None an unscored one."""
    rows: list[dict[str, Any]] = []
    for number, value in enumerate(values, start=first):
        row: dict[str, Any] = {"prompt_id": f"p{number:03d}", "status": "rated", "index": value}
        if value is None:
            row = {"prompt_id": row["prompt_id"], "status": "unscored", "reason": "none"}
        elif value == 1.0:
            row |= {"status": "degenerate", "reason": "empty"}
        rows.append(row)
    return rows


def summary(values: Sequence[float | None], **fields: Any) -> dict[str, Any]:
    """A score file over these indices."""
    found = [v for v in values if v is not None]
    mean = sum(found) / len(found)
    basis = {"prompts": "f" * 32, "judge": "j (exploratory)", "mixture": "none", "dev": "d" * 32}
    numbers = {"index": round(mean, 6), "se": 0.1, "ci_low": mean - 0.2, "ci_high": mean + 0.2, "n": len(found)}
    return {**numbers, "degenerate_rate": sum(v == 1.0 for v in found) / len(values), **basis, **fields}


def write_score(made: Project, model: str, values: Sequence[float | None], **fields: Any) -> None:
    """Write a model's score, ratings and detail into a project."""
    made.write(f"reports/eq/{model}.json", json.dumps(summary(values, **fields)))
    made.write(f"reports/eq/{model}.ratings.jsonl", "".join(json.dumps(r) + "\n" for r in ratings(values)))
    mean = sum(v for v in values if v is not None) / len(values)
    part: Mapping[str, Any] = {"by_source": {"es": {"n": len(values), "index": mean}}, "by_emotion": {}}
    made.write(f"reports/eq/{model}.detail.json", json.dumps(part))
