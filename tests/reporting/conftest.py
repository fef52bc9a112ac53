from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def project(small_project: Path) -> Path:
    return small_project
