import shutil
from pathlib import Path

import pytest

from tests.pipeline.clone import Clone, make_clone


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The whole pipeline on the embedded default, run once."""
    made = make_clone(tmp_path_factory.mktemp("clone"))
    made.dvc("repro")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-q", "--allow-empty", "-m", "run")
    return made


@pytest.fixture
def copy(clone: Clone, tmp_path: Path) -> Clone:
    """A copy of the clone that a page of docs/ or the notebook may change; the cache of data is the clone's."""
    made = Clone(tmp_path / "heartwood", tmp_path / "state", code=tmp_path / "heartwood")
    shutil.copytree(clone.folder, made.folder, symlinks=True, ignore=shutil.ignore_patterns("cache"))
    made.dvc("cache", "dir", "--local", str(clone.folder / ".dvc" / "cache"))
    return made
