"""The helper's experiments, in throw-away repositories of DVC."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import HeartwoodError
from heartwood.cli import app
from pipelines.experiments.models import make_model_experiments
from pipelines.experiments.runs import (
    drop_older,
    list_experiments,
    plain_name,
    require_free_name,
    require_tag_part,
    run_experiment,
)
from tests.project import Project

MODELS = ["base", "sft-100"]


def state(made: Project) -> tuple[str, str, list[str]]:
    """What a refused run must leave alone."""
    status = made.run("git", "status", "--porcelain").stdout
    return status, made.run("git", "show-ref").stdout, [e.commit for e in list_experiments()]


def test_one_experiment_a_model_compared_by_metrics_diff_and_tagged(scored: Project) -> None:
    tags = make_model_experiments(MODELS)
    assert tags == ["eq/esconv-30_other-70/base", "eq/esconv-30_other-70/sft-100"]
    assert not scored.run("git", "status", "--porcelain").stdout
    assert "model: base" in scored.read("params.yaml")
    diff = json.loads(scored.dvc("metrics", "diff", "base", "sft-100", "--json").stdout)
    assert diff["reports/metrics.json"]["index"] == {"old": 2.0, "new": 1.5, "diff": -0.5}
    by_tag = json.loads(scored.dvc("metrics", "diff", *tags, "--json").stdout)
    assert by_tag == diff

    first = {e.name: e.commit for e in list_experiments()}
    assert CliRunner().invoke(app, ["models"]).exit_code == 0
    again = {e.name: e.commit for e in list_experiments()}
    assert set(first) == set(again) == set(MODELS)
    # The tag keeps the first evidence of an equal result.
    assert scored.run("git", "rev-parse", tags[0]).stdout.strip() == first["base"]


def test_nothing_piles_up_from_one_experiment_to_the_next(scored: Project) -> None:
    first = run_experiment("one", ["mix.esconv=0.6"])
    second = run_experiment("two", ["report.model=sft-100"])
    assert "esconv: 0.6" in scored.run("git", "show", f"{first.commit}:params.yaml").stdout
    assert "esconv: 0.3" in scored.run("git", "show", f"{second.commit}:params.yaml").stdout
    assert not scored.run("git", "status", "--porcelain").stdout


def test_uncommitted_changes_are_refused(scored: Project) -> None:
    scored.write("params.yaml", scored.read("params.yaml").replace("0.3", "0.5"))
    before = state(scored)
    with pytest.raises(HeartwoodError, match=r"differs from the last commit \(M params\.yaml is the first\)"):
        run_experiment("one", [])
    with pytest.raises(HeartwoodError, match="differs from the last commit"):
        make_model_experiments(MODELS)
    assert state(scored) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("git", "tag", "sft-100"), "already a tag"),
        (("git", "branch", "sft-100"), "already a branch"),
        (("git", "update-ref", "refs/remotes/sft-100/HEAD", "HEAD"), "already names a commit"),
    ],
)
def test_a_name_that_git_reads_as_something_else_is_refused_before_any_run(
    scored: Project, command: tuple[str, ...], said: str
) -> None:
    scored.run(*command)
    before = state(scored)
    with pytest.raises(HeartwoodError, match=f"'sft-100' (is )?{said}"):
        make_model_experiments(MODELS)
    assert state(scored) == before
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 1
    assert said in done.stderr
    assert "next: " in done.stderr


@pytest.mark.parametrize("name", ["a/b", "", "-x", ".x", "a b", "a..b", "x.lock", "HEAD", "é", "a\nb", "@{1}"])
def test_names_that_are_none_are_refused(scored: Project, name: str) -> None:
    with pytest.raises(HeartwoodError, match=r"is no name for an experiment|already names a commit"):
        require_free_name(name)


def test_the_start_of_a_commits_hash_is_refused(scored: Project) -> None:
    with pytest.raises(HeartwoodError, match="already names a commit"):
        require_free_name(scored.run("git", "rev-parse", "HEAD").stdout[:12])


@pytest.mark.parametrize("name", ["a/b", "", "x y", "x.lock", "-a"])
def test_mixtures_that_are_no_part_of_a_tag_are_refused(scored: Project, name: str) -> None:
    with pytest.raises(HeartwoodError, match="is no name for a mixture"):
        require_tag_part(name)
    with pytest.raises(HeartwoodError, match="is no name for a mixture"):
        make_model_experiments(MODELS, name)
    assert list_experiments() == []


def test_a_run_that_fails_puts_the_experiment_of_that_name_back(scored: Project) -> None:
    good = run_experiment("one", ["mix.esconv=0.6"])
    with pytest.raises(HeartwoodError, match=r"-S report\.model=none` failed"):
        run_experiment("one", ["report.model=none"])
    assert list_experiments() == [good]
    assert not scored.run("git", "status", "--porcelain").stdout
    with pytest.raises(HeartwoodError, match=r"-S mix\.unknown=1` failed"):
        run_experiment("two", ["mix.unknown=1"])
    assert list_experiments() == [good]


def test_an_experiment_of_the_same_name_is_replaced_and_nothing_is_forced(scored: Project) -> None:
    first = run_experiment("one", ["mix.esconv=0.6"])
    second = run_experiment("one", ["mix.esconv=0.7"])
    assert list_experiments() == [second] != [first]
    assert "esconv: 0.7" in scored.run("git", "show", f"{second.commit}:params.yaml").stdout


def test_a_tag_that_holds_another_result_is_refused_before_any_run(scored: Project) -> None:
    make_model_experiments(MODELS)
    scored.write("reports/eq/base.json", json.dumps({"index": 9}))
    scored.dvc("repro", "-q")
    scored.commit()
    before = state(scored)
    with pytest.raises(HeartwoodError, match=r"tag eq/esconv-30_other-70/base holds another result") as error:
        make_model_experiments(MODELS)
    assert "--as NAME" in error.value.hint
    assert state(scored) == before
    assert make_model_experiments(MODELS, "mended") == ["eq/mended/base", "eq/mended/sft-100"]


def test_names_on_older_commits_go_where_a_tag_keeps_them(scored: Project) -> None:
    old = {e.name: e for e in [run_experiment("kept", []), run_experiment("loose", ["mix.esconv=0.6"])]}
    scored.run("git", "tag", "eq/mine/kept", old["kept"].commit)
    scored.run("git", "tag", "other", old["loose"].commit)
    assert drop_older("kept") == []
    scored.write("note", "x")
    scored.commit()
    assert drop_older("kept") == [old["kept"]]
    assert drop_older("loose") == []
    assert list_experiments() == [old["loose"]]
    assert scored.run("git", "rev-parse", "eq/mine/kept").stdout.strip() == old["kept"].commit


def test_scores_that_are_not_committed_are_missed_before_any_run(scored: Project) -> None:
    scored.run("git", "rm", "-q", "--cached", "reports/eq/base.json")
    scored.run("git", "commit", "-q", "-m", "without")
    with pytest.raises(HeartwoodError, match=r"reports/eq/base\.json is not in the last commit"):
        make_model_experiments(MODELS)
    assert list_experiments() == []


def test_a_clone_without_any_data_can_make_them(
    scored: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages before the last one are not run for it, nor is what they wrote looked for."""
    code = (
        "from pathlib import Path\n"
        "Path('data.txt').write_text('rows')\n"
        """Path('reports/eq/base.json').write_text('{"index": 2.0}')\n"""
    )
    scored.write("upstream.py", code)
    scored.write(
        "dvc.yaml",
        scored.read("dvc.yaml") + "  upstream:\n    cmd: python upstream.py\n    deps: [upstream.py]\n"
        "    outs:\n    - data.txt\n    - reports/eq/base.json: {cache: false}\n",
    )
    scored.dvc("repro", "-q")
    scored.commit()
    clone = Project(tmp_path / "clone", tmp_path / "state")
    scored.run("git", "clone", "-q", str(scored.folder), str(clone.folder))
    clone.write("upstream.py", "raise SystemExit('trained again')\n")
    clone.commit()
    monkeypatch.chdir(clone.folder)
    make_model_experiments(MODELS)
    diff = json.loads(clone.dvc("metrics", "diff", "base", "sft-100", "--json").stdout)
    assert diff["reports/metrics.json"]["index"] == {"old": 2.0, "new": 1.5, "diff": -0.5}


def test_scores_that_are_older_than_the_last_commit_are_refused_before_any_run(scored: Project) -> None:
    scored.write("score.py", "")
    stage = "  score:\n    foreach: ${models}\n    do:\n      cmd: python score.py\n      deps: [score.py]\n"
    scored.write("dvc.yaml", scored.read("dvc.yaml") + stage + "      params: [mix]\n")
    scored.dvc("repro", "-q")
    scored.write("params.yaml", scored.read("params.yaml").replace("0.3", "0.5"))
    scored.commit()
    before = state(scored)
    with pytest.raises(HeartwoodError, match=r"the score of base in the last commit is stale: score@base ran with mix"):
        make_model_experiments(MODELS)
    assert state(scored) == before


def test_plain_names_are_made_of_shares() -> None:
    assert plain_name({"b": 1 / 3, "a": 0.6667, "c": 0.0}, unit="tokens") == "a-66.67_b-33.33_tokens"
