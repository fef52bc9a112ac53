"""``heartwood verify``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import HeartwoodError
from heartwood.options import Json


def verify(
    revisions: Annotated[
        list[str] | None, typer.Argument(help="Commits, tags, branches or experiments, or folders of releases.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="PUB.pem", help="The publisher's public key, to check the signature of a release."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the chain of hashes from raw data to every score, and name the first link that does not hold.

    Exit code 0: verified. 1: stale (older than something upstream) or broken (evidence that contradicts itself).
    2: incomplete (could not be checked). Works on any revision without checking it out, and needs no data. It
    finds every edit that leaves dvc.lock, params.yaml, git and the scores' own inputs in disagreement; it cannot
    find a rewrite in which all of them agree, nor damage inside the DVC cache.

    A folder that `heartwood export` wrote is checked by itself, without repository: every file, the chain, cards and
    metadata against the reports, scores against their ratings, and with --key who signed it.
    """
    from pipelines.provenance.export.check import is_release, verify_folder
    from pipelines.provenance.revision import WORKSPACE, open_revision
    from pipelines.provenance.verify import EXIT_CODES
    from pipelines.provenance.verify import verify as verify_revision

    names = revisions or [WORKSPACE]
    if key is not None and not any(is_release(Path(name)) for name in names):
        raise HeartwoodError("--key checks the signature of a release", hint="name the folder of one")
    results = {
        name: verify_folder(Path(name), key) if is_release(Path(name)) else verify_revision(open_revision(name))
        for name in names
    }
    if as_json:
        print(
            json.dumps(
                {
                    name: [
                        {
                            "model": v.model,
                            "verdict": v.verdict,
                            "index": v.score,
                            "links_checked": v.checked,
                            "faults": [vars(f) for f in v.faults],
                        }
                        for v in verdicts
                    ]
                    for name, verdicts in results.items()
                },
                indent=2,
            )
        )
    else:
        for name, verdicts in results.items():
            print(name)
            for v in verdicts:
                print(f"  {v.model}: {v.verdict} ({v.checked} links checked)")
                if v.first:
                    print(f"    {v.first.stage}: {v.first.message}")
    raise typer.Exit(max(EXIT_CODES[v.verdict] for verdicts in results.values() for v in verdicts))
