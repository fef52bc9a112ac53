"""Options, console and progress that the verbs share."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.errors import HeartwoodError

if TYPE_CHECKING:
    from rich.console import Console

    from curation.neighbours import Vectors
    from curation.tabular import Columns, RowFile


def revision_names(incomplete: str) -> list[str]:
    """Branches, tags and experiments of this repository, for the shell's completion."""
    import subprocess

    listed = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/exps"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    # refs/heads/a/b and refs/tags/a/b are named a/b; refs/exps/12/3456/name, with the baseline's commit, is named name.
    names = {r.split("/", 4)[-1] if r.startswith("refs/exps/") else r.split("/", 2)[2] for r in listed}
    return sorted(name for name in names | {"workspace", "HEAD"} if name.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RevisionName = Annotated[
    str,
    typer.Argument(
        metavar="REV",
        help="A commit, tag, branch or experiment; `workspace` is the working tree.",
        autocompletion=revision_names,
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column with the text or chat; without header its number. Default: text, else messages, else prompt"
        " and completion; without header 1.",
        show_default=False,
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether CSV and TSV start with column names. Default: a CSV does; a TSV if its first row names the"
        " column asked for, or a default one.",
        show_default=False,
    ),
]
Quoting = Annotated[
    bool | None,
    typer.Option(
        "--quoting/--no-quoting",
        help="Whether quotation marks enclose fields (RFC 4180). Default: in TSV no; in CSV yes, unless"
        " they enclose nothing.",
        show_default=False,
    ),
]
NoSemantic = Annotated[bool, typer.Option("--no-semantic", help="Compare words only: fast, no sentence encoder.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the sentence encoder.", show_default=False)]
Show = Annotated[int, typer.Option(min=0, help="How many pairs to print.")]
Output = Annotated[
    Path | None, typer.Option(help="Write all pairs to this file, as .jsonl, .csv or .parquet.", show_default=False)
]
PAGE_COLUMNS = 80


def page() -> "Console":
    """The console that results are printed to: as wide as the terminal; 80 columns and plain in a pipe."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        # Texts are anybody's, and not every terminal or pipe can take every character.
        sys.stdout.reconfigure(errors="replace")
    terminal = Console(highlight=False, markup=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, markup=False, emoji=False, width=PAGE_COLUMNS)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something is going on, and for how long; nothing in a pipe."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


def read_files(paths: Sequence[Path], columns: "Columns", split: str) -> "list[RowFile]":
    """The rows of several files of one side.

    Raises:
        HeartwoodError: a file is named twice, or cannot be read.
    """
    from curation.tabular import read_rows

    resolved = [p.resolve() for p in paths]
    if twice := next((p for i, p in enumerate(paths) if resolved[i] in resolved[:i]), None):
        raise HeartwoodError(f"{twice}: named twice", hint="name each file once")
    return [read_rows(path, columns, split) for path in paths]


def encoder(no_semantic: bool, threads: int | None) -> "Callable[[Sequence[str]], Vectors] | None":
    """The sentence encoder with its kept vectors, or None."""
    if no_semantic:
        return None
    from curation.embedding import Encoder, VectorStore

    return Encoder(VectorStore(), threads=threads).encode
