"""The stages that write what DVC itself shows: metrics and plots."""

import importlib
import json
from pathlib import Path

import pytest

from curation.errors import HeartwoodError
from pipelines.provenance.hashing import Digest
from pipelines.provenance.stage import Definition, Inputs, Run
from tests.reporting.hostile import build

PARAMS = {
    "models": {"base": "models/base.json", "sft-100": "models/sft-100"},
    "checkpoints": {"sft-100": {"steps": 20, "parent": "models/base.json"}},
    "report": {"model": "sft-100"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(build(tmp_path / "p", pairs=2))
    return tmp_path / "p"


def run(name: str, deps: tuple[str, ...] = (), **params: object) -> None:
    inputs = Inputs({path: Digest("x", "x") for path in deps}, PARAMS | params)
    importlib.import_module(f"dvc_stages.{name}").main(Run(Definition(name, (), (), ()), inputs))


def read(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def test_dev_loss_is_drawn_if_it_is_a_dependency(folder):
    run("plots")
    assert {row["set"] for row in read(folder / "reports/plots/loss.json")} == {"train"}
    run("plots", ("reports/training/sft-100.dev.json",))
    rows = read(folder / "reports/plots/loss.json")
    assert [row["step"] for row in rows if row["set"] == "dev"] == [0, 10, 20]
    assert {p.name for p in (folder / "reports/plots").iterdir()} == {
        f"{name}.json" for name in ("learning_rate", "loss", "mixture", "removals", "scores")
    }
    rates = read(folder / "reports/plots/learning_rate.json")
    assert [row["step"] for row in rates] == list(range(1, len(rates) + 1))


def test_metrics_are_the_named_model_and_few_numbers_of_each(folder):
    run("headline")
    assert read(folder / "reports/metrics.json") == read(folder / "reports/eq/sft-100.json")
    found = read(folder / "reports/scores.json")
    assert list(found) == ["base", "sft-100"]
    rates = {"degenerate_rate": 0.04, "stock_opening_rate": 0.04}
    assert found["base"] == {"index": 2.0, "ci_low": 1.9, "ci_high": 2.1, **rates}
    with pytest.raises(HeartwoodError, match=r"report\.model is 'other'"):
        run("headline", report={"model": "other"})
