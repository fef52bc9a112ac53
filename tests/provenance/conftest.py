from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Callable[[], Project]:
    def make() -> Project:
        made = Project(tmp_path / "project", tmp_path / "state")
        made.folder.mkdir()
        made.run("git", "init", "-q", "-b", "main")
        made.dvc("init", "-q")
        return made

    return make
