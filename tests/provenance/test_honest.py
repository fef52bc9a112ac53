"""Honest histories: verified, stale or incomplete as they are, never called broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.provenance.verify import LEVELS, Level
from tests.provenance.lab import Lab
from tests.provenance.score_project import MODELS

pytestmark = pytest.mark.pipeline
ALL = {*MODELS, "reports/comparison.json", "reports/metrics.json, reports/scores.json"}


def verdicts(lab: Lab, level: Level = "chain", at: str = "workspace") -> dict[str, str]:
    return {name: found.verdict for name, found in lab.look(level, at).items()}


def everything(verdict: str) -> dict[str, str]:
    return dict.fromkeys(ALL, verdict)


@pytest.mark.parametrize("at", ["workspace", "HEAD"])
def test_a_whole_run_is_verified_at_every_level(lab: Lab, at: str) -> None:
    assert verdicts(lab, LEVELS[-1], at) == everything("verified")


def test_a_tag_and_a_renamed_tag(lab: Lab) -> None:
    assert verdicts(lab, at="first") == everything("verified")
    lab.project.run("git", "tag", "eq/mine/first", "first")
    lab.project.run("git", "tag", "-d", "first")
    assert verdicts(lab, at="eq/mine/first") == everything("verified")


def test_an_experiment_by_its_name(lab: Lab) -> None:
    assert verdicts(lab, "data", "of-sft-100") == everything("verified")


def test_a_partial_run_is_stale_where_it_is_not_what_it_names(lab: Lab) -> None:
    found = lab.look("data", "partial")
    assert {name: v.verdict for name, v in found.items()} == {**everything("stale"), "base": "verified"}
    first = found["sft-100"].first
    assert first is not None
    assert (first.stage, first.link, first.next) == ("sft@sft-100", "data/mixture/train.jsonl", "dvc repro")


def test_another_branch_checked_out_by_git_alone(lab: Lab) -> None:
    lab.project.run("git", "checkout", "-q", "partial")
    found = lab.look("data")
    assert {v.verdict for v in found.values()} == {"verified", "stale"}
    assert any("dvc checkout" in note.why for note in found["sft-100"].unchecked)


def test_a_run_whose_results_are_not_committed(lab: Lab) -> None:
    lab.edit("params.yaml", "compare:\n  seed: 0", "compare:\n  seed: 1")
    assert verdicts(lab)["reports/comparison.json"] == "stale"
    lab.project.dvc("repro", "-q")
    assert verdicts(lab, "data") == everything("verified")


def test_a_run_whose_reports_were_never_added_to_git(lab: Lab) -> None:
    lab.project.run("git", "rm", "-rq", "--cached", "reports")
    assert verdicts(lab) == everything("verified")


def test_a_dirty_working_tree(lab: Lab) -> None:
    lab.project.write("notes.md", "mine")
    lab.project.write("data/embedded/mine.txt", "mine")
    lab.project.write("params.yaml", "# a remark\n" + lab.project.read("params.yaml"))
    assert verdicts(lab) == everything("stale")
    assert verdicts(lab, at="HEAD") == everything("verified")
    Path("data/embedded/mine.txt").unlink()
    assert verdicts(lab, "data") == everything("verified")


def test_a_check_out_with_the_line_ends_of_windows(lab: Lab) -> None:
    Path(".gitattributes").unlink()
    lab.project.commit("no attributes")
    lab.project.run("git", "config", "core.autocrlf", "true")
    tracked = [p for p in lab.project.run("git", "ls-files").stdout.split() if not p.endswith(".safetensors")]
    for path in tracked:
        Path(path).unlink()
    lab.project.run("git", "checkout", "-q", "--", ".")
    assert b"\r\n" in Path("reports/eq/base.json").read_bytes()
    assert b"\r\n" in Path("dvc_stages/score.py").read_bytes()
    assert "broken" not in verdicts(lab).values()
    assert verdicts(lab, at="HEAD") == everything("verified")


def test_a_clone_without_cache_is_verified_without_data_and_incomplete_with_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.project.run("git", "clone", "-q", str(lab.project.folder), str(lab.base / "clone"))
    monkeypatch.chdir(lab.base / "clone")
    assert verdicts(lab) == verdicts(lab, at="HEAD") == everything("verified")
    for at in ("workspace", "HEAD"):
        found = lab.look("regenerate", at)["sft-100"]
        assert found.verdict == "incomplete"
        assert found.first is not None
        assert "not in DVC's cache here" in found.first.message
        assert "dvc pull" in found.first.next


def test_a_shallow_clone_knows_its_last_commit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.project.run("git", "clone", "-q", "--depth", "1", f"file://{lab.project.folder}", str(lab.base / "clone"))
    monkeypatch.chdir(lab.base / "clone")
    assert verdicts(lab, at="HEAD") == everything("verified")


def test_a_cache_that_was_emptied_while_the_working_tree_has_the_data(lab: Lab) -> None:
    shutil.rmtree(".dvc/cache")
    assert verdicts(lab, "data", "HEAD") == everything("verified") | {
        m: "incomplete" for m in MODELS if lab.look("data", "HEAD")[m].faults
    }
    assert verdicts(lab, "rescore") == everything("verified")


def test_a_merge_done_right(lab: Lab) -> None:
    lab.project.run("git", "checkout", "-q", "-b", "words")
    lab.project.write("README.md", "words")
    lab.project.commit("words")
    lab.project.run("git", "checkout", "-q", "main")
    lab.project.write("notes.md", "notes")
    lab.project.commit("notes")
    lab.project.run("git", "merge", "-q", "--no-edit", "words")
    assert verdicts(lab, "data", "HEAD") == everything("verified")


def test_a_second_working_tree_of_the_repository(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.project.run("git", "worktree", "add", "-q", str(lab.base / "second"), "partial")
    monkeypatch.chdir(lab.base / "second")
    assert set(verdicts(lab).values()) == {"verified", "stale"}
    assert verdicts(lab, at="main") == everything("verified")


def test_raw_files_that_are_on_another_machine(lab: Lab) -> None:
    shutil.rmtree(lab.base / "corpora")
    first = lab.look("data")["base"].first
    assert first is not None
    assert (first.kind, first.link) == ("incomplete", "raw:empathetic_dialogues")


def test_replies_made_on_another_machine_are_no_proof(lab: Lab) -> None:
    """Another processor, and a reply in which rounding has turned a word: it cannot be told from an edit there."""
    from pipelines.provenance.lineage import read_json, write_json
    from tests.provenance.test_forgeries import consistent_response

    for path in ("models/sft-100/lineage.json", "data/responses/sft-100.lineage.json"):
        lineage = read_json(Path(path))
        lineage["hardware"]["processor"] = "Another 9000"
        write_json(Path(path), lineage)
    lab.agree()
    consistent_response(lab)
    found = lab.look("regenerate")["sft-100"]
    assert found.verdict == "incomplete"
    assert found.first is not None
    assert "Another 9000" in found.first.message


def test_another_version_of_the_judge_code_is_not_held_against_a_score(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran had other code, so numbers that this code does not give are said to be unchecked."""
    path = Path("pipelines/evaluation/score.py")
    path.write_text(path.read_text() + "# an earlier version\n")
    score = Path("reports/eq/sft-100.json")
    from pipelines.provenance.lineage import read_json

    lab.edit_json(score.as_posix(), se=read_json(score)["se"] + 0.01)
    lab.relock(path.as_posix(), score.as_posix())
    found = lab.look()["sft-100"]
    assert [f.link for f in found.faults if f.kind == "broken"] == ["score@sft-100: code"]
    assert any(note.link == "reports/eq/sft-100.json:se" for note in found.unchecked)
