"""The judge: the shipped head as it is, or a head fitted again to the ratings; its agreement and its checks."""

from pathlib import Path

from curation.errors import HeartwoodError
from dvc_stages.ratings import RATINGS, SHIPPED
from pipelines.evaluation.judges.epitome import load_card, load_judge, write_judge
from pipelines.evaluation.judges.invariance import run_invariance
from pipelines.evaluation.judges.refit import fit_judge, judge_card
from pipelines.evaluation.ratings import read_ratings
from pipelines.layout import REPORTS
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import JudgeParams

HEAD = Path("models/judge_head")
JUDGE = Path("models/judge")


def main(run: Run) -> None:
    """Write ``models/judge/`` and ``reports/judge.json``."""
    params = run.section("judge", JudgeParams)
    manifest = read_json(RATINGS / "manifest.json")
    shipped = params.ratings == SHIPPED
    if shipped != (manifest["ratings"] == SHIPPED):
        raise HeartwoodError(
            f"judge.ratings is {params.ratings!r}, data/ratings holds {manifest['ratings']!r}",
            hint="run `dvc repro ratings` first",
        )
    if shipped:
        write_judge(JUDGE, load_judge(HEAD), load_card(HEAD))
    else:
        ratings = read_ratings(RATINGS)
        judge, agreement = fit_judge(
            ratings, params.seed, threads=params.threads, say=lambda text: print(text, flush=True)
        )
        write_judge(JUDGE, judge, judge_card(ratings, agreement, params.seed))
    judge, card = load_judge(JUDGE), load_card(JUDGE)
    invariance = run_invariance(judge)
    write_json(
        REPORTS / "judge.json",
        {
            "id": f"{card['judge']}@{card['digest'][:12]}",
            "digest": card["digest"],
            "label": invariance.label,
            "agreement": card["agreement"],
            "agreement_from": "the card of the shipped head" if shipped else "this run",
            "invariance": invariance.as_json(),
        },
    )


if __name__ == "__main__":
    execute(main)
