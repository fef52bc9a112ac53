from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine and run; a slow runner is no failure.
settings.register_profile("heartwood", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("heartwood")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data(repo_root: Path) -> Path:
    """The folder of the real corpora (layout: ``shared/data/README.md``), or a skip."""
    named = os.environ.get("HEARTWOOD_REAL_DATA")
    folder = Path(named) if named else repo_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder}; set HEARTWOOD_REAL_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A small project whose stages from records to prompts have run; read it, or copy it before a change."""
    from tests.small_project import build_project

    return build_project(tmp_path_factory.mktemp("project"), repo_root)
