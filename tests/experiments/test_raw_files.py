from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from curation.errors import HeartwoodError
from curation.sources.official import fetch_local, fetch_path, write_files
from pipelines.experiments.raw_files import require_raw_as_recorded
from pipelines.experiments.runs import run_experiment
from tests.project import Project

CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of raw files beside a project whose stage ``raw`` has read them; the current folder is the project."""
    place = tmp_path / "corpora"
    (place / "goemotions").mkdir(parents=True)
    for name in ("train", "dev", "test"):
        (place / "goemotions" / f"{name}.tsv").write_text(f"A comment of {name}\t3\tid{name}\n")
    (place / "own.jsonl").write_text(CHAT)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    record(place, {"goemotions": {"format": "goemotions"}, "own": {"format": "chat", "path": "../corpora/own.jsonl"}})
    return place


def record(place: Path, sources: dict[str, dict[str, str]], location: str = "../corpora") -> None:
    params = {"raw": {"location": location}, "sources": sources}
    manifest = {}
    for name, source in sources.items():
        path = source.get("path")
        files = fetch_path("chat", Path(path), name) if path else fetch_local(source["format"], place)
        manifest[name] = source | {"files": write_files(files, Path("data/raw") / name)}
    Path("data/raw/manifest.json").write_text(json.dumps(manifest))
    stage = {"deps": [{"path": "data/embedded"}], "params": {"params.yaml": params}}
    with Path("params.yaml").open("w") as handle:
        YAML().dump(params, handle)
    with Path("dvc.lock").open("w") as handle:
        YAML().dump({"stages": {"raw": stage}}, handle)


def test_files_as_they_were_read_pass(recorded: Path) -> None:
    require_raw_as_recorded()


@pytest.mark.parametrize(
    ("changed", "named"), [("goemotions/dev.tsv", r"dev\.tsv of goemotions"), ("own.jsonl", "own")]
)
def test_a_changed_file_is_named_with_the_command_that_reads_it(recorded: Path, changed: str, named: str) -> None:
    with (recorded / changed).open("a") as handle:
        handle.write(CHAT if changed.endswith("jsonl") else "More\t3\tid9\n")
    with pytest.raises(HeartwoodError, match=named) as caught:
        require_raw_as_recorded()
    assert "dvc repro -f raw" in caught.value.hint


def test_a_missing_file_is_an_error_and_a_place_that_is_gone_says_nothing(recorded: Path) -> None:
    moved = recorded.rename(recorded.with_name("elsewhere"))
    require_raw_as_recorded()
    moved.rename(recorded)
    (recorded / "goemotions" / "dev.tsv").unlink()
    with pytest.raises(HeartwoodError, match=r"dev\.tsv"):
        require_raw_as_recorded()


def test_what_dvc_sees_itself_is_left_to_it(recorded: Path) -> None:
    (recorded / "own.jsonl").write_text(CHAT * 2)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("../corpora/own.jsonl", "../corpora/other.jsonl"))
    require_raw_as_recorded()
    Path("params.yaml").write_text(params)
    Path("data/raw/manifest.json").unlink()
    require_raw_as_recorded()


def test_no_experiment_runs_on_raw_files_that_changed_unseen(scored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed() -> None:
        raise HeartwoodError("dev.tsv has changed", hint="dvc repro -f raw")

    monkeypatch.setattr("pipelines.experiments.runs.require_raw_as_recorded", changed)
    with pytest.raises(HeartwoodError, match=r"dev\.tsv has changed"):
        run_experiment("one", ["mix.esconv=0.6"])
