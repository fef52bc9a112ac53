"""The outs of any revision, read from DVC's cache by the hash that ``dvc.lock`` has; nothing is checked out."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.provenance.hashing import hash_file
from pipelines.provenance.lock import Lock, read_lock
from pipelines.provenance.revision import Revision

_HINT = "fetch it (dvc fetch --all-commits, or dvc exp pull), or make it again: dvc repro"


@dataclass(frozen=True)
class Outs:
    """What the stages of one revision wrote; of the workspace, what lies there."""

    revision: Revision

    @cached_property
    def lock(self) -> Lock:
        """``dvc.lock`` at the revision."""
        return read_lock(self.revision)

    def md5(self, path: str) -> str:
        """The hash of an out as ``dvc.lock`` has it.

        Raises:
            HeartwoodError: no stage has written it at this revision.
        """
        stage = self.lock.producer.get(path)
        if stage is None:
            raise HeartwoodError(
                f"{path}: no stage has written it at {self.revision.name}", hint="run `dvc repro` and commit dvc.lock"
            )
        return next(str(o["md5"]) for o in self.lock.stages[stage]["outs"] if o["path"] == path)

    def file(self, path: str) -> Path:
        """A file to read, not to change: of the workspace the file itself, else DVC's copy.

        Raises:
            HeartwoodError: it is not there.
        """
        if not self.revision.commit:
            if not Path(path).is_file():
                raise HeartwoodError(f"{path}: missing", hint="run `dvc repro` or `dvc checkout`")
            return Path(path)
        return self._cached(self.md5(path), path)

    def copy(self, path: str, target: Path) -> None:
        """Copy an out, a file or a folder, to ``target`` and check every byte of it against its hash.

        Raises:
            HeartwoodError: it is not in the cache, or damaged there.
        """
        md5 = self.md5(path)
        if not md5.endswith(".dir"):
            _copy(self._cached(md5, path), target, md5, path)
            return
        listed: list[dict[str, Any]] = json.loads(self._cached(md5, path).read_text(encoding="utf-8"))
        for entry in listed:
            inner = f"{path}/{entry['relpath']}"
            _copy(self._cached(entry["md5"], inner), target / entry["relpath"], entry["md5"], inner)

    def inside(self, folder: str, name: str) -> Path | None:
        """A file of an out that is a folder, to read, not to change; None if the folder holds no such file.

        Raises:
            HeartwoodError: the folder is not there.
        """
        if not self.revision.commit:
            if not Path(folder).is_dir():
                raise HeartwoodError(f"{folder}: missing", hint="run `dvc repro` or `dvc checkout`")
            return Path(folder, name) if Path(folder, name).is_file() else None
        listed = json.loads(self._cached(self.md5(folder), folder).read_text(encoding="utf-8"))
        entry = next((e for e in listed if e["relpath"] == name), None)
        return self._cached(entry["md5"], f"{folder}/{name}") if entry else None

    @cached_property
    def _cache(self) -> Any:
        from dvc.repo import Repo

        with Repo() as repo:
            return repo.cache.local

    def _cached(self, md5: str, path: str) -> Path:
        found = Path(self._cache.oid_to_path(md5))
        if not found.is_file():
            raise HeartwoodError(f"{path} of {self.revision.name} (md5 {md5}) is not in DVC's cache here", hint=_HINT)
        return found


def _copy(source: Path, target: Path, md5: str, path: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if (found := hash_file(target).md5) != md5:
        raise HeartwoodError(f"{path}: DVC's copy {source} is damaged (md5 {found})", hint=f"delete it and {_HINT}")
