"""The bytes behind the hashes of ``dvc.lock``: found in the working tree or in DVC's cache, and hashed again."""

import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.provenance.hashing import Digest, hash_file, hash_path, tree_digest
from pipelines.provenance.revision import Revision
from pipelines.provenance.verdict import Unchecked, Verdict

FETCH = "dvc pull (or dvc fetch --all-commits); without a remote: dvc repro"


@dataclass(frozen=True)
class Located:
    """An out whose bytes are here and have the hash that they should have; ``files`` by path inside it ("" is itself)."""

    files: dict[str, Path]
    digest: Digest

    def copy(self, target: Path) -> None:
        """Copy it to ``target``, a file or a folder."""
        for inner, source in self.files.items():
            to = target / inner if inner else target
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)


@dataclass(frozen=True)
class Problem:
    """An out whose bytes are not here, or are not those that the hash says."""

    kind: Verdict
    message: str
    next: str


@dataclass
class Evidence:
    """Outs of one revision by path and md5; each file is hashed once."""

    revision: Revision
    notes: list[Unchecked] = field(default_factory=list)
    _found: dict[tuple[str, str], Located | Problem] = field(default_factory=dict)
    _hashed: dict[Path, Digest] = field(default_factory=dict)

    def locate(self, path: str, md5: str) -> Located | Problem:
        """The bytes of an out: of the working tree, the file itself first; of a commit, DVC's copy first."""
        key = (path, md5)
        if key not in self._found:
            self._found[key] = self._locate(path, md5)
        return self._found[key]

    def object_path(self, md5: str) -> Path:
        """Where DVC's cache keeps the bytes with this md5."""
        return Path(self._cache.oid_to_path(md5))

    @cached_property
    def _cache(self) -> Any:
        from dvc.repo import Repo

        with Repo() as repo:
            return repo.cache.local

    def _locate(self, path: str, md5: str) -> Located | Problem:
        target = Path(path)
        if self.revision.commit:
            cached = self._in_cache(path, md5)
            missing = isinstance(cached, Problem) and cached.kind == "incomplete"
            return (self._in_place(target, md5) or cached) if missing else cached
        if here := self._in_place(target, md5):
            return here
        cached = self._in_cache(path, md5)
        if not target.exists():
            return cached
        found = hash_path(target).md5
        if self.object_path(found).is_file():
            self.notes.append(Unchecked(path, f"the working tree holds another version ({found}): dvc checkout {path}"))
            return cached
        inner = self._first_changed(target, cached)
        return Problem(
            "broken", f"{inner or path} is not what was recorded: {path} has md5 {found}", f"dvc checkout {path}"
        )

    def _in_place(self, target: Path, md5: str) -> Located | None:
        if not target.exists():
            return None
        found = hash_path(target)
        if found.md5 != md5:
            return None
        if not target.is_dir():
            return Located({"": target}, found)
        return Located({p.relative_to(target).as_posix(): p for p in sorted(target.rglob("*")) if p.is_file()}, found)

    def _in_cache(self, path: str, md5: str) -> Located | Problem:
        if not md5.endswith(".dir"):
            digest = self._object(path, md5)
            return digest if isinstance(digest, Problem) else Located({"": self.object_path(md5)}, digest)
        listing = self._object(path, md5)
        if isinstance(listing, Problem):
            return listing
        entries = json.loads(self.object_path(md5).read_text(encoding="utf-8"))
        digests, files = {}, {}
        for entry in entries:
            digest = self._object(f"{path}/{entry['relpath']}", entry["md5"])
            if isinstance(digest, Problem):
                return digest
            digests[entry["relpath"]] = digest
            files[entry["relpath"]] = self.object_path(entry["md5"])
        return Located(files, tree_digest(digests))

    def _object(self, path: str, md5: str) -> Digest | Problem:
        kept = self.object_path(md5)
        if not kept.is_file():
            return Problem("incomplete", f"the bytes of {path} (md5 {md5}) are not in DVC's cache here", FETCH)
        if kept not in self._hashed:
            self._hashed[kept] = hash_file(kept)
        found = self._hashed[kept]
        if found.md5 != md5.removesuffix(".dir"):
            message = f"DVC's copy of {path} is damaged: {kept} has md5 {found.md5}"
            return Problem("broken", message, f"rm -f {kept}, then {FETCH}")
        return found

    def _first_changed(self, target: Path, cached: Located | Problem) -> str | None:
        if isinstance(cached, Problem) or not target.is_dir():
            return None
        for inner, kept in sorted(cached.files.items()):
            here = target / inner
            if not here.is_file() or hash_file(here) != hash_file(kept):
                return f"{target.as_posix()}/{inner}"
        return None
