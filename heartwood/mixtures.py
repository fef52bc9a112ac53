"""``heartwood mixtures``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, page, working


def mixtures(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV]...", help="Experiments or commits. Default: all experiments and the last commit."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The run whose mixture the others are compared with. Default: proportional mixing, else HEAD's.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the picture to this file, .svg or .png.")] = None,
    as_json: Json = False,
) -> None:
    """Show finished experiments as one table: mixture, seeds, scores, paired differences and what they mean.

    Runs of one mixture with several seeds (sft.seed, mix.seed) are one row. A difference is a statement about
    mixtures with at least 3 training seeds a side, counting the variance of prompts and of seeds; with fewer it is
    about these models only. p values are Holm-adjusted over the whole table. Runs with other settings, other prompts
    or unfinished stages are left out, with the reason. Reads git alone: no data is needed.

    Exit code 0: shown. 1: no finished run, or a name that is none. 2: usage.
    """
    from pipelines.experiments.confirm import read_confirmed, sentence
    from pipelines.experiments.mixture_table import check_picture, draw, print_mixtures
    from pipelines.experiments.mixtures import build_table, read_runs

    if plot:
        check_picture(plot)
    with working("reading experiments"):
        runs, left_out = read_runs(names or [])
        found = build_table(runs, left_out, reference=reference)
    if plot:
        draw(found, plot)
    if as_json:
        print(json.dumps({**found.as_dict(), "confirmed": read_confirmed()}, indent=2))
    else:
        print_mixtures(page(), found, [sentence(record) for record in read_confirmed()])
