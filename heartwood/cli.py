"""The command line: thin verbs over ``pipelines``."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console

from curation.errors import HeartwoodError

P = ParamSpec("P")
T = TypeVar("T")

app = typer.Typer(
    name="heartwood",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Curated data, honest scores, and the evidence that ties them together. Runs beside DVC: `dvc repro` makes"
    " the scores, these commands answer what DVC cannot.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def told_plainly(command: Callable[P, T]) -> Callable[P, T]:
    """Print a HeartwoodError as its message and the next step, and exit 1."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except HeartwoodError as error:
            print(f"heartwood: {error}\n  next: {error.hint}", file=sys.stderr)
            raise typer.Exit(1) from None

    return wrapped


@app.command()
@told_plainly
def scores(
    revision: Annotated[str, typer.Argument(help="A commit, tag, branch or experiment.")] = "workspace",
    as_json: Json = False,
) -> None:
    """Show every model's score with interval, degenerate rate and data hash."""
    from pipelines.provenance.revision import open_revision
    from pipelines.reporting.scores import print_scores, read_contrasts, read_scores

    opened = open_revision(revision)
    found, contrasts = read_scores(opened), read_contrasts(opened)
    if as_json:
        print(json.dumps({"scores": found, "contrasts": contrasts}, indent=2))
    else:
        print_scores(Console(), found, contrasts)


@app.command()
@told_plainly
def verify(
    revisions: Annotated[list[str] | None, typer.Argument(help="Commits, tags, branches or experiments.")] = None,
    as_json: Json = False,
) -> None:
    """Check the chain of hashes from raw data to every score, and name the first link that does not hold.

    Exit code 0: verified. 1: stale (older than something upstream) or broken (evidence that contradicts itself).
    2: incomplete (could not be checked). Works on any revision without checking it out, and needs no data. It
    finds every edit that leaves dvc.lock, params.yaml, git and the scores' own inputs in disagreement; it cannot
    find a rewrite in which all of them agree, nor damage inside the DVC cache.
    """
    from pipelines.provenance.revision import WORKSPACE, open_revision
    from pipelines.provenance.verify import EXIT_CODES
    from pipelines.provenance.verify import verify as verify_revision

    results = {name: verify_revision(open_revision(name)) for name in revisions or [WORKSPACE]}
    if as_json:
        print(
            json.dumps(
                {
                    name: [
                        {
                            "model": v.model,
                            "verdict": v.verdict,
                            "index": v.score,
                            "links_checked": v.checked,
                            "faults": [vars(f) for f in v.faults],
                        }
                        for v in verdicts
                    ]
                    for name, verdicts in results.items()
                },
                indent=2,
            )
        )
    else:
        for name, verdicts in results.items():
            print(name)
            for v in verdicts:
                print(f"  {v.model}: {v.verdict} ({v.checked} links checked)")
                if v.first:
                    print(f"    {v.first.stage}: {v.first.message}")
    raise typer.Exit(max(EXIT_CODES[v.verdict] for verdicts in results.values() for v in verdicts))


@app.command()
@told_plainly
def models() -> None:
    """Make one experiment a model (base, sft-100, ...), for `dvc metrics diff base sft-100`."""
    from pipelines.experiments.models import make_model_experiments
    from pipelines.provenance.revision import open_revision
    from pipelines.provenance.stage import look_up
    from pipelines.provenance.verify import read_yaml

    names = list(look_up(read_yaml(open_revision("workspace"), "params.yaml"), "models"))
    make_model_experiments(names)
    print(f"experiments {', '.join(names)} are ready: dvc metrics diff {names[0]} {names[-1]}")


if __name__ == "__main__":
    app()
