"""A training process that does not outlive the DVC that started it.

A stage whose DVC was killed would go on and write into a folder that the next run writes into as well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil

_PR_SET_PDEATHSIG = 1
_EVERY_SECONDS = 1.0


def end_with_parent(ended: Callable[[], None] | None = None) -> None:
    """End this process as soon as the one that started it ends, however that happens.

    Linux is asked to kill it with its direct parent (prctl PR_SET_PDEATHSIG). A thread watches every process between
    this one and DVC (a shell, a launcher), on every system, and kills this one within about a second; ``ended``
    stands in for that in tests.
    """
    parent = os.getppid()
    watched = _ancestors()
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _kill_self()
    threading.Thread(target=_watch, args=(watched, ended or _kill_self), daemon=True, name="parent-watch").start()


def _ancestors() -> list[psutil.Process]:
    """The processes above this one, up to DVC; the direct parent alone where DVC is not among them."""
    import psutil

    parents: list[psutil.Process] = psutil.Process().parents()
    for number, process in enumerate(parents):
        if _is_dvc(process):
            return parents[: number + 1]
    return parents[:1]


def _is_dvc(process: Any) -> bool:
    import psutil

    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    names = [Path(word).stem for word in words[:3]]
    return "dvc" in names


def _watch(processes: list[psutil.Process], ended: Callable[[], None]) -> None:
    while all(map(_runs, processes)):
        time.sleep(_EVERY_SECONDS)
    ended()


def _runs(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
