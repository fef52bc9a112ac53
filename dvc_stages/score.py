"""Gates and judge on one model's replies, with the digests of everything that the score rests on."""

from pathlib import Path
from typing import Any

from curation.jsonl import read_jsonl, write_jsonl
from pipelines.evaluation.gates import GATES_VERSION
from pipelines.evaluation.judges.epitome import load_judge
from pipelines.evaluation.score import score_model
from pipelines.layout import DEV_EXAMPLES, MIXTURE, PROMPTS, REPORTS
from pipelines.provenance.lineage import chain, input_md5, read_json, write_json
from pipelines.provenance.stage import Run, execute

NONE = "none"


def main(run: Run) -> None:
    """Write ``reports/eq/<model>.json`` (the metric), its detail and its ratings (ids and numbers)."""
    model = run.key
    responses = Path(f"data/responses/{model}.jsonl")
    lineage = read_json(Path(f"data/responses/{model}.lineage.json"))
    judge = load_judge(Path("models/judge"))
    result = score_model(read_jsonl(PROMPTS), read_jsonl(responses), judge)
    score: dict[str, Any] = {
        **result.summary,
        "judge": judge_name(read_json(REPORTS / "judge.json")),
        **digests(run, model, lineage),
    }
    write_json(REPORTS / "eq" / f"{model}.json", score)
    write_json(
        REPORTS / "eq" / f"{model}.detail.json",
        {"inputs": run.evidence(), "code": run.code_digest(), "gates": GATES_VERSION, **result.breakdown},
    )
    write_jsonl(result.rows, REPORTS / "eq" / f"{model}.ratings.jsonl")


def judge_name(report: dict[str, Any]) -> str:
    """The judge's id and its label, as every table shows it."""
    return f"{report['id']} ({report['label']})"


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
