"""Training on several processes of one launch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from curation.errors import HeartwoodError
from pipelines.sft.launch import launch_processes, launched
from pipelines.sft.train import TrainSettings, check_processes

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "steps": 4,
    "learning_rate": 1e-2,
    "context": 200,
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "device": "cpu",
    "threads": 1,
    "watch_every": 2,
    "samples": 1,
}


def _ask(folder: Path, parent: Path, **settings: Any) -> Path:
    folder.mkdir()
    asked = {"folder": str(folder), "parent": str(parent), "out": str(folder / "out"), "key": "k" * 64}
    path = folder / "asked.json"
    path.write_text(json.dumps({**asked, "resumable": True, "settings": {**SETTINGS, **settings}}), encoding="utf-8")
    return path


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batch(base_json: Path, tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"cwd": ROOT, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    one = _ask(tmp_path / "one", base_json, batch_size=4)
    two = _ask(tmp_path / "two", base_json, batch_size=2, processes=2)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    running = [
        subprocess.Popen([sys.executable, "-m", "tests.sft.running", str(one)], **options),  # type: ignore[call-overload]
        subprocess.Popen([*launch, "--module", "tests.sft.running", str(two)], **options),  # type: ignore[call-overload]
    ]
    said = []
    for process in running:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        said.append(json.loads(output.strip().splitlines()[-1]))
    assert not any(one["group_left"] for one in said), "NCCL warns at exit of a group that nobody ended"
    for key in ("losses", "rates", "tokens", "dev"):
        assert said[0][key] == pytest.approx(said[1][key], rel=1e-5), key
    weights = [load_file(str(tmp_path / name / "out" / "adapter_model.safetensors")) for name in ("one", "two")]
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=1e-5), name
    consumed = [(tmp_path / name / "out" / "consumed.json").read_text() for name in ("one", "two")]
    assert consumed[0] == consumed[1]


def test_as_many_processes_as_the_params_say(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(steps=1, learning_rate=1e-3, processes=2)
    assert not launched()
    with pytest.raises(HeartwoodError, match=r"1 processes were launched, sft\.processes is 2"):
        check_processes(settings)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launched()
    assert check_processes(settings) == 1
    with pytest.raises(HeartwoodError, match=r"2 processes were launched, sft\.processes is 1"):
        check_processes(TrainSettings(steps=1, learning_rate=1e-3))


def test_a_launch_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(HeartwoodError, match=r"training on 4 processes failed \(exit code 3\)"):
        launch_processes("dvc_stages.sft", 4)
    assert asked[0][asked[0].index("--num_processes") + 1] == "4"
