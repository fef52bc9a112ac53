"""What mixtures are judged on does not move with them: the stages of dvc.yaml, run by DVC on a small project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline.clone import outs, read_lock
from tests.project import ROOT, Project
from tests.small_project import small_params

CODE = ("curation/", "pipelines/", "dvc_stages/", "requirements/")
STAGES = ("mix", "dev", "prompts")
MIXTURE = ["data/mixture/train.jsonl", "reports/mixture.json"]
HELD_OUT = ["data/dev.jsonl", "data/prompts.jsonl"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_project: Path) -> Project:
    """The three stages as dvc.yaml has them, on data that lies there as plain files; run and committed."""
    folder = tmp_path_factory.mktemp("held_out")
    made = Project(folder / "project", folder / "state")
    for folder in ("data/clean", "data/split", "reports", "models"):
        shutil.copytree(small_project / folder, made.folder / folder)
    yaml = YAML(typ="safe", pure=True)
    stages = {name: yaml.load((ROOT / "dvc.yaml").read_text())["stages"][name] for name in STAGES}
    for stage in stages.values():
        stage["deps"] = [d for d in stage["deps"] if not d.startswith(CODE)]
    params = small_params(ROOT)
    for name, value in (("dvc.yaml", {"stages": stages}), ("params.yaml", params)):
        with (made.folder / name).open("w", encoding="utf-8") as handle:
            YAML().dump(value, handle)
    made.write("reports/validation.json", "{}\n")
    (made.folder / "reports/mixture.json").unlink()
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    made.dvc("repro")
    made.commit()
    return made


@pytest.mark.pipeline
def test_another_mixture_runs_mix_alone_and_leaves_dev_and_prompts_byte_for_byte(made: Project) -> None:
    def state() -> tuple[dict[str, str], dict[str, bytes]]:
        hashes = outs(read_lock(made.folder / "dvc.lock"))
        return hashes, {path: (made.folder / path).read_bytes() for path in HELD_OUT}

    before, bytes_before = state()
    changes = ["mix.goemotions=0.5", "mix.unit=tokens", "mix.size=6", "mix.seed=3", "mix.when_short=repeat"]
    done = made.dvc("exp", "run", *(part for change in changes for part in ("-S", change)))
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["mix"]
    after, bytes_after = state()
    assert bytes_after == bytes_before
    assert {p: after[p] for p in HELD_OUT} == {p: before[p] for p in HELD_OUT}
    assert all(after[p] != before[p] for p in MIXTURE)
    receipt = json.loads(made.read("reports/mixture.json"))
    assert (receipt["unit"], receipt["size"]) == ("tokens", 6)
    assert receipt["train_records"]["before_curation"]["goemotions"] > 0
    made.run("git", "checkout", "-q", "--", ".")
    made.dvc("checkout", "-q")


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("mix.goemotions=nan", "mix.goemotions: nan; allowed"),
        ("mix.temperature=2", "mix.temperature: 2 weighs the sources that are 'rest', and here are 1"),
        ("mix.size=900", "are left after curation"),
    ],
)
def test_an_impossible_mixture_is_one_clear_error_before_anything_is_written(
    made: Project, change: str, said: str
) -> None:
    done = made.dvc("exp", "run", "--temp", "-S", change, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in output
    assert "  next: " in output
    assert "Traceback" not in output
    assert not made.run("git", "status", "--porcelain").stdout
