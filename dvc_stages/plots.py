"""The rows that `dvc plots` draws, from the reports of the stages before."""

from pathlib import Path

from pipelines.layout import REPORTS
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.reporting.plots import loss_rows, mixture_rows, rate_rows, removal_rows, score_rows
from pipelines.reporting.training import curve_paths, read_curve, steps_before

PLOTS = REPORTS / "plots"


def main(run: Run) -> None:
    """Write one table a picture; numbers and names alone."""
    checkpoints, models = run.value("checkpoints"), run.value("models")
    before = {name: steps_before(checkpoints, name) for name in checkpoints}
    curves, steps = [], {}
    for name in checkpoints:
        train, dev = curve_paths(name)
        watched = read_json(Path(dev)) if dev in run.inputs.files else []
        steps[name] = read_json(Path(train))
        curves.append(read_curve(name, steps[name], watched, before[name]))
    write_json(PLOTS / "loss.json", loss_rows(curves))
    write_json(PLOTS / "learning_rate.json", rate_rows(steps, before))
    write_json(PLOTS / "scores.json", score_rows({name: read_json(REPORTS / "eq" / f"{name}.json") for name in models}))
    write_json(PLOTS / "mixture.json", mixture_rows(read_json(REPORTS / "mixture.json")))
    reports = (read_json(REPORTS / f"{name}.json") for name in ("records", "split", "dedup", "leakage"))
    write_json(PLOTS / "removals.json", removal_rows(*reports))


if __name__ == "__main__":
    execute(main)
