import json
import shutil
import subprocess
import sys
from copy import deepcopy

import pytest

from curation.errors import HeartwoodError
from curation.examples import make_examples
from curation.mixture import draw_order
from curation.records import SCHEMA, read_records
from pipelines import layout
from pipelines.reporting.explain import Answer, Explanation, explain
from tests.small_project import SITUATION, Vectors, small_params, stage


def only(answer: Answer) -> Explanation:
    assert len(answer.records) == 1
    assert not answer.quarantined
    return answer.records[0]


def outcomes(found: Explanation) -> dict[str, str]:
    return {d.stage: d.outcome for d in found.decisions}


def test_a_duplicate_names_its_rule_and_the_record_that_stays(project):
    pair = [only(explain(f"goemotions/train.tsv:{row}", project)) for row in (1, 2)]
    removed, kept = sorted(pair, key=lambda e: outcomes(e)["dedup"] == "kept")
    assert outcomes(removed) == {"records": "kept", "split": "train", "dedup": "removed"}
    decision = removed.decisions[-1]
    assert (decision.rule, decision.score, decision.parameters) == ("dedup-exact-v1", 1.0, {"fold": "fold-v1"})
    assert decision.other is not None
    assert decision.other.record.uid == kept.record.uid
    assert str(decision.other.place) == str(kept.place)
    assert [d.other.record.uid for d in kept.instead_of if d.other] == [removed.record.uid]
    assert outcomes(kept)["mix"] == "not drawn"
    assert kept.decisions[-1].because == "the share of goemotions is 0"


def test_a_leak_names_the_held_out_record_and_that_one_names_the_leak(project):
    leak = only(explain("goemotions/train.tsv:3", project))
    decision = leak.decisions[-1]
    assert (decision.stage, decision.outcome, decision.rule) == ("leakage", "removed", "leakage-exact-v1")
    assert decision.other is not None
    assert str(decision.other.place) == "goemotions/dev.tsv row 1"
    held_out = only(explain(decision.other.record.uid, project))
    assert outcomes(held_out) == {
        "records": "kept",
        "split": "dev",
        "dedup": "kept",
        "dev": "kept",
        "prompts": "not drawn",
    }
    assert [d.other.record.uid for d in held_out.instead_of if d.other] == [leak.record.uid]


def test_a_situation_in_two_splits_leaves_train(project):
    found = only(explain("empathetic_dialogues/train.csv:3", project))
    assert (found.place.first_row, found.place.last_row) == (2, 3)
    decision = found.decisions[-1]
    assert (decision.stage, decision.outcome, decision.because) == ("split", "removed", "situation also stands in dev")
    assert decision.other is not None
    assert decision.other.record.situation == SITUATION


def test_what_stays_is_drawn_or_not_and_the_rows_are_those_of_the_mixture(project):
    lines = (project / layout.MIXTURE).read_text(encoding="utf-8").splitlines()
    said: dict[str, str] = {}
    for row in range(5, 25, 2):
        found = only(explain(f"empathetic_dialogues/train.csv:{row}", project))
        said[found.record.uid] = f"{found.decisions[-1].outcome}: {found.decisions[-1].because}"
    assert len(said) == 10
    for number, line in enumerate(lines, start=1):
        uid = json.loads(line)["conversation"]
        assert said[uid].startswith("drawn: 1 of its 1 examples")
        assert f"row {number} (turn 1, draw {number})" in said[uid]
    left = [text for text in said.values() if text.startswith("not drawn")]
    assert len(left) == 10 - len(lines)
    assert all("4 of the 10 examples of empathetic_dialogues are wanted (share 1)" in text for text in left)


def test_a_line_of_the_mixture_leads_to_its_rows_and_says_what_it_passed(project, repo_root):
    lines = (project / layout.MIXTURE).read_text(encoding="utf-8").splitlines()
    examples = make_examples(read_records(project / layout.CLEAN), small_params(repo_root)["chat"]["system"])
    ranks = [e["uid"] for e in draw_order([e for e in examples if e["source"] == "empathetic_dialogues"], 0)]
    for number, text in enumerate(lines, start=1):
        asked = f"{layout.MIXTURE}:{number}"
        answer = explain(asked, project)
        found, content = only(answer), json.loads(text)
        assert (answer.line.row, answer.line.content) == (number, content)
        assert found.record.uid == content["conversation"]
        assert found.place.file == "train.csv"
        raw = (project / "data/raw/empathetic_dialogues/train.csv").read_text(encoding="utf-8").splitlines()
        said = " ".join(raw[found.place.first_row - 1 : found.place.last_row])
        assert content["completion"][0]["content"].rstrip("?") in said.replace("_comma_", ",")
        assert list(outcomes(found)) == ["records", "split", "dedup", "leakage", "mix"]
        passed = {d.stage: [r.rule for r in d.passed] for d in found.decisions}
        assert passed["dedup"] == ["dedup-exact-v1", "dedup-near-v1", "dedup-semantic-v1"]
        assert passed["leakage"] == ["leakage-exact-v1", "leakage-contained-v1", "leakage-semantic-v1"]
        [draw] = found.decisions[-1].draws
        assert (draw.row, draw.uid, draw.available) == (number, content["uid"], len(ranks))
        assert ranks[draw.position - 1] == draw.uid
        assert "4 are drawn of the 10 examples of empathetic_dialogues" in found.decisions[-1].because
        assert answer.as_dict()["line"]["content"] == content
        assert only(explain(str((project / layout.MIXTURE).resolve()) + f":{number}", project)) == found


def test_a_source_that_is_repeated_counts_its_draws_on(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    lines = (copy / layout.MIXTURE).read_text(encoding="utf-8")
    (copy / layout.MIXTURE).write_text(lines * 2, encoding="utf-8")
    draws = only(explain(f"{layout.MIXTURE}:6", copy)).decisions[-1].draws
    assert [(d.row, d.position) for d in draws] == [(2, 2), (6, 6)]


def test_parameters_are_those_of_the_lock_and_what_left_in_favour_is_counted(project, tmp_path, repo_root):
    from ruamel.yaml import YAML

    copy = shutil.copytree(project, tmp_path / "copy")
    params = small_params(repo_root)
    params["dedup"]["near_jaccard"] = 0.75
    ran = {s: {"cmd": "x", "params": {"params.yaml": deepcopy(params)}} for s in ("records", "dedup", "leakage")}
    with (copy / "dvc.lock").open("w") as handle:
        YAML().dump({"schema": "2.0", "stages": ran}, handle)
    pair = [only(explain(f"goemotions/train.tsv:{row}", copy)) for row in (1, 2)]
    [kept] = [e for e in pair if outcomes(e)["dedup"] == "kept"]
    by_stage = {d.stage: d for d in kept.decisions}
    assert by_stage["records"].because == "parsed as goemotions; contact details: mask"
    assert by_stage["dedup"].because.endswith("no rule removed it; 1 removed in its favour")
    assert by_stage["dedup"].passed[1].parameters["jaccard"] == 0.75
    assert by_stage["leakage"].passed[2].parameters["cosine"] == params["leakage"]["detector"]["semantic_cosine"]
    with (copy / "dvc.lock").open("w") as handle:
        ran["dedup"]["params"]["params.yaml"]["dedup"] = {"unheard_of": 1}
        YAML().dump({"schema": "2.0", "stages": ran}, handle)
    with pytest.raises(HeartwoodError, match=r"dvc.lock: the params of dedup are of another version"):
        explain("goemotions/train.tsv:5", copy)


def test_an_expectation_that_names_the_record_is_said(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    uid = json.loads((copy / layout.MIXTURE).read_text(encoding="utf-8").splitlines()[0])["conversation"]
    suite = {"description": "no turn is very long", "severity": "warning", "success": False, "uids": [uid]}
    report = {"records": {"expectations": [suite]}, "train": {"expectations": [{**suite, "uids": []}]}}
    (copy / "reports/validation.json").write_text(json.dumps(report))
    check = {"residual_leaks": 0, "records_with_evaluation_prompts": 1, "records": 4}
    (copy / "reports/check.json").write_text(json.dumps(check))
    last = only(explain(uid, copy)).decisions[-1]
    assert (last.stage, last.outcome) == ("check", "failed")
    assert last.because.startswith("1 of the 4 records in the mixture repeat text")
    named = next(d for d in only(explain(uid, copy)).decisions if d.stage == "validate")
    assert named.outcome == "named"
    assert "1 of 2 expectations on the tables records, train name it: records: no turn is very long" in named.because
    other = next(d for d in only(explain("goemotions/train.tsv:5", copy)).decisions if d.stage == "validate")
    assert other.outcome == "passed"
    assert other.because.endswith("2 failed because of others")


def test_lines_of_dev_and_of_the_prompts_are_found_and_others_are_not(project, tmp_path):
    for path in (layout.DEV_EXAMPLES, layout.PROMPTS):
        content = json.loads((project / path).read_text(encoding="utf-8").splitlines()[0])
        assert only(explain(f"{path}:1", project)).record.uid == content["conversation"]
    for row in (0, 5):
        with pytest.raises(HeartwoodError, match=f"train.jsonl:{row}: no such row; it has 4"):
            explain(f"{layout.MIXTURE}:{row}", project)
    copy = shutil.copytree(project, tmp_path / "copy")
    text = (copy / layout.MIXTURE).read_text(encoding="utf-8")
    uid = json.loads(text.splitlines()[0])["conversation"]
    (copy / layout.MIXTURE).write_text(text.replace(uid, "0" * 64 + "-0"), encoding="utf-8")
    with pytest.raises(HeartwoodError, match="is not in data/records: these are of different runs"):
        explain(f"{layout.MIXTURE}:1", copy)


def test_explaining_imports_nothing_heavy(project):
    code = (
        "import sys\nfrom pathlib import Path\nfrom pipelines.reporting.explain import explain\n"
        f"explain('{layout.MIXTURE}:1', Path('{project}'))\n"
        # pyarrow imports pandas by itself.
        "print([m for m in ('torch', 'scipy', 'dvc', 'transformers', 'sklearn', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_quarantined_row_is_found_with_its_reason_and_text(project):
    for asked in ("goemotions/train.tsv:15", "data/raw/goemotions/train.tsv:15"):
        answer = explain(asked, project)
        assert not answer.records
        [row] = answer.as_dict()["quarantined"]
        assert (row["source"], row["reason"], row["raw"]) == ("goemotions", "field_count", "a row without a label")
    [row] = explain("train.csv:4", project).as_dict()["quarantined"]
    assert row["reason"] == "unknown_label"


def test_an_id_a_prefix_an_example_and_a_prompt_lead_to_the_same_record(project):
    prompt = json.loads((project / layout.PROMPTS).read_text(encoding="utf-8").splitlines()[0])
    uid = prompt["conversation"]
    for asked in (uid, uid.partition("-")[0], uid[:8], uid[:8].upper(), f"{uid}-1", prompt["id"], prompt["id"][:10]):
        found = only(explain(asked, project))
        assert found.record.uid == uid
        assert outcomes(found)["prompts"] == "drawn"
        assert prompt["id"] in found.decisions[-1].because


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("abc", "is no id; allowed"),
        ("xyz12345", "is no id; allowed"),
        ("../../etc/passwd", "is no id; allowed"),
        ("0000000000", "no record has an id that starts with 0000000000"),
        (
            "nothing.tsv:3",
            "comes from nothing.tsv; files: dev.tsv, test.csv, test.tsv, train.csv, train.tsv, valid.csv",
        ),
        ("train.tsv:999", "the last record of train.tsv ends at row 14"),
        ("train.csv:1", "no record and no quarantined row stands there"),
    ],
)
def test_what_stands_for_nothing_is_an_error(project, asked, message):
    with pytest.raises(HeartwoodError) as caught:
        explain(asked, project)
    assert message in str(caught.value)


def test_a_prefix_or_a_row_that_several_have_is_an_error_that_lists_them(project, tmp_path, monkeypatch):
    copy = shutil.copytree(project, tmp_path / "copy")
    (copy / "data/quarantine/empathetic_dialogues.jsonl").open("a").write(
        json.dumps({"file": "train.tsv", "first_row": 1, "rows": 1, "reason": "x", "detail": "", "raw": ""}) + "\n"
    )
    with pytest.raises(HeartwoodError, match="several sources have such a row") as caught:
        explain("train.tsv:1", copy)
    assert caught.value.hint == "name one of empathetic_dialogues/train.tsv:1, goemotions/train.tsv:1"
    assert only(explain("goemotions/train.tsv:1", copy)).place.source == "goemotions"
    monkeypatch.setattr("pipelines.reporting.explain.Tables.uids", lambda *_: ["aaaaaaaa1-0", "aaaaaaaa2-0"])
    with pytest.raises(HeartwoodError, match="records have an id that starts with aaaaaaaa: aaaaaaaa1-0"):
        explain("aaaaaaaa", copy)


def test_copies_of_one_text_are_told_apart_by_their_number(project, tmp_path, repo_root):
    copy = shutil.copytree(project, tmp_path / "copy")
    raw = copy / "data/raw/goemotions/train.tsv"
    raw.write_text(raw.read_text().replace("AGAIN today\t", "again today.\t").replace("\nthe parking", "\nThe parking"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        stage("records", small_params(repo_root))
    answer = explain("goemotions/train.tsv:1", copy)
    both = explain(only(answer).record.id, copy)
    assert [e.record.copy for e in both.records] == [0, 1]
    assert [e.place.first_row for e in both.records] == [1, 2]


def test_a_record_made_by_merging_labels_leads_to_its_parts_and_back(project, tmp_path, repo_root):
    copy = shutil.copytree(project, tmp_path / "copy")
    raw = copy / "data/raw/goemotions/train.tsv"
    raw.write_text(raw.read_text().replace("AGAIN today\t3", "AGAIN today\t9"))
    params = small_params(repo_root)
    params["dedup"]["label_conflicts"] = "merge"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy)
        patch.setattr("dvc_stages.dedup.VectorTable", Vectors)
        for name in ("records", "split", "dedup"):
            stage(name, params)
    parts = [only(explain(f"goemotions/train.tsv:{row}", copy)) for row in (1, 2)]
    made = {p.decisions[-1].other.record.uid for p in parts if p.decisions[-1].other}
    assert [p.decisions[-1].rule for p in parts] == ["dedup-label-merge-v1"] * 2
    assert len(made) == 1
    found = only(explain(made.pop(), copy))
    assert str(found.place) == "goemotions, made by merging"
    assert set(found.record.emotions) == {"annoyance", "disappointment"}
    assert {d.other.record.uid for d in found.instead_of if d.other} == {p.record.uid for p in parts}
    assert outcomes(found)["dedup"] == "kept"


def test_stages_that_have_not_run_are_named_and_missing_data_is_an_error(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    shutil.rmtree(copy / "data/clean")
    found = only(explain("goemotions/train.tsv:5", copy))
    assert outcomes(found) == {"records": "kept", "split": "train", "dedup": "kept", "leakage": "unknown"}
    assert "`dvc repro leakage`" in found.decisions[-1].because
    shutil.rmtree(copy / "data/records")
    with pytest.raises(HeartwoodError, match="data/records: missing") as caught:
        explain("goemotions/train.tsv:5", copy)
    assert "dvc pull" in caught.value.hint


def test_tables_of_different_runs_are_noticed(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "copy")
    shutil.copy(copy / layout.SPLIT["test"], copy / layout.DEDUPLICATED)
    found = only(explain("goemotions/train.tsv:5", copy))
    assert found.decisions[-1].outcome == "unknown"
    assert "of different runs" in found.decisions[-1].because


def test_tables_of_another_version_of_the_code_are_an_error(project, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = shutil.copytree(project, tmp_path / "copy")
    path = copy / layout.RECORDS / "goemotions.parquet"
    table = pq.read_table(path)
    turns = [[{"role": t["role"], "text": t["text"]} for t in row] for row in table.column("turns").to_pylist()]
    at = SCHEMA.get_field_index("turns")
    pq.write_table(table.set_column(at, "turns", pa.array(turns)), path)
    with pytest.raises(HeartwoodError, match="another version of the code"):
        explain("goemotions/train.tsv:5", copy)


def test_json_holds_the_decisions_and_both_texts(project):
    found = json.loads(json.dumps(explain("goemotions/train.tsv:3", project).as_dict()))
    [record] = found["records"]
    assert record["origin"] == {"source": "goemotions", "file": "train.tsv", "first_row": 3, "last_row": 3}
    last = record["decisions"][-1]
    assert last["rule"] == "leakage-exact-v1"
    assert last["other"]["turns"][0]["text"].startswith("My sister FINALLY called")
