"""The notebook for Colab, executed on the embedded default in a copy of the repository whose pipeline ran once."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipeline.clone import Clone
from tests.project import ROOT

pytestmark = pytest.mark.pipeline

NOTEBOOK = ROOT / "notebooks" / "heartwood_colab_t4.ipynb"


def test_the_notebook_runs_and_ends_with_verified_scores(copy: Clone) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) < 20
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs do not belong into git"
    where = {"metadata": {"path": str(copy.folder / "notebooks")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute(env=copy.env)
    printed = "\n".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert all(f"{model}: verified" in printed for model in ("base", "sft-100", "sft-150"))
    ran = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    assert ran == ["mix", "check"]
    assert not copy.run("git", "status", "--porcelain").stdout
