"""A clone of this repository, as its working tree stands, in which DVC runs for real."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.project import ROOT, Project

CURATED = [
    "data/records",
    "data/quarantine",
    "data/split/train.parquet",
    "data/split/dev.parquet",
    "data/split/test.parquet",
    "data/clean/train.parquet",
    "data/dev.jsonl",
    "data/mixture/train.jsonl",
    "data/prompts.jsonl",
]


class Clone(Project):
    def heartwood(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "heartwood.cli", *arguments, check=check)

    def json(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def lock(self) -> dict:
        return read_lock(self.folder / "dvc.lock")


def read_lock(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"]


def outs(lock: dict) -> dict[str, str]:
    return {o["path"]: o["md5"] for stage in lock.values() for o in stage.get("outs", [])}


def make_clone(base: Path) -> Clone:
    """Copy every file that git knows or would add into a new repository, with one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    made = Clone(base / "heartwood", base / "state", code=base / "heartwood")
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, made.folder / name)
    made.run("git", "init", "-q", "-b", "main")
    made.commit("clone")
    return made
