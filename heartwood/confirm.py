"""``heartwood confirm``."""

import json
from typing import Annotated

import typer

from heartwood.options import Json, page, working


def confirm(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A run of the chosen mixture, as in `heartwood mixtures`.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A run of the mixture to compare with. Default: as in `heartwood mixtures`."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The checkpoint to compare. Default: the last.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Use test although it has been used before.")] = False,
    as_json: Json = False,
) -> None:
    """Score the chosen mixture and its reference once, on prompts from test, and record that test was used.

    The best of many on dev is not a result: it was chosen for being the best. All trainings of both mixtures answer
    fresh prompts, drawn from test as those from dev were. The record (reports/confirmed/NAME.json: ids, numbers,
    digests) is committed before a number is shown; a second choice needs --again, and its record says so. A NAME that
    has a record is not scored again.

    Exit code 0: recorded and shown. 1: refused or failed, and why. 2: usage.
    """
    from pipelines.experiments.confirm import confirm as confirm_choice
    from pipelines.experiments.confirm import print_confirmed

    with working(f"answering prompts from test for {name} and its reference"):
        record = confirm_choice(name, reference=reference, model=model, again=again)
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        print_confirmed(page(), record)
