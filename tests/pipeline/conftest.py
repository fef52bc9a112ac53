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
