"""Every evaluation prompt with the replies of all models, their ratings and what the gates said."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from curation.text import words
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.evaluation.score import OPENING_WORDS
from pipelines.layout import PROMPTS
from pipelines.provenance.outs import Outs
from pipelines.reporting.site.text import visible

BUDGET = 1_500_000
LONGEST = 1200
OPENINGS_SHOWN = 5


@dataclass(frozen=True)
class Replies:
    """The prompts that a page shows with their replies, of how many, and which models there are.

    ``openings`` are each model's commonest ones, with the number of replies that begin so, of all prompts.
    """

    models: list[str]
    shown: list[dict[str, Any]]
    total: int
    openings: dict[str, list[tuple[str, int]]]


def read_replies(outs: Outs, models: Sequence[str], budget: int = BUDGET) -> Replies:
    """Prompts and replies of a revision, as many as fit ``budget`` bytes of JSON, in the order of the prompts.

    Raises:
        HeartwoodError: prompts, replies or ratings are not there, or do not belong together.
    """
    prompts = read_jsonl(outs.file(PROMPTS.as_posix()))
    answers = {m: {r["prompt_id"]: r for r in read_jsonl(outs.file(f"data/responses/{m}.jsonl"))} for m in models}
    ratings = {m: read_ratings(outs, m) for m in models}
    for model in models:
        for what, found in (("reply", answers[model]), ("rating", ratings[model])):
            if lost := next((p["id"] for p in prompts if p["id"] not in found), None):
                raise HeartwoodError(
                    f"prompt {lost} has no {what} of {model} at {outs.revision.name}", hint="run `dvc repro`"
                )
    shown: list[dict[str, Any]] = []
    spent = 0
    for prompt in prompts:
        row = _row(prompt, {m: (answers[m][prompt["id"]], ratings[m][prompt["id"]]) for m in models})
        spent += len(json.dumps(row, ensure_ascii=False).encode())
        if spent > budget:
            break
        shown.append(row)
    openings = {m: _openings([answers[m][p["id"]]["text"] for p in prompts]) for m in models}
    return Replies(list(models), shown, len(prompts), openings)


def _openings(texts: Sequence[str]) -> list[tuple[str, int]]:
    """The commonest openings of replies, folded, the same in any order of the replies."""
    counts = Counter(" ".join(words(text)[:OPENING_WORDS]) for text in texts)
    counts.pop("", None)
    found = sorted(counts.items(), key=lambda opening: (-opening[1], opening[0]))
    return [(visible(begins), count) for begins, count in found[:OPENINGS_SHOWN]]


def read_ratings(outs: Outs, model: str) -> dict[str, dict[str, Any]]:
    """A model's ratings by prompt; they stand in git.

    Raises:
        HeartwoodError: the file is not there.
    """
    path = f"reports/eq/{model}.ratings.jsonl"
    data = outs.revision.read(path)
    if data is None:
        raise HeartwoodError(
            f"{path}: not there at {outs.revision.name}", hint="run `dvc repro` and commit its results"
        )
    rows = [json.loads(line) for line in data.decode().splitlines() if line]
    return {row["prompt_id"]: row for row in rows}


def _row(prompt: Mapping[str, Any], found: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    return {
        "id": prompt["id"],
        "source": visible(prompt["source"]),
        "emotion": visible(prompt["emotion"]),
        "messages": [[m["role"], visible(m["content"], LONGEST)] for m in prompt["messages"] if m["role"] != "system"],
        "replies": [
            {
                "text": visible(reply["text"], LONGEST),
                "status": rating["status"],
                "reason": rating.get("reason", ""),
                "index": rating.get("index"),
                "mechanisms": [rating.get(m) for m in MECHANISMS],
            }
            for reply, rating in found.values()
        ],
    }
