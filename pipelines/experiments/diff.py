"""What differs between the data of two revisions, record by record, beside the change in their scores."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from curation.records import canonical_json, text_digest
from pipelines.experiments.scores import ScoreChange, score_changes
from pipelines.layout import CLEAN, MIXTURE, SPLIT
from pipelines.provenance.hashing import hash_file
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision
from pipelines.provenance.verify import read_yaml

Kind = Literal["added", "removed", "changed"]
KINDS: tuple[Kind, ...] = ("added", "removed", "changed")
TABLES = {
    "mixture": MIXTURE.as_posix(),
    "train": CLEAN.as_posix(),
    "dev": SPLIT["dev"].as_posix(),
    "test": SPLIT["test"].as_posix(),
}
NO_LABEL = "(no label)"
PREVIEW = 160
_COLUMNS = ["uid", "id", "source", "group", "emotions"]


@dataclass(frozen=True)
class Row:
    """One row of a table: what it says (``content``), what it is called (``uid``), and the place that it fills.

    A place is what a changed row shares with what it was: source and structural group, of an example its turn too.
    """

    uid: str
    content: str
    source: str
    label: str
    place: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One row that differs: its texts before and after, of which an added or removed one has but one."""

    kind: Kind
    source: str
    label: str
    uid: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class TableDiff:
    """One table on both sides: rows, how many differ, by source and label, and some of them."""

    table: str
    rows: tuple[int, int]
    counts: dict[Kind, int]
    by_source_and_label: dict[str, dict[str, dict[Kind, int]]]
    examples: list[Change]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not any(self.counts.values())

    def by_source(self, kind: Kind) -> dict[str, int]:
        """How many rows of each source differ in this way."""
        return {s: n for s, ls in self.by_source_and_label.items() if (n := sum(c[kind] for c in ls.values()))}


@dataclass(frozen=True)
class DataDiff:
    """Two revisions: the params that differ, the tables, and the scores."""

    revisions: tuple[str, str]
    params: dict[str, tuple[Any, Any]]
    tables: list[TableDiff]
    scores: list[ScoreChange]
    unread: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "revisions": list(self.revisions),
            "params": {key: {"from": a, "to": b} for key, (a, b) in self.params.items()},
            "tables": {
                t.table: {
                    "rows": list(t.rows),
                    **t.counts,
                    "by_source_and_label": t.by_source_and_label,
                    "examples": [vars(e) for e in t.examples],
                }
                for t in self.tables
            },
            "scores": [s.as_dict() for s in self.scores],
            "not_compared": self.unread,
        }


def compare_revisions(a: Revision, b: Revision, *, examples: int, seed: int = 0) -> DataDiff:
    """What differs between two revisions; tables whose hashes are equal are not read.

    Args:
        examples: how many rows of each kind to show for each source.
        seed: of the test on the scores (`paired_comparison`).

    Raises:
        HeartwoodError: a revision without ``dvc.lock``, or data that is not in the cache.
    """
    sides = (Outs(a), Outs(b))
    unread: dict[str, str] = {}
    tables = []
    for table, path in TABLES.items():
        if missing := [s.revision.name for s in sides if _md5(s, path) is None]:
            unread[table] = f"{path} is not there at {' and '.join(dict.fromkeys(missing))}"
            continue
        tables.append(_table_diff(table, path, sides, examples))
    return DataDiff(
        (a.name, b.name),
        changed_params(read_yaml(a, "params.yaml"), read_yaml(b, "params.yaml")),
        tables,
        score_changes(a, b, (_md5(sides[0], TABLES["mixture"]), _md5(sides[1], TABLES["mixture"])), seed),
        unread,
    )


def changed_params(a: Any, b: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with both values; None where one side has none."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return {} if a == b else {key: (a, b)}
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys([*a, *b]):
        found |= changed_params(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))
    return found


def _md5(outs: Outs, path: str) -> str | None:
    if not outs.revision.commit:
        return hash_file(Path(path)).md5 if Path(path).is_file() else None
    return outs.md5(path) if path in outs.lock.producer else None


def _table_diff(table: str, path: str, sides: tuple[Outs, Outs], examples: int) -> TableDiff:
    if _md5(sides[0], path) == _md5(sides[1], path):
        n = len(_read(table, sides[0], path).rows)
        return TableDiff(table, (n, n), dict.fromkeys(KINDS, 0), {}, [])
    a, b = (_read(table, side, path) for side in sides)
    changes = pair_rows(a.rows, b.rows)
    by_label: dict[str, dict[str, dict[Kind, int]]] = defaultdict(lambda: defaultdict(lambda: dict.fromkeys(KINDS, 0)))
    shown: dict[tuple[Kind, str], list[tuple[Row | None, Row | None]]] = defaultdict(list)
    for before, after in changes:
        row, kind = _kind(before, after)
        by_label[row.source][row.label][kind] += 1
        if len(shown[kind, row.source]) < examples:
            shown[kind, row.source].append((before, after))
    counts: dict[Kind, int] = {k: sum(c[k] for ls in by_label.values() for c in ls.values()) for k in KINDS}
    pairs = [pair for key in sorted(shown) for pair in shown[key]]
    texts_a = a.texts({before.uid for before, _ in pairs if before})
    texts_b = b.texts({after.uid for _, after in pairs if after})
    listed = []
    for before, after in pairs:
        row, kind = _kind(before, after)
        listed.append(
            Change(
                kind,
                row.source,
                row.label,
                row.uid,
                texts_a[before.uid] if before else None,
                texts_b[after.uid] if after else None,
            )
        )
    plain = {s: {label: dict(c) for label, c in sorted(ls.items())} for s, ls in sorted(by_label.items())}
    return TableDiff(table, (len(a.rows), len(b.rows)), counts, plain, listed)


def _kind(before: Row | None, after: Row | None) -> tuple[Row, Kind]:
    if after is None:
        if before is None:
            raise ValueError("a change has at least one side")
        return before, "removed"
    return after, "added" if before is None else "changed"


def pair_rows(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[Row | None, Row | None]]:
    """The rows that differ, as (before, after), in the order of places and uids.

    Equal content cancels out, copy by copy. What is left on both sides of one place is one changed row; the rest
    is removed or added.
    """
    left: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    right: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for rows, others, into in ((a, b, left), (b, a, right)):
        spare = Counter((r.content, r.place) for r in others)
        for row in sorted(rows, key=lambda r: (r.place, r.uid)):
            if spare[row.content, row.place]:
                spare[row.content, row.place] -= 1
            else:
                into[row.place].append(row)
    found: list[tuple[Row | None, Row | None]] = []
    for place in sorted({*left, *right}):
        before, after = left[place], right[place]
        paired = min(len(before), len(after))
        found += zip(before[:paired], after[:paired], strict=True)
        found += [(row, None) for row in before[paired:]] + [(None, row) for row in after[paired:]]
    return found


class _Rows(Protocol):
    """A table on one side: its rows, and the texts of some of them."""

    rows: list[Row]

    def texts(self, uids: Collection[str]) -> dict[str, str]:
        """A short text of each row named, by uid."""


class _Records:
    """A table of records (Parquet); their ids are hashes of their content."""

    def __init__(self, outs: Outs, path: str) -> None:
        self._file = outs.file(path)
        columns = pq.read_table(self._file, columns=_COLUMNS).to_pydict()
        self.rows = [
            Row(uid, content, source, _label(emotions), (source, group))
            for uid, content, source, group, emotions in zip(*(columns[c] for c in _COLUMNS), strict=True)
        ]

    def texts(self, uids: Collection[str]) -> dict[str, str]:
        columns = ["uid", "turns", "situation", "emotions"]
        found = pq.read_table(self._file, columns=columns, filters=[("uid", "in", sorted(uids))]) if uids else None
        return {r["uid"]: _record_text(r) for r in found.to_pylist()} if found is not None else {}


class _Examples:
    """A mixture (JSON Lines); group and labels of its rows come from the records that they were made of."""

    def __init__(self, outs: Outs, path: str) -> None:
        columns = pq.read_table(outs.file(TABLES["train"]), columns=_COLUMNS).to_pydict()
        records = dict(zip(columns["uid"], zip(columns["group"], columns["emotions"], strict=True), strict=True))
        examples = read_jsonl(outs.file(path))
        self._examples = {e["uid"]: e for e in examples}
        if lost := next((e for e in examples if e["conversation"] not in records), None):
            raise HeartwoodError(
                f"{path} of {outs.revision.name}: example {lost['uid']} comes from no record of {TABLES['train']}",
                hint="run `dvc repro mix`",
            )
        self.rows = [_example_row(e, *records[e["conversation"]]) for e in examples]

    def texts(self, uids: Collection[str]) -> dict[str, str]:
        return {uid: _example_text(self._examples[uid]) for uid in uids}


def _read(table: str, outs: Outs, path: str) -> _Rows:
    return _Examples(outs, path) if table == "mixture" else _Records(outs, path)


def _label(emotions: Sequence[str]) -> str:
    return ", ".join(emotions) or NO_LABEL


def _example_row(example: Mapping[str, Any], group: str, emotions: Sequence[str]) -> Row:
    turn = example["uid"].rpartition("-")[2]
    content = text_digest(canonical_json([example["prompt"], example["completion"]]))
    return Row(example["uid"], content, example["source"], _label(emotions), (example["source"], group, turn))


def _preview(text: str) -> str:
    return text if len(text) <= PREVIEW else f"{text[: PREVIEW - 1]}…"


def _record_text(row: Mapping[str, Any]) -> str:
    turns = " | ".join(f"{t['role']}: {t['text']}" for t in row["turns"])
    situation = f" [situation: {row['situation']}]" if row["situation"] else ""
    return _preview(f"({_label(row['emotions'])}) {turns}{situation}")


def _example_text(example: Mapping[str, Any]) -> str:
    # The system message is one for all; it is shown by the params that differ.
    last = example["prompt"][-1]["content"]
    return f"{_preview(last)} -> {_preview(example['completion'][0]['content'])}"


def print_diff(console: Console, diff: DataDiff) -> None:
    """Print everything, counts first."""
    a, b = diff.revisions
    console.print(f"{a} -> {b}")
    for key, (old, new) in diff.params.items():
        console.print(f"  params.yaml {key}: {old!r} -> {new!r}")
    for name, why in diff.unread.items():
        console.print(f"{name}: not compared, {why}")
    for table in diff.tables:
        console.print()
        _print_table(console, table)
    console.print()
    rows = next((t.by_source_and_label for t in diff.tables if t.table == "mixture"), {})
    for score in diff.scores:
        console.print(score.sentence)
        for source, part in score.parts.get("by_source", {}).items():
            counts = rows.get(source, {}).values()
            net = sum(c["added"] - c["removed"] for c in counts)
            console.print(
                f"  {source}: {net:+,} rows of the mixture; its {part['prompts']} prompts {part['from']:.3f} ->"
                f" {part['to']:.3f}"
            )


def _print_table(console: Console, found: TableDiff) -> None:
    if found.same:
        console.print(f"{found.table}: the same {found.rows[0]:,} rows")
        return
    counts = ", ".join(f"{n:,} {kind}" for kind, n in found.counts.items())
    console.print(f"{found.table}: {found.rows[0]:,} -> {found.rows[1]:,} rows; {counts}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  source")
    for name in KINDS:
        table.add_column(name, justify="right")
    table.add_column("most by label")
    for source, labels in found.by_source_and_label.items():
        totals = [sum(c[kind] for c in labels.values()) for kind in KINDS]
        most = sorted(labels, key=lambda label: (-sum(labels[label].values()), label))[:3]
        named = "; ".join(f"{label} {_signed(labels[label])}" for label in most)
        more = f"; {len(labels) - len(most)} more" if len(labels) > len(most) else ""
        table.add_row(f"  {source}", *(f"{n:,}" if n else "-" for n in totals), named + more)
    console.print(table)
    for change in found.examples:
        console.print(f"  {change.kind} {change.uid[:12]} ({change.source}, {change.label})")
        if change.before is not None:
            console.print(f"    - {change.before}")
        if change.after is not None:
            console.print(f"    + {change.after}")


def _signed(counts: Mapping[Kind, int]) -> str:
    signs: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~"}
    return " ".join(f"{signs[kind]}{n}" for kind, n in counts.items() if n)
