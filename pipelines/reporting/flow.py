"""The flow of rows by stage and source at any revision, checked to add up; removals, leaks, recall, time, memory."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.dedup.rules import MERGED
from curation.errors import HeartwoodError
from curation.leakage.planted import wilson
from curation.records import SPLITS
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import RUNS

REPORTS = ("records", "split", "dedup", "leakage", "mixture", "check")
CURATION = ("raw", "records", "split", "embed", "dedup", "leakage", "validate", "mix", "check")
PAGE = 80
_LABEL = 34
_NUMBER = 12
Counts = Mapping[str, int]


@dataclass(frozen=True)
class Line:
    """One row of the flow table: counts by source where they are known, and the total.

    ``sign`` says how the line enters the sum: ``""`` stands for itself, ``-`` leaves, ``+`` joins, ``of`` is a
    part of the line above and is not summed.
    """

    stage: str
    label: str
    total: int
    by_source: Counts | None
    sign: str = ""


@dataclass(frozen=True)
class Recall:
    """How many planted leaks of a kind were found, with the Wilson interval; the gate is not known here."""

    kind: str
    planted: int
    found: int
    low: float
    high: float


@dataclass(frozen=True)
class StageRun:
    """Time and peak memory of a stage's last run in this workspace."""

    stage: str
    seconds: float
    cpu_seconds: float
    peak_memory_mib: int
    encode_seconds: float | None


@dataclass(frozen=True)
class Flow:
    """What the reports of one revision say, what is missing, and where they do not add up."""

    revision: str
    sources: list[str]
    lines: list[Line]
    removals: list[Line]
    leaks: dict[str, Any]
    recall: list[Recall]
    near: dict[str, dict[str, Any]]
    runs: list[StageRun]
    missing: list[str]
    faults: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "revision": self.revision,
            "adds_up": not self.faults,
            "faults": self.faults,
            "missing": self.missing,
            "sources": self.sources,
            "flow": [vars(line) for line in self.lines],
            "removed_by_rule": [vars(line) for line in self.removals],
            "leaks": self.leaks,
            "recall": [{**vars(r), "recall": _share(r)} for r in self.recall],
            "decisions_near_thresholds": self.near,
            "runs": [vars(r) for r in self.runs],
        }


def _share(recall: Recall) -> float:
    return round(recall.found / recall.planted, 6) if recall.planted else 0.0


@dataclass
class _Sums:
    """Collects where numbers disagree."""

    faults: list[str] = field(default_factory=list)

    def equal(self, what: str, found: int, expected: int, why: str) -> None:
        if found != expected:
            self.faults.append(f"{what} is {found:,}, {why} is {expected:,}")


def read_flow(revision: Revision) -> Flow:
    """Read the reports of a revision and check that they add up; ``runs`` are those of the workspace alone.

    Raises:
        HeartwoodError: there is no report of records, or one is not what a stage writes.
    """
    reports = {name: _report(revision, name) for name in REPORTS}
    missing = [f"reports/{name}.json" for name, found in reports.items() if found is None]
    records = reports["records"]
    if records is None:
        raise HeartwoodError(
            f"reports/records.json: not there at {revision.name}", hint="run `dvc repro` and commit its results"
        )
    try:
        return _flow(revision, records, reports, missing)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HeartwoodError(
            f"the reports at {revision.name} are not in a form that this version reads ({error!r})",
            hint="use the version of heartwood that belongs to that revision, or run `dvc repro`",
        ) from None


def _report(revision: Revision, name: str) -> dict[str, Any] | None:
    data = revision.read(f"reports/{name}.json")
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HeartwoodError(
            f"reports/{name}.json: not a JSON object at {revision.name}", hint="restore it, or run `dvc repro`"
        )
    return found


def _flow(
    revision: Revision, records: dict[str, Any], reports: Mapping[str, dict[str, Any] | None], missing: list[str]
) -> Flow:
    sums = _Sums()
    sources = sorted(records)
    lines = _records_lines(records, sources, sums)
    split, dedup, leakage = reports["split"], reports["dedup"], reports["leakage"]
    removals: list[Line] = []
    if split is not None:
        lines += _split_lines(split, records, sources, sums)
    before = split["train"] if split else None
    for stage, report in (("dedup", dedup), ("leakage", leakage)):
        if report is None:
            break
        found = _filter_lines(stage, report, before, sources, sums)
        lines += found
        removals += [line for line in found if line.sign == "-"]
        before = report["kept"]
    clean = leakage["kept"] if leakage else None
    if reports["mixture"] is not None:
        lines += _mixture_lines(reports["mixture"], reports["check"], clean, sources, sums)
    return Flow(
        revision.name,
        sources,
        lines,
        removals,
        _leaks(leakage, sums) if leakage else {},
        _recall(leakage, sums) if leakage else [],
        {stage: _near(report) for stage, report in (("dedup", dedup), ("leakage", leakage)) if report},
        [] if revision.commit else read_runs(Path(RUNS)),
        missing,
        sums.faults,
    )


def _line(stage: str, label: str, by_source: Counts, sources: Sequence[str], sign: str = "") -> Line:
    if unknown := sorted(set(by_source) - set(sources)):
        raise ValueError(f"{stage} knows a source {unknown[0]} that records does not")
    full = {name: int(by_source.get(name, 0)) for name in sources}
    return Line(stage, label, sum(full.values()), full, sign)


def _records_lines(records: Mapping[str, Any], sources: Sequence[str], sums: _Sums) -> list[Line]:
    def column(key: str) -> Counts:
        return {name: records[name][key] for name in sources}

    for name in sources:
        found = records[name]
        kept, gone = found["raw_rows_kept"], found["raw_rows_quarantined"]
        sums.equal(f"records, {name}: raw rows", found["raw_rows"], kept + gone, "kept and quarantined")
        reasons = sum(found["quarantined_by_reason"].values())
        sums.equal(f"records, {name}: quarantined by reason", reasons, gone, "raw rows quarantined")
        by_split = sum(found["records_by_split"].values())
        sums.equal(f"records, {name}: records by split", by_split, found["records"], "records")
    return [
        _line("records", "raw rows", column("raw_rows"), sources),
        _line("records", "quarantined", column("raw_rows_quarantined"), sources, "-"),
        _line("records", "raw rows kept", column("raw_rows_kept"), sources),
        _line("records", "records made of them", column("records"), sources),
    ]


def _split_lines(
    split: Mapping[str, Any], records: Mapping[str, Any], sources: Sequence[str], sums: _Sums
) -> list[Line]:
    parts = {name: _line("split", name, split[name], sources) for name in SPLITS}
    total = sum(records[name]["records"] for name in sources)
    sums.equal("split: records read", split["records"], total, "records made")
    removed: Counts | None = None
    if "removed_by_source_and_split" in split:
        removed = {name: sum(n.values()) for name, n in split["removed_by_source_and_split"].items()}
        sums.equal("split: removed by source", sum(removed.values()), split["removed"], "removed")
        for name in sources:
            after = sum((part.by_source or {})[name] for part in parts.values())
            before = records[name]["records"]
            sums.equal(f"split, {name}: train, dev, test and removed", after + removed.get(name, 0), before, "records")
    after = sum(part.total for part in parts.values())
    sums.equal("split: train, dev, test and removed", after + split["removed"], split["records"], "records read")
    label = "group stands in a later split"
    leaving = (
        Line("split", label, split["removed"], None, "-")
        if removed is None
        else _line("split", label, removed, sources, "-")
    )
    return [leaving, *(parts[name] for name in reversed(SPLITS))]


def _filter_lines(
    stage: str, report: Mapping[str, Any], before: Counts | None, sources: Sequence[str], sums: _Sums
) -> list[Line]:
    """The lines of a stage that removes rows from train: what leaves by rule, and what is left."""
    kept, removed = report["kept"], report["removed"]
    rules = report.get("removed_by_rule")
    by_both = report.get("removed_by_source_and_rule")
    if by_both is not None:
        for name in sources:
            found = sum(by_both.get(name, {}).values())
            sums.equal(f"{stage}, {name}: removed by rule", found, removed.get(name, 0), "removed")
        names = sorted({rule for found in by_both.values() for rule in found})
        if rules is not None:
            for rule in sorted({*names, *rules}):
                found = sum(by_both.get(name, {}).get(rule, 0) for name in sources)
                sums.equal(f"{stage}, {rule}: removed by source", found, rules.get(rule, 0), "removed by rule")
        leaving = [
            _line(stage, rule, {name: by_both.get(name, {}).get(rule, 0) for name in sources}, sources, "-")
            for rule in names
        ]
        merged = {name: by_both.get(name, {}).get(MERGED, 0) for name in sources}
    else:
        total = sum(removed.values())
        if rules is not None:
            sums.equal(f"{stage}: removed by rule", sum(rules.values()), total, "removed")
        leaving = [_line(stage, "removed", removed, sources, "-")]
        leaving += [Line(stage, rule, n, None, "of") for rule, n in sorted((rules or {}).items())]
        merged = dict.fromkeys(sources, 0)
    made = {}
    if before is not None:
        sums.equal(f"{stage}: records read", report["records"], sum(before.values()), "what the stage before wrote")
        for name in sources:
            left = before.get(name, 0) - removed.get(name, 0)
            made[name] = kept.get(name, 0) - left
            # Each merged group is at least two records that leave and one that is made of them.
            if not 0 <= made[name] <= merged[name] // 2 or (merged[name] and not made[name]):
                sums.equal(f"{stage}, {name}: kept", kept.get(name, 0), left, "read less removed")
                made[name] = 0
    if any(made.values()):
        leaving.append(_line(stage, "made by merging labels", made, sources, "+"))
    if "records_with_leaks" in report:
        generic = report["records_with_leaks"]["generic"]
        by_source = generic.get("removed_by_source")
        label = "stock phrases alone"
        leaving.append(
            Line(stage, label, generic["removed"], None, "of")
            if by_source is None
            else _line(stage, label, by_source, sources, "of")
        )
    return [*leaving, _line(stage, "clean train" if stage == "leakage" else "train, deduplicated", kept, sources)]


def _mixture_lines(
    mixture: Mapping[str, Any],
    check: Mapping[str, Any] | None,
    clean: Counts | None,
    sources: Sequence[str],
    sums: _Sums,
) -> list[Line]:
    rows, available, repeats = mixture["rows"], mixture["available"], mixture["repeats"]
    sums.equal("mix: rows by source", sum(rows.values()), mixture["size"], "the size")
    for name in sources:
        drawn = rows.get(name, 0) - repeats.get(name, 0)
        if drawn > available.get(name, 0):
            sums.faults.append(f"mix, {name}: {drawn:,} examples drawn, {available.get(name, 0):,} available")
        if clean is not None and available.get(name, 0) and not clean.get(name, 0):
            sums.faults.append(f"mix, {name}: {available[name]:,} examples of no clean record")
    if check is not None:
        sums.equal("check: examples", check["examples"], mixture["size"], "the mixture's size")
        for name in sources:
            found = check["rows"].get(name, 0)
            sums.equal(f"check, {name}: examples", found, rows.get(name, 0), "rows of the mixture")
    left = {name: available.get(name, 0) - rows.get(name, 0) + repeats.get(name, 0) for name in sources}
    lines = [
        _line("mix", "examples of clean train", available, sources),
        _line("mix", "not drawn", left, sources, "-"),
    ]
    if any(repeats.values()):
        lines.append(_line("mix", "drawn again", repeats, sources, "+"))
    return [*lines, _line("mix", "mixture", rows, sources)]


def _leaks(leakage: Mapping[str, Any], sums: _Sums) -> dict[str, Any]:
    found = {"by_kind": leakage["leaks_by_rule"], "by_side": leakage["leaks_by_side"]}
    classes = leakage.get("records_with_leaks")
    if classes is None:
        classes = {name: {"found": n} for name, n in leakage["leaking_records"].items()}
    else:
        removed = sum(c["removed"] for c in classes.values())
        sums.equal("leakage: removed, substantive and generic", removed, sum(leakage["removed"].values()), "removed")
    total = sum(c["found"] for c in classes.values())
    for key, counts in found.items():
        sums.equal(f"leakage: leaking records {key.replace('_', ' ')}", sum(counts.values()), total, "leaking records")
    return {**found, "records": classes}


def _recall(leakage: Mapping[str, Any], sums: _Sums) -> list[Recall]:
    rows = []
    for kind, found in leakage["recall"].items():
        rows.append(Recall(kind, found["planted"], found["found"], found["low"], found["high"]))
        low, high = wilson(found["found"], found["planted"])
        if abs(low - found["low"]) > 1e-5 or abs(high - found["high"]) > 1e-5:
            sums.faults.append(
                f"leakage, recall of {kind}: the interval is {found['low']:.4f} to {found['high']:.4f}; Wilson's for"
                f" {found['found']} of {found['planted']} is {low:.4f} to {high:.4f}"
            )
    return rows


def _near(report: Mapping[str, Any]) -> dict[str, Any]:
    return next((dict(v) for k, v in report.items() if k.endswith("threshold")), {})


def read_runs(folder: Path) -> list[StageRun]:
    """Time and peak memory of the last run of each stage from raw data to the checked mixture, where it is known."""
    found = []
    for stage in CURATION:
        path = folder / f"{stage}.json"
        if path.is_file():
            run = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                StageRun(stage, run["seconds"], run["cpu_seconds"], run["peak_memory_mib"], run.get("encode_seconds"))
            )
    return found


def _columns(sources: Sequence[str]) -> Iterable[tuple[list[str], bool]]:
    """The sources in pages that fit the width, the total with the last."""
    room = (PAGE - _LABEL) // _NUMBER
    pages = [list(sources[i : i + room]) for i in range(0, len(sources), room)] or [[]]
    if len(pages[-1]) == room:
        room_for_total = PAGE - _LABEL - room * _NUMBER
        if room_for_total < _NUMBER - 2:
            pages.append([pages[-1].pop()])
    for n, page in enumerate(pages):
        yield page, n == len(pages) - 1


def _heading(name: str) -> str:
    """A source's name in lines of a column's width."""
    lines = [""]
    for part in name.replace("_", "_ ").split(" "):
        if lines[-1] and len(lines[-1]) + len(part) > _NUMBER - 1:
            lines.append("")
        lines[-1] += part
    return "\n".join(line[i : i + _NUMBER - 1] for line in lines for i in range(0, len(line), _NUMBER - 1))


def _label(line: Line) -> str:
    return {"": "", "-": "- ", "+": "+ ", "of": "  of which "}[line.sign] + line.label


def _number(line: Line, source: str) -> str:
    return "?" if line.by_source is None else f"{line.by_source[source]:,}"


def print_flow(console: Console, flow: Flow) -> None:
    """Print everything, at most 80 columns wide."""
    for page, is_last in _columns(flow.sources):
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(f"rows at {flow.revision}"[: _LABEL - 1], width=_LABEL - 1, no_wrap=True)
        for name in page:
            table.add_column(_heading(name), justify="right", width=_NUMBER - 1)
        if is_last:
            table.add_column("total", justify="right")
        for i, line in enumerate(flow.lines):
            if i and flow.lines[i - 1].stage != line.stage:
                table.add_row()
            table.add_row(_label(line), *(_number(line, n) for n in page), *([f"{line.total:,}"] if is_last else []))
        console.print(table)
        console.print()
    for heading, rows in _tables(flow):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for i, name in enumerate(heading):
            table.add_column(name, justify="right" if i else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
    for sentence in _sentences(flow):
        console.print(sentence)


def _tables(flow: Flow) -> list[tuple[list[str], list[list[str]]]]:
    tables: list[tuple[list[str], list[list[str]]]] = []
    if flow.leaks:
        rows = [[kind, f"{n:,}", ""] for kind, n in flow.leaks["by_kind"].items()]
        rows += [[f"side: {side}", f"{n:,}", ""] for side, n in flow.leaks["by_side"].items()]
        for name, counts in flow.leaks["records"].items():
            shown = {"generic": "stock phrases alone", "substantive": "more than stock phrases"}[name]
            rows.append([shown, f"{counts['found']:,}", f"{counts['removed']:,}" if "removed" in counts else "?"])
        tables.append((["train records that repeat dev or test", "found", "removed"], rows))
    if flow.recall:
        rows = [
            [r.kind, f"{r.planted:,}", f"{r.found:,}", f"{_share(r):.3f}", f"{r.low:.3f} to {r.high:.3f}"]
            for r in flow.recall
        ]
        tables.append((["planted leaks", "planted", "found", "recall", "95 % interval"], rows))
    rows = [
        [rule, ", ".join(f"{k} {v:,}" for k, v in n.items()) if isinstance(n, dict) else f"{n:,}"]
        for counts in flow.near.values()
        for rule, n in counts.items()
    ]
    if rows:
        tables.append((["decisions within 0.02 of a threshold", "decisions"], rows))
    if flow.runs:
        rows = [
            [r.stage, f"{r.seconds:.1f} s", f"{r.cpu_seconds:.1f} s", f"{r.peak_memory_mib:,} MiB"] for r in flow.runs
        ]
        tables.append((["last run of stage", "time", "CPU", "peak memory"], rows))
    return tables


def _sentences(flow: Flow) -> list[str]:
    said = []
    if flow.runs:
        seconds = sum(r.seconds for r in flow.runs)
        peak = max(r.peak_memory_mib for r in flow.runs)
        said.append(f"These stages took {seconds:.0f} s together and at most {peak:,} MiB.")
        if encoding := sum(r.encode_seconds or 0.0 for r in flow.runs):
            said.append(f"Of that, {encoding:.0f} s encoded sentences: all is {seconds / encoding:.2f} times that.")
    if flow.missing:
        said.append(f"Not there: {', '.join(flow.missing)}; `dvc repro` makes them.")
    said += [f"DOES NOT ADD UP: {fault}" for fault in flow.faults]
    if not flow.faults:
        said.append("It adds up." if not flow.missing else "What is there adds up.")
    return said


def markdown(flow: Flow) -> str:
    """The same as Markdown tables, for a README."""
    heading = [f"rows at {flow.revision}", *flow.sources, "total"]
    rows = [[_label(line).strip(), *(_number(line, n) for n in flow.sources), f"{line.total:,}"] for line in flow.lines]
    parts = [_markdown_table(heading, rows)]
    parts += [_markdown_table(*table) for table in _tables(flow)]
    return "\n\n".join([*parts, " ".join(_sentences(flow))]) + "\n"


def _markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heading, ruler, *rows])
