"""``heartwood power``."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from heartwood.options import Json, page


def power(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B]", help="Two models or revisions, whose ratings give the standard deviation."),
    ] = None,
    difference: Annotated[
        float | None,
        typer.Option(help="A difference worth finding: how many prompts does it need?", show_default=False),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=2, help="A number of prompts: what can they show?", show_default=False)
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the paired differences, in place of A B.", show_default=False),
    ] = None,
    rev: Annotated[str, typer.Option(metavar="REV", help="Where names of models are looked up.")] = "workspace",
    model: Annotated[
        str | None, typer.Option(help="The model of a revision named alone. Default: the last.", show_default=False)
    ] = None,
    contrasts: Annotated[int, typer.Option(min=1, help="Contrasts that will be adjusted for together.")] = 1,
    chance: Annotated[
        float, typer.Option("--power", min=0.05, max=0.999, help="Probability with which it is to be found.")
    ] = 0.8,
    as_json: Json = False,
) -> None:
    """Say how many prompts a difference needs, or what difference a number of prompts can show.

    For a two-sided paired t test at 0.05. The standard deviation of the differences is given (--sd), or taken from
    the ratings of two models.

    Exit code 0: computed. 1: could not be computed, and why. 2: usage.
    """
    from curation.errors import HeartwoodError
    from pipelines.experiments.comparing import compare_sides, find_sides, plan, print_power

    if (sd is None) == (not names):
        raise HeartwoodError(
            "the standard deviation comes from --sd or from two models" + (", not from both" if names else ""),
            hint="heartwood power --sd 1.0 --difference 0.1, or heartwood power base sft-150 --difference 0.1",
        )
    source = "given"
    if sd is None:
        sides = find_sides(names or [], rev, model)
        if len(sides) != 2:
            raise HeartwoodError(f"{len(sides)} names", hint="name two models or revisions")
        [contrast] = compare_sides(sides, seed=0).contrasts
        sd, source = contrast.paired.sd, f"{contrast.second} against {contrast.first}, {contrast.paired.n} prompts"
    found = plan(sd, source, difference=difference, prompts=prompts, contrasts=contrasts, power=chance)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print_power(page(), found)
