"""Any judge by the card in its folder, and the rule that no model judges itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.score import Judge

CARD_FILE = "card.json"
KINDS = ("epitome", "causal_lm", "endpoint")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a judge of any kind; a card without a kind is EPITOME's.

    Raises:
        HeartwoodError: no card, no JSON, or a kind that is not known.
    """
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise HeartwoodError(f"{path}: no such file", hint="run `dvc repro judge`") from None
    except ValueError as error:
        raise HeartwoodError(f"{path}: not JSON ({error})", hint="run `dvc repro judge`") from None
    kind = card.get("kind", KINDS[0]) if isinstance(card, dict) else None
    if kind not in KINDS:
        raise HeartwoodError(f"{path}: kind is {kind!r}; allowed: {', '.join(KINDS)}", hint="run `dvc repro judge`")
    return {**card, "kind": kind}


def load_judge(folder: Path) -> Judge:
    """The judge in a folder. Raises HeartwoodError if anything that it rests on is missing or has changed."""
    card = read_card(folder)
    if card["kind"] == "causal_lm":
        from pipelines.evaluation.judges.causal_lm import load_causal_judge

        return load_causal_judge(card)
    if card["kind"] == "endpoint":
        from pipelines.evaluation.judges.endpoint import load_endpoint_judge

        return load_endpoint_judge(card)
    from pipelines.evaluation.judges import epitome

    return epitome.load_judge(folder)


def refuse_self(card: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise HeartwoodError if the judge is the base that the judged models were made of.

    ``base`` is the content of ``models/base.json``. A local judge is compared by the digest of its files and by its whole
    name, an endpoint by the last part of its model's name. A model rates its own words too well (arXiv 2404.13076).
    """
    if card["kind"] == "epitome":
        return
    if card["kind"] == "causal_lm":
        name = card["pointer"]["name"]
        same = card["pointer"]["digest"] == base["digest"] or name == base["name"]
    else:
        name = card["model"]
        same = _last_part(name) == _last_part(base["name"])
    if same:
        raise HeartwoodError(
            f"the judge {name} is the judged model, or its base ({base['name']}): no model judges itself",
            hint="name another model in judge.causal_lm.model or judge.endpoint.model",
        )


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()
