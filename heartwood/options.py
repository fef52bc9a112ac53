"""Options and console that the verbs share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RevisionName = Annotated[str, typer.Argument(metavar="REV", help="A commit, tag, branch or experiment.")]
PAGE_COLUMNS = 80


def page() -> "Console":
    """The console that results are printed to: as wide as the terminal, 80 columns and plain in a pipe."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, markup=False, emoji=False, width=PAGE_COLUMNS)
