"""Finished experiments as one table of mixtures: scores, paired differences from a reference, and what they mean.

A statement about *mixtures* needs several trainings a side, since two trainings of one mixture differ as well; with
fewer than `MIN_SEEDS` the comparison is about those trained models only.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curation.errors import HeartwoodError
from curation.mixture import REST
from curation.records import canonical_json
from pipelines.evaluation.statistics import (
    MeanInterval,
    Verdict,
    crossed_comparison,
    holm,
    mean_interval,
    paired_comparison,
    rates_rose,
    verdict,
)
from pipelines.experiments.diff import changed_params
from pipelines.experiments.runs import head, list_experiments
from pipelines.experiments.scores import Scored, difference_of_basis, read_models, read_scored
from pipelines.layout import MIXTURE
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision, open_revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import read_yaml

MIN_SEEDS = 3
PROPORTIONAL = "proportional"
HEAD = "HEAD"
_NONE = "none"
# What may differ between runs that are compared: the mixture itself, the seed of training, and what comes after.
_FREE = ("mix", "report", "compare", "models")


@dataclass(frozen=True)
class TrainingRun:
    """One training of every checkpoint: its revision, its mixture and seeds, its scores by model."""

    name: str
    commit: str
    params: dict[str, Any]
    requested: dict[str, float]
    scores: dict[str, Scored]

    @property
    def mixture(self) -> str:
        """What makes its mixture, apart from the seed of the draw; equal for repeated trainings."""
        return canonical_json({k: str(v) for k, v in self.params["mix"].items() if k != "seed"})

    @property
    def seeds(self) -> tuple[int, int]:
        """The seeds of training and of the draw."""
        return self.params["sft"]["seed"], self.params["mix"]["seed"]

    @property
    def basis(self) -> dict[str, Any]:
        """All params that runs must share to be compared."""
        kept = {k: v for k, v in self.params.items() if k not in _FREE}
        return {**kept, "sft": {k: v for k, v in kept["sft"].items() if k != "seed"}}

    @property
    def is_proportional(self) -> bool:
        """Whether every source is in the rest, which is divided by size: stratified mixing."""
        mix = self.params["mix"]
        return mix.get("temperature") == 1 and all(mix.get(name) == REST for name in self.params["sources"])


@dataclass(frozen=True)
class Contrast:
    """A mixture against the reference on one model.

    ``scope`` says what it is about: the mixtures, or these trained models only. ``se_seeds`` is None where too few
    trainings show how much they differ.
    """

    difference: float
    low: float
    high: float
    se_prompts: float
    se_seeds: float | None
    p: float
    p_holm: float
    mde: float
    degenerate_rate_rose: bool
    outcome: Verdict
    scope: str


@dataclass(frozen=True)
class Cell:
    """One model under one mixture: the index over all prompts and trainings, each training's, and the contrast.

    ``interval`` is over prompts, after the mean over trainings; ``sd_seeds`` is the standard deviation between them.
    ``stock_opening_rate`` is the mean over trainings, None where one of them does not say it.
    """

    interval: MeanInterval
    by_seed: dict[str, float]
    sd_seeds: float | None
    degenerate_rate: float
    stock_opening_rate: float | None
    contrast: Contrast | None


@dataclass(frozen=True)
class MixtureRow:
    """One mixture: its letter in the table, its shares, its trainings, and a cell for each model."""

    letter: str
    requested: dict[str, float]
    settings: dict[str, Any]
    runs: list[str]
    seeds: list[tuple[int, int]]
    proportional: bool
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Mixtures:
    """The whole table; the reference is its first row."""

    rows: list[MixtureRow]
    base: dict[str, MeanInterval]
    left_out: dict[str, str]
    missing_baseline: str | None
    judge: str
    prompts: str
    commits: int

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "judge": self.judge,
            "prompts": self.prompts,
            "reference": self.rows[0].letter,
            "untuned": {model: asdict(interval) for model, interval in self.base.items()},
            "mixtures": [asdict(row) for row in self.rows],
            "left_out": self.left_out,
            "make_proportional_baseline": self.missing_baseline,
            "baseline_commits": self.commits,
        }


def read_runs(names: Sequence[str]) -> tuple[list[TrainingRun], dict[str, str]]:
    """The trainings behind these revisions, by default of all experiments and the last commit; and, by name, why a
    revision is left out.

    An experiment whose name stands on several commits is called by name and commit.

    Raises:
        HeartwoodError: a name that is none.
    """
    opened = [open_revision(name) for name in names]
    if not names:
        experiments = list_experiments()
        times = Counter(e.name for e in experiments)
        named = {e.commit: e.name if times[e.name] == 1 else f"{e.name}.{e.baseline[:7]}" for e in experiments}
        opened = [Revision(name, commit) for commit, name in named.items()] + [Revision(HEAD, head())]
    runs: list[TrainingRun] = []
    left_out: dict[str, str] = {}
    for revision in opened:
        try:
            found = _read_run(revision)
        except HeartwoodError as error:
            found = str(error)
        if isinstance(found, str):
            left_out[revision.name] = found
        else:
            runs.append(found)
    return runs, left_out


def _read_run(revision: Revision) -> TrainingRun | str:
    """A training, or why there is none."""
    if revision.read("dvc.lock") is None:
        return "has no dvc.lock"
    params, receipt = read_yaml(revision, "params.yaml"), revision.read("reports/mixture.json")
    if receipt is None:
        return "has no mixture"
    for key in ("sft.seed", "mix.seed", "mix.size", "sources"):
        look_up(params, key)
    scores = {model: found for model in read_models(revision) if (found := read_scored(revision, model))}
    tuned = {model: found for model, found in scores.items() if found.summary["mixture"] != _NONE}
    if not tuned:
        return "has no scores of tuned models"
    outs = Outs(revision)
    if MIXTURE.as_posix() not in outs.lock.producer:
        return "has no mixture"
    md5 = outs.md5(MIXTURE.as_posix())
    if old := sorted(model for model, found in tuned.items() if found.summary["mixture"] != md5):
        return f"not finished: the score of {', '.join(old)} was made from another mixture than the one there"
    for stage in ("mix", *(f"sft@{model}" for model in tuned)):
        locked = outs.lock.stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        if stale := sorted(key for key in ("mix", "sft") if key in locked and locked[key] != params[key]):
            return f"not finished: {stage} ran with other {stale[0]} params than are there"
    return TrainingRun(revision.name, revision.commit, params, json.loads(receipt)["requested"], scores)


def build_table(
    runs: Sequence[TrainingRun], left_out: Mapping[str, str], *, reference: str | None, seed: int = 0
) -> Mixtures:
    """The table of mixtures, the reference first, then the proportional one, then by params.

    Args:
        reference: the name of a run, or ``proportional``; by default the proportional mixture if there is one, else
            the run called HEAD, else the first.
        seed: of the sign-flip tests.

    Raises:
        HeartwoodError: no run at all, or no such reference.
    """
    if not runs:
        looked_at = "; ".join(f"{name} {why}" for name, why in left_out.items())
        raise HeartwoodError(
            f"no finished experiment here has scores of a tuned model ({looked_at or 'there is none'})",
            hint="run some: dvc exp run --queue -S 'mix.esconv=0.2,0.3,0.4' -S 'sft.seed=0,1,2', then dvc queue start",
        )
    chosen = _choose_reference(runs, reference)
    out = dict(left_out)
    groups: dict[str, list[TrainingRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda r: (r.mixture != chosen.mixture, r is not chosen, r.name == HEAD, r.name)):
        if why := _why_not(run, chosen, groups[run.mixture]):
            out[run.name] = why
        else:
            groups[run.mixture].append(run)
    filled = [sorted(group, key=lambda r: (r.seeds, r.name)) for group in groups.values() if group]
    filled.sort(key=lambda g: (g[0].mixture != chosen.mixture, not g[0].is_proportional, g[0].mixture))
    models = [model for model, scored in chosen.scores.items() if scored.summary["mixture"] != _NONE]
    values = {
        (n, model): ModelValues([r.scores[model] for r in g], [r.seeds[0] for r in g])
        for n, g in enumerate(filled)
        for model in models
    }
    keys = [(n, model) for model in models for n in range(1, len(filled))]
    contrasts = [compare_values(values[0, model], values[n, model], seed) for n, model in keys]
    adjusted = holm([c.p for c in contrasts])
    final = {key: _judge(c, p) for key, c, p in zip(keys, contrasts, adjusted, strict=True)}
    rows = []
    for n, group in enumerate(filled):
        cells = {m: values[n, m].cell(final.get((n, m))) for m in models}
        rows.append(
            MixtureRow(
                _letter(n),
                group[0].requested,
                {k: v for k, v in group[0].params["mix"].items() if k not in group[0].params["sources"]},
                [r.name for r in group],
                [r.seeds for r in group],
                group[0].is_proportional,
                cells,
            )
        )
    some = chosen.scores[models[0]].summary
    baselines = {e.commit: e.baseline for e in list_experiments()}
    return Mixtures(
        rows,
        {m: ModelValues([s], [0]).interval for m, s in chosen.scores.items() if s.summary["mixture"] == _NONE},
        out,
        None if any(row.proportional for row in rows) else _baseline_command(chosen, runs),
        some["judge"],
        some["prompts"],
        len({baselines.get(r.commit, r.commit) for group in filled for r in group}),
    )


def _choose_reference(runs: Sequence[TrainingRun], reference: str | None) -> TrainingRun:
    proportional = next((r for r in runs if r.is_proportional), None)
    if reference is None:
        return proportional or next((r for r in runs if r.name == HEAD), runs[0])
    named = next((r for r in runs if r.name == reference), None)
    found = named or (proportional if reference == PROPORTIONAL else None)
    if found is None:
        raise HeartwoodError(
            f"no run is called {reference!r}; there are {', '.join(sorted(r.name for r in runs))}",
            hint="name one of these as the reference, or `proportional`",
        )
    return found


def _why_not(run: TrainingRun, chosen: TrainingRun, group: Sequence[TrainingRun]) -> str:
    if differing := sorted(changed_params(chosen.basis, run.basis)):
        return f"other settings than the reference: {', '.join(differing)}"
    tuned = {m for m, s in chosen.scores.items() if s.summary["mixture"] != _NONE}
    if missing := sorted(tuned - set(run.scores)):
        return f"not scored: {', '.join(missing)}"
    for model in sorted(tuned):
        if other := difference_of_basis(chosen.scores[model], run.scores[model]):
            return f"scored with other {other} than the reference"
        for key in ("dev", "base"):
            if chosen.scores[model].summary.get(key) != run.scores[model].summary.get(key):
                return f"scored with another {key} than the reference"
    if twin := next((r for r in group if r.seeds == run.seeds), None):
        equal = all(twin.scores[m].ratings == run.scores[m].ratings for m in tuned)
        return f"the same mixture and seeds as {twin.name}" + ("" if equal else ", but OTHER ratings")
    return ""


class ModelValues:
    """The ratings of one model in several trainings, on the prompts that all of them were scored on."""

    def __init__(self, scored: Sequence[Scored], seeds: Sequence[int]) -> None:
        self.seeds = seeds
        self.index = [s.index() for s in scored]
        self.broken = [s.degenerate() for s in scored]
        self.ids = sorted(set.intersection(*(set(i) for i in self.index)))
        self.stock = [s.summary.get("stock_opening_rate") for s in scored]
        self.matrix = np.array([[run[i] for i in self.ids] for run in self.index])
        self.interval = mean_interval(self.matrix.mean(axis=0))

    def rates(self, ids: Sequence[str]) -> list[float]:
        """The share of trainings whose reply was degenerate, by prompt."""
        return [sum(run[i] for run in self.broken) / len(self.broken) for i in ids]

    def cell(self, contrast: Contrast | None) -> Cell:
        """These ratings as a cell of the table."""
        means = self.matrix.mean(axis=1)
        every = self.rates(sorted(self.broken[0]))
        stock = [rate for rate in self.stock if rate is not None]
        return Cell(
            self.interval,
            {_distinct(self.seeds, n): float(mean) for n, mean in enumerate(means)},
            float(means.std(ddof=1)) if len(means) > 1 else None,
            sum(every) / len(every),
            sum(stock) / len(stock) if len(stock) == len(self.stock) else None,
            contrast,
        )


def _distinct(seeds: Sequence[int], n: int) -> str:
    """A training's name: its seed, numbered where several draws share it."""
    return str(seeds[n]) if seeds.count(seeds[n]) == 1 else f"{seeds[n]}#{seeds[:n].count(seeds[n])}"


def compare_values(a: ModelValues, b: ModelValues, seed: int) -> Contrast:
    """``b`` against ``a``, about mixtures if both sides have `MIN_SEEDS` training seeds; not yet judged."""
    ids = sorted(set(a.ids) & set(b.ids))
    rose = rates_rose(a.rates(sorted(a.broken[0])), b.rates(sorted(a.broken[0])), seed)
    if min(len(set(a.seeds)), len(set(b.seeds))) >= MIN_SEEDS:
        crossed = crossed_comparison(
            [{i: r[i] for i in ids} for r in a.index], [{i: r[i] for i in ids} for r in b.index]
        )
        return Contrast(
            crossed.difference,
            crossed.low,
            crossed.high,
            crossed.se_items,
            crossed.se_runs,
            crossed.p,
            crossed.p,
            crossed.mde,
            rose,
            "inconclusive",
            "mixtures",
        )
    mean_a, mean_b = (np.array([[run[i] for i in ids] for run in side.index]).mean(axis=0) for side in (a, b))
    paired = paired_comparison(mean_a, mean_b, seed)
    count = len(a.index) + len(b.index)
    return Contrast(
        paired.difference,
        paired.low,
        paired.high,
        paired.se,
        None,
        paired.p,
        paired.p,
        paired.mde,
        rose,
        "inconclusive",
        f"these {'two' if count == 2 else count} models only",
    )


def judge_alone(contrast: Contrast) -> Contrast:
    """The verdict on the only contrast that was asked for."""
    return _judge(contrast, contrast.p)


def _judge(contrast: Contrast, p_holm: float) -> Contrast:
    found = asdict(contrast) | {"p_holm": p_holm, "outcome": verdict(contrast, p_holm, contrast.degenerate_rate_rose)}
    return Contrast(**found)


def _letter(n: int) -> str:
    letters = ""
    n += 1
    while n:
        n, rest = divmod(n - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _baseline_command(chosen: TrainingRun, runs: Sequence[TrainingRun]) -> str:
    """The command that makes the proportional mixture with the seeds that are in use, at least `MIN_SEEDS`."""
    seeds = {r.seeds[0] for r in runs}
    for seed in range(MIN_SEEDS):
        if len(seeds) < MIN_SEEDS:
            seeds.add(seed)
    rest = " ".join(f"-S mix.{name}={REST}" for name in sorted(chosen.params["sources"]))
    listed = ",".join(map(str, sorted(seeds)))
    return f"dvc exp run --queue -n {PROPORTIONAL} -S mix.temperature=1 {rest} -S 'sft.seed={listed}'"
