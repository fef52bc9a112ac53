"""Experiments of DVC made by machine: from a clean commit, in a copy, under names that mean one thing.

What this keeps people out of: `-S` values that pile up in the workspace from run to run, names that are also a tag or
branch (DVC would silently read that instead), and `exp run -f`, which trains everything again.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import HeartwoodError
from pipelines.experiments.raw_files import require_raw_as_recorded

TAGS = "eq"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What DVC keeps under refs/exps beside experiments.
_OTHERS = ("apply", "celery", "exec", "stash", "temp")


@dataclass(frozen=True)
class Experiment:
    """An experiment of DVC: its name, its commit, and the commit that it was made from."""

    name: str
    commit: str
    baseline: str

    @property
    def ref(self) -> str:
        """Where DVC keeps it."""
        return f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/{self.name}"


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git here; the caller looks at the return code."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)


def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC here, with this interpreter as the `python` of its stages."""
    # Stages call `python`: let it be this one, also where the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})


def list_experiments() -> list[Experiment]:
    """All finished experiments, on every baseline, by baseline and name.

    Raises:
        HeartwoodError: this is no git repository.
    """
    listed = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    if listed.returncode:
        raise HeartwoodError("not inside a git repository", hint="clone the project with git, then run this in it")
    found = []
    for line in listed.stdout.splitlines():
        ref, commit = line.split()
        parts = ref.split("/")
        if len(parts) == 5 and parts[2] not in _OTHERS:
            found.append(Experiment(parts[4], commit, parts[2] + parts[3]))
    return found


def head() -> str:
    """The current commit.

    Raises:
        HeartwoodError: there is none.
    """
    found = git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if found.returncode:
        raise HeartwoodError("there is no commit here yet", hint="commit the project first: git add -A && git commit")
    return found.stdout.strip()


def require_clean_commit() -> None:
    """Raise unless every tracked file is as committed, so that nothing uncommitted enters an experiment."""
    head()
    if changed := git("status", "--porcelain", "--untracked-files=no").stdout.split("\n")[0]:
        raise HeartwoodError(
            f"the working tree differs from the last commit ({changed.strip()} is the first)",
            hint="commit (git add -A && git commit) or restore (git checkout -- . && dvc checkout), then try again",
        )


def require_free_name(name: str) -> None:
    """Raise if git reads this name as something else: DVC would silently take that instead of the experiment."""
    if not _NAME.fullmatch(name) or git("check-ref-format", f"refs/exps/aa/bb/{name}").returncode:
        raise HeartwoodError(
            f"{name!r} is no name for an experiment; allowed: letters, digits, '.', '_' and '-'", hint="rename it"
        )
    for kind, ref in (("tag", f"refs/tags/{name}"), ("branch", f"refs/heads/{name}")):
        if git("rev-parse", "--verify", "--quiet", ref).returncode == 0:
            raise HeartwoodError(
                f"{name!r} is already a {kind}; `dvc metrics diff {name} ...` would read that {kind}",
                hint=f"rename it (git {kind} <new> {name}, then git {kind} -d {name}); for results there are tags"
                f" of the form {TAGS}/<mixture>/<model>",
            )
    if git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0:
        raise HeartwoodError(
            f"{name!r} already names a commit in git; `dvc metrics diff {name} ...` would read that commit",
            hint="take another name",
        )


def run_experiment(name: str, changes: Sequence[str], *, only: str | None = None) -> Experiment:
    """Run one experiment in a copy of the last commit (`exp run --temp`), with only these changes.

    An experiment of this name on the same commit is replaced; if the run fails, it is put back.

    Args:
        changes: values for `-S`, such as ``report.model=base``.
        only: the one stage to run (`--single-item`): no stage before it runs, and what those wrote may be missing.
            By default all that changed runs.

    Raises:
        HeartwoodError: uncommitted changes, raw files that changed unseen, a name that is taken, or a failed run.
    """
    require_clean_commit()
    require_free_name(name)
    if not any(change.startswith(("raw.", "sources.")) for change in changes):
        require_raw_as_recorded()
    made = Experiment(name, "", head())
    before = next((e for e in list_experiments() if e.ref == made.ref), None)
    if before is not None:
        removed = dvc("exp", "remove", name)
        if removed.returncode:
            raise HeartwoodError(
                f"`dvc exp remove {name}` failed:\n{_output(removed)}", hint="see `dvc exp list` and `dvc queue status`"
            )
    command = ["exp", "run", "--temp", "-n", name, *(part for change in changes for part in ("-S", change))]
    if only is not None:
        command += ["--single-item", only]
    try:
        done = dvc(*command)
        found = git("rev-parse", "--verify", "--quiet", made.ref)
        if done.returncode or found.returncode:
            raise HeartwoodError(
                f"`dvc {' '.join(command)}` failed:\n{_output(done)}",
                hint="if it is the last commit that does not run: `dvc repro`, commit dvc.lock, then try again",
            )
    except BaseException:
        if before is not None:
            git("update-ref", before.ref, before.commit)
        raise
    return Experiment(name, found.stdout.strip(), made.baseline)


def drop_older(name: str) -> list[Experiment]:
    """Remove experiments of this name on other commits where a tag keeps the result; the removed ones.

    Once the branch moves on, a name on two commits is ambiguous to DVC. What no tag keeps stays.
    """
    current = head()
    dropped = []
    for experiment in list_experiments():
        if experiment.name == name and experiment.baseline != current:
            kept = git("tag", "--points-at", experiment.commit, "--list", f"{TAGS}/*").stdout.split()
            if kept and git("update-ref", "-d", experiment.ref, experiment.commit).returncode == 0:
                dropped.append(experiment)
    return dropped


def require_same_result(tag: str, commit: str, paths: Sequence[str]) -> bool:
    """Whether a tag exists already, with the same files at these paths as a commit.

    Raises:
        HeartwoodError: it exists, with others.
    """
    if git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}").returncode:
        return False
    for path in paths:
        there, here = (git("rev-parse", "--verify", "--quiet", f"{at}:{path}").stdout for at in (tag, commit))
        if there != here:
            raise HeartwoodError(
                f"tag {tag} holds another result: {path} is not the same there",
                hint="give this mixture another name (--as NAME), or delete the tag (git tag -d)",
            )
    return True


def tag_result(mixture: str, model: str, commit: str) -> str:
    """Tag a commit as ``eq/<mixture>/<model>``; a tag that exists stays as it is. The tag's name.

    Raises:
        HeartwoodError: git does not take the name.
    """
    tag = f"{TAGS}/{mixture}/{model}"
    if git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}").returncode == 0:
        return tag
    done = git("tag", tag, commit)
    if done.returncode:
        raise HeartwoodError(f"`git tag {tag}` failed: {_output(done)}", hint="name the mixture otherwise (--as NAME)")
    return tag


def require_plain_name(name: str) -> None:
    """Raise unless this can be the name of a file, on every system."""
    if not _NAME.fullmatch(name):
        raise HeartwoodError(
            f"{name!r} is no name of an experiment; allowed: letters, digits, '.', '_' and '-'",
            hint="see `heartwood mixtures` for those that there are",
        )


def require_tag_part(name: str) -> None:
    """Raise unless this can stand between the slashes of a tag."""
    if not _NAME.fullmatch(name) or git("check-ref-format", f"refs/tags/{TAGS}/{name}/x").returncode:
        raise HeartwoodError(
            f"{name!r} is no name for a mixture; allowed: letters, digits, '.', '_' and '-'", hint="rename it"
        )


def plain_name(shares: Mapping[str, float], *, unit: str) -> str:
    """A mixture's name made of its shares in per cent, as in ``esconv-30_goemotions-70``."""
    parts = [f"{name}-{100 * share:.4g}" for name, share in sorted(shares.items()) if share]
    return "_".join([*parts, *(["tokens"] if unit == "tokens" else [])])


def _output(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip())[-4000:]
