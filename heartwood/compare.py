"""``heartwood compare``."""

import json
from typing import Annotated, Literal

import typer

from heartwood.options import Json, page


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="A B...", help="Models of one revision, revisions or experiments, or REVISION:MODEL."),
    ],
    rev: Annotated[str, typer.Option(metavar="REV", help="Where names of models are looked up.")] = "workspace",
    model: Annotated[
        str | None, typer.Option(help="The model of a revision named alone. Default: the last.", show_default=False)
    ] = None,
    min_effect: Annotated[
        float, typer.Option(min=0, help="Points that a difference must surely exceed to count as one.")
    ] = 0.0,
    interval: Annotated[
        Literal["t", "bca"], typer.Option(help="Student's t, or the bias-corrected accelerated bootstrap.")
    ] = "t",
    seed: Annotated[int, typer.Option(min=0, help="Of the Monte Carlo test and the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Say whether one model is better than another, prompt by prompt, and what the prompts could have shown.

    Every pair in the order given, the later against the earlier: mean difference with its 95 % interval, sign-flip p
    (exact up to 20 prompts that differ, else 20,000 seeded draws), Holm-adjusted over the pairs, prompts that went up,
    down or stayed, and the smallest true difference that would be found 4 times in 5. `improved` and `worse` need an
    interval beyond 0 (or --min-effect) and an adjusted p under 0.05; a model with significantly more degenerate
    replies is never `improved`. All else is `inconclusive`, which is no evidence that nothing changed.

    Exit code 0: compared, whatever the verdict. 1: could not be compared, and why. 2: usage.
    """
    from pipelines.experiments.comparing import compare_sides, find_sides, print_comparison

    found = compare_sides(find_sides(names, rev, model), seed=seed, min_effect=min_effect, interval=interval)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_comparison(page(), found)
