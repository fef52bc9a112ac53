import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project
from tests.provenance.lab import Lab


@pytest.fixture
def project(tmp_path: Path) -> Callable[[], Project]:
    def make() -> Project:
        made = Project(tmp_path / "project", tmp_path / "state")
        made.folder.mkdir()
        made.run("git", "init", "-q", "-b", "main")
        made.dvc("init", "-q")
        return made

    return make


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the small repository whose every stage has run; ``lab`` is a copy of it."""
    from tests.provenance.score_project import build

    base = tmp_path_factory.mktemp("scores")
    build(base)
    return base


@pytest.fixture
def lab(run_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    shutil.copytree(run_once, tmp_path / "lab", ignore=shutil.ignore_patterns("state"), symlinks=True)
    made = Lab(tmp_path / "lab")
    # The copies' times differ from those in git's index.
    made.project.run("git", "status", "--porcelain")
    monkeypatch.chdir(made.project.folder)
    for key, value in made.project.env.items():
        if key != "PYTHONPATH":
            monkeypatch.setenv(key, value)
    return made
