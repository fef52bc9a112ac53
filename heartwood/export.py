"""``heartwood export``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import HeartwoodError
from heartwood.options import Json, page, working


def export(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[REV] OUT_FOLDER", help="What to export (default: HEAD; `workspace` is the working tree), and to."
        ),
    ],
    name: Annotated[str, typer.Option(help="The release's name. Default: heartwood-DIGEST.", show_default=False)] = "",
    creator: Annotated[str, typer.Option(help="Who publishes it. Default: not stated.", show_default=False)] = "",
    url: Annotated[
        str, typer.Option(help="Where it will be found. Default: urn:sha256:DIGEST.", show_default=False)
    ] = "",
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Sign the statement with this private key (Ed25519, ECDSA or RSA)."),
    ] = None,
    allow_unverified: Annotated[
        bool, typer.Option("--allow-unverified", help="Export scores that are not verified; every card says so.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a release folder: mixture, models, cards, licences, Croissant metadata and an in-toto statement.

    The folder holds the corpora's text: under which terms it may be passed on stands in its README.md. Data and
    adapters come from the workspace or DVC's cache, every byte checked. `heartwood verify OUT_FOLDER` checks a
    release away from the repository; docs/export.md says what is in it.

    Exit code 0: written. 1: a score is not verified, data is not here, or the folder is not free. 2: usage.
    """
    from pipelines.provenance.export.release import Wish
    from pipelines.provenance.export.release import export as export_release

    if len(where) > 2:
        raise HeartwoodError(
            f"{len(where)} arguments; allowed: a revision and a folder, or a folder", hint="heartwood export [REV] OUT"
        )
    revision, out = ("HEAD", where[0]) if len(where) == 1 else where
    with working(f"exporting {revision}"):
        made = export_release(
            revision,
            Path(out),
            wish=Wish(name, creator, url),
            key=sign,
            allow_unverified=allow_unverified,
        )
    facts = made.facts
    if as_json:
        found = {
            "folder": str(made.folder),
            "statement": made.statement.name,
            "commit": facts.origin.commit,
            "verdicts": {model: checked.verdict for model, checked in facts.checked.items()},
            "licence": facts.licence.as_dict(),
        }
        print(json.dumps(found, indent=2))
        return
    console = page()
    console.print(f"{made.folder}: {len(facts.digests)} files of {revision} (commit {facts.origin.commit[:12]})")
    for model, checked in facts.checked.items():
        console.print(f"  {model}: {checked.verdict}")
    for sentence in facts.licence.sentences():
        console.print(f"  {sentence}")
    console.print(f"check it anywhere: heartwood verify {made.folder}" + (" --key PUB.pem" if sign else ""))
