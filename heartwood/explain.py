"""``heartwood explain``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, page


def explain(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A record's uid or id, the first 8 or more characters of one, an example's or a prompt's id; or"
            " FILE:ROW of the mixture, the dev examples or the prompts (data/mixture/train.jsonl:7), or of the raw data"
            " (train.tsv:12; source/train.tsv:12 where two sources have such a file).",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show why a record was removed or kept, from raw row to mixture, with rule, score and both texts.

    Of a line of the mixture: the corpus file and rows that it is from, every step and rule that its record passed,
    what was removed in its favour, and its place among the draws.

    Reads the tables of the workspace: run it in the project's root, after `dvc repro` or `dvc pull`. Rows of raw
    data count from 1, a header is row 1.

    Exit code 0: found. 1: no such id, an id that several have, or no data. 2: usage.
    """
    from pipelines.reporting.explain import explain as explain_record
    from pipelines.reporting.explain import print_answer

    answer = explain_record(asked, Path())
    if as_json:
        print(json.dumps(answer.as_dict(), indent=2))
    else:
        print_answer(page(), answer)
