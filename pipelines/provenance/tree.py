"""A verification as a tree for people and as JSON for programs."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from pipelines.provenance.verdict import Fault, Findings, ReportVerdict, Verification

_SHOWN = 8
_STYLES = {"verified": "green", "stale": "yellow", "broken": "bold red", "incomplete": "magenta"}


def as_trees(results: Iterable[Verification], others: Iterable[ReportVerdict]) -> Group:
    """Every score and report of every revision with its verdict, what was checked, what does not hold and what could
    not be checked; then what belongs to no revision."""
    trees = []
    for found in results:
        tree = Tree(Text(found.revision, "bold"))
        said: set[Fault] = set()
        for score in found.scores:
            index = "" if score.score is None else f", index {score.score:.3f}"
            _branch(tree, score.model, index, score, said)
        for report in found.reports:
            _branch(tree, report.path, "", report, said)
        trees.append(tree)
    for other in others:
        tree = Tree(Text(other.path, "bold"))
        _branch(tree, "objects", "", other, set())
        trees.append(tree)
    return Group(*trees)


def _branch(tree: Tree, name: str, index: str, found: Findings, said: set[Fault]) -> None:
    """One verdict; a fault that an earlier branch has told is only named."""
    verdict = found.verdict
    branch = tree.add(
        Text.assemble(f"{name}: ", (verdict, _STYLES[verdict]), f"{index} ({found.checked} links checked)")
    )
    if found.counts:
        branch.add(Text("checked: " + ", ".join(f"{n} {what}" for what, n in found.counts.items()), "dim"))
    first = found.first
    new = sorted((f for f in found.faults if f not in said), key=lambda f: f != first)
    if first is not None and first in said:
        branch.add(f"{first.stage}: {first.link}, as above")
    for fault in new[:_SHOWN]:
        leaf = branch.add(
            Text.assemble((fault.kind, _STYLES[fault.kind]), f" {fault.stage or 'cache'}: {fault.message}")
        )
        leaf.add(f"next: {fault.next}")
    if len(new) > _SHOWN:
        branch.add(f"and {len(new) - _SHOWN} more (--json has them all)")
    said.update(new)
    for note in found.unchecked:
        branch.add(Text(f"not checked: {note.link}: {note.why}", "dim"))


def as_json(found: Verification) -> dict[str, Any]:
    """The verification as JSON values."""
    return {
        "scores": [{"model": v.model, "index": v.score, **_findings(v)} for v in found.scores],
        "reports": [report_json(v) for v in found.reports],
    }


def report_json(found: ReportVerdict) -> dict[str, Any]:
    """What was found at one report, or at something that belongs to no revision, as JSON values."""
    return {"path": found.path, **_findings(found)}


def _findings(found: Findings) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "links_checked": found.checked,
        "checked": found.counts,
        "faults": [asdict(f) for f in found.faults],
        "not_checked": [asdict(u) for u in found.unchecked],
    }
