"""Bad input of ``heartwood verify``: one plain message and the next command, for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from heartwood.cli import app
from tests.project import Project
from tests.provenance.lab import Lab


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["verify", *arguments])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert "\n  next: " in done.stderr
    return done.stderr


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path / "project", tmp_path / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    made.write("dvc.yaml", "stages:\n  a:\n    cmd: echo\n    outs: [x]\n")
    made.write("params.yaml", "models:\n  base: models/base.json\n")
    made.write("dvc.lock", "schema: '2.0'\nstages: {}\n")
    made.commit()
    monkeypatch.chdir(made.folder)
    for key, value in made.env.items():
        monkeypatch.setenv(key, value)
    return made


def test_no_git_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "not inside a git repository" in refused()


def test_a_repository_without_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Project(tmp_path, tmp_path / "state")
    made.run("git", "init", "-q")
    monkeypatch.chdir(tmp_path)
    assert "'HEAD'" in refused()


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml", "dvc.yaml"])
def test_a_missing_file_is_named(bare: Project, name: str) -> None:
    (bare.folder / name).unlink()
    assert f"{name}: not there at workspace" in refused()
    bare.commit()
    assert f"{name}: not there at HEAD" in refused("HEAD")


def test_an_unknown_revision(bare: Project) -> None:
    said = refused("nonsense")
    assert "'nonsense' is no commit, tag, branch or experiment" in said
    assert "dvc exp list" in said


def test_a_lock_of_a_newer_schema(bare: Project) -> None:
    bare.write("dvc.lock", "schema: '3.0'\nstages: {}\n")
    said = refused()
    assert "schema '3.0' at workspace; known: '2.0'" in said
    assert "install the versions" in said


@pytest.mark.parametrize("text", ["a: [", "just words", ""])
def test_a_lock_that_is_none(bare: Project, text: str) -> None:
    bare.write("dvc.lock", text)
    assert "dvc.lock: " in refused()


def test_an_unresolved_merge(bare: Project) -> None:
    bare.write("dvc.lock", "<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> x\n")
    assert "dvc.lock: an unresolved merge at workspace" in refused()


def test_a_dvc_yaml_that_dvc_cannot_read(bare: Project) -> None:
    bare.write("dvc.yaml", "stages:\n  a:\n    command: echo\n")
    assert "dvc.yaml: DVC cannot read it at workspace" in refused()


def test_a_folder_that_dvc_does_not_know(bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.run("git", "rm", "-rq", "--cached", ".dvc")
    bare.run("git", "commit", "-qm", "without")
    bare.run("git", "clone", "-q", str(bare.folder), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    assert "DVC" in refused()


def test_a_commit_that_a_shallow_clone_lacks(bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bare.run("git", "rev-parse", "HEAD").stdout.strip()
    bare.write("notes", "x")
    bare.commit()
    bare.run("git", "clone", "-q", "--depth", "1", f"file://{bare.folder}", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    said = refused(first)
    assert "which is shallow" in said
    assert "git fetch --unshallow" in said


@pytest.mark.pipeline
def test_a_missing_cache_is_incomplete_and_says_how_to_get_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.project.run("git", "clone", "-q", str(lab.project.folder), str(lab.base / "clone"))
    monkeypatch.chdir(lab.base / "clone")
    done = CliRunner().invoke(app, ["verify", "HEAD", "--data"])
    assert done.exit_code == 2
    told = " ".join(done.stdout.replace("│", " ").split())
    assert "sft-100: incomplete" in told
    assert "next: dvc pull" in told
