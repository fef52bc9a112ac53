"""The files of one revision: a commit, tag, branch or experiment, or the working tree; nothing is checked out."""

import hashlib
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from curation.errors import HeartwoodError
from pipelines.provenance.hashing import Digest, files_below, hash_path, tree_digest

WORKSPACE = "workspace"


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def resolve(name: str) -> str:
    """The commit that a name stands for, experiments of DVC included.

    Raises:
        HeartwoodError: no git repository, no such revision, or an experiment name on several baselines.
    """
    if _git("rev-parse", "--git-dir").returncode:
        raise HeartwoodError("not inside a git repository", hint="clone the project with git, then run this in it")
    found = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.decode().strip()
    refs = _git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").stdout.decode().splitlines()
    matches = [ref.split() for ref in refs if ref.split()[0].endswith(f"/{name}") and "/exps/exec/" not in ref]
    if len(matches) == 1:
        return matches[0][1]
    if matches:
        head = _git("rev-parse", "HEAD").stdout.decode().strip()
        here = [value for ref, value in matches if head in ref.replace("/", "")]
        if len(here) == 1:
            return here[0]
        raise HeartwoodError(
            f"{name!r} names {len(matches)} experiments on different commits", hint="give the commit instead"
        )
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
        raise HeartwoodError(
            f"{name!r} is no commit, tag, branch or experiment of this clone, which is shallow: older commits and other"
            " branches are not here",
            hint="git fetch --unshallow --tags",
        )
    raise HeartwoodError(f"{name!r} is no commit, tag, branch or experiment", hint="see `git log` and `dvc exp list`")


@dataclass(frozen=True)
class Revision:
    """One revision to look into; ``commit`` is empty for the working tree. Digests are taken once."""

    name: str
    commit: str
    _digests: dict[str, Digest | None] = field(default_factory=dict, compare=False, repr=False)

    def read(self, path: str) -> bytes | None:
        """The bytes of a tracked file at this revision, or None.

        Raises:
            HeartwoodError: git knows the file but does not have its bytes here.
        """
        if not self.commit:
            target = Path(path)
            return target.read_bytes() if target.is_file() else None
        blob = self._blobs.get(path)
        return None if blob is None else self._blob(blob, path)

    def files(self, path: str) -> list[str]:
        """The tracked files at a path, itself or below it, sorted."""
        return sorted(p for p in self._blobs if p == path or p.startswith(f"{path}/"))

    def digest(self, path: str) -> Digest | None:
        """The digests of a git-tracked file or folder at this revision; None if git does not track it."""
        if path not in self._digests:
            self._digests[path] = self._take_digest(path)
        return self._digests[path]

    def is_same(self, path: str, md5: str) -> bool:
        """Whether a tracked file or folder is the one with this md5, line ends aside.

        Git may write text with CRLF into a checkout, and DVC hashes what is in the checkout.
        """
        found = self.digest(path)
        if found is None or found.md5 == md5:
            return found is not None
        contents = self._contents(path)
        return any(
            _digest_of({p: change(data) for p, data in contents.items()}, path).md5 == md5
            for change in (_with_lf, _with_crlf)
        )

    @cached_property
    def _blobs(self) -> dict[str, str]:
        """The object that git has for each tracked path; in the working tree, for each path of the index."""
        command = ("ls-tree", "-r", "-z", self.commit) if self.commit else ("ls-files", "-z", "--stage")
        entries = [e.partition("\t") for e in _git(*command).stdout.decode().split("\0") if e]
        return {path: head.split()[2 if self.commit else 1] for head, _, path in entries}

    def _blob(self, blob: str, path: str) -> bytes:
        shown = _git("cat-file", "blob", blob)
        if shown.returncode:
            raise HeartwoodError(
                f"{path} of {self.name}: git has the name but not the bytes (a partial clone without its remote, or a"
                " damaged repository)",
                hint="git fetch --refetch, or git fsck",
            )
        return shown.stdout

    def _contents(self, path: str) -> dict[str, bytes]:
        if not self.commit:
            target = Path(path)
            found = files_below(target) if target.is_dir() else [target] if target.is_file() else []
            return {p.as_posix(): p.read_bytes() for p in found}
        return {p: self._blob(self._blobs[p], p) for p in self.files(path)}

    def _take_digest(self, path: str) -> Digest | None:
        if not self.files(path):
            return None
        if not self.commit:
            return hash_path(Path(path)) if Path(path).exists() else Digest("missing", "missing")
        return _digest_of(self._contents(path), path)


def _with_lf(data: bytes) -> bytes:
    return data if b"\0" in data else data.replace(b"\r\n", b"\n")


def _with_crlf(data: bytes) -> bytes:
    return data if b"\0" in data else _with_lf(data).replace(b"\n", b"\r\n")


def _digest_of(contents: dict[str, bytes], path: str) -> Digest:
    digests = {p: _digest_bytes(data) for p, data in contents.items()}
    if list(digests) == [path]:
        return digests[path]
    return tree_digest({p.removeprefix(f"{path}/"): d for p, d in digests.items()})


def _digest_bytes(data: bytes) -> Digest:
    return Digest(hashlib.md5(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest())


def open_revision(name: str) -> Revision:
    """A revision by name; ``workspace`` is the working tree as it stands."""
    if name == WORKSPACE:
        resolve("HEAD")
        return Revision(name, "")
    return Revision(name, resolve(name))
