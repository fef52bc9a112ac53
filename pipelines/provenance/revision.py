"""The files of one revision: a commit, tag, branch or experiment, or the working tree; nothing is checked out."""

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from curation.errors import HeartwoodError
from pipelines.provenance.hashing import Digest, hash_path, tree_digest

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
    raise HeartwoodError(f"{name!r} is no commit, tag, branch or experiment", hint="see `git log` and `dvc exp list`")


@dataclass(frozen=True)
class Revision:
    """One revision to look into; ``commit`` is empty for the working tree. Digests are taken once."""

    name: str
    commit: str
    _digests: dict[str, Digest | None] = field(default_factory=dict, compare=False, repr=False)

    def read(self, path: str) -> bytes | None:
        """The bytes of a tracked file at this revision, or None."""
        if not self.commit:
            target = Path(path)
            return target.read_bytes() if target.is_file() else None
        shown = _git("cat-file", "blob", f"{self.commit}:{path}")
        return shown.stdout if shown.returncode == 0 else None

    def digest(self, path: str) -> Digest | None:
        """The digests of a git-tracked file or folder at this revision; None if git does not track it."""
        if path not in self._digests:
            self._digests[path] = self._take_digest(path)
        return self._digests[path]

    def _take_digest(self, path: str) -> Digest | None:
        if not self.commit:
            tracked = _git("ls-files", "--", path).stdout
            if not tracked:
                return None
            return hash_path(Path(path)) if Path(path).exists() else Digest("missing", "missing")
        listed = _git("ls-tree", "-r", "-z", "--name-only", self.commit, "--", path).stdout.decode().split("\0")
        names = [n for n in listed if n]
        if not names:
            return None
        digests = {n: _digest_bytes(self.read(n) or b"") for n in names}
        if names == [path]:
            return digests[path]
        return tree_digest({n.removeprefix(f"{path}/"): d for n, d in digests.items()})


def _digest_bytes(data: bytes) -> Digest:
    return Digest(hashlib.md5(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest())


def open_revision(name: str) -> Revision:
    """A revision by name; ``workspace`` is the working tree as it stands."""
    if name == WORKSPACE:
        resolve("HEAD")
        return Revision(name, "")
    return Revision(name, resolve(name))
