"""The fixed evaluation prompts, drawn from dev."""

from curation.jsonl import write_jsonl
from curation.records import read_records
from pipelines.evaluation.prompts import draw_prompts
from pipelines.layout import PROMPTS, SPLIT
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import PromptsParams
from pipelines.settings.mixture import ChatParams


def main(run: Run) -> None:
    """Write ``data/prompts.jsonl``: complete messages, ready for any model."""
    params = run.section("prompts", PromptsParams)
    prompts = draw_prompts(
        read_records(SPLIT["dev"]),
        count=params.count,
        seed=params.seed,
        min_words=params.min_words,
        system=run.section("chat", ChatParams).system,
    )
    if len(prompts) < params.count:
        print(f"prompts: {len(prompts)}, all that dev holds; prompts.count asks for {params.count}")
    write_jsonl(prompts, PROMPTS)


if __name__ == "__main__":
    execute(main)
