"""``heartwood report``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, RevisionName, working


def report(
    revision: RevisionName = "workspace",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write index.html.")] = Path("reports/site"),
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Build one page of everything: verdict, scores, replies, judge, training, mixture, flow, pairs, chain.

    One HTML file that needs no network and no server, on a desk or a phone. Its first lines are what
    `heartwood verify` finds, with revision and time. It holds text of the corpora and of replies, so keep it out of
    git (reports/site is ignored). Any revision will do; what the DVC cache lacks is named on the page.

    Exit code 0: written, whatever the verdict. 1: could not be written. 2: usage.
    """
    from datetime import UTC, datetime

    from pipelines.provenance.revision import open_revision
    from pipelines.reporting.site.gather import check_libraries, gather

    check_libraries()
    from pipelines.reporting.site.page import write

    with working("building the report"):
        site = gather(open_revision(revision), datetime.now(UTC))
        path = write(site, out)
    size = path.stat().st_size
    verdicts = {v.model: v.verdict for v in site.verdicts.content or []}
    if as_json:
        found = {"path": str(path), "revision": revision, "verdict": site.verdict, "verdicts": verdicts, "bytes": size}
        print(json.dumps({**found, "not_shown": site.problems}, indent=2))
    else:
        print(f"{path} ({size / 1e6:.1f} MB): {site.verdict}")
        for name, problem in site.problems.items():
            print(f"  {name} not shown: {problem}")
    if open_it:
        typer.launch(path.resolve().as_uri())
