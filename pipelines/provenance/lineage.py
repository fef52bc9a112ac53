"""Lineages: what a model or a file of responses was made from, written beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.provenance.stage import Run

SCHEME = "lineage-v2"


def write_json(path: Path, value: object) -> None:
    """Write JSON whose bytes depend on the value alone: sorted keys, two spaces, LF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def build_lineage(run: Run, environment: Mapping[str, Any], parent: Path | None) -> dict[str, Any]:
    """The lineage of what this run writes.

    Args:
        environment: what it ran on, as ``environment.describe`` says it.
        parent: the model that the run starts from; an adapter folder's own lineage is carried along whole.
    """
    lineage: dict[str, Any] = {
        "scheme": SCHEME,
        "stage": run.definition.name,
        "inputs": run.evidence(),
        "params": run.inputs.params,
        "code": run.code_digest(),
        **environment,
    }
    if parent is not None and parent.is_dir():
        lineage["parent"] = {"path": parent.as_posix(), "lineage": read_json(parent / "lineage.json")}
    return lineage


def chain(lineage: dict[str, Any]) -> list[dict[str, Any]]:
    """A lineage and its parents, nearest first."""
    found = [lineage]
    while "parent" in found[-1]:
        found.append(found[-1]["parent"]["lineage"])
    return found


def input_md5(lineage: dict[str, Any], path: str) -> str | None:
    """The md5 of an input path in the nearest lineage of the chain that read it."""
    for link in chain(lineage):
        if path in link["inputs"]:
            md5: str = link["inputs"][path]["md5"]
            return md5
    return None
