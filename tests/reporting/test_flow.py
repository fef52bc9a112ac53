import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from curation.errors import HeartwoodError
from pipelines.provenance.revision import Revision
from pipelines.reporting.flow import REPORTS, Flow, markdown, print_flow, read_flow, read_runs

Reports = dict[str, Any]


class Committed(Revision):
    """A revision whose files are given."""

    def __init__(self, reports: Reports) -> None:
        super().__init__("v1", "0" * 40)
        object.__setattr__(self, "_files", {f"reports/{k}.json": v for k, v in reports.items()})

    def read(self, path: str) -> bytes | None:
        found = self._files.get(path)  # type: ignore[attr-defined]
        return found if isinstance(found, bytes) or found is None else json.dumps(found).encode()


@pytest.fixture(scope="session")
def reports(project: Path) -> Reports:
    """The reports that the stages wrote, and that of the check of the mixture."""
    found = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (project / "reports").glob("*.json")}
    found["check"] = {"examples": found["mixture"]["size"], "rows": dict(found["mixture"]["rows"])}
    return {name: found[name] for name in REPORTS}


def flow_of(reports: Reports) -> Flow:
    return read_flow(Committed(reports))


def printed(flow: Flow) -> str:
    console = Console(width=80, markup=False, highlight=False, force_terminal=False)
    with console.capture() as capture:
        print_flow(console, flow)
    return capture.get()


def test_the_stages_reports_add_up(reports):
    found = flow_of(reports)
    assert found.faults == []
    assert found.missing == []
    lines = {(x.stage, x.label): x for x in found.lines}
    assert lines["records", "raw rows"].by_source == {"empathetic_dialogues": 29, "goemotions": 17}
    assert lines["records", "quarantined"].total == 2
    assert lines["split", "group stands in a later split"].by_source == {"empathetic_dialogues": 1, "goemotions": 0}
    assert lines["dedup", "dedup-exact-v1"].total == 1
    assert lines["leakage", "leakage-exact-v1"].by_source == {"empathetic_dialogues": 0, "goemotions": 1}
    assert lines["mix", "mixture"].total == 4


def test_the_table_itself_adds_up_line_by_line(reports):
    for name in (*flow_of(reports).sources, None):
        running: dict[str, int] = {}
        for line in flow_of(reports).lines:
            value = line.total if name is None else (line.by_source or {}).get(name, 0)
            running[line.stage] = running.get(line.stage, 0)
            if line.sign == "-":
                running[line.stage] -= value
            elif line.sign != "of":
                running[f"{line.stage}: {line.label}"] = value
        assert running["records: raw rows"] + running["records"] == running["records: raw rows kept"]
        parts = sum(running[f"split: {s}"] for s in ("train", "dev", "test"))
        assert running["records: records made of them"] + running["split"] == parts
        assert running["split: train"] + running["dedup"] == running["dedup: train, deduplicated"]
        assert running["dedup: train, deduplicated"] + running["leakage"] == running["leakage: clean train"]
        assert running["mix: examples of clean train"] + running["mix"] == running["mix: mixture"]


def add(path: str, by: int = 1) -> Callable[[Reports], None]:
    """An edit of one number of the reports."""

    def edit(reports: Reports) -> None:
        *parents, last = path.split("/")
        where = reports
        for part in parents:
            where = where[part]
        where[last] = where.get(last, 0) + by

    return edit


@pytest.mark.parametrize(
    ("path", "by", "names"),
    [
        ("records/goemotions/raw_rows", 1, "records, goemotions: raw rows"),
        ("records/goemotions/raw_rows_kept", 1, "records, goemotions: raw rows"),
        ("records/goemotions/quarantined_by_reason/x", 1, "quarantined by reason"),
        ("records/goemotions/records_by_split/dev", 1, "records by split"),
        ("records/goemotions/records", 1, "records by split"),
        ("split/records", 1, "split: records read"),
        ("split/removed", 1, "split: removed by source"),
        ("split/removed_by_source_and_split/empathetic_dialogues/train", 1, "split: removed by source"),
        ("split/train/goemotions", 1, "split, goemotions"),
        ("split/test/goemotions", 1, "split, goemotions"),
        ("dedup/records", 1, "dedup: records read"),
        ("dedup/kept/goemotions", 1, "dedup, goemotions: kept"),
        ("dedup/kept/goemotions", -1, "dedup, goemotions: kept"),
        ("dedup/removed/goemotions", 1, "dedup, goemotions: removed by rule"),
        ("dedup/removed_by_rule/dedup-exact-v1", 1, "dedup, dedup-exact-v1: removed by source"),
        ("dedup/removed_by_source_and_rule/goemotions/dedup-near-v1", 1, "dedup, goemotions: removed by rule"),
        ("leakage/kept/goemotions", 1, "leakage, goemotions: kept"),
        ("leakage/removed/goemotions", 1, "leakage, goemotions: removed by rule"),
        ("leakage/leaks_by_rule/leakage-exact-v1", 1, "leakage: leaking records by kind"),
        ("leakage/leaks_by_side/prompt", 1, "leakage: leaking records by side"),
        ("leakage/records_with_leaks/generic/removed", 1, "removed, substantive and generic"),
        ("leakage/recall/verbatim/found", -1, "recall of verbatim"),
        ("leakage/recall/verbatim/low", 0.01, "recall of verbatim"),
        ("mixture/size", 1, "mix: rows by source"),
        ("mixture/rows/empathetic_dialogues", 1, "mix: rows by source"),
        ("mixture/available/empathetic_dialogues", -7, "mix, empathetic_dialogues: 4 examples drawn, 3 available"),
        ("check/examples", 1, "check: examples"),
        ("check/rows/goemotions", 1, "check, goemotions: examples"),
    ],
)
def test_every_number_that_does_not_fit_is_noticed(reports, path, by, names):
    edited = copy.deepcopy(reports)
    add(path, by)(edited)
    faults = flow_of(edited).faults
    assert any(names in fault for fault in faults), faults
    assert "DOES NOT ADD UP" in printed(flow_of(edited))


def test_a_record_made_by_merging_labels_joins_what_is_kept(reports):
    edited = copy.deepcopy(reports)
    dedup = edited["dedup"]
    dedup["removed_by_source_and_rule"]["goemotions"] = {"dedup-label-merge-v1": 3}
    dedup["removed_by_rule"] = {"dedup-label-merge-v1": 3}
    dedup["removed"]["goemotions"] = 3
    dedup["kept"]["goemotions"] = reports["split"]["train"]["goemotions"] - 3 + 1
    dedup["records"] = sum(reports["split"]["train"].values())
    edited["leakage"]["records"] = sum(dedup["kept"].values())
    edited["leakage"]["kept"]["goemotions"] = dedup["kept"]["goemotions"] - 1
    found = flow_of(edited)
    assert found.faults == []
    assert [(x.label, x.total) for x in found.lines if x.sign == "+"] == [("made by merging labels", 1)]
    add("dedup/kept/goemotions")(edited)
    assert any("dedup, goemotions: kept" in fault for fault in flow_of(edited).faults)


def test_reports_without_the_later_keys_are_read_with_what_is_unknown_marked(reports):
    old = copy.deepcopy(reports)
    del old["split"]["removed_by_source_and_split"]
    for stage in ("dedup", "leakage"):
        del old[stage]["removed_by_source_and_rule"]
    del old["leakage"]["records_with_leaks"]
    old["leakage"]["leaking_records"] = {"substantive": 1, "generic": 0}
    found = flow_of(old)
    assert found.faults == []
    assert "?" in printed(found)
    add("split/removed")(old)
    assert any("split: train, dev, test and removed" in fault for fault in flow_of(old).faults)


def test_a_missing_report_ends_the_table_and_is_named(reports):
    part = {name: reports[name] for name in ("records", "split")}
    found = flow_of(part)
    assert found.missing == [f"reports/{n}.json" for n in ("dedup", "leakage", "mixture", "check")]
    assert "Not there: reports/dedup.json" in printed(found)
    with pytest.raises(HeartwoodError, match=r"reports/records\.json: not there at v1"):
        flow_of({})


@pytest.mark.parametrize("bad", [b"", b"[]", b"{", b"\xff", {"goemotions": 3}, {"goemotions": {}}])
def test_what_is_no_report_is_an_error(reports, bad):
    with pytest.raises(HeartwoodError):
        flow_of({**reports, "records": bad})


def test_a_source_that_only_a_later_stage_knows_is_an_error(reports):
    edited = copy.deepcopy(reports)
    edited["split"]["train"]["other"] = 1
    with pytest.raises(HeartwoodError, match="a source other that records does not"):
        flow_of(edited)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_number_of_sources_fits_80_columns(reports, count):
    names = [f"a_rather_long_name_of_source_{n}" for n in range(count)]
    edited = json.loads(
        json.dumps(reports).replace('"goemotions"', '"goe"').replace('"empathetic_dialogues"', f'"{names[0]}"')
    )
    for name in names[1:]:
        edited["records"][name] = edited["records"]["goe"]
    for line in printed(flow_of(edited)).splitlines():
        if not line.startswith("DOES NOT"):
            assert len(line) <= 80
    text = printed(flow_of(edited))
    assert "total" in text
    for name in names:
        assert name[-1] in text


def test_markdown_has_every_line_and_one_width_a_table(reports):
    found = flow_of(reports)
    text = markdown(found)
    for table in text.split("\n\n")[:-1]:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert text.split("\n\n")[0].count("\n") == len(found.lines) + 1
    assert text.endswith("It adds up.\n")


def test_runs_are_read_in_the_order_of_the_stages(tmp_path, reports):
    for stage, seconds in (("mix", 1.0), ("embed", 30.0)):
        run = {"stage": stage, "seconds": seconds, "cpu_seconds": 2.0, "peak_memory_mib": 1000}
        if stage == "embed":
            run["encode_seconds"] = 25.0
        (tmp_path / f"{stage}.json").write_text(json.dumps(run))
    runs = read_runs(tmp_path)
    assert [(r.stage, r.encode_seconds) for r in runs] == [("embed", 25.0), ("mix", None)]
    found = flow_of(reports)
    text = printed(Flow(**{**vars(found), "runs": runs}))
    assert "1,000 MiB" in text
    assert "25 s encoded sentences: all is 1.24 times that" in text
