"""docs/reference/stages.md and the graph behind the picture: what each stage of dvc.yaml reads and writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HEAD = """# Stages

<!-- Written by `python -m docs.generate` from `dvc.yaml`. -->

Every stage is one thin module in `dvc_stages/` and runs through one wrapper: it hashes what it reads when it starts and
again when it ends, and fails if that changed meanwhile. Code and library locks, which `dvc.yaml` lists too, are left
out here. `dvc repro STAGE` runs a stage and what it needs; `dvc repro --downstream STAGE` what follows.

| stage | what it makes | reads | params | writes |
| --- | --- | --- | --- | --- |
"""
CODE = ("curation/", "pipelines/", "dvc_stages/", "requirements/")


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.yaml has it; of ``foreach`` one for all, with ``${key}`` written as ``<name>``."""

    name: str
    what: str
    reads: list[str]
    params: list[str]
    writes: list[str]


def read_stages(root: Path) -> list[Stage]:
    """The stages of dvc.yaml in its order."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    return [_stage(name, entry) for name, entry in YAML(typ="safe", pure=True).load(text)["stages"].items()]


def _stage(name: str, entry: dict[str, Any]) -> Stage:
    body = entry.get("do", entry)

    def names(*keys: str) -> list[str]:
        found = [item for key in keys for item in body.get(key, [])]
        plain = [next(iter(item)) if isinstance(item, dict) else item for item in found]
        return [p.replace("${key}", "<name>").replace("${item.parent}", "models/<parent>") for p in plain]

    reads = [p.replace("${item}", "models/<name>") for p in names("deps") if not p.startswith(CODE)]
    return Stage(
        f"{name}@<name>" if "foreach" in entry else name,
        body["desc"],
        reads,
        names("params"),
        names("outs", "metrics", "plots"),
    )


def stages_page(root: Path) -> str:
    """The page."""
    rows = []
    for stage in read_stages(root):
        cells = [", ".join(f"`{p}`" for p in paths) for paths in (stage.reads, stage.params, stage.writes)]
        rows.append(f"| `{stage.name}` | {stage.what} | {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n"
