"""``heartwood flow``."""

import json
from typing import Annotated

import typer

from heartwood.options import Json, RevisionName, page


def flow(
    revision: RevisionName = "workspace",
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    as_json: Json = False,
) -> None:
    """Show how many rows each stage took and left, by source, and check that it adds up.

    With it: removals by rule, leaks by kind and side, the leak detector's recall with 95 % Wilson intervals,
    decisions near a threshold; for the workspace, time and peak memory of each stage's last run. Works on any
    revision without checking it out, from its reports.

    Exit code 0: it adds up. 1: it does not, and where. 2: a report is missing.
    """
    from pipelines.provenance.revision import open_revision
    from pipelines.reporting.flow import markdown, print_flow, read_flow

    found = read_flow(open_revision(revision))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    elif as_markdown:
        print(markdown(found), end="")
    else:
        print_flow(page(), found)
    raise typer.Exit(1 if found.faults else 2 if found.missing else 0)
