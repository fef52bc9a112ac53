"""Scores: gates, then the judge, then means with intervals; and paired comparisons between models.

A reply that a gate catches is ``degenerate``: index 1, and its rate is a headline of its own. What the judge cannot
rate is ``unscored`` and enters no mean.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Protocol

from curation.errors import HeartwoodError
from pipelines.evaluation.gates import gate
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.evaluation.statistics import holm, mean_interval, paired_comparison, rate_rose, verdict

DEGENERATE_INDEX = 1.0
RATED, DEGENERATE, UNSCORED = "rated", "degenerate", "unscored"


class RatingLike(Protocol):
    """A judge's rating of one reply: an index from 1 to 5 and the three mechanisms, each from 0 to 2."""

    @property
    def index(self) -> float: ...  # noqa: D102

    @property
    def emotional_reactions(self) -> float: ...  # noqa: D102

    @property
    def interpretations(self) -> float: ...  # noqa: D102

    @property
    def explorations(self) -> float: ...  # noqa: D102


class Judge(Protocol):
    """Rates (seeker's message, reply) pairs, in order; None where it cannot."""

    def rate(self, pairs: Sequence[tuple[str, str]]) -> Sequence[RatingLike | None]: ...  # noqa: D102


@dataclass(frozen=True)
class ScoreResult:
    """One row a prompt (ids and numbers, never a text), the headline numbers, and the breakdowns."""

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    breakdown: dict[str, Any]


def seeker_message(prompt: Mapping[str, Any]) -> str:
    """The message that a reply answers: the prompt's last user message."""
    content: str = next(m["content"] for m in reversed(prompt["messages"]) if m["role"] == "user")
    return content


def match_responses(
    prompts: Sequence[Mapping[str, Any]], responses: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each prompt with its one response, in prompt order.

    Raises:
        HeartwoodError: a prompt without response, a response without prompt, or two responses to one prompt.
    """
    by_id: dict[str, Mapping[str, Any]] = {}
    for response in responses:
        if response["prompt_id"] in by_id:
            raise HeartwoodError(f"prompt {response['prompt_id']} has two responses", hint="run `dvc repro -f` respond")
        by_id[response["prompt_id"]] = response
    known = {p["id"] for p in prompts}
    if missing := [p["id"] for p in prompts if p["id"] not in by_id]:
        raise HeartwoodError(
            f"{len(missing)} of {len(prompts)} prompts have no response; the first is {missing[0]}",
            hint="run `dvc repro` so that the responses belong to these prompts",
        )
    if extra := sorted(set(by_id) - known):
        raise HeartwoodError(
            f"{len(extra)} responses belong to no prompt; the first is to {extra[0]}",
            hint="run `dvc repro` so that the responses belong to these prompts",
        )
    return [(p, by_id[p["id"]]) for p in prompts]


def score_model(
    prompts: Sequence[Mapping[str, Any]], responses: Sequence[Mapping[str, Any]], judge: Judge
) -> ScoreResult:
    """Gate and rate one model's replies.

    Raises:
        HeartwoodError: responses that do not belong to the prompts, or fewer than two replies that can be scored.
    """
    pairs = match_responses(prompts, responses)
    reasons = [gate(p["messages"], r["text"], r["finished"], r.get("special_tokens", 0)) for p, r in pairs]
    open_pairs = [(seeker_message(p), r["text"]) for (p, r), reason in zip(pairs, reasons, strict=True) if not reason]
    ratings = iter(judge.rate(open_pairs))
    rows = [
        _row(prompt["id"], reason, None if reason else next(ratings))
        for (prompt, _), reason in zip(pairs, reasons, strict=True)
    ]
    words = [len(r["text"].split()) for _, r in pairs]
    summary = {**summarise(rows), "mean_words": _round(_mean(words))}
    return ScoreResult(rows, summary, break_down(prompts, rows))


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The headline numbers of one model's score rows; everything in them that needs no text.

    Raises:
        HeartwoodError: fewer than two rows that are scored.
    """
    scored = [row["index"] for row in rows if row["status"] != UNSCORED]
    interval = mean_interval(scored)
    rated = [row for row in rows if row["status"] == RATED]
    return {
        "index": _round(interval.mean),
        "se": _round(interval.se),
        "ci_low": _round(interval.low),
        "ci_high": _round(interval.high),
        **{m: _round(_mean([row[m] for row in rated])) for m in MECHANISMS if rated},
        "degenerate_rate": _round(sum(row["status"] == DEGENERATE for row in rows) / len(rows)),
        "n": len(scored),
        "n_unscored": len(rows) - len(scored),
    }


def break_down(prompts: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Score rows counted by reason and averaged by emotion and source; rows in the order of the prompts."""
    return {
        "degenerate_by_reason": count_reasons(rows),
        "by_emotion": _by(prompts, rows, "emotion"),
        "by_source": _by(prompts, rows, "source"),
    }


def _row(prompt_id: str, reason: str | None, rating: RatingLike | None) -> dict[str, Any]:
    if reason:
        return {"prompt_id": prompt_id, "status": DEGENERATE, "reason": reason, "index": DEGENERATE_INDEX}
    if rating is None:
        return {"prompt_id": prompt_id, "status": UNSCORED, "reason": "the judge gave no rating"}
    row: dict[str, Any] = {"prompt_id": prompt_id, "status": RATED, "index": _round(rating.index)}
    return row | {m: _round(getattr(rating, m)) for m in MECHANISMS}


def _by(
    prompts: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], key: str
) -> dict[str, dict[str, float | int]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for prompt, row in zip(prompts, rows, strict=True):
        if row["status"] != UNSCORED:
            groups[prompt[key]].append(row["index"])
    return {name: {"n": len(v), "index": _round(_mean(v))} for name, v in sorted(groups.items())}


def count_reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many replies are degenerate for each reason."""
    return dict(sorted(Counter(row["reason"] for row in rows if row["status"] == DEGENERATE).items()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3f}"


def _round(value: float) -> float:
    return round(float(value), 6)


def compare_models(ratings: Mapping[str, Sequence[Mapping[str, Any]]], seed: int) -> dict[str, Any]:
    """Every pair of models on the prompts that both were scored on: differences, tests, verdicts, in plain words.

    Args:
        ratings: score rows by model, in the order in which models are compared (earlier against later).

    Raises:
        HeartwoodError: the models were scored on different prompts.
    """
    ids = {model: {row["prompt_id"] for row in rows} for model, rows in ratings.items()}
    first = next(iter(ids))
    for model, found in ids.items():
        if found != ids[first]:
            odd = min(found ^ ids[first])
            raise HeartwoodError(
                f"{first} and {model} were scored on different prompts; {odd} stands on one side only",
                hint="run `dvc repro` so that all models answer the same prompts",
            )
    index = {m: {r["prompt_id"]: r["index"] for r in rows if r["status"] != UNSCORED} for m, rows in ratings.items()}
    broken = {m: {r["prompt_id"]: r["status"] == DEGENERATE for r in rows} for m, rows in ratings.items()}
    found_pairs = list(combinations(ratings, 2))
    comparisons = []
    for a, b in found_pairs:
        shared = sorted(set(index[a]) & set(index[b]))
        comparisons.append(paired_comparison([index[a][i] for i in shared], [index[b][i] for i in shared], seed))
    adjusted = holm([c.p for c in comparisons])
    contrasts = []
    for (a, b), comparison, p in zip(found_pairs, comparisons, adjusted, strict=True):
        order = sorted(ids[first])
        rose = rate_rose([broken[a][i] for i in order], [broken[b][i] for i in order])
        outcome = verdict(comparison, p, rose)
        numbers = {k: _round(v) if isinstance(v, float) else v for k, v in asdict(comparison).items()}
        contrasts.append(
            {
                "from": a,
                "to": b,
                **numbers,
                "p_holm": _round(p),
                "degenerate_rate_rose": rose,
                "verdict": outcome,
                "sentence": (
                    f"{b} against {a}: {comparison.difference:+.3f} (95 % interval {comparison.low:+.3f} to"
                    f" {comparison.high:+.3f}, Holm-adjusted p {_p(p)}), {outcome}"
                    f"{'; its degenerate rate rose' if rose else ''};"
                    f" these prompts could have shown a difference of {comparison.mde:.3f}"
                ),
            }
        )
    return {"contrasts": contrasts}
