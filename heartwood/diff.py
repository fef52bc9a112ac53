"""``heartwood diff``."""

import json
from typing import Annotated

import typer

from heartwood.options import Json, page, revision_names, working


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A commit, tag, branch or experiment, or `workspace`.", autocompletion=revision_names
        ),
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Another; by default the workspace.", autocompletion=revision_names)
    ] = "workspace",
    examples: Annotated[int, typer.Option(min=0, help="Rows to show of each kind and source.")] = 2,
    as_json: Json = False,
) -> None:
    """Show what differs between the data of two revisions, record by record, and between their scores.

    Compares the mixture, clean train, dev and test: rows added, removed and changed (other content in the place of
    the same conversation), by source and label, with examples; the params that differ; each model's paired difference
    on the same prompts. Reads DVC's cache and git; nothing is checked out.

    Exit code 0: compared, whatever was found. 1: could not be done. 2: usage.
    """
    from pipelines.experiments.diff import compare_revisions, print_diff
    from pipelines.provenance.revision import open_revision

    with working(f"comparing {a} with {b}"):
        found = compare_revisions(open_revision(a), open_revision(b), examples=examples)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_diff(page(), found)
