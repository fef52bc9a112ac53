"""Lineages: what a model or a file of responses was made from, written beside it."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from pipelines.provenance.stage import Run

SCHEME = "lineage-v1"
TRAINING_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "numpy")


def write_json(path: Path, value: object) -> None:
    """Write JSON whose bytes depend on the value alone: sorted keys, two spaces, LF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """The versions of the libraries that training rests on."""
    return {name: importlib.metadata.version(name) for name in TRAINING_PACKAGES}


def build_lineage(run: Run, *, device: str, dtype: str, threads: int, parent: Path | None) -> dict[str, Any]:
    """The lineage of what this run writes.

    Args:
        parent: the model that the run starts from; an adapter folder's own lineage is carried along whole.
    """
    lineage: dict[str, Any] = {
        "scheme": SCHEME,
        "stage": run.definition.name,
        "inputs": run.evidence(),
        "params": run.inputs.params,
        "code": run.code_digest(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "hardware": {
            "device": device,
            "dtype": dtype,
            "threads": threads,
            "processor": processor(),
            "cores": os.cpu_count() or 0,
        },
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
