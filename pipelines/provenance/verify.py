"""Verification of a revision's scores and reports, from raw data to the last number, in levels.

Each level holds the ones before it: the chain (``chain``), the bytes (``data``), the ratings made again (``rescore``),
the replies made again (``regenerate``). What each finds and cannot find stands in ``heartwood verify --help``.
"""

from typing import Literal

from pipelines.provenance.chain import Chain, check_report, check_score, score_digests
from pipelines.provenance.lock import Lock, order_upstream, read_lock, read_yaml
from pipelines.provenance.revision import Revision
from pipelines.provenance.verdict import EXIT_CODES, Fault, ScoreVerdict, Verdict, Verification

__all__ = [
    "EXIT_CODES",
    "LEVELS",
    "Fault",
    "Level",
    "Lock",
    "ScoreVerdict",
    "Verdict",
    "Verification",
    "order_upstream",
    "read_lock",
    "read_yaml",
    "score_digests",
    "verify",
    "verify_revision",
]

Level = Literal["chain", "data", "rescore", "regenerate"]
LEVELS: tuple[Level, ...] = ("chain", "data", "rescore", "regenerate")


def verify(revision: Revision) -> list[ScoreVerdict]:
    """The verdict, without data, on the score of every model that ``params.yaml`` names at a revision."""
    return verify_revision(revision).scores


def verify_revision(revision: Revision, level: Level = "chain") -> Verification:
    """The verdicts on every score and every other report at a revision, up to a level.

    Raises:
        HeartwoodError: the revision has no ``dvc.yaml``, ``dvc.lock`` or ``params.yaml`` that can be read.
    """
    chain = Chain(revision)
    depth = LEVELS.index(level)
    scores = [check_score(chain, model) for model in chain.models]
    behind = {name for v in scores for name in chain.upstream(f"score@{v.model}")}
    reports = [
        check_report(chain, name) for name, d in chain.definitions.items() if name not in behind and d.in_git & d.outs
    ]
    if depth:
        from pipelines.provenance.data import DataLevel
        from pipelines.provenance.evidence import Evidence

        evidence = Evidence(revision)
        data = DataLevel(chain, evidence)
        for score in scores:
            data.score(score)
            if depth > 1:
                from pipelines.provenance.rescore import rescore

                rescore(chain, evidence, score)
            if depth > 2:
                from pipelines.provenance.regenerate import regenerate

                regenerate(chain, evidence, data, score)
    return Verification(revision.name, scores, sorted(reports, key=lambda r: r.path))
