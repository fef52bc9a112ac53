"""``heartwood leaks``."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from heartwood import options

LEAKED = 3


class ManyFiles(TyperCommand):
    """Lets ``--train a b`` stand for ``--train a --train b``, as a shell expands ``--train *.jsonl``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further file."""
        spread: list[str] = []
        option = ""
        for argument in args:
            if argument.startswith("-"):
                option = argument if argument in ("--train", "--dev") else ""
            elif option and spread[-1] != option:
                spread.append(option)
            spread.append(argument)
        return super().parse_args(ctx, spread)


class FailOn(StrEnum):
    """Which leaks make the command exit with ``LEAKED``."""

    never = "never"
    substantive = "substantive"
    any = "any"


def leaks(
    train: Annotated[
        list[Path],
        typer.Option(metavar="FILE...", help="Rows to train on: JSONL, CSV, TSV (each also .gz) or Parquet."),
    ],
    dev: Annotated[list[Path], typer.Option(metavar="FILE...", help="Rows to evaluate on. Both take several files.")],
    text_column: options.TextColumn = None,
    header: options.Header = None,
    quoting: options.Quoting = None,
    contained: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, show_default="0.8", help="Share of the shorter text's n-grams from which it is contained."
        ),
    ] = None,
    ngram: Annotated[int | None, typer.Option(min=1, show_default="4", help="Words of an n-gram.")] = None,
    cosine: Annotated[
        float | None, typer.Option(min=0.01, max=1, show_default="0.85", help="Cosine from which texts say the same.")
    ] = None,
    generic_words: Annotated[
        int | None,
        typer.Option(
            min=0, show_default="8", help="Up to this many words a text is a stock phrase: only equality is looked for."
        ),
    ] = None,
    no_semantic: options.NoSemantic = False,
    threads: options.Threads = None,
    show: options.Show = 20,
    max_pairs: Annotated[
        int, typer.Option(min=1, help="About how many pairs to list; each leaked row keeps its strongest.")
    ] = 100_000,
    output: options.Output = None,
    fail_on: Annotated[FailOn, typer.Option(help="Which leaks give exit code 3.")] = FailOn.never,
    as_json: options.Json = False,
) -> None:
    """Find rows of dev that also stand, whole or in part or in other words, in train, in files of any kind.

    The rules and thresholds are those of the pipeline's leakage stage; every dev row is judged on its own, a chat
    turn by turn. Rows are numbered from 1 without the header; blank lines count.

    Exit code 0: done. 1: could not be done. 2: usage. 3: leaks were found, under --fail-on.
    """
    from curation.leakage import LeakageSettings
    from curation.tabular import Columns, check_table, write_rows
    from pipelines.reporting.pairs import LEAK_COLUMNS, find_leaks, print_leaks

    asked = {
        "contained_share": contained,
        "shingle_words": ngram,
        "semantic_cosine": cosine,
        "generic_words": generic_words,
    }
    settings = LeakageSettings(**{k: v for k, v in asked.items() if v is not None})  # type: ignore[arg-type]
    columns = Columns(text_column, None, header, quoting)
    if output:
        check_table(output, [*train, *dev])
    with options.working("reading"):
        train_files, dev_files = options.read_files(train, columns, "train"), options.read_files(dev, columns, "dev")
    rows = [sum(f.rows for f in files) for files in (dev_files, train_files)]
    with options.working(f"comparing {rows[0]:,} rows of dev with {rows[1]:,} of train"):
        found = find_leaks(train_files, dev_files, settings, options.encoder(no_semantic, threads), max_pairs)
    if output:
        write_rows(found.pairs, LEAK_COLUMNS, output)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_leaks(options.page(), found, show)
    bad = {FailOn.any: found.leaked["any"], FailOn.substantive: found.leaked["any"] - found.leaked["generic"]}
    if bad.get(fail_on):
        raise typer.Exit(LEAKED)
