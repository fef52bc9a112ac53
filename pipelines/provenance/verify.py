"""Verify the chain from raw data to scores at any revision, from ``dvc.lock``, git and the scores' own evidence.

No data is needed. What this level finds: every edit that leaves lock, params, git-tracked files and the scores'
recorded inputs in disagreement. What it cannot find: data in the cache that no longer has its recorded hash, and
a rewrite in which everything agrees.
"""

import io
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml import YAML

from curation.errors import HeartwoodError
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import look_up

Verdict = Literal["verified", "stale", "broken", "incomplete"]
GRAVITY: tuple[Verdict, ...] = ("broken", "stale", "incomplete")
EXIT_CODES: dict[str, int] = {"verified": 0, "stale": 1, "broken": 1, "incomplete": 2}
LOCK_SCHEMA = "2.0"


@dataclass(frozen=True)
class Fault:
    """A link of the chain that does not hold: which, what was expected, what was found."""

    kind: Verdict
    stage: str
    link: str
    message: str


@dataclass
class ScoreVerdict:
    """The verdict on one model's score; ``faults`` in the order of the pipeline, the first one decides."""

    model: str
    score: float | None
    faults: list[Fault] = field(default_factory=list)
    checked: int = 0

    @property
    def verdict(self) -> Verdict:
        """The gravest of broken, stale and incomplete; verified when nothing is wrong."""
        kinds = {f.kind for f in self.faults}
        return next((k for k in GRAVITY if k in kinds), "verified")

    @property
    def first(self) -> Fault | None:
        """The first link at fault, among those that decide the verdict."""
        return next((f for f in self.faults if f.kind == self.verdict), None)


@dataclass(frozen=True)
class Lock:
    """``dvc.lock`` at a revision: stages by name, and the stage that writes each path."""

    stages: dict[str, dict[str, Any]]
    producer: dict[str, str]


def read_yaml(revision: Revision, path: str) -> Any:
    """A YAML file at a revision, read as DVC reads it.

    Raises:
        HeartwoodError: there is no such file, or git left a merge conflict in it.
    """
    data = revision.read(path)
    if data is None:
        raise HeartwoodError(
            f"{path}: not there at {revision.name}", hint="run `dvc repro` and commit, or name another"
        )
    if b"\n<<<<<<< " in b"\n" + data:
        raise HeartwoodError(f"{path}: an unresolved merge at {revision.name}", hint="resolve it, then `dvc repro`")
    return YAML(typ="safe", pure=True).load(io.BytesIO(data))


def read_lock(revision: Revision) -> Lock:
    """``dvc.lock`` at a revision.

    Raises:
        HeartwoodError: there is none, or it has a schema that this version does not know.
    """
    lock = read_yaml(revision, "dvc.lock") or {}
    if lock.get("schema") != LOCK_SCHEMA:
        raise HeartwoodError(
            f"dvc.lock: schema {lock.get('schema')!r} at {revision.name}; known: {LOCK_SCHEMA!r}",
            hint="install the version of heartwood that belongs to this revision",
        )
    stages = lock.get("stages") or {}
    return Lock(stages, {o["path"]: name for name, s in stages.items() for o in s.get("outs", [])})


def order_upstream(lock: Lock, name: str) -> list[str]:
    """The stages that a stage rests on, itself last, each after those it reads from."""
    seen: dict[str, None] = {}

    def visit(stage: str) -> None:
        if stage in seen or stage not in lock.stages:
            return
        for dep in lock.stages[stage].get("deps", []):
            if (producer := _producer(lock, dep["path"])) and producer != stage:
                visit(producer)
        seen[stage] = None

    visit(name)
    return list(seen)


def _producer(lock: Lock, path: str) -> str | None:
    parts = path.split("/")
    return next((p for n in range(len(parts), 0, -1) if (p := lock.producer.get("/".join(parts[:n])))), None)


def verify(revision: Revision) -> list[ScoreVerdict]:
    """The verdict on the score of every model that ``params.yaml`` names at a revision."""
    params = read_yaml(revision, "params.yaml")
    lock = read_lock(revision)
    return [_verify_model(revision, lock, params, model) for model in look_up(params, "models")]


def _verify_model(revision: Revision, lock: Lock, params: dict[str, Any], model: str) -> ScoreVerdict:
    stage = f"score@{model}"
    result = ScoreVerdict(model, None)
    if stage not in lock.stages:
        result.faults.append(Fault("incomplete", stage, "dvc.lock", "the stage has never run; run `dvc repro`"))
        return result
    for name in order_upstream(lock, stage):
        _check_stage(revision, lock, params, name, result)
    _check_score(revision, lock, stage, model, result)
    return result


def _check_stage(revision: Revision, lock: Lock, params: dict[str, Any], name: str, result: ScoreVerdict) -> None:
    locked = lock.stages[name]
    for dep in locked.get("deps", []):
        path, md5 = dep["path"], dep.get("md5")
        result.checked += 1
        if producer := _producer(lock, path):
            outs = {o["path"]: o.get("md5") for o in lock.stages[producer]["outs"]}
            if path in outs and outs[path] != md5:
                message = f"{name} read {path} as {md5}, {producer} has since written {outs[path]}"
                result.faults.append(Fault("stale", name, path, message))
            continue
        found = revision.digest(path)
        if found is None:
            result.faults.append(Fault("incomplete", name, path, f"{path} is neither in git nor made by a stage"))
        elif found.md5 != md5:
            result.faults.append(Fault("stale", name, path, f"{name} ran with {path} as {md5}, it is now {found.md5}"))
    for key, value in (locked.get("params") or {}).get("params.yaml", {}).items():
        result.checked += 1
        try:
            current = look_up(params, key)
        except HeartwoodError:
            current = None
        if current != value:
            message = f"{name} ran with {key} = {value!r}, params.yaml has {current!r}"
            result.faults.append(Fault("stale", name, f"params.yaml:{key}", message))
    for out in locked.get("outs", []):
        found = revision.digest(out["path"])
        if found is None:
            continue
        result.checked += 1
        if found.md5 != out.get("md5"):
            message = f"{out['path']} is {found.md5}, {name} wrote {out.get('md5')}"
            result.faults.append(Fault("broken", name, out["path"], message))


def _check_score(revision: Revision, lock: Lock, stage: str, model: str, result: ScoreVerdict) -> None:
    path = f"reports/eq/{model}.json"
    data, detail_data = revision.read(path), revision.read(f"reports/eq/{model}.detail.json")
    if data is None or detail_data is None:
        result.faults.append(Fault("incomplete", stage, path, f"{path} or its detail file is missing"))
        return
    try:
        score, detail = json.loads(data), json.loads(detail_data)
        result.score = float(score["index"])
        inputs = {p: digests["md5"] for p, digests in detail["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        result.faults.append(Fault("broken", stage, path, f"{path} or its detail file is not a score ({error!r})"))
        return
    locked = {d["path"]: d.get("md5") for d in lock.stages[stage].get("deps", [])}
    for name, md5 in sorted(inputs.items()):
        result.checked += 1
        if locked.get(name) != md5:
            message = f"the score was made from {name} with md5 {md5}, dvc.lock says {locked.get(name)}"
            result.faults.append(Fault("broken", stage, name, message))
    for key, out in score_digests(model).items():
        recorded, producer = score.get(key), lock.producer.get(out)
        if producer is None:
            continue
        result.checked += 1
        md5 = next(o.get("md5") for o in lock.stages[producer]["outs"] if o["path"] == out)
        if recorded not in (md5, "none"):
            message = f"the score names {key} {recorded}, {producer} has written {md5}"
            result.faults.append(Fault("stale", stage, f"{path}:{key}", message))


def score_digests(model: str) -> dict[str, str]:
    """The digests that a score file names, and the path that each is the md5 of."""
    return {
        "mixture": "data/mixture/train.jsonl",
        "dev": "data/dev.jsonl",
        "prompts": "data/prompts.jsonl",
        "base": "models/base.json",
        "adapter": f"models/{model}",
    }
