"""The experiments ``base``, ``sft-100`` and ``sft-150``: one revision a model, so that ``dvc metrics diff`` can
compare models."""

import json
from collections.abc import Sequence

from curation.errors import HeartwoodError
from pipelines.experiments.runs import (
    TAGS,
    drop_older,
    head,
    plain_name,
    require_clean_commit,
    require_free_name,
    require_same_result,
    require_tag_part,
    run_experiment,
    tag_result,
)
from pipelines.provenance.revision import Revision, open_revision
from pipelines.provenance.verify import verify

HEADLINE = "headline"


def make_model_experiments(models: Sequence[str], mixture: str | None = None) -> list[str]:
    """One experiment a model, run in a copy (``--temp``), so the workspace stays as it is; each is tagged
    ``eq/<mixture>/<model>``.

    Only the stage that copies the score runs: no data is needed, and nothing is trained again. Everything that can be
    refused is refused before the first run.

    Args:
        mixture: its name in the tags; by default made of its shares.

    Returns:
        The tags.

    Raises:
        HeartwoodError: uncommitted changes, no scores in the last commit or such that do not belong to it, a name
            that is taken, a tag that holds another result, or a failed run.
    """
    require_clean_commit()
    commit = head()
    name = mixture if mixture is not None else _name_of_mixture(commit)
    require_tag_part(name)
    for model in models:
        require_free_name(model)
        if open_revision(commit).read(f"reports/eq/{model}.json") is None:
            raise HeartwoodError(
                f"reports/eq/{model}.json is not in the last commit", hint="run `dvc repro` and commit its results"
            )
        require_same_result(f"{TAGS}/{name}/{model}", commit, [f"reports/eq/{model}.json"])
    _require_own_scores(commit)
    tags = []
    for model in models:
        made = run_experiment(model, [f"report.model={model}"], only=HEADLINE)
        tags.append(tag_result(name, model, made.commit))
        drop_older(model)
    return tags


def _require_own_scores(commit: str) -> None:
    """Raise if a score in the commit is older than its params, code or data, or contradicts them."""
    for found in verify(Revision("the last commit", commit)):
        if found.verdict in ("stale", "broken") and found.first:
            raise HeartwoodError(
                f"the score of {found.model} in the last commit is {found.verdict}: {found.first.message}",
                hint="run `dvc repro` and commit its results, then try again",
            )


def _name_of_mixture(commit: str) -> str:
    data = open_revision(commit).read("reports/mixture.json")
    if data is None:
        raise HeartwoodError(
            "reports/mixture.json is not in the last commit", hint="run `dvc repro` and commit its results"
        )
    receipt = json.loads(data)
    return plain_name(receipt["requested"], unit=receipt.get("unit", "examples"))
