"""The stage validate on small tables: what it writes, what it says on stderr, what stops it."""

import json
from pathlib import Path

import pytest

from curation.errors import HeartwoodError
from curation.records import write_records
from dvc_stages import validate
from pipelines.layout import CLEAN, RECORDS, SPLIT
from pipelines.provenance.stage import Definition, Inputs, Run
from pipelines.settings.strict import read_params
from tests.curation.making import numbered, talk

pytestmark = pytest.mark.slow
KEYS = ("validate", "sources", "records", "dedup")


@pytest.fixture
def params(repo_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = read_params(repo_root / "params.yaml")
    return {key: shipped[key] for key in KEYS} | {
        "sources": {"talks": {"format": "chat", "path": "talks.jsonl"}},
        "validate": {"min_train_rows": 2, "min_dev_rows": 1, "max_rows": 9},
    }


def records(train=2, dev=1, test=1, text="I lost my job on day"):
    counts = {"train": train, "dev": dev, "test": test}
    return numbered(
        talk(f"{text} {split} {i}.", "Tell me more.", split=split) for split, n in counts.items() for i in range(n)
    )


def run(params, rows):
    write_records(rows, RECORDS / "talks.parquet")
    for split, path in {**SPLIT, "train": CLEAN}.items():
        write_records([c for c in rows if c.split == split], path)
    validate.main(Run(Definition("validate", (), KEYS, ()), Inputs({}, params)))


def report():
    return json.loads(Path("reports/validation.json").read_text(encoding="utf-8"))


def test_every_table_is_validated_and_reported(params, capsys):
    run(params, records())
    assert {table: found["rows"] for table, found in report().items()} == {
        "records": 4,
        "train": 2,
        "dev": 1,
        "test": 1,
        "splits": 4,
    }
    assert all(found["success"] and found["warnings"] == 0 for found in report().values())
    assert capsys.readouterr().err == ""


def test_warnings_are_told_and_do_not_stop(params, capsys):
    params["records"]["contact"] = "keep"
    params["validate"]["max_rows"] = 3
    run(params, records(text="I wrote to ann@example.com about"))
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith("heartwood: validate: warning: ") for line in told)
    assert [line.split()[3:5] for line in told] == [
        ["records:", "expect_table_row_count_to_be_between"],
        *([f"{table}:", "expect_texts_to_have_no_contact_details"] for table in ("records", "train", "dev", "test")),
    ]
    assert not any("example.com" in line for line in told)
    assert all(found["success"] for found in report().values())


@pytest.mark.parametrize("policy", ["mask", "quarantine"])
def test_contact_details_that_should_be_gone_stop_the_stage(params, policy):
    params["records"]["contact"] = policy
    with pytest.raises(HeartwoodError, match="records: expect_texts_to_have_no_contact_details"):
        run(params, records(text="I wrote to ann@example.com about"))


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_empty_split_stops_the_stage_with_its_name(params, split):
    with pytest.raises(HeartwoodError, match=f"^{split}: expect_table_row_count_to_be_between .*found: 0$"):
        run(params, records(**{split: 0}))
    assert not report()[split]["success"]


def test_a_label_outside_the_set_of_the_format_stops_the_stage(params):
    params["sources"]["talks"] = {"format": "goemotions"}
    run(params, numbered(talk(f"So {s} {i}.", split=s, emotions=("joy",)) for s in SPLIT for i in range(2)))
    with pytest.raises(HeartwoodError, match=r'expect_labels_to_be_in_set_of_source .*found: \["smug"\]'):
        run(params, numbered(talk(f"So {s} {i}.", split=s, emotions=("smug",)) for s in SPLIT for i in range(2)))


def test_the_definition_of_duplicates_is_that_of_dedup(params):
    rows = records()
    copies = [talk("I lost my job on day train 0!", "Tell me more", emotions=(label,)) for label in ("sad", "angry")]
    run(params, numbered([*rows, copies[1]]))
    params["dedup"]["label_conflicts"] = "drop"
    with pytest.raises(HeartwoodError, match=r"^train: expect_texts_to_have_no_duplicates"):
        run(params, numbered([*rows, copies[1]]))
    params["dedup"] |= {"label_conflicts": "keep"}
    with pytest.raises(HeartwoodError, match=r"^train: expect_texts_to_have_no_duplicates"):
        run(params, numbered([*rows, copies[0]]))
    params["dedup"] |= {"generic_words": 30}
    run(params, numbered([*rows, copies[0]]))
