"""``dvc.lock``, ``params.yaml`` and the stages of ``dvc.yaml`` at any revision; nothing is checked out."""

import io
import os
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from curation.errors import HeartwoodError
from pipelines.provenance.revision import Revision

LOCK_SCHEMA = "2.0"


@dataclass(frozen=True)
class Lock:
    """``dvc.lock`` at a revision: stages by name, and the stage that writes each path."""

    stages: dict[str, dict[str, Any]]
    producer: dict[str, str]

    def producer_of(self, path: str) -> str | None:
        """The stage that writes a path, or a folder above it."""
        parts = path.split("/")
        return next((p for n in range(len(parts), 0, -1) if (p := self.producer.get("/".join(parts[:n])))), None)

    def deps(self, stage: str) -> dict[str, str]:
        """The md5 of everything that a stage read, by path."""
        return {d["path"]: str(d.get("md5")) for d in self.stages.get(stage, {}).get("deps", [])}

    def outs(self, stage: str) -> dict[str, str]:
        """The md5 of everything that a stage wrote, by path."""
        return {o["path"]: str(o.get("md5")) for o in self.stages.get(stage, {}).get("outs", [])}

    def params(self, stage: str) -> dict[str, Any]:
        """The params that a stage ran with, by dotted key."""
        return (self.stages.get(stage, {}).get("params") or {}).get("params.yaml") or {}


@dataclass(frozen=True)
class Definition:
    """A stage as ``dvc.yaml`` has it at a revision, templates resolved; ``in_git`` are the outs kept out of the cache."""

    cmd: str
    deps: frozenset[str]
    params: frozenset[str]
    outs: frozenset[str]
    in_git: frozenset[str]


def read_yaml(revision: Revision, path: str) -> Any:
    """A YAML file at a revision, read as DVC reads it.

    Raises:
        HeartwoodError: there is no such file, it is not YAML, or git left a merge conflict in it.
    """
    data = revision.read(path)
    if data is None:
        raise HeartwoodError(
            f"{path}: not there at {revision.name}", hint="run `dvc repro` and commit, or name another"
        )
    if b"\n<<<<<<< " in b"\n" + data:
        raise HeartwoodError(f"{path}: an unresolved merge at {revision.name}", hint="resolve it, then `dvc repro`")
    try:
        return YAML(typ="safe", pure=True).load(io.BytesIO(data))
    except YAMLError as error:
        raise HeartwoodError(
            f"{path}: not YAML at {revision.name} ({str(error).splitlines()[0]})",
            hint=f"restore it: git log -- {path}",
        ) from None


def read_lock(revision: Revision) -> Lock:
    """``dvc.lock`` at a revision.

    Raises:
        HeartwoodError: there is none, or it has a schema that this version does not know.
    """
    lock = read_yaml(revision, "dvc.lock") or {}
    schema = lock.get("schema") if isinstance(lock, dict) else None
    if schema != LOCK_SCHEMA:
        raise HeartwoodError(
            f"dvc.lock: schema {schema!r} at {revision.name}; known: {LOCK_SCHEMA!r}",
            hint="install the versions of heartwood and DVC that belong to this revision (requirements/all.txt)",
        )
    stages = lock.get("stages") or {}
    return Lock(stages, {o["path"]: name for name, s in stages.items() for o in s.get("outs", [])})


def read_definitions(revision: Revision) -> dict[str, Definition]:
    """Every stage of ``dvc.yaml`` at a revision by name, resolved by DVC itself.

    Raises:
        HeartwoodError: there is no ``dvc.yaml``, no DVC repository, or DVC cannot read it.
    """
    if revision.read("dvc.yaml") is None:
        raise HeartwoodError(
            f"dvc.yaml: not there at {revision.name}", hint="run in the project's root, or name another revision"
        )
    from dvc.dependency.param import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found = {}
    try:
        with Repo(os.getcwd(), rev=revision.commit or None) as repo:
            for stage in repo.index.stages:
                name = getattr(stage, "name", None)
                if name is None:
                    continue
                read = [d for d in stage.deps if not isinstance(d, ParamsDependency)]
                params = [p for d in stage.deps if isinstance(d, ParamsDependency) for p in d.params]
                found[str(name)] = Definition(
                    str(stage.cmd),
                    frozenset(d.def_path for d in read),
                    frozenset(params),
                    frozenset(o.def_path for o in stage.outs),
                    frozenset(o.def_path for o in stage.outs if not o.use_cache),
                )
    except DvcException as error:
        raise HeartwoodError(
            f"dvc.yaml: DVC cannot read it at {revision.name} ({str(error).splitlines()[0]})",
            hint="run `dvc status` in a checkout of that revision",
        ) from None
    return found


def order_upstream(lock: Lock, name: str) -> list[str]:
    """The stages that a stage rests on, itself last, each after those it reads from."""
    seen: dict[str, None] = {}

    def visit(stage: str) -> None:
        if stage in seen or stage not in lock.stages:
            return
        for path in lock.deps(stage):
            if (producer := lock.producer_of(path)) and producer != stage:
                visit(producer)
        seen[stage] = None

    visit(name)
    return list(seen)
