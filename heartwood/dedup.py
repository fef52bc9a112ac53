"""``heartwood dedup``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood import options


def dedup(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSONL, CSV, TSV (each also .gz) or Parquet.")],
    text_column: options.TextColumn = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Column with labels: copies whose labels differ are counted, not removed."),
    ] = None,
    header: options.Header = None,
    quoting: options.Quoting = None,
    near: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, show_default="0.8", help="Jaccard of word n-grams from which rows are near."),
    ] = None,
    ngram: Annotated[int | None, typer.Option(min=1, show_default="3", help="Words of an n-gram.")] = None,
    cosine: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, show_default="0.95", help="Cosine from which rows say the same (both sides of a chat)."
        ),
    ] = None,
    generic_words: Annotated[
        int | None,
        typer.Option(min=0, show_default="3", help="Up to this many words a text is a stock phrase, and stays."),
    ] = None,
    no_semantic: options.NoSemantic = False,
    threads: options.Threads = None,
    show: options.Show = 20,
    output: options.Output = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Write the input without the removed rows here: unchanged, in order, same format."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Find rows that repeat each other, in files of any kind, with the row that stays and the score for each.

    The rules and thresholds are those of the pipeline's dedup stage: exact (folded), near (word n-grams), semantic
    (sentence vectors). Rows are numbered from 1 without the header; blank lines count. Rows that hold no text are
    listed as unusable and stay in --keep.

    Exit code 0: done, whatever was found. 1: could not be done. 2: usage.
    """
    from curation.dedup import DedupSettings
    from curation.tabular import Columns, check_destination, check_table, keep_rows, write_rows
    from pipelines.reporting.pairs import DUPLICATE_COLUMNS, find_duplicates, print_duplicates

    asked = {"near_jaccard": near, "shingle_words": ngram, "semantic_cosine": cosine, "generic_words": generic_words}
    settings = DedupSettings(**{k: v for k, v in asked.items() if v is not None})  # type: ignore[arg-type]
    columns = Columns(text_column, label_column, header, quoting)
    if keep:
        check_destination(keep, files)
    if output:
        check_table(output, [*files, *([keep] if keep else [])])
    with options.working("reading"):
        read = options.read_files(files, columns, "train")
    with options.working(f"comparing {sum(f.rows for f in read):,} rows"):
        found = find_duplicates(read, settings, options.encoder(no_semantic, threads))
    if output:
        write_rows(found.pairs, DUPLICATE_COLUMNS, output)
    if keep:
        keep_rows(files, columns, found.removed_rows(), keep)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_duplicates(options.page(), found, show)
