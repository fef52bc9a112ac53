"""The metrics of DVC: all models' scores in a few columns, and one model's in full under one path for a diff."""

from curation.errors import HeartwoodError
from pipelines.layout import REPORTS
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import ReportParams

COLUMNS = ("index", "ci_low", "ci_high", "degenerate_rate", "stock_opening_rate")


def main(run: Run) -> None:
    """Copy the score file of ``report.model`` to ``reports/metrics.json``; each model's headline numbers stand in
    ``reports/scores.json``, so that `dvc exp show` has few columns and `dvc metrics diff` of two runs names them all.
    """
    model = run.section("report", ReportParams).model
    models = run.value("models")
    if model not in models:
        raise HeartwoodError(
            f"params.yaml: report.model is {model!r}; allowed: {', '.join(models)}", hint="correct params.yaml or -S"
        )
    scores = {name: read_json(REPORTS / "eq" / f"{name}.json") for name in models}
    write_json(REPORTS / "metrics.json", scores[model])
    write_json(
        REPORTS / "scores.json",
        {name: {key: score[key] for key in COLUMNS} for name, score in scores.items()},
    )


if __name__ == "__main__":
    execute(main)
