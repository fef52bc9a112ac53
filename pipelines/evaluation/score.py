"""Scores: gates, then the judge, then means with intervals.

A reply that a gate catches is ``degenerate``: index 1, and its rate is a headline of its own. What the judge cannot
rate is ``unscored`` and enters no mean. A model that begins most replies with the same words can please a judge too: the
share of its commonest opening is the other headline.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from curation.errors import HeartwoodError
from curation.records import digest
from curation.text import words
from pipelines.evaluation.gates import gate
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.evaluation.statistics import detectable_difference, mean_interval

DEGENERATE_INDEX = 1.0
RATED, DEGENERATE, UNSCORED = "rated", "degenerate", "unscored"

CONSTANT_FROM = 5
"""From so many rated replies on, one and the same index for all of them is no measurement."""

OPENING_WORDS = 3
"""So many folded words of a reply are its opening."""

STOCK_FROM = 0.1
"""From this share of one opening on, it is said beside every verdict. The commonest opening of people's replies has 0.9 % in
EmpatheticDialogues and ESConv and 1.2 % in the embedded corpora (``tests/evaluation/test_score.py``)."""

NO_RATING = "the judge gave no rating"


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


@runtime_checkable
class Explains(Protocol):
    """A judge that can say why it left a pair unrated."""

    def reason(self, pair: tuple[str, str]) -> str: ...  # noqa: D102


@runtime_checkable
class Metered(Protocol):
    """A judge whose answers cost something."""

    def usage(self) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True)
class ScoreResult:
    """One row a prompt (ids, numbers and digests, never a text), the headline numbers, and the breakdowns."""

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    breakdown: dict[str, Any]


@dataclass(frozen=True)
class StockOpening:
    """The share of replies that begin with a model's commonest opening, and whether that pays with the judge.

    ``rate`` is 0 where no two replies begin alike. ``index`` is the mean of the scored replies that begin so, ``others`` that
    of the rest; None where there are none.
    """

    rate: float
    index: float | None
    others: float | None


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
        HeartwoodError: responses that do not belong to the prompts, a judge that answers for another number of replies
            or with a rating outside its scale, and what `summarise` refuses.
    """
    pairs = match_responses(prompts, responses)
    openings = [opening(r["text"]) for _, r in pairs]
    reasons = [gate(p["messages"], r["text"], r["finished"], r.get("special_tokens", 0)) for p, r in pairs]
    open_pairs = [(seeker_message(p), r["text"]) for (p, r), reason in zip(pairs, reasons, strict=True) if not reason]
    ratings = list(judge.rate(open_pairs))
    if len(ratings) != len(open_pairs):
        raise HeartwoodError(
            f"the judge answered for {len(ratings)} of {len(open_pairs)} replies",
            hint="a judge answers each reply with a rating or with none; look at its module",
        )
    answered = iter(zip(open_pairs, ratings, strict=True))
    rows = []
    for (prompt, _), gated, begins in zip(pairs, reasons, openings, strict=True):
        known = {"prompt_id": prompt["id"], "opening": begins}
        if gated:
            rows.append({**known, "status": DEGENERATE, "reason": gated, "index": DEGENERATE_INDEX})
            continue
        pair, rating = next(answered)
        why = judge.reason(pair) if rating is None and isinstance(judge, Explains) else NO_RATING
        rows.append({**known, **_rated(prompt["id"], rating, why)})
    lengths = [len(r["text"].split()) for _, r in pairs]
    summary = {**summarise(rows), "mean_words": _round(_mean(lengths))}
    length = {"mean_words": _round(_mean(lengths)), "shortest_words": min(lengths), "longest_words": max(lengths)}
    usage = {"judge_usage": judge.usage()} if isinstance(judge, Metered) else {}
    return ScoreResult(rows, summary, {**break_down(prompts, rows), "length": length, **usage})


def opening(text: str) -> str:
    """A reply's first `OPENING_WORDS` folded words as 12 hex digits, so that ratings hold no text; empty without words."""
    begins = words(text)[:OPENING_WORDS]
    return digest(begins)[:12] if begins else ""


def stock_opening(rows: Sequence[Mapping[str, Any]]) -> StockOpening | None:
    """The commonest opening of a model's replies; None of rows that do not name openings, as earlier versions wrote them."""
    if not all("opening" in row for row in rows):
        return None
    counts = {begins: n for begins, n in Counter(row["opening"] for row in rows).items() if begins and n > 1}
    commonest = min(counts, key=lambda begins: (-counts[begins], begins), default=None)
    scored = [(row["opening"] == commonest, row["index"]) for row in rows if row["status"] != UNSCORED]
    means = [_mean(values) if (values := [v for so, v in scored if so == alike]) else None for alike in (True, False)]
    return StockOpening(counts[commonest] / len(rows) if commonest else 0.0, means[0], means[1])


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The headline numbers of one model's score rows; everything in them that needs no text.

    ``mde`` is the smallest difference to another model that these prompts could show if the other's ratings were as
    spread, and unrelated prompt by prompt; `heartwood compare` gives that of a pair.

    Raises:
        HeartwoodError: fewer than two rows that are scored, or a judge that gave all rated replies one index.
    """
    scored = [row["index"] for row in rows if row["status"] != UNSCORED]
    if len(scored) < 2:
        why = "; ".join(f"{n} {reason}" for reason, n in count_reasons(rows, UNSCORED).items())
        raise HeartwoodError(
            f"{len(scored)} of {len(rows)} replies are scored, at least 2 are needed{f' ({why})' if why else ''}",
            hint="look at the judge's answers, or answer more prompts",
        )
    rated = [row for row in rows if row["status"] == RATED]
    refuse_constant([row["index"] for row in rated])
    interval = mean_interval(scored)
    stock = stock_opening(rows)
    return {
        "index": _round(interval.mean),
        "se": _round(interval.se),
        "ci_low": _round(interval.low),
        "ci_high": _round(interval.high),
        **{m: _round(_mean([row[m] for row in rated])) for m in MECHANISMS if rated},
        "degenerate_rate": _round(sum(row["status"] == DEGENERATE for row in rows) / len(rows)),
        **({"stock_opening_rate": _round(stock.rate)} if stock else {}),
        "n": len(scored),
        "n_unscored": len(rows) - len(scored),
        "mde": _round(detectable_difference(math.sqrt(2 * len(scored)) * interval.se, len(scored))),
    }


def refuse_constant(rated: Sequence[float], whose: str = "") -> None:
    """Raise HeartwoodError if `CONSTANT_FROM` or more rated replies all have one index."""
    if len(rated) >= CONSTANT_FROM and len(set(rated)) == 1:
        raise HeartwoodError(
            f"{f'{whose}: ' if whose else ''}the judge gave all {len(rated)} rated replies the index {rated[0]:g};"
            " a judge that tells nothing apart measures nothing",
            hint="look at the judge: its checks stand in reports/judge.json",
        )


def break_down(prompts: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Score rows counted by reason and averaged by emotion and source; rows in the order of the prompts."""
    return {
        "degenerate_by_reason": count_reasons(rows),
        "unscored_by_reason": count_reasons(rows, UNSCORED),
        "by_emotion": _by(prompts, rows, "emotion"),
        "by_source": _by(prompts, rows, "source"),
    }


def _rated(prompt_id: str, rating: RatingLike | None, why_not: str) -> dict[str, Any]:
    if rating is None:
        return {"status": UNSCORED, "reason": why_not}
    mechanisms = checked_mechanisms(rating, f"the reply to prompt {prompt_id}")
    return {"status": RATED, "index": _round(rating.index)} | {m: _round(value) for m, value in mechanisms.items()}


def checked_mechanisms(rating: RatingLike, what: str) -> dict[str, float]:
    """The three levels of a rating. Raises HeartwoodError if one or the index is missing or outside its scale."""
    index, mechanisms = rating.index, {m: float(getattr(rating, m, math.nan)) for m in MECHANISMS}
    # Written so that NaN fails too.
    if not (1 <= index <= 5 and all(0 <= value <= 2 for value in mechanisms.values())):
        raise HeartwoodError(
            f"the judge rated {what} index {index}, {mechanisms};"
            " allowed: an index from 1 to 5 and mechanisms from 0 to 2",
            hint="a judge gives all three mechanisms, or no rating where it cannot rate a reply; look at its module",
        )
    return mechanisms


def _by(prompts: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for prompt, row in zip(prompts, rows, strict=True):
        if row["status"] != UNSCORED:
            groups[prompt[key]].append(row)
    return {name: _part(group) for name, group in sorted(groups.items())}


def _part(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | int]:
    """Count, mean and degenerate rate of some scored rows; the standard error where there are two or more."""
    values = [row["index"] for row in rows]
    part = {"n": len(rows), "index": _round(_mean(values))}
    if len(values) > 1:
        part["se"] = _round(mean_interval(values).se)
    return part | {"degenerate_rate": _round(sum(row["status"] == DEGENERATE for row in rows) / len(rows))}


def count_reasons(rows: Sequence[Mapping[str, Any]], status: str = DEGENERATE) -> dict[str, int]:
    """How many replies are degenerate (or unscored) for each reason."""
    return dict(sorted(Counter(row["reason"] for row in rows if row["status"] == status).items()))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _round(value: float) -> float:
    return round(float(value), 6)
