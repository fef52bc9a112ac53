"""The command line: thin verbs over ``pipelines`` and ``curation``; a verb imports what it needs when it runs."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from curation.errors import HeartwoodError
from heartwood.compare import compare
from heartwood.confirm import confirm
from heartwood.dedup import dedup
from heartwood.diff import diff
from heartwood.eqbench import rescore, run
from heartwood.explain import explain
from heartwood.export import export
from heartwood.flow import flow
from heartwood.judge import judge
from heartwood.leaks import ManyFiles, leaks
from heartwood.merge import merge
from heartwood.mixtures import mixtures
from heartwood.models import models
from heartwood.power import power
from heartwood.preview import preview
from heartwood.report import report
from heartwood.scores import scores
from heartwood.verify import verify

P = ParamSpec("P")
T = TypeVar("T")

# The verbs in the order of the work; `heartwood --help` tells them so.
STORY: dict[str, tuple[str, ...]] = {
    "Look at what a run made": ("scores", "report", "flow", "explain", "preview"),
    "Check it": ("verify", "judge", "eqbench"),
    "Compare": ("compare", "diff", "models", "power"),
    "Try many mixtures": ("mixtures", "confirm"),
    "The same rules on your own files": ("dedup", "leaks"),
    "Release": ("merge", "export"),
}


class Story(TyperGroup):
    """Lists the verbs under the headings of ``STORY``."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a heading, all with one column of names."""
        width = max(map(len, self.commands))
        told = {name for names in STORY.values() for name in names}
        for heading, names in {**STORY, "More": tuple(n for n in self.commands if n not in told)}.items():
            rows = [(n.ljust(width), _short(self.commands[n].short_help)) for n in names if n in self.commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def _short(text: str | None) -> str:
    return (text or "").rstrip(".")


app = typer.Typer(
    name="heartwood",
    cls=Story,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Curated data, honest scores, and the evidence that ties them together. Runs beside DVC: `dvc repro` makes"
    " the scores, these commands answer what DVC cannot.\n\nEvery command takes --help and --json. Exit code 0: done."
    " 1: could not be done, or what was checked does not hold. 2: wrong usage, or something to check is missing. Some"
    " commands have more; their help says so.",
    epilog="Start with `heartwood scores`. Tab completion: `heartwood --install-completion`, then a new shell.",
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
    report,
    compare,
    power,
    verify,
    models,
    dedup,
    leaks,
    explain,
    flow,
    diff,
    mixtures,
    confirm,
    export,
    preview,
    merge,
    judge,
)
for verb in VERBS:
    app.command(cls=COMMANDS.get(verb.__name__), short_help=(verb.__doc__ or "").partition("\n")[0])(told_plainly(verb))

eqbench = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="EQ-Bench v2, which needs no judge: score recorded runs again, or run a model.",
)
for verb in (rescore, run):
    eqbench.command(short_help=(verb.__doc__ or "").partition("\n")[0])(told_plainly(verb))
app.add_typer(eqbench, name="eqbench", short_help="EQ-Bench v2: score recorded runs again, or run a model.")


if __name__ == "__main__":
    app()
