from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.project import Project

DVC_YAML = """
stages:
  headline:
    cmd: python headline.py
    deps:
    - headline.py
    - reports/eq/base.json
    - reports/eq/sft-100.json
    params:
    - mix
    - report
    metrics:
    - reports/metrics.json:
        cache: false
"""

HEADLINE = """
from pathlib import Path
from ruamel.yaml import YAML
model = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text())["report"]["model"]
Path("reports/metrics.json").write_bytes(Path(f"reports/eq/{model}.json").read_bytes())
"""

PARAMS = """mix:
  esconv: 0.3
models:
  base: models/base.json
  sft-100: models/sft-100
report:
  model: base
"""

MIXTURE = {"requested": {"esconv": 0.3, "other": 0.7}, "unit": "examples"}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What ``scored`` is a copy of; read only."""
    folder = tmp_path_factory.mktemp("scored")
    made = Project(folder / "project", folder / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    made.write("dvc.yaml", DVC_YAML)
    made.write("params.yaml", PARAMS)
    made.write("headline.py", HEADLINE)
    made.write("reports/mixture.json", json.dumps(MIXTURE))
    for model, index in (("base", 2.0), ("sft-100", 1.5)):
        made.write(f"reports/eq/{model}.json", json.dumps({"index": index}))
    made.dvc("repro", "-q")
    made.commit()
    return made


@pytest.fixture
def scored(template: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A committed project with scores of two models, whose one stage copies the score of ``report.model``; the
    current folder and the environment are its."""
    made = Project(tmp_path / "project", tmp_path / "state")
    shutil.copytree(template.folder, made.folder)
    # The copies' times differ from those in git's index.
    made.run("git", "status", "--porcelain")
    monkeypatch.chdir(made.folder)
    for key, value in made.env.items():
        monkeypatch.setenv(key, value)
    return made
