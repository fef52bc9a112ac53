"""Interrupted, doubled and orphaned trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.errors import HeartwoodError
from pipelines.sft.scratch import FOLDER, Scratch, held

ROOT = Path(__file__).resolve().parents[2]
KEY = "k" * 64
SETTINGS = {
    "steps": 30,
    "learning_rate": 1e-2,
    "batch_size": 4,
    "context": 200,
    "lora_rank": 4,
    "lora_dropout": 0.1,
    "device": "cpu",
    "threads": 1,
    "watch_every": 3,
    "samples": 2,
}


def _asked(folder: Path, parent: Path, name: str, **changes: Any) -> list[str]:
    asked = {"folder": str(folder), "parent": str(parent), "out": str(folder / name), "key": KEY, "resumable": True}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**asked, "settings": SETTINGS, **changes}), encoding="utf-8")
    return [sys.executable, "-m", "tests.sft.running", str(path)]


def _start(command: list[str], **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def _wait_for(what: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def _can_be_held(folder: Path) -> bool:
    try:
        with held(folder, "tiny", KEY, here=folder):
            return True
    except HeartwoodError:
        return False


@pytest.mark.slow
def test_a_run_killed_in_its_middle_ends_as_if_it_had_not_been(base_json: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    straight = _start(_asked(whole, base_json, "out"))
    killed = _start(_asked(cut, base_json, "out"))
    scratch = Scratch(cut / FOLDER / f"tiny-{KEY[:16]}")
    _wait_for(lambda: (found := scratch.latest()) and len(found[1]["steps"]) >= 6, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (cut / "out").exists()
    # A checkpoint that was being written when the process died.
    (scratch.folder / "checkpoint-29").mkdir()

    resumed = _start(_asked(cut, base_json, "out"))
    said = []
    for process in (straight, resumed):
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        said.append(json.loads(output))
    assert said[0]["resumed_at"] == 0
    assert 6 <= said[1]["resumed_at"] < 30
    for key in ("losses", "rates", "tokens", "dev"):
        assert said[0][key] == said[1][key], key
    names = sorted(path.name for path in (whole / "out").iterdir())
    assert "samples.jsonl" in names
    for name in names:
        assert (whole / "out" / name).read_bytes() == (cut / "out" / name).read_bytes(), name


@pytest.mark.slow
def test_a_run_ends_with_the_process_that_started_it(base_json: Path, tmp_path: Path) -> None:
    command = _asked(
        tmp_path, base_json, "out", watch_parent=True, settings={**SETTINGS, "steps": 2000, "batch_size": 1}
    )
    # A shell stands between them, as DVC's does.
    starter = _start(["sh", "-c", f"{' '.join(command)}; true"])
    scratch = Scratch(tmp_path / FOLDER / f"tiny-{KEY[:16]}")
    _wait_for(scratch.latest, starter)
    import psutil

    (child,) = psutil.Process(starter.pid).children()
    os.kill(starter.pid, signal.SIGKILL)
    _wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=10)
    # A process counts as ended when its first thread has; the system frees its locks with the last one.
    _wait_for(lambda: _can_be_held(tmp_path), seconds=10)
    assert not (tmp_path / "out").exists()


def test_the_portable_watch_sees_a_process_end() -> None:
    import psutil

    from pipelines.sft.parent import _watch

    ended: list[bool] = []
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watched = psutil.Process(child.pid)
    child.kill()
    _watch([watched], lambda: ended.append(True))
    child.wait()
    assert ended == [True]


def test_every_process_up_to_dvc_is_watched(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; subprocess.run(['sh', '-c', sys.executable + ' -c \"from pipelines.sft.parent"
        " import _ancestors; print([p.name() for p in _ancestors()])\"; true'])"
    )
    script = tmp_path / "dvc"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sh" in done.stdout
    assert len(done.stdout.split(",")) == 2


def test_a_second_run_in_the_same_place_is_refused(tmp_path: Path) -> None:
    # Locks are per open file: a second lock in this process meets the first as another process's would.
    with held(tmp_path, "sft-100", KEY, here=tmp_path) as scratch:
        assert scratch.folder.is_dir()
        with (
            pytest.raises(HeartwoodError, match="another process is training sft-100 in the same place") as caught,
            held(tmp_path, "sft-100", KEY, here=tmp_path),
        ):
            pass
        assert "wait for it to end" in caught.value.hint
        with (
            pytest.raises(HeartwoodError, match="training sft-100 in the same place"),
            held(tmp_path, "sft-100", "o" * 64, here=tmp_path),
        ):
            pass
        with held(tmp_path, "sft-150", KEY, here=tmp_path):
            pass
        with held(tmp_path / "elsewhere", "sft-100", KEY, here=tmp_path / "elsewhere"):
            pass
    with held(tmp_path, "sft-100", KEY, here=tmp_path):
        pass


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    assert scratch.latest() is None
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    scratch.complete(5, {"steps": [5]})
    scratch.complete(10, {"steps": [10]})
    assert scratch.latest() == (tmp_path / "checkpoint-10", {"steps": [10]})
    scratch.drop_unfinished()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    scratch.remove()
    assert not tmp_path.exists()
