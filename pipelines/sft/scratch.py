"""Where an interrupted training goes on from: checkpoints outside every out, and the lock on them.

The folder is named by the digest of everything that the training reads, so another input or param never goes on from
it. It is untracked, may be deleted whenever nothing trains, and is removed when its training has ended well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.launch import rank

FOLDER = Path(".heartwood/training")
_STATE = "heartwood.json"
_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Scratch:
    """The scratch folder of one training, held by the first of its processes (``first``) for all of them."""

    folder: Path
    first: bool = True

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint and the state that was kept with it; None for a start from the beginning."""
        found = [path for path in self.folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
        for path in sorted(found, key=lambda p: int(p.name.removeprefix(_PREFIX)), reverse=True):
            try:
                return path, json.loads((path / _STATE).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
        return None

    def drop_unfinished(self) -> None:
        """Remove checkpoints that were being written when their process ended."""
        for path in self.folder.glob(f"{_PREFIX}*"):
            if not (path / _STATE).is_file():
                shutil.rmtree(path)

    def complete(self, step: int, state: dict[str, Any]) -> None:
        """Declare the checkpoint of a step whole, with the state to keep; the last thing written into it."""
        path = self.folder / f"{_PREFIX}{step}" / _STATE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(path)

    def remove(self) -> None:
        """Remove the folder: its training has ended well."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def held(root: Path, name: str, key: str, *, here: Path = Path()) -> Iterator[Scratch]:
    """Hold the scratch folder of the training ``name`` with the digest ``key``, under ``root``.

    Two locks are taken, both freed by the system when the process ends in any way: one for that folder, and one for
    the checkout in ``here``, where two trainings of the same name would write the same out.

    Of several processes of one launch the first takes them.

    Raises HeartwoodError when another training holds either.
    """
    from filelock import FileLock, Timeout

    folder = root / FOLDER / f"{name}-{key[:16]}"
    if rank() > 0:
        yield Scratch(folder, first=False)
        return
    places = sorted({(root / FOLDER / f"{folder.name}.lock").resolve(), (here / FOLDER / f"{name}.lock").resolve()})
    locks: list[FileLock] = []
    try:
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place, timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise HeartwoodError(
                    f"another process is training {name} in the same place (it holds {place})",
                    hint="wait for it to end, or end it, then run this again",
                ) from error
            locks.append(lock)
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Scratch(folder)
        scratch.drop_unfinished()
        yield scratch
    finally:
        for lock in reversed(locks):
            lock.release()
