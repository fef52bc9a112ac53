"""From files of prompts and replies and a judge's folder to a score: what the stage does, and what verification does again."""

from pathlib import Path

from curation.jsonl import read_jsonl
from pipelines.evaluation.judges.loading import load_judge
from pipelines.evaluation.score import ScoreResult, score_model


def rate_responses(prompts: Path, responses: Path, judge: Path) -> ScoreResult:
    """Gate and rate one model's replies with the judge in a folder.

    Raises:
        HeartwoodError: a file that is missing or damaged, or responses that do not belong to the prompts.
    """
    return score_model(read_jsonl(prompts), read_jsonl(responses), load_judge(judge))
