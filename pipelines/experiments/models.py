"""The experiments ``base``, ``sft-100`` and ``sft-150``: one revision a model, so that ``dvc metrics diff`` can
compare models."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from curation.errors import HeartwoodError


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Stages call `python`: let it be this one, also where the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})


def require_clean_commit() -> None:
    """Raise unless every tracked file is as committed, so that nothing uncommitted enters an experiment."""
    if changed := _run("git", "status", "--porcelain", "--untracked-files=no").stdout.split("\n")[0]:
        raise HeartwoodError(
            f"the working tree differs from the last commit ({changed.strip()} is the first)",
            hint="commit (git add -A && git commit) or restore (git checkout -- . && dvc checkout), then try again",
        )


def require_free_name(name: str) -> None:
    """Raise if a tag or branch has this name: DVC would silently take it instead of the experiment."""
    for kind, ref in (("tag", f"refs/tags/{name}"), ("branch", f"refs/heads/{name}")):
        if _run("git", "rev-parse", "--verify", "--quiet", ref).returncode == 0:
            raise HeartwoodError(
                f"{name!r} is already a {kind}; `dvc metrics diff {name} ...` would read that {kind}",
                hint=f"rename it, e.g. git {kind} ... or use tags of the form eq/<mixture>/<model>",
            )


def make_model_experiments(models: Sequence[str]) -> None:
    """One experiment a model, run in a copy (``--temp``), so the workspace stays as it is.

    Raises:
        HeartwoodError: uncommitted changes, a name that is taken, or a failed run.
    """
    require_clean_commit()
    for name in models:
        require_free_name(name)
    existing = _dvc("exp", "list", "--name-only").stdout.split()
    for name in models:
        if name in existing:
            _dvc("exp", "remove", name)
        done = _dvc("exp", "run", "--temp", "-n", name, "-S", f"report.model={name}")
        if done.returncode:
            output = (done.stderr or done.stdout).strip()
            raise HeartwoodError(
                f"`dvc exp run --temp -n {name} -S report.model={name}` failed:\n{output}",
                hint="run `dvc repro` and commit dvc.lock first",
            )
