"""Build the environment in .venv, then run the pipeline or the tests. Needs Python 3.11 or later and nothing else.

python3 start.py          build what is missing, run `dvc repro`, print the scores, build the report
python3 start.py test     build what is missing, run the tests
python3 start.py setup    build what is missing
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / ".heartwood"
LOCK = ROOT / "requirements" / "all.txt"


def run(*command: str) -> None:
    """Run a command of the environment in the project's root; end with its exit code if it fails."""
    env = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]), "DVC_NO_ANALYTICS": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, env=env, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def setup() -> None:
    """Create .venv and install the locked libraries and this project, unless that is done already."""
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    print("building the environment in .venv (some minutes the first time)", flush=True)
    if not BIN.exists():
        venv.create(VENV, with_pip=True)
    extras = f"{ROOT}[curation,training,evaluation,report,export,dev]"
    run("python", "-m", "pip", "install", "--quiet", "--constraint", str(LOCK), "--editable", extras)
    STAMP.write_text(wanted, encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"heartwood needs Python 3.11 or later; this is {sys.version.split()[0]}")
    verb = arguments[0] if arguments else "run"
    if verb not in ("run", "test", "setup"):
        sys.exit(f"start.py: {verb!r}; allowed: run (the default), test, setup")
    setup()
    if verb == "run":
        run("dvc", "repro")
        run("heartwood", "scores")
        run("heartwood", "report")
    elif verb == "test":
        run("python", "-m", "pytest", *arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
