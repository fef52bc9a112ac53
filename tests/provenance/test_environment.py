"""What a stage ran on: differences from the library locks, in lineages and in scores."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.provenance.environment import AS_LOCKED, PACKAGES, differences, differences_here, in_words, processor
from pipelines.provenance.lineage import read_json
from tests.project import ROOT
from tests.provenance.lab import Lab

STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def pretend(**versions: str) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def lock(folder: Path, *lines: str) -> Path:
    path = folder / "lock.txt"
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("line", "here", "differs"),
    [
        ("torch==2.13.0", "2.13.0", False),
        ("torch==2.13.0", "2.13.0+cpu", False),
        ("torch==2.13", "2.13.0", False),
        ("torch==2.13.0", "2.12.1+cpu", True),
        ("torch==2.13.0+cu130", "2.13.0+cpu", True),
        ("torch==2.13.0 ; sys_platform == 'none'", "1.0", False),
        ("torch==2.13.0 ; python_full_version >= '3'", "1.0", True),
        ("other==1.0", "2.13.0", False),
    ],
)
def test_a_version_differs_or_not(
    tmp_path: Path, installed: Callable[..., None], line: str, here: str, differs: bool
) -> None:
    installed(torch=here)
    found = differences([lock(tmp_path, line)])
    assert bool(found) is differs
    if differs:
        wanted = line.partition(";")[0].strip().removeprefix("torch==")
        assert found == {"torch": f"{here} (locked: {wanted})"}


def test_in_words_names_three_and_counts_the_rest() -> None:
    assert in_words({}) == AS_LOCKED == "as locked"
    assert in_words({"b": "2 (locked: 1)", "a": "1 (locked: 3)"}) == "a 1 (locked: 3), b 2 (locked: 1)"
    assert in_words(dict.fromkeys("abcde", "2 (locked: 1)")).endswith(", c 2 (locked: 1) and 2 more")


def test_every_package_that_matters_is_in_the_lock_of_its_group() -> None:
    for group, names in PACKAGES.items():
        locked = {line.partition("==")[0] for line in (ROOT / f"requirements/{group}.txt").read_text().splitlines()}
        assert set(names) <= locked


def test_a_lineage_of_here_can_be_compared_and_one_of_elsewhere_not() -> None:
    here = {"processor": processor(), "device": "cpu", "dtype": "float32"}
    numpy = importlib.metadata.version("numpy")
    assert differences_here({"packages": {"numpy": numpy}, "hardware": here}) == []
    other = differences_here({"packages": {"numpy": "0.1"}, "hardware": here | {"processor": "x", "device": "cuda"}})
    assert [line.split()[0] for line in other] == ["numpy", "x", "cuda"]


@pytest.mark.pipeline
def test_lineages_and_scores_say_what_they_ran_on(lab: Lab) -> None:
    for model in ("sft-100", "sft-150"):
        lineage = read_json(Path(f"models/{model}/lineage.json"))
        assert lineage["scheme"] == "lineage-v2"
        assert lineage["packages"]["torch"] == importlib.metadata.version("torch")
        assert lineage["hardware"] | {"processor": "", "cores": 0} == {
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
            "processor": "",
            "cores": 0,
            "accelerator": "none",
        }
        assert all(set(digests) == {"md5", "sha256"} for digests in lineage["inputs"].values())
        record = read_json(Path(f".heartwood/runs/sft@{model}.json"))
        assert {"commit", "dirty", "seconds", "peak_memory_mib"} <= set(record)
    for model in ("base", "sft-100"):
        score = read_json(Path(f"reports/eq/{model}.json"))
        assert score["environment"] == AS_LOCKED
        assert sum(isinstance(v, str) for v in score.values()) <= 8
        assert sum(not isinstance(v, str) for v in score.values()) <= 15
        assert read_json(Path(f"reports/eq/{model}.detail.json"))["packages"].keys() == set(PACKAGES["evaluation"])


@pytest.mark.pipeline
def test_a_changed_library_lock_reruns_what_it_affects_and_the_score_names_the_difference(lab: Lab) -> None:
    path = "requirements/evaluation.txt"
    numpy = importlib.metadata.version("numpy")
    lab.edit(path, f"numpy=={numpy}", "numpy==9.9.9")
    status = lab.project.dvc("status", "--json").stdout
    for stage in ("judge", "score@base", "compare", "headline"):
        assert f'"{stage}"' in status
    for stage in ("mix", "records", "sft@sft-100", "respond@base"):
        assert f'"{stage}"' not in status
    lab.project.dvc("repro", "-q", "score@base")
    assert read_json(Path("reports/eq/base.json"))["environment"] == f"numpy {numpy} (locked: 9.9.9)"
    assert lab.look()["base"].verdict == "verified"


def test_every_stage_depends_on_the_lock_of_its_group() -> None:
    behind_scores = {f"requirements/{group}.txt" for group in ("curation", "training", "evaluation")}
    deps = {name: set(stage.get("do", stage)["deps"]) for name, stage in STAGES.items()}
    assert behind_scores <= deps["score"]
    assert all("requirements/training.txt" in deps[name] for name in ("base", "sft", "respond"))
    assert all("requirements/evaluation.txt" in deps[name] for name in ("ratings", "judge", "compare", "headline"))
