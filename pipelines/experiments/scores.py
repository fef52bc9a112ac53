"""Scores and ratings of any revision, and how a model's score changed between two of them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.compare import say_p, say_stock
from pipelines.evaluation.score import DEGENERATE, UNSCORED, StockOpening, stock_opening
from pipelines.evaluation.statistics import (
    PairedComparison,
    Verdict,
    holm,
    paired_comparison,
    rate_rose,
    verdict,
)
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import read_yaml

SAME_BASIS = ("prompts", "judge")


@dataclass(frozen=True)
class Scored:
    """One model's score at a revision: the score file, and its ratings, one row a prompt."""

    summary: dict[str, Any]
    ratings: list[dict[str, Any]]

    def index(self) -> dict[str, float]:
        """The index by prompt id, unscored replies left out."""
        return {r["prompt_id"]: float(r["index"]) for r in self.ratings if r["status"] != UNSCORED}

    def degenerate(self) -> dict[str, bool]:
        """Whether the reply was degenerate, by prompt id."""
        return {r["prompt_id"]: r["status"] == DEGENERATE for r in self.ratings}


@dataclass(frozen=True)
class ScoreChange:
    """One model's score on both sides, and their paired difference; ``why_not`` says why there is none.

    ``parts`` are the index on both sides and the prompts, by source and by emotion of the prompts; ``stale`` names
    the sides whose score was made from another mixture than the one that lies there.
    """

    model: str
    before: float | None
    after: float | None
    comparison: PairedComparison | None
    p_holm: float | None
    outcome: Verdict | None
    degenerate_rate_rose: bool
    stock_openings: tuple[StockOpening | None, StockOpening | None]
    why_not: str
    parts: dict[str, dict[str, dict[str, float]]]
    stale: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "model": self.model,
            "from": self.before,
            "to": self.after,
            "comparison": asdict(self.comparison) if self.comparison else None,
            "p_holm": self.p_holm,
            "verdict": self.outcome,
            "degenerate_rate_rose": self.degenerate_rate_rose,
            "stock_opening": {
                side: asdict(found) if found else None
                for side, found in zip(("from", "to"), self.stock_openings, strict=True)
            },
            "not_compared": self.why_not or None,
            "stale": list(self.stale),
            "parts": self.parts,
        }

    @property
    def sentence(self) -> str:
        """The same in words."""
        shown = [f"{v:.3f}" if v is not None else "none" for v in (self.before, self.after)]
        said = f"{self.model}: index {shown[0]} -> {shown[1]}"
        old = f"; STALE at {' and '.join(self.stale)}: made from another mixture, run `dvc repro`" if self.stale else ""
        if self.comparison is None or self.p_holm is None:
            return f"{said}; {self.why_not}{old}"
        c = self.comparison
        rose = "; its degenerate rate rose" if self.degenerate_rate_rose else ""
        stock = say_stock(*self.stock_openings)
        return (
            f"{said}, {c.difference:+.3f} (95 % interval {c.low:+.3f} to {c.high:+.3f}, Holm-adjusted p"
            f" {say_p(self.p_holm)}), {self.outcome}{rose}{stock}; these prompts could have shown {c.mde:.3f}{old}"
        )


def read_models(revision: Revision) -> list[str]:
    """The models that ``params.yaml`` names at a revision, in that order."""
    return list(look_up(read_yaml(revision, "params.yaml"), "models"))


def read_scored(revision: Revision, model: str) -> Scored | None:
    """One model's score and ratings at a revision; None if it has not been scored there.

    Raises:
        HeartwoodError: a file is not what the stage ``score`` writes.
    """
    data = revision.read(f"reports/eq/{model}.json")
    rows = revision.read(f"reports/eq/{model}.ratings.jsonl")
    if data is None or rows is None:
        return None
    try:
        summary = json.loads(data)
        ratings = [json.loads(line) for line in rows.splitlines()]
        found = Scored(summary, ratings)
        if not all(key in summary for key in ("index", "ci_low", "ci_high", *SAME_BASIS)) or not found.index():
            raise ValueError("keys are missing, or no reply is scored")
        found.degenerate()
    except (ValueError, KeyError, TypeError) as error:
        raise HeartwoodError(
            f"reports/eq/{model}.json or its ratings at {revision.name} are not in a form that this version reads"
            f" ({error!r})",
            hint="use the version of heartwood that belongs to that revision, or run `dvc repro`",
        ) from None
    return found


def difference_of_basis(a: Scored, b: Scored) -> str:
    """What two scores differ in that they must share to be compared; empty if nothing."""
    differing = [key for key in SAME_BASIS if a.summary[key] != b.summary[key]]
    if not differing and set(a.degenerate()) != set(b.degenerate()):
        differing = ["prompts"]
    return " and ".join(differing)


def compare_scored(a: Scored, b: Scored, seed: int) -> tuple[PairedComparison, bool]:
    """``b`` against ``a`` on the prompts that both were scored on, and whether the degenerate rate rose."""
    index_a, index_b = a.index(), b.index()
    shared = sorted(set(index_a) & set(index_b))
    broken_a, broken_b = a.degenerate(), b.degenerate()
    order = sorted(broken_a)
    return (
        paired_comparison([index_a[i] for i in shared], [index_b[i] for i in shared], seed),
        rate_rose([broken_a[i] for i in order], [broken_b[i] for i in order]),
    )


def score_changes(a: Revision, b: Revision, mixtures: tuple[str | None, str | None], seed: int) -> list[ScoreChange]:
    """How the score of every model of ``b``, and of those that only ``a`` has, changed; Holm over those compared.

    Args:
        mixtures: the md5 of the mixture on both sides, None where it is not known.
    """
    models = list(dict.fromkeys([*read_models(b), *read_models(a)]))
    sides = {model: (read_scored(a, model), read_scored(b, model)) for model in models}
    compared: dict[str, tuple[PairedComparison, bool]] = {}
    reasons = dict.fromkeys(models, "")
    for model, (before, after) in sides.items():
        if before is None or after is None:
            names = [r.name for r, s in ((a, before), (b, after)) if s is None]
            reasons[model] = f"not scored at {' and '.join(names)}"
        elif differing := difference_of_basis(before, after):
            reasons[model] = f"not comparable: other {differing}"
        elif before.ratings == after.ratings:
            reasons[model] = "the same ratings"
        else:
            compared[model] = compare_scored(before, after, seed)
    adjusted = dict(zip(compared, holm([c.p for c, _ in compared.values()]), strict=True))
    changes = []
    for model, (before, after) in sides.items():
        comparison, rose = compared.get(model, (None, False))
        p = adjusted.get(model)
        changes.append(
            ScoreChange(
                model,
                float(before.summary["index"]) if before else None,
                float(after.summary["index"]) if after else None,
                comparison,
                p,
                verdict(comparison, p, rose) if comparison is not None and p is not None else None,
                rose,
                (
                    stock_opening(before.ratings) if before else None,
                    stock_opening(after.ratings) if after else None,
                ),
                reasons[model],
                _parts(a, b, model) if comparison is not None else {},
                tuple(
                    revision.name
                    for revision, scored, md5 in zip((a, b), (before, after), mixtures, strict=True)
                    if scored and md5 and scored.summary.get("mixture") not in (md5, "none")
                ),
            )
        )
    return changes


def _parts(a: Revision, b: Revision, model: str) -> dict[str, dict[str, dict[str, float]]]:
    """The index by source and by emotion of the prompts on both sides."""
    found = []
    for revision in (a, b):
        data = revision.read(f"reports/eq/{model}.detail.json")
        found.append(json.loads(data) if data else {})
    return {
        kind: {
            name: {"prompts": part["n"], "from": part["index"], "to": there[name]["index"]}
            for name, part in found[0].get(kind, {}).items()
            if name in (there := found[1].get(kind, {}))
        }
        for kind in ("by_source", "by_emotion")
    }
