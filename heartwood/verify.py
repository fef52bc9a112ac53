"""``heartwood verify``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from curation.errors import HeartwoodError
from heartwood.options import Json, page


def verify(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV]...",
            help="Commits, tags, branches or experiments, or folders of releases; by default the working tree.",
        ),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Hash the bytes again, and derive what follows from them.")
    ] = False,
    rescore: Annotated[bool, typer.Option("--rescore", help="--data, and rate the replies again.")] = False,
    regenerate: Annotated[bool, typer.Option("--regenerate", help="--rescore, and make the replies again.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="Hash every object of DVC's cache against its name.")] = False,
    key: Annotated[
        Path | None,
        typer.Option(metavar="PUB.pem", help="The publisher's public key, to check the signature of a release."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the chain from raw data to every score, and name the first link that does not hold.

    Nothing is checked out. Each level includes the ones before it:

    (no option) dvc.lock, dvc.yaml, params.yaml, code and reports in git, the score's own inputs; the means from the
    ratings, the comparison, the headline. Needs no data. Finds every edit that leaves these in disagreement. Cannot
    find damaged or exchanged data, nor an edit of ratings, means and lock that agree.

    --data: every byte against its hash (working tree, else DVC's cache), md5 and sha256; lineages against the lock;
    ids of records, digests of training rows and of the rows that each adapter consumed; a raw location outside the
    repository against what `raw` read. Cannot find ratings that do not come from their replies.

    --rescore: every rating again from its reply, with the recorded judge, within 0.001. Cannot find replies that the
    model never gave, nor ratings moved by less than that.

    --regenerate: every reply again from the recorded model, word for word. Where CPU or libraries are others than the
    lineage names, a different word is no proof: incomplete. Cannot find an adapter that was trained on other rows
    than all its evidence says: training is not repeated.

    --cache: objects of the cache that DVC would restore although they are damaged; of any revision.

    A folder that `heartwood export` wrote is checked by itself, without repository: every file, the chain, cards and
    metadata against the reports, scores against their ratings, and with --key who signed it.

    No level finds a rewrite of everything in which everything agrees. Only a signature made before it can.

    Verdicts: verified; stale (consistent, but older than something upstream: dvc repro); broken (evidence that
    contradicts itself); incomplete (could not be checked, and what is missing). Line ends do not count in git's files.

    Exit code 0: all verified. 1: something stale or broken, or no such revision. 2: the rest is incomplete; usage.
    """
    from pipelines.provenance.cache import check_cache
    from pipelines.provenance.export.check import is_release, verify_folder
    from pipelines.provenance.lock import read_lock
    from pipelines.provenance.revision import WORKSPACE, open_revision
    from pipelines.provenance.tree import as_json as revision_json
    from pipelines.provenance.tree import as_trees, report_json
    from pipelines.provenance.verdict import exit_code
    from pipelines.provenance.verify import LEVELS, verify_revision

    level = LEVELS[3 if regenerate else 2 if rescore else 1 if data else 0]
    names = revisions or [WORKSPACE]
    releases = [name for name in names if is_release(Path(name))]
    if key is not None and not releases:
        raise HeartwoodError("--key checks the signature of a release", hint="name the folder of one")
    opened = {name: open_revision(name) for name in names if name not in releases}
    results = [
        verify_revision(opened[name], level) if name in opened else verify_folder(Path(name), key) for name in names
    ]
    if cache and not opened:
        raise HeartwoodError("--cache checks the cache of a repository", hint="name a revision, or nothing")
    others = [check_cache(read_lock(next(iter(opened.values()))))] if cache else []
    if as_json:
        found = {r.revision: revision_json(r) for r in results}
        print(json.dumps(found | {o.path: report_json(o) for o in others}, indent=2))
    else:
        page().print(as_trees(results, others))
    raise typer.Exit(exit_code([v for r in results for v in (*r.scores, *r.reports)] + [*others]))
