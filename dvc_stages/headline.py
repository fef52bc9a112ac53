"""The score of the model that ``report.model`` names, under one path for ``dvc metrics diff``."""

from curation.errors import HeartwoodError
from pipelines.layout import REPORTS
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import ReportParams


def main(run: Run) -> None:
    """Copy that model's score file to ``reports/metrics.json``."""
    model = run.section("report", ReportParams).model
    models = run.value("models")
    if model not in models:
        raise HeartwoodError(
            f"params.yaml: report.model is {model!r}; allowed: {', '.join(models)}", hint="correct params.yaml or -S"
        )
    write_json(REPORTS / "metrics.json", read_json(REPORTS / "eq" / f"{model}.json"))


if __name__ == "__main__":
    execute(main)
