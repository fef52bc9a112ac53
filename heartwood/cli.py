"""The command line: thin verbs over ``pipelines`` and ``curation``; a verb imports what it needs when it runs."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from curation.errors import HeartwoodError
from heartwood.confirm import confirm
from heartwood.dedup import dedup
from heartwood.diff import diff
from heartwood.explain import explain
from heartwood.flow import flow
from heartwood.judge import judge
from heartwood.leaks import ManyFiles, leaks
from heartwood.mixtures import mixtures
from heartwood.models import models
from heartwood.scores import scores
from heartwood.verify import verify

P = ParamSpec("P")
T = TypeVar("T")

app = typer.Typer(
    name="heartwood",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Curated data, honest scores, and the evidence that ties them together. Runs beside DVC: `dvc repro` makes"
    " the scores, these commands answer what DVC cannot.",
)


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


COMMANDS = {"leaks": ManyFiles}
VERBS: tuple[Callable[..., None], ...] = (
    scores,
    verify,
    models,
    dedup,
    leaks,
    explain,
    flow,
    diff,
    mixtures,
    confirm,
    judge,
)
for verb in VERBS:
    app.command(cls=COMMANDS.get(verb.__name__), short_help=(verb.__doc__ or "").partition("\n")[0])(told_plainly(verb))


if __name__ == "__main__":
    app()
