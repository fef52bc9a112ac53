"""Removed records beside what they repeat, from the ledgers; and decisions near a threshold, from the review samples."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from pipelines.layout import DEDUPLICATED, LEDGER, REVIEW, SPLIT
from pipelines.provenance.outs import Outs
from pipelines.reporting.site.text import closest, differences, visible

BUDGET = 1_500_000
TURNS = 6
_COLUMNS = ["uid", "source", "turns", "situation", "emotions"]
_LEDGER = [*_COLUMNS, "rule", "survivor", "score", "detail"]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Pairs:
    """The pairs that a page shows, and how many there are in all by kind (``duplicate``, ``leak``, ...)."""

    shown: list[dict[str, Any]]
    total: dict[str, int]

    def shown_of(self, kind: str) -> int:
        """How many of a kind are shown."""
        return sum(p["kind"] == kind for p in self.shown)


def read_pairs(outs: Outs, budget: int = BUDGET) -> Pairs:
    """The pairs of a revision: all of them, or a fixed sample whose JSON stays within ``budget`` bytes.

    Every source and rule takes its turn in sha256 order of the removed records, so the sample depends on nothing else.

    Raises:
        HeartwoodError: a ledger or table is not there, or a ledger names a survivor that no table holds.
    """
    removed = {
        "split": _ledger(outs, "split"),
        "duplicate": _ledger(outs, "dedup"),
        "leak": _ledger(outs, "leakage"),
    }
    close = _close_calls(outs)
    strata: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for kind, rows in (*removed.items(), ("close call", close)):
        for row in rows:
            strata[kind, row["rule"], row.get("source", "")].append(row)
    for rows in strata.values():
        rows.sort(key=lambda r: hashlib.sha256(f"{r['uid']}/{r['survivor']}".encode()).hexdigest())
    chosen = _in_turn(strata)
    others = _records(outs, {row["uid" if kind == "close call" else "survivor"] for kind, row in chosen})
    shown, spent = [], 0
    for kind, row in chosen:
        pair = _close_pair(row, others) if kind == "close call" else _pair(kind, row, others)
        spent += len(json.dumps(pair, ensure_ascii=False).encode())
        if spent > budget:
            break
        shown.append(pair)
    order = {"duplicate": 0, "leak": 1, "split": 2, "close call": 3}
    shown.sort(key=lambda p: (order[p["kind"]], p["score"], p["rule"], p["uid"]))
    return Pairs(shown, {**{kind: len(rows) for kind, rows in removed.items()}, "close call": len(close)})


def _in_turn(strata: Mapping[tuple[str, str, str], Sequence[Record]]) -> list[tuple[str, Record]]:
    longest = max((len(rows) for rows in strata.values()), default=0)
    return [(key[0], strata[key][i]) for i in range(longest) for key in sorted(strata) if i < len(strata[key])]


def _ledger(outs: Outs, name: str) -> list[Record]:
    rows: list[Record] = pq.read_table(outs.file(LEDGER[name].as_posix()), columns=_LEDGER).to_pylist()
    return rows


def _records(outs: Outs, uids: Collection[str]) -> dict[str, Record]:
    """Records by uid, from the splits and, for records made by merging labels, from deduplicated train."""
    found: dict[str, Record] = {}
    paths = {Path(p): split for split, p in SPLIT.items()} | {DEDUPLICATED: "train"}
    for path, split in paths.items():
        wanted = sorted(set(uids) - set(found))
        if wanted:
            table = pq.read_table(outs.file(path.as_posix()), columns=_COLUMNS, filters=[("uid", "in", wanted)])
            found |= {row["uid"]: {**row, "split": split} for row in table.to_pylist()}
    if lost := sorted(set(uids) - set(found)):
        raise HeartwoodError(
            f"the ledgers of {outs.revision.name} name {lost[0]} as what stands in a removed record's place; no split"
            " holds it",
            hint="run `dvc repro`; `heartwood verify` says what does not fit",
        )
    return found


def _close_calls(outs: Outs) -> list[Record]:
    rows = [row for path in REVIEW.values() for row in read_jsonl(outs.file(path.as_posix()))]
    return [{**row, "survivor": row["other_uid"]} for row in rows]


def _texts(record: Record) -> list[tuple[str, str]]:
    turns = [(t["role"], t["text"]) for t in record["turns"]]
    return [("situation", record["situation"]), *turns] if record["situation"] else turns


def _pair(kind: str, row: Record, others: Mapping[str, Record]) -> dict[str, Any]:
    other = others[row["survivor"]]
    left, right = _texts(row), _texts(other)
    if kind == "duplicate":
        places = [(i, i) for i in range(min(len(left), len(right)))]
    else:
        places = [closest([text for _, text in left], [text for _, text in right])]
    a, b = _sides(left, right, places)
    return {
        "kind": kind,
        "rule": row["rule"],
        "source": visible(row["source"]),
        "score": row["score"],
        "detail": visible(row["detail"]),
        "uid": row["uid"],
        "other": row["survivor"],
        "place": other["split"],
        "labels": [_labels(row), _labels(other)],
        "a": a,
        "b": b,
    }


def _close_pair(row: Record, others: Mapping[str, Record]) -> dict[str, Any]:
    a, b = differences(visible(row["text"]), visible(row["other_text"]))
    return {
        "kind": "close call",
        "rule": row["rule"],
        "source": visible(others[row["uid"]]["source"]),
        "score": row["score"],
        "detail": "called the same" if row["flagged"] else "called different",
        "uid": row["uid"],
        "other": row["other_uid"],
        "place": "",
        "labels": ["", ""],
        "a": [["", a]],
        "b": [["", b]],
    }


def _labels(record: Record) -> str:
    return visible(", ".join(record["emotions"]))


def _sides(
    left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]], places: Sequence[tuple[int, int]]
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Each side's turns as [role, parts]; a turn that is not compared has its text instead of parts."""
    compared = {ij: differences(visible(left[ij[0]][1]), visible(right[ij[1]][1])) for ij in places}
    a: dict[int, list[str]] = {i: parts for (i, _), (parts, _) in compared.items()}
    b: dict[int, list[str]] = {j: parts for (_, j), (_, parts) in compared.items()}
    return _side(left, a), _side(right, b)


def _side(turns: Sequence[tuple[str, str]], compared: Mapping[int, list[str]]) -> list[list[Any]]:
    # Of a long chat, the turns around the first one that is compared.
    first = max(0, min(min(compared, default=0) - TURNS // 2, len(turns) - TURNS))
    last = min(len(turns), first + TURNS)
    shown: list[list[Any]] = [[turns[i][0], compared.get(i) or visible(turns[i][1])] for i in range(first, last)]
    if first:
        shown.insert(0, ["", _turns(first, "earlier")])
    if last < len(turns):
        shown.append(["", _turns(len(turns) - last, "later")])
    return shown


def _turns(count: int, where: str) -> str:
    return f"{count} {where} turn{'s' if count > 1 else ''}"
