"""``--rescore``: the ratings again from the responses, with the recorded judge, on the path that the stage takes.

It finds ratings that do not come from their responses, even where summary, lock and lineages agree with them.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from pipelines.evaluation.judges.loading import read_card
from pipelines.evaluation.rate import rate_responses
from pipelines.evaluation.score import break_down
from pipelines.provenance.chain import Chain, compare_numbers, detail_path, ratings_path, score_path
from pipelines.provenance.evidence import Evidence, Located, Problem
from pipelines.provenance.verdict import Fault, ScoreVerdict, Unchecked

RATING_TOLERANCE = 1e-3
"""Ratings (1 to 5) made on another CPU or with another build of a library differ by less than this."""

PROMPTS, JUDGE = "data/prompts.jsonl", "models/judge"


def responses_path(model: str) -> str:
    """Where a model's replies stand."""
    return f"data/responses/{model}.jsonl"


def rescore(chain: Chain, evidence: Evidence, result: ScoreVerdict) -> None:
    """Rate one model's replies again and add to its verdict what differs."""
    stage, model = f"score@{result.model}", result.model
    if stage not in chain.lock.stages or result.score is None:
        return
    deps = chain.lock.deps(stage)
    located: dict[str, Located] = {}
    for path in (PROMPTS, responses_path(model), JUDGE):
        found = evidence.locate(path, deps.get(path, "none"))
        if isinstance(found, Problem):
            message = f"the ratings cannot be made again: {found.message}"
            fault = Fault(found.kind, stage, path, message, found.next)
            if not any(f.link == path and f.kind == found.kind for f in result.faults):
                result.faults.append(fault)
            return
        located[path] = found
    prompts, responses = located[PROMPTS].files[""], located[responses_path(model)].files[""]
    with tempfile.TemporaryDirectory(prefix="heartwood-judge-") as folder:
        located[JUDGE].copy(Path(folder))
        kind = read_card(Path(folder))["kind"]
        if kind == "endpoint":
            why = "the judge is a server: what it would say today is no evidence of what it said"
            result.unchecked.append(Unchecked(ratings_path(model), why))
            hint = "verify without --rescore, or score with a judge that runs here"
            result.faults.append(Fault("incomplete", stage, ratings_path(model), why, hint))
            return
        try:
            again = rate_responses(prompts, responses, Path(folder))
        except HeartwoodError as error:
            _cannot(chain, stage, model, error, result, kind)
            return
    recorded = _read_rows(chain, model)
    by_id = {row["prompt_id"]: row for row in recorded}
    if [row["prompt_id"] for row in recorded] != [row["prompt_id"] for row in again.rows]:
        message = f"{ratings_path(model)} rates other prompts, or in another order, than {PROMPTS} holds"
        result.faults.append(Fault("broken", stage, ratings_path(model), message, f"dvc repro -f {stage}"))
        return
    result.count("ratings made again", len(again.rows))
    compare_numbers(
        chain, stage, ratings_path(model), by_id, {row["prompt_id"]: row for row in again.rows},
        "the recorded judge gives", result, RATING_TOLERANCE,
    )  # fmt: skip
    score = json.loads(chain.revision.read(score_path(model)) or b"{}")
    words = again.summary["mean_words"]
    compare_numbers(
        chain, stage, score_path(model), {"mean_words": score.get("mean_words")}, {"mean_words": words},
        "the responses give", result,
    )  # fmt: skip
    detail = json.loads(chain.revision.read(detail_path(model)) or b"{}")
    expected = break_down(read_jsonl(prompts), recorded)
    compare_numbers(
        chain, stage, detail_path(model), {k: detail.get(k) for k in expected}, expected, "its ratings give", result
    )


def _cannot(chain: Chain, stage: str, model: str, error: HeartwoodError, result: ScoreVerdict, kind: str) -> None:
    if kind == "causal_lm":
        why = f"the judge's model cannot be used here: {error}"
        result.unchecked.append(Unchecked(ratings_path(model), why))
        result.faults.append(Fault("incomplete", stage, ratings_path(model), why, error.hint))
    elif chain.same_code(stage):
        message = f"the ratings cannot be made again: {error}"
        result.faults.append(Fault("broken", stage, ratings_path(model), message, error.hint))
    else:
        why = f"this version of the code cannot read that revision's judge or responses: {error}"
        result.unchecked.append(Unchecked(ratings_path(model), why))
        hint = f"git worktree add ../at-{chain.revision.name} {chain.revision.name}, and verify there"
        result.faults.append(Fault("incomplete", stage, ratings_path(model), why, hint))


def _read_rows(chain: Chain, model: str) -> list[dict[str, Any]]:
    data = chain.revision.read(ratings_path(model)) or b""
    return [json.loads(line) for line in data.decode().splitlines()]
