"""``heartwood judge``."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, page, working


class Mechanism(StrEnum):
    """What a column ``level`` rates."""

    emotional_reactions = "emotional_reactions"
    interpretations = "interpretations"
    explorations = "explorations"


def judge(
    file: Annotated[
        Path, typer.Argument(help="Rows of seeker_post and response_post: JSONL, CSV, TSV (each also .gz) or Parquet.")
    ],
    head: Annotated[
        Path | None,
        typer.Option("--judge", help="Folder of a judge of any kind. Default: models/judge, else models/judge_head."),
    ] = None,
    mechanism: Annotated[
        Mechanism | None,
        typer.Option(help="What the column level rates, if the file's name does not say it.", show_default=False),
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many rows to print.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Write all ratings to this file, as .jsonl, .csv or .parquet.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rate replies to seekers in a file of any kind, and compare with people where it holds their levels.

    Each row gets an index from 1 to 5 and the expected human level, 0 to 2, of
    emotional reactions, interpretations and explorations. Replies that a gate
    catches (empty, echo, loop, template tokens) are degenerate: index 1. With
    columns of those names, or EPITOME's level, agreement is printed too: kappa
    with interval, accuracy, confusion. Rows that cannot be rated are named.

    Any judge that the stage judge makes will do (judge.kind: epitome, causal_lm,
    endpoint). What a language model gives no verdict on is unscored, with the
    reason; an endpoint's answers are kept, so a run that broke off goes on.

    Exit code 0: done. 1: could not be done. 2: usage.
    """
    from curation.tabular import check_table, write_rows
    from pipelines.evaluation.judges.loading import load_judge, read_card
    from pipelines.evaluation.judges.rated_file import agreement_with_people, find_judge, rate_pairs, read_pairs
    from pipelines.reporting.judged import JUDGED_COLUMNS, judged, print_judged

    folder = head or find_judge()
    if out:
        check_table(out, [file])
    with working("reading"):
        pairs = read_pairs(file, mechanism)
        loaded, card = load_judge(folder), read_card(folder)
    with working(f"rating {len(pairs.rows):,} replies"):
        rated = rate_pairs(loaded, pairs.rows)
    agreed = agreement_with_people(pairs.rows, rated, pairs.labelled, seed=0)
    found = judged(pairs, rated, agreed, card, loaded)
    if out:
        write_rows(rated, JUDGED_COLUMNS, out)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_judged(page(), found, show)
