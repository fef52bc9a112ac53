"""The judge: the shipped head as it is, or a head fitted again to the ratings; its agreement and its checks."""

from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from dvc_stages.ratings import RATINGS, SHIPPED
from pipelines.evaluation.judges import causal_lm, endpoint, epitome
from pipelines.evaluation.judges.invariance import run_invariance
from pipelines.evaluation.judges.loading import load_judge
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
    report = fitted_head(params) if params.kind == "epitome" else language_model(params)
    invariance = run_invariance(load_judge(JUDGE))
    write_json(REPORTS / "judge.json", {**report, "label": invariance.label, "invariance": invariance.as_json()})


def fitted_head(params: JudgeParams) -> dict[str, Any]:
    """The shipped head, or one fitted to the ratings, as the judge; what is known of it."""
    manifest = read_json(RATINGS / "manifest.json")
    shipped = params.ratings == SHIPPED
    if shipped != (manifest["ratings"] == SHIPPED):
        raise HeartwoodError(
            f"judge.ratings is {params.ratings!r}, data/ratings holds {manifest['ratings']!r}",
            hint="run `dvc repro ratings` first",
        )
    if shipped:
        epitome.write_judge(JUDGE, epitome.load_judge(HEAD), epitome.load_card(HEAD))
    else:
        ratings = read_ratings(RATINGS)
        judge, agreement = fit_judge(
            ratings, params.seed, threads=params.threads, say=lambda text: print(text, flush=True)
        )
        epitome.write_judge(JUDGE, judge, judge_card(ratings, agreement, params.seed))
    card = epitome.load_card(JUDGE)
    return {
        **name_and_digest(card),
        "kind": params.kind,
        "agreement": card["agreement"],
        "agreement_from": "the card of the shipped head" if shipped else "this run",
    }


def language_model(params: JudgeParams) -> dict[str, Any]:
    """A local language model or an endpoint as the judge; its agreement with people is not measured here."""
    if params.kind == "causal_lm":
        local = params.causal_lm
        card = causal_lm.make_card(
            local.model, local.revision or None, params.rubric, local.quantisation, local.device, local.threads
        )
    else:
        card = endpoint.make_card(endpoint.EndpointSettings(**params.endpoint.model_dump()), params.rubric)
    JUDGE.mkdir(parents=True, exist_ok=True)
    write_json(JUDGE / "card.json", card)
    return {
        **name_and_digest(card),
        "kind": params.kind,
        "rubric": card["rubric"],
        "method": card.get("method", "digit probabilities"),
        "agreement": {},
        "agreement_from": "not measured",
    }


def name_and_digest(card: dict[str, Any]) -> dict[str, Any]:
    """The judge's id, as every table shows it, and its whole digest."""
    return {"id": f"{card['judge']}@{card['digest'][:12]}", "digest": card["digest"]}


if __name__ == "__main__":
    execute(main)
