"""``heartwood scores``."""

import json

from heartwood.options import Json, RevisionName


def scores(revision: RevisionName = "workspace", as_json: Json = False) -> None:
    """Show every model's score with interval, degenerate rate and data hash."""
    from rich.console import Console

    from pipelines.provenance.revision import open_revision
    from pipelines.reporting.scores import print_scores, read_contrasts, read_scores

    opened = open_revision(revision)
    found, contrasts = read_scores(opened), read_contrasts(opened)
    if as_json:
        print(json.dumps({"scores": found, "contrasts": contrasts}, indent=2))
    else:
        print_scores(Console(), found, contrasts)
