"""``heartwood models``."""

import json
from typing import Annotated

import typer

from heartwood.options import Json, working


def models(
    mixture: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="The mixture's name in the tags. Default: made of its shares."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one experiment a model (base, sft-100, ...), for `dvc metrics diff base sft-100`.

    Each runs in a copy of the last commit (`dvc exp run --temp`), so nothing piles up in the workspace, and is tagged
    eq/MIXTURE/MODEL. An experiment of the same name on this commit is replaced (`dvc exp remove`, never -f). Names
    that git reads as a tag, branch or commit are refused: DVC would silently take those instead.

    Exit code 0: made. 1: refused or failed, and why. 2: usage.
    """
    from pipelines.experiments.models import make_model_experiments
    from pipelines.provenance.revision import open_revision
    from pipelines.provenance.stage import look_up
    from pipelines.provenance.verify import read_yaml

    names = list(look_up(read_yaml(open_revision("workspace"), "params.yaml"), "models"))
    with working(f"making an experiment of each of {', '.join(names)}"):
        tags = make_model_experiments(names, mixture)
    if as_json:
        print(json.dumps({"experiments": names, "tags": tags}, indent=2))
        return
    print(f"experiments {', '.join(names)} are ready: dvc metrics diff {names[0]} {names[-1]}")
    print(f"tagged {', '.join(tags)}")
