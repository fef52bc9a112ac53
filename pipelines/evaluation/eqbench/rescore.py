"""Recorded EQ-Bench v2 runs scored again from the answers they hold, and their raw text parsed again."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.eqbench.questions import Questions
from pipelines.evaluation.eqbench.scoring import Answer, Boundary, RunScore, parse, run_score

_HINT = "give result files of EQ-Bench v2 (results/eq-bench/*_eqbench_v2_results.json), or of `heartwood eqbench run`"


@dataclass(frozen=True)
class Rescored:
    """One result file: what it records, and what its answers give.

    ``parsed_same`` of ``parsed`` questions give, parsed again from the raw text, the answers that the file holds;
    ``parsed_otherwise`` names the others.
    """

    file: str
    model: str
    recorded: float | None
    recomputed: float
    agrees: bool
    se: float | None
    parseable: float
    failed: bool
    recorded_failed: bool
    revision: bool
    iterations: int
    parsed: int
    parsed_same: int
    parsed_otherwise: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def rescore(path: Path, questions: Questions, boundary: Boundary = "linear") -> Rescored:
    """Score one result file again.

    Raises:
        HeartwoodError: the file is not a result of EQ-Bench v2, or answers another set of questions.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise HeartwoodError(f"{path}: cannot be read ({error.strerror})", hint=_HINT) from None
    except ValueError as error:
        raise HeartwoodError(f"{path}: not JSON ({error})", hint=_HINT) from None
    try:
        if content.get("eqbench_version", "v2") != "v2":
            raise HeartwoodError(f"{path}: a result of EQ-Bench {content['eqbench_version']}, not v2", hint=_HINT)
        runs = [_iteration(raw) for raw in content["raw_results"].values()]
        recorded, failed = content["benchmark_score"], not content["benchmark_success"]
        model = str(content.get("model_path", path.stem))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HeartwoodError(f"{path}: not a result of EQ-Bench v2 ({error!r})", hint=_HINT) from None
    if not runs:
        raise HeartwoodError(f"{path}: no iteration in raw_results", hint=_HINT)
    try:
        scores = [run_score(questions.references, answers, boundary) for answers, _, _ in runs]
    except HeartwoodError as error:
        raise HeartwoodError(f"{path}: {error}", hint=error.hint) from None
    final = round(_mean([_unrounded(s) for s in scores]), 2)
    parseable = _mean([s.parseable for s in scores])
    number = float(recorded) if isinstance(recorded, int | float) and not isinstance(recorded, bool) else None
    otherwise = [
        question
        for answers, raw, mostly in runs
        for question, text in raw.items()
        if question not in answers or parse(text, _revised(answers[question], text, mostly)) != answers[question]
    ]
    parsed = sum(len(raw) for _, raw, _ in runs)
    se = _mean([s.se for s in scores]) / math.sqrt(len(scores))
    return Rescored(
        file=path.name,
        model=model,
        recorded=number,
        recomputed=final,
        agrees=number is not None and math.isclose(number, final, abs_tol=1e-9),
        se=None if math.isnan(se) else round(se, 4),
        parseable=parseable,
        failed=_mean([s.failed for s in scores]) > 0,
        recorded_failed=failed,
        revision=any(mostly for _, _, mostly in runs),
        iterations=len(runs),
        parsed=parsed,
        parsed_same=parsed - len(otherwise),
        parsed_otherwise=otherwise,
    )


def _iteration(raw: Mapping[str, Any]) -> tuple[dict[str, Answer], dict[str, str], bool]:
    """(answers by question, raw texts by question, whether most answers were revised)."""
    answers = {
        str(question): Answer(_pairs(answer["first_pass"]), _pairs(answer.get("revised") or {}))
        for question, answer in raw["respondent_answers"].items()
    }
    texts = {str(question): str(text) for question, text in raw["raw_inference"].items()}
    return answers, texts, 2 * sum(bool(answer.revised) for answer in answers.values()) > len(answers)


def _revised(answer: Answer, text: str, mostly: bool) -> bool:
    """Whether an answer was asked for with revision.

    Files record no such setting, and a run may have been resumed under the other one (Qwen-7B-Chat: 3 answers with
    revision, 167 without), so the answer decides, and for one without revised numbers the heading in its text.
    """
    return bool(answer.revised) or (mostly and ("Revised scores:" in text or not answer.first))


def _pairs(answers: Mapping[str, Any]) -> dict[str, str]:
    for value in answers.values():
        float(value)
    return {str(emotion): str(value) for emotion, value in answers.items()}


def _unrounded(score: RunScore) -> float:
    return (score.revised if score.counted == "revised" else score.first).score


def _mean(values: list[Any]) -> float:
    return float(sum(values)) / len(values)
