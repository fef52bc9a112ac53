"""Paired differences between every two models, with verdicts."""

from curation.jsonl import read_jsonl
from pipelines.evaluation.compare import compare_models
from pipelines.layout import REPORTS
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import CompareParams


def main(run: Run) -> None:
    """Write ``reports/comparison.json``."""
    ratings = {model: read_jsonl(REPORTS / "eq" / f"{model}.ratings.jsonl") for model in run.value("models")}
    write_json(REPORTS / "comparison.json", compare_models(ratings, run.section("compare", CompareParams).seed))


if __name__ == "__main__":
    execute(main)
