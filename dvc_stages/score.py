"""Gates and judge on one model's replies, with the digests of everything that the score rests on."""

import platform
from pathlib import Path
from typing import Any

from curation.jsonl import write_jsonl
from pipelines.evaluation.gates import GATES_VERSION
from pipelines.evaluation.judges.loading import read_card, refuse_self
from pipelines.evaluation.rate import rate_responses
from pipelines.layout import BASE, DEV_EXAMPLES, MIXTURE, PROMPTS, REPORTS
from pipelines.provenance.environment import differences, in_words, installed
from pipelines.provenance.lineage import chain, input_md5, read_json, write_json
from pipelines.provenance.stage import Run, execute

NONE = "none"
JUDGE = Path("models/judge")


def main(run: Run) -> None:
    """Write ``reports/eq/<model>.json`` (the metric), its detail and its ratings (ids, numbers and digests)."""
    model = run.key
    responses = Path(f"data/responses/{model}.jsonl")
    lineage = read_json(Path(f"data/responses/{model}.lineage.json"))
    refuse_self(read_card(JUDGE), read_json(BASE))
    report = read_json(REPORTS / "judge.json")
    result = rate_responses(PROMPTS, responses, JUDGE)
    differing = differences(map(Path, run.locks()))
    for link in chain(lineage):
        differing |= link["differs_from_lock"]
    score: dict[str, Any] = {
        **result.summary,
        "judge": judge_name(report),
        "environment": in_words(differing),
        **digests(run, model, lineage),
    }
    write_json(REPORTS / "eq" / f"{model}.json", score)
    write_json(
        REPORTS / "eq" / f"{model}.detail.json",
        {
            "inputs": run.evidence(),
            "code": run.code_digest(),
            "packages": installed("evaluation"),
            "python": platform.python_version(),
            "gates": GATES_VERSION,
            "judge": judge_facts(report),
            **result.breakdown,
        },
    )
    write_jsonl(result.rows, REPORTS / "eq" / f"{model}.ratings.jsonl")


def judge_name(report: dict[str, Any]) -> str:
    """The judge's id and its label, as every table shows it."""
    return f"{report['id']} ({report['label']})"


def judge_facts(report: dict[str, Any]) -> dict[str, Any]:
    """What is known of the judge: agreement with people and its interval, their own (ceiling), the lexical floor."""
    facts = {k: report[k] for k in ("id", "digest", "kind", "label", "agreement_from")}
    return facts | {"agreement": {m: agreement_of(part) for m, part in report["agreement"].items()}}


def agreement_of(part: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one mechanism's agreement that stand beside a score."""
    kept = ("qwk", "qwk_low", "qwk_high", "human_ceiling", "lexical_floor")
    return {k: part[k] for k in kept if k in part}


def digests(run: Run, model: str, lineage: dict[str, Any]) -> dict[str, str]:
    """md5, as in ``dvc.lock``, of what this score was made from; ``none`` where a base has no such thing."""
    adapter = input_md5(lineage, f"models/{model}")
    trained = [link for link in chain(lineage) if link["stage"].startswith("sft@")]
    base = next((m for link in chain(lineage) if (m := link["inputs"].get("models/base.json"))), None)
    return {
        "mixture": input_md5(lineage, MIXTURE.as_posix()) or NONE,
        "consumed": trained[0]["consumed"] if trained else NONE,
        "dev": run.inputs.files[DEV_EXAMPLES.as_posix()].md5,
        "prompts": run.inputs.files[PROMPTS.as_posix()].md5,
        "adapter": adapter or NONE,
        "base": base["md5"] if base else NONE,
    }


if __name__ == "__main__":
    execute(main)
