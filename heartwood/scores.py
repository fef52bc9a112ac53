"""``heartwood scores``."""

import json

from heartwood.options import Json, RevisionName, page


def scores(revision: RevisionName = "workspace", as_json: Json = False) -> None:
    """Show every model's score with interval, degenerate and stock replies, data hash, and what is known of the judge.

    Below the table: the judge, and what each paired difference amounts to. Works on any revision without checking it
    out, from its reports.

    Exit code 0: shown. 1: no such revision, or a score is missing. 2: usage.
    """
    from pipelines.provenance.revision import open_revision
    from pipelines.reporting.scores import print_scores, read_contrasts, read_judge, read_scores

    opened = open_revision(revision)
    found, contrasts, judge = read_scores(opened), read_contrasts(opened), read_judge(opened)
    if as_json:
        print(json.dumps({"scores": found, "judge": judge, "contrasts": contrasts}, indent=2))
    else:
        print_scores(page(), found, contrasts, judge)
