"""EQ-Bench v2 as its recorded runs were scored: parsing, the curve, one item, one run.

Source: ``EQ-bench/EQ-Bench``, branch ``main_v2_3``, ``lib/scoring.py`` (MIT); Paech 2023, arXiv 2312.06281.
A question names four emotions; an answer gives each a whole number, 0 to 10. Scores of a run stand on a scale where 100
is the reference itself, and about 0 is a random answer; they may be negative.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from curation.errors import HeartwoodError

Boundary = Literal["linear", "curve"]
"""What a difference of exactly 5 costs.

``linear``: 5, as the benchmark's README says and as all recorded finals were computed. ``curve``: 4.9954, as in the
released code and in lm-evaluation-harness.
"""
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)

QUESTIONS = 171
"""Questions of version 2."""

ADJUSTMENT = 0.7477
"""Points that one point of summed, scaled difference costs, chosen by the authors so that random answers score 0."""

REVISED_COVERAGE = 0.95
"""The revised pass counts only with at least so large a share of the first pass's parseable answers."""

FEWEST_PARSEABLE = 0.8333
"""A run with a smaller share of parseable questions has failed."""

CONSTANT = 3
"""The constant baseline answers this number for every emotion."""

_PAIR = re.compile(r"(\w+):\s+(\d+)")
_FIRST = re.compile(r"First pass scores:(.*?)Revised scores:", re.DOTALL)
_REVISED = re.compile(r"Revised scores:(.*?)$", re.DOTALL)

Answers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """The two passes of one answer, as the parser read them: emotion to number. Empty where there is none."""

    first: Answers
    revised: Answers


@dataclass(frozen=True)
class PassScore:
    """One pass over all questions: mean of the parseable items on the 0-100 scale, and its standard error."""

    score: float
    se: float
    parseable: int


@dataclass(frozen=True)
class RunScore:
    """One run: the pass that counts, rounded to two decimals, and whether the run failed."""

    final: float
    se: float
    parseable: int
    counted: Literal["first", "revised"]
    first: PassScore
    revised: PassScore
    failed: bool


def parse(text: str, revision: bool) -> Answer:
    """Reads ``Emotion: number`` pairs, as the benchmark does: the last of equal names wins, 100 is no error.

    With ``revision``, the first pass stands between its heading and the revised one, and nothing else is read.
    """
    if not revision:
        return Answer(dict(_PAIR.findall(text)), {})
    first, revised = _FIRST.search(text), _REVISED.search(text)
    return Answer(
        dict(_PAIR.findall(first.group(1))) if first else {},
        dict(_PAIR.findall(revised.group(1))) if revised else {},
    )


def scaled(difference: float, boundary: Boundary = "linear") -> float:
    """What an absolute difference from the reference costs: an S-shaped curve below 5, the difference itself above."""
    if difference == 0:
        return 0.0
    if difference < 5 or (difference == 5 and boundary == "curve"):
        return 6.5 / (1 + math.exp(-1.2 * (difference - 4)))
    return difference


def item_score(
    reference: Mapping[str, float], answer: Mapping[str, str], boundary: Boundary = "linear"
) -> float | None:
    """Score of one answer, at most 10, or None unless it names exactly the four emotions of the reference."""
    if answer.keys() != reference.keys():
        return None
    return 10 - ADJUSTMENT * sum(scaled(abs(float(answer[e]) - reference[e]), boundary) for e in reference)


def run_score(
    references: Mapping[str, Mapping[str, float]], answers: Mapping[str, Answer], boundary: Boundary = "linear"
) -> RunScore:
    """Score of one run. A question without an answer counts as not parseable.

    The revised pass counts if it is at least as high as the first and has enough parseable answers (`REVISED_COVERAGE`).

    Raises:
        HeartwoodError: an answer to a question that is not among ``references``.
    """
    if unknown := sorted(set(answers) - set(references)):
        raise HeartwoodError(
            f"an answer to question {unknown[0]!r}, which is not among the {len(references)} questions",
            hint="use the questions file that the answers belong to",
        )
    first, revised = (
        _pass([item_score(references[q], getattr(a, part), boundary) for q, a in answers.items()])
        for part in ("first", "revised")
    )
    chosen: Literal["first", "revised"] = (
        "revised"
        if revised.score >= first.score and revised.parseable >= REVISED_COVERAGE * first.parseable
        else "first"
    )
    counted = revised if chosen == "revised" else first
    return RunScore(
        round(counted.score, 2),
        counted.se,
        counted.parseable,
        chosen,
        first,
        revised,
        failed=counted.parseable / len(references) < FEWEST_PARSEABLE,
    )


def constant_score(references: Mapping[str, Mapping[str, float]], boundary: Boundary = "linear") -> RunScore:
    """The run that answers `CONSTANT` for every emotion of every question: what a score must beat to mean anything."""
    answers = {q: Answer({emotion: str(CONSTANT) for emotion in reference}, {}) for q, reference in references.items()}
    return run_score(references, answers, boundary)


def _pass(scores: Sequence[float | None]) -> PassScore:
    found = [s for s in scores if s is not None]
    if not found:
        return PassScore(0.0, math.nan, 0)
    mean = sum(found) / len(found)
    if len(found) < 2:
        return PassScore(10 * mean, math.nan, len(found))
    variance = sum((s - mean) ** 2 for s in found) / (len(found) - 1)
    return PassScore(10 * mean, 10 * math.sqrt(variance / len(found)), len(found))
