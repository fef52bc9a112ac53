"""A source of one's own is an entry in params.yaml: through the stages raw and records, and into the mixture."""

import copy
import hashlib
import json

import pyarrow.parquet as pq
import pytest

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from curation.mixture import allocate, resolve_shares
from curation.records import read_records
from dvc_stages import raw, records
from pipelines.provenance.stage import Definition, Inputs, Run
from pipelines.settings.mixture import parse_mix
from pipelines.settings.strict import read_params
from tests.curation.making import chat, pair, write_chat


@pytest.fixture
def params(repo_root, tmp_path, monkeypatch):
    """The shipped params on the embedded corpora, in an empty working folder below ``main``."""
    found = copy.deepcopy(read_params(repo_root / "params.yaml"))
    found["raw"]["location"] = str(repo_root / "data" / "embedded")
    (tmp_path / "main").mkdir()
    monkeypatch.chdir(tmp_path / "main")
    return found


def stage(module, params):
    module.main(Run(Definition(module.__name__, (), tuple(params), ()), Inputs({}, params)))


def run_both(params):
    stage(raw, params)
    stage(records, params)
    with open("reports/records.json", encoding="utf-8") as handle:
        return json.load(handle)


def test_a_fourth_source_needs_an_entry_and_nothing_else(params, tmp_path):
    system = {"role": "system", "content": "Be kind."}
    rows = [chat(f"I lost my {thing}.", "Tell me more.", id=thing) for thing in ("key", "job", "cat")]
    rows[0]["messages"] = [system, *rows[0]["messages"]]
    (tmp_path / "mine").mkdir()
    for name, found in (("train.jsonl", rows), ("dev.jsonl", [chat("Mail a@b.de.", "I will.")])):
        write_chat(tmp_path / "mine", *found, name=name)
    params["sources"]["mine"] = {"format": "chat", "path": "../mine"}
    params["mix"]["mine"] = 0.1

    report = run_both(params)
    assert sorted(report) == ["empathetic_dialogues", "esconv", "goemotions", "mine"]
    assert report["mine"] == {
        "raw_rows": 4,
        "raw_rows_kept": 4,
        "raw_rows_quarantined": 0,
        "quarantined_by_reason": {},
        "records": 4,
        "records_by_split": {"dev": 1, "train": 3},
        "records_with_contacts": 1,
        "contacts": {"EMAIL": 1},
        "system_messages_left_out": 1,
        "records_with_format_characters": 0,
    }
    with open("data/raw/manifest.json", encoding="utf-8") as handle:
        manifest = json.load(handle)
    data = (tmp_path / "mine" / "dev.jsonl").read_bytes()
    assert manifest["mine"]["path"] == "../mine"
    assert manifest["mine"]["files"][0] == {
        "name": "dev.jsonl",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert "path" not in manifest["esconv"]
    made = read_records(tmp_path / "main" / "data" / "records" / "mine.parquet")
    assert {c.source for c in made} == {"mine"}
    assert {c.turns[0].text for c in made if c.split == "dev"} == {"Mail [EMAIL]."}
    origins = {r["uid"]: r["file"] for r in pq.read_table("data/origins.parquet").to_pylist()}
    assert {origins[c.uid] for c in made} == {"train.jsonl", "dev.jsonl"}

    settings, asked = parse_mix(params["mix"], params["sources"])
    assert allocate(resolve_shares(asked), settings.size)["mine"] == 120


def test_a_single_file_is_without_split_and_keeps_its_path_in_the_manifest(params, tmp_path):
    write_chat(tmp_path, *(pair(f"prompt {n}") for n in range(5)), name="train.jsonl")
    params["sources"] = {"mine": {"format": "prompt_completion", "path": str(tmp_path / "train.jsonl")}}
    assert run_both(params)["mine"]["records_by_split"] == {"unassigned": 5}
    with open("data/raw/manifest.json", encoding="utf-8") as handle:
        found = json.load(handle)["mine"]
    assert found["path"].endswith("train.jsonl")
    assert [f["name"] for f in found["files"]] == ["rows.jsonl"]


def test_paths_are_those_of_the_main_checkout_also_in_the_copy_of_an_experiment(params, tmp_path, monkeypatch):
    write_chat(tmp_path / "main", pair(), name="mine.jsonl")
    params["sources"] = {"mine": {"format": "prompt_completion", "path": "mine.jsonl"}}
    copied = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "tmpabc"
    copied.mkdir(parents=True)
    monkeypatch.chdir(copied)
    assert run_both(params)["mine"]["records"] == 1


def test_a_path_to_nothing_names_key_and_place(params, tmp_path):
    params["sources"]["mine"] = {"format": "chat", "path": "../nowhere"}
    with pytest.raises(HeartwoodError, match=r"sources\.mine\.path: .*nowhere does not exist"):
        stage(raw, params)


def test_contacts_may_be_quarantined(params):
    masked = run_both(params)
    params["records"]["contact"] = "quarantine"
    aside = run_both(params)
    for name, counts in aside.items():
        rows = read_jsonl(records.QUARANTINE / f"{name}.jsonl")
        assert sum(r["reason"] == "contact" for r in rows) == counts["records_with_contacts"] > 0
        assert counts["records"] == masked[name]["records"] - counts["records_with_contacts"]
        assert counts["raw_rows"] == masked[name]["raw_rows"]
        assert counts["contacts"] == masked[name]["contacts"]
        assert all(r["raw"] for r in rows if r["reason"] == "contact")


def test_more_than_may_be_quarantined_fails_and_says_why(params, tmp_path):
    write_chat(tmp_path, *[chat()] * 9, "{", name="mine.jsonl")
    params["sources"] = {"mine": {"format": "chat", "path": "../mine.jsonl"}}
    params["records"]["max_quarantined"] = 0.1
    run_both(params)
    params["records"]["max_quarantined"] = 0.09
    with pytest.raises(
        HeartwoodError, match=r"mine: 1 of 10 .* \{'not_json': 1\}; the first: rows\.jsonl, row 10: not"
    ):
        run_both(params)
