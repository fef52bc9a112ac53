"""Hashes of files and folders: DVC's md5 and, beside it, sha256.

DVC's hash of a file is the md5 of its bytes; of a folder, the md5 of the JSON list of
``{"md5", "relpath"}`` sorted by relpath, with ``.dir`` behind (dvc-data 3, ``hashfile/tree.py``).
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

IGNORED_FOLDERS = {"__pycache__"}
_CHUNK = 1 << 20
_LARGE = 8 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's or folder's md5 as in ``dvc.lock``, and its sha256 (of a folder: over the same list of files)."""

    md5: str
    sha256: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"md5": self.md5, "sha256": self.sha256}


def hash_file(path: Path) -> Digest:
    """Both digests of one file, in one pass; those of a large file side by side."""
    md5, sha = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb", buffering=0) as handle:
        if os.fstat(handle.fileno()).st_size < _LARGE:
            while chunk := handle.read(_CHUNK):
                md5.update(chunk)
                sha.update(chunk)
        else:
            with ThreadPoolExecutor(1) as beside:
                # hashlib lets other threads run meanwhile; waiting for the last chunk keeps two in memory at most.
                last = beside.submit(sha.update, b"")
                while chunk := handle.read(_CHUNK):
                    last.result()
                    last = beside.submit(sha.update, chunk)
                    md5.update(chunk)
                last.result()
    return Digest(md5.hexdigest(), sha.hexdigest())


def hash_path(path: Path) -> Digest:
    """Both digests of a file or folder; ``__pycache__`` and ``.pyc`` files do not count (``.dvcignore``).

    Raises:
        FileNotFoundError: there is nothing at ``path``.
    """
    if not path.is_dir():
        return hash_file(path)
    return tree_digest({p.relative_to(path).as_posix(): hash_file(p) for p in files_below(path)})


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder that counts for its digest."""
    return [
        p
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".pyc" and not IGNORED_FOLDERS & set(p.relative_to(folder).parts)
    ]


def tree_digest(files: dict[str, Digest]) -> Digest:
    """The digests of a folder, from those of its files by relative path."""
    return Digest(
        _list_digest("md5", {name: d.md5 for name, d in files.items()}) + ".dir",
        _list_digest("sha256", {name: d.sha256 for name, d in files.items()}) + ".dir",
    )


def _list_digest(algorithm: str, files: dict[str, str]) -> str:
    listing = json.dumps([{algorithm: files[name], "relpath": name} for name in sorted(files)])
    return hashlib.new(algorithm, listing.encode(), usedforsecurity=False).hexdigest()
