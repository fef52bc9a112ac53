"""Everything that the page of one revision shows, read from its reports, its lock and its outs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import Lock, ScoreVerdict, order_upstream, read_lock, read_yaml, verify
from pipelines.reporting.flow import Flow, read_flow
from pipelines.reporting.scores import read_contrasts, read_scores
from pipelines.reporting.site.pairs import Pairs, read_pairs
from pipelines.reporting.site.replies import Replies, read_replies
from pipelines.reporting.training import Curve, curve_paths, read_curve, steps_before

T = TypeVar("T")
GRAVEST_FIRST = ("broken", "stale", "incomplete")
SAMPLES = 6


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the page: its content, or why it is not there and what to do about it."""

    content: T | None
    problem: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Training:
    """One checkpoint: its losses, the summary of its run with a verdict on overfitting, and sample replies."""

    curve: Curve
    summary: dict[str, Any]
    samples: Part[list[dict[str, Any]]]


@dataclass(frozen=True)
class Link:
    """A stage of the chain: what it wrote with which hash, and whether every link of it holds, if that was checked."""

    stage: str
    outs: list[tuple[str, str]]
    deps: int
    params: int
    faults: list[str]
    checked: bool


@dataclass(frozen=True)
class Site:
    """What a page is made of; each part by itself, so that one that is missing hides no other."""

    revision: str
    commit: str
    made: datetime
    models: list[str]
    verdicts: Part[list[ScoreVerdict]]
    scores: Part[dict[str, dict[str, Any]]]
    contrasts: Part[list[dict[str, Any]]]
    details: Part[dict[str, dict[str, Any]]]
    replies: Part[Replies]
    judge: Part[dict[str, Any]]
    card: Part[dict[str, Any]]
    training: Part[list[Training]]
    mixture: Part[dict[str, Any]]
    check: Part[dict[str, Any]]
    flow: Part[Flow]
    pairs: Part[Pairs]
    validation: Part[dict[str, Any]]
    chain: Part[list[Link]]

    @property
    def verdict(self) -> str:
        """The gravest verdict of any score; ``incomplete`` if there is none."""
        found = {v.verdict for v in self.verdicts.content or []}
        return next((kind for kind in GRAVEST_FIRST if kind in found), "verified" if found else "incomplete")

    @property
    def problems(self) -> dict[str, str]:
        """The parts that are not there, and why."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: part.problem for name, part in parts.items() if isinstance(part, Part) and part.problem}


def check_libraries() -> None:
    """Raise unless what draws the page is installed.

    Raises:
        HeartwoodError: one of the libraries of the group ``report`` is missing.
    """
    for name in ("jinja2", "vl_convert"):
        if find_spec(name) is None:
            raise HeartwoodError(
                f"{name} is not installed", hint="python3 start.py setup, or pip install -e '.[report]'"
            )


def gather(revision: Revision, made: datetime) -> Site:
    """Read everything there is of a revision.

    Raises:
        HeartwoodError: the revision has no ``params.yaml`` that names models.
    """
    params = read_yaml(revision, "params.yaml")
    models = list(look_up(params, "models"))
    outs = Outs(revision)
    verdicts = _part(lambda: verify(revision))
    return Site(
        revision.name,
        revision.commit,
        made,
        models,
        verdicts,
        _part(lambda: read_scores(revision)),
        _part(lambda: read_contrasts(revision)),
        _part(lambda: {m: _report(revision, f"reports/eq/{m}.detail.json") for m in models}),
        _part(lambda: read_replies(outs, models)),
        _part(lambda: _report(revision, "reports/judge.json")),
        _part(lambda: _report(revision, "models/judge_head/card.json")),
        _part(lambda: _training(outs, look_up(params, "checkpoints"))),
        _part(lambda: _report(revision, "reports/mixture.json")),
        _part(lambda: _report(revision, "reports/check.json")),
        _part(lambda: read_flow(revision)),
        _part(lambda: read_pairs(outs)),
        _part(lambda: _report(revision, "reports/validation.json")),
        _part(lambda: _chain(read_lock(revision), models, verdicts.content)),
    )


def _part(read: Callable[[], T]) -> Part[T]:
    try:
        return Part(read())
    except HeartwoodError as error:
        return Part(None, str(error), error.hint)


def _report(revision: Revision, path: str) -> dict[str, Any]:
    found = _json(revision, path)
    if not isinstance(found, dict):
        raise HeartwoodError(f"{path}: not a JSON object at {revision.name}", hint="restore it, or run `dvc repro`")
    return found


def _json(revision: Revision, path: str) -> Any:
    data = revision.read(path)
    if data is None:
        raise HeartwoodError(f"{path}: not there at {revision.name}", hint="run `dvc repro` and commit its results")
    try:
        return json.loads(data)
    except ValueError:
        raise HeartwoodError(f"{path}: not JSON at {revision.name}", hint="restore it, or run `dvc repro`") from None


def _training(outs: Outs, checkpoints: Mapping[str, Mapping[str, Any]]) -> list[Training]:
    return [_trained(outs, model, steps_before(checkpoints, model)) for model in checkpoints]


def _trained(outs: Outs, model: str, before: int) -> Training:
    revision = outs.revision
    train, dev = curve_paths(model)
    summary = f"reports/training/{model}.summary.json"
    # Runs that were not watched have neither losses on dev nor a summary nor samples.
    watched = _json(revision, dev) if revision.read(dev) is not None else []
    said = _report(revision, summary) if revision.read(summary) is not None else {}
    curve = read_curve(model, _json(revision, train), watched, before)
    samples = _part(lambda: _samples(outs, model))
    return Training(curve, said, samples)


def _samples(outs: Outs, model: str) -> list[dict[str, Any]]:
    found = outs.inside(f"models/{model}", "samples.jsonl")
    return read_jsonl(found)[-SAMPLES:] if found else []


def _chain(lock: Lock, models: list[str], verdicts: list[ScoreVerdict] | None) -> list[Link]:
    """The stages that the scores rest on, in the order in which they run."""
    stages: dict[str, None] = {}
    for model in models:
        stages |= dict.fromkeys(order_upstream(lock, f"score@{model}"))
    faults: dict[str, dict[str, None]] = {}
    for verdict in verdicts or []:
        for fault in verdict.faults:
            faults.setdefault(fault.stage, {})[f"{fault.kind}: {fault.message}"] = None
    checked = verdicts is not None
    links = [_link(name, lock.stages[name], list(faults.pop(name, {})), checked) for name in stages]
    # A score whose stage never ran has faults and no entry in the lock.
    return links + [Link(name, [], 0, 0, list(found), checked) for name, found in faults.items()]


def _link(name: str, locked: Mapping[str, Any], faults: list[str], checked: bool) -> Link:
    outs = [(o["path"], str(o.get("md5", ""))) for o in locked.get("outs", [])]
    params = sum(len(keys) for keys in (locked.get("params") or {}).values())
    return Link(name, outs, len(locked.get("deps", [])), params, faults, checked)
