"""Rating anybody's file of (seeker_post, response_post) pairs, and agreement with human levels that it may hold."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import HeartwoodError
from curation.tabular import Unusable, read_named
from curation.text import fold
from pipelines.evaluation.gates import gate
from pipelines.evaluation.judges.agreement import HUMAN_CEILING, agreement, groups
from pipelines.evaluation.ratings import FILES, LEVELS, MECHANISMS, RatedPair
from pipelines.evaluation.score import (
    DEGENERATE,
    DEGENERATE_INDEX,
    NO_RATING,
    RATED,
    UNSCORED,
    Explains,
    Judge,
    checked_mechanisms,
)
from pipelines.layout import REPORTS
from pipelines.settings.evaluation import JudgeParams
from pipelines.settings.strict import parse_section, read_params

SEEKER, REPLY, LEVEL = "seeker_post", "response_post", "level"
FEWEST_LABELS = 2
MADE, SHIPPED = Path("models/judge"), Path("models/judge_head")
NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class PairRow:
    """A usable row: its number, its texts, and the human level of each mechanism that the file rates."""

    number: int
    seeker: str
    reply: str
    levels: Mapping[str, int]


@dataclass(frozen=True)
class PairFile:
    """A file of pairs: usable rows, unusable ones with a reason, the mechanisms it rates, and its sha256."""

    file: str
    rows: list[PairRow]
    unusable: list[Unusable]
    labelled: tuple[str, ...]
    sha256: str


def find_judge() -> Path:
    """The folder of the judge that is meant if none is named: the pipeline's, else the shipped one.

    Raises:
        HeartwoodError: the pipeline has made no judge yet, and params.yaml asks for another than the shipped one.
    """
    params = Path("params.yaml")
    if MADE.is_dir() or not params.is_file():
        return MADE if MADE.is_dir() else SHIPPED
    asked = parse_section(JudgeParams, read_params(params).get("judge"), "judge")
    if (asked.kind, asked.ratings) != ("epitome", "shipped"):
        raise HeartwoodError(
            f"{MADE} is missing, and params.yaml asks for another judge than the shipped one"
            f" (judge.kind {asked.kind}, judge.ratings {asked.ratings})",
            hint=f"run `dvc repro judge`, or name one: --judge {SHIPPED}",
        )
    return SHIPPED


def label_of(card: Mapping[str, Any]) -> str:
    """The label that the invariance suite gave a judge: from its card, or from the report of the judge of its digest."""
    if "invariance" in card:
        return str(card["invariance"]["label"])
    report = REPORTS / "judge.json"
    found = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    return str(found["label"]) if found.get("digest") == card["digest"] else NOT_CHECKED


def read_pairs(path: Path, mechanism: str | None = None) -> PairFile:
    """Reads ``seeker_post`` and ``response_post`` of a JSONL, CSV, TSV or Parquet file, and levels where it has any.

    Levels stand in columns named after the mechanisms, or in ``level``, as in EPITOME's files: then of ``mechanism``,
    or of the one that the file's name names. A row may leave a level out; another value than 0, 1 or 2 makes it
    unusable.

    Raises:
        HeartwoodError: the file cannot be read, lacks a column, has no usable row, or its ``level`` is of no known
            mechanism.
    """
    found = read_named(path, (SEEKER, REPLY), (LEVEL, *MECHANISMS))
    columns = {m: m for m in MECHANISMS if m in found.columns}
    if LEVEL in found.columns:
        columns = {_mechanism(path, mechanism): LEVEL, **columns}
    rows: list[PairRow] = []
    unusable = list(found.unusable)
    for number, values in found.rows:
        reason, detail = "", ""
        levels: dict[str, int] = {}
        if not _is_text(values.get(SEEKER)):
            reason, detail = "no_seeker", f"{SEEKER} holds no text"
        elif not isinstance(values.get(REPLY), str):
            reason, detail = "no_reply", f"{REPLY} holds no text"
        for name, column in columns.items():
            value = values.get(column)
            if value is None or value == "":
                continue
            if isinstance(value, bool) or str(value).strip().removesuffix(".0") not in map(str, LEVELS):
                reason, detail = "bad_level", f"{column} is {str(value)[:40]!r}; allowed: 0, 1, 2, or nothing"
            else:
                levels[name] = int(float(value))
        if reason:
            unusable.append(Unusable(str(path), number, reason, detail))
        else:
            rows.append(PairRow(number, values[SEEKER], values[REPLY], levels))
    if not rows:
        first = f"; the first: row {unusable[0].row}: {unusable[0].detail}" if unusable else ""
        raise HeartwoodError(f"{path}: no usable row{first}", hint=f"give each row {SEEKER} and {REPLY}")
    labelled = tuple(m for m in MECHANISMS if any(m in row.levels for row in rows))
    unusable.sort(key=lambda bad: bad.row)
    return PairFile(str(path), rows, unusable, labelled, hashlib.sha256(path.read_bytes()).hexdigest())


def rate_pairs(judge: Judge, rows: Sequence[PairRow]) -> list[dict[str, Any]]:
    """Status, index and mechanisms of each row, in order; a reply that a gate catches is ``degenerate``, index 1."""
    reasons = [gate([{"role": "user", "content": row.seeker}], row.reply, True) for row in rows]
    open_rows = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    ratings = iter(judge.rate([(row.seeker, row.reply) for row in open_rows]))
    found = []
    for row, reason in zip(rows, reasons, strict=True):
        made: dict[str, Any] = {"row": row.number, "status": RATED, "reason": None, "index": None}
        made |= dict.fromkeys(MECHANISMS)
        if reason:
            made |= {"status": DEGENERATE, "reason": reason, "index": DEGENERATE_INDEX}
        elif (rating := next(ratings)) is None:
            made |= {
                "status": UNSCORED,
                "reason": judge.reason((row.seeker, row.reply)) if isinstance(judge, Explains) else NO_RATING,
            }
        else:
            made |= {"index": rating.index, **checked_mechanisms(rating, f"the reply of row {row.number}")}
        found.append(made)
    return found


def agreement_with_people(
    rows: Sequence[PairRow], rated: Sequence[Mapping[str, Any]], labelled: Sequence[str], seed: int
) -> dict[str, Any]:
    """Agreement by mechanism, as in a card. A degenerate reply counts as level 0; what is unscored is left out.

    The interval's bootstrap redraws groups of shared seekers or replies.
    """
    report: dict[str, Any] = {}
    for m in labelled:
        kept = [(row, r) for row, r in zip(rows, rated, strict=True) if m in row.levels and r["status"] != UNSCORED]
        if len(kept) < FEWEST_LABELS:
            continue
        pairs = [RatedPair(fold(row.seeker), fold(row.reply), row.seeker, row.reply, {}) for row, _ in kept]
        human = np.array([row.levels[m] for row, _ in kept], dtype=np.int64)
        expected = np.array([0.0 if r["status"] == DEGENERATE else r[m] for _, r in kept])
        found = agreement(human, expected, groups(pairs), seed).as_json()
        report[m] = {k: None if v != v else v for k, v in found.items()} | {"human_ceiling": dict(HUMAN_CEILING[m])}
    return report


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _mechanism(path: Path, asked: str | None) -> str:
    if asked is not None:
        if asked not in MECHANISMS:
            raise HeartwoodError(f"{asked!r} is no mechanism; allowed: {', '.join(MECHANISMS)}", hint="correct it")
        return asked
    for name, file in FILES.items():
        if file.removesuffix("-reddit.csv") in path.name.replace("_", "-"):
            return name
    raise HeartwoodError(
        f"{path}: has a column {LEVEL}, and neither its name nor an option says of which mechanism",
        hint=f"say --mechanism {'|'.join(MECHANISMS)}",
    )
