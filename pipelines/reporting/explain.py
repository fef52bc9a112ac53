"""Why a record was removed or kept: its way from raw rows to the mixture, from the tables of the workspace.

A question is answered in a second or two on the real corpora: tables are read by row and column, dvc.lock by stage,
and nothing heavy is imported.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from textwrap import dedent
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from curation.examples import examples_of
from curation.jsonl import read_jsonl
from curation.records import SCHEMA, UNASSIGNED, Conversation, as_row, from_row
from pipelines import layout
from pipelines.reporting.pairs import one_line

MIN_PREFIX = 8
_ROW = re.compile(r"(?P<file>.+):(?P<row>[0-9]+)")
_EXAMPLE = re.compile(r"(?P<uid>[0-9a-f]{64}-[0-9]+)-[0-9]+")
_ID = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}(-[0-9]+)?")
_TEXTS_SHOWN = 12
_RAW_SHOWN = 600
_REMOVALS_SHOWN = 10
LOCK = "dvc.lock"
LINES = (layout.MIXTURE, layout.DEV_EXAMPLES, layout.PROMPTS)
"""The JSON Lines tables whose lines can be asked about as FILE:ROW."""


@dataclass(frozen=True)
class Place:
    """Where a record stood in the raw data; no file for a record that a stage made."""

    source: str
    file: str = ""
    first_row: int = 0
    last_row: int = 0

    def __str__(self) -> str:
        if not self.file:
            return f"{self.source}, made by merging"
        rows = f"row {self.first_row}" if self.first_row == self.last_row else f"rows {self.first_row}-{self.last_row}"
        return f"{self.source}/{self.file} {rows}"


@dataclass(frozen=True)
class Other:
    """A record that a decision names: the survivor, the held-out record, or what was removed in its favour."""

    place: Place
    record: Conversation


@dataclass(frozen=True)
class Rule:
    """A rule that a record passed: its name, and its parameters as ``dvc.lock`` has them (empty without it)."""

    rule: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """One row of the mixture that is made of a record.

    ``position`` counts the rows of its source in the order of sha256(seed, uid), in which they are drawn; past
    ``available``, the source's examples after curation, they start again.
    """

    row: int
    uid: str
    turn: int
    position: int
    available: int


@dataclass(frozen=True)
class Decision:
    """What one stage did with a record, and why; the rule and its evidence where one decided, and those it passed."""

    stage: str
    outcome: str
    because: str = ""
    rule: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    other: Other | None = None
    passed: tuple[Rule, ...] = ()
    draws: tuple[Draw, ...] = ()


@dataclass(frozen=True)
class Line:
    """The line that was asked about: its file and row, and what it holds."""

    file: str
    row: int
    content: dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """One record: where it comes from, each stage's decision in order, and what has been made of it.

    ``instead_of`` are the records that a rule removed because of this one, with that decision.
    """

    place: Place
    record: Conversation
    decisions: list[Decision]
    instead_of: list[Decision]


@dataclass(frozen=True)
class QuarantinedRow:
    """A raw row that became no record: where it stands, the reason, and its raw text."""

    source: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an id or FILE:ROW stands for: records, or a quarantined row; of a line of the mixture, that line too."""

    asked: str
    records: list[Explanation]
    quarantined: list[QuarantinedRow]
    line: Line | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "asked": self.asked,
            **({"line": vars(self.line)} if self.line else {}),
            "records": [_explanation_dict(e) for e in self.records],
            "quarantined": [{"source": q.source, **q.row} for q in self.quarantined],
        }


def _explanation_dict(explanation: Explanation) -> dict[str, Any]:
    return {
        **as_row(explanation.record),
        "origin": vars(explanation.place),
        "decisions": [_decision_dict(d) for d in explanation.decisions],
        "removed_because_of_it": [_decision_dict(d) for d in explanation.instead_of],
    }


def _decision_dict(decision: Decision) -> dict[str, Any]:
    found = {k: v for k, v in vars(decision).items() if k != "other" and v not in ("", {}, None, ())}
    for key in ("passed", "draws"):
        if key in found:
            found[key] = [vars(item) for item in found[key]]
    if decision.other:
        found["other"] = {**as_row(decision.other.record), "origin": vars(decision.other.place)}
    return found


class Tables:
    """The tables between the stages of one project, read row by row; a table that is not there is None."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, path: Path) -> bool:
        """Whether a table is there."""
        return (self._root / path).exists()

    def require(self, path: Path) -> Path:
        """The path under the project's root.

        Raises:
            HeartwoodError: there is no such table.
        """
        if not self.has(path):
            raise HeartwoodError(
                f"{path}: missing", hint="run `dvc pull`, or `dvc repro` in the project's root, then ask again"
            )
        return self._root / path

    def rows(self, path: Path, column: str, values: Iterable[str]) -> list[dict[str, Any]]:
        """The rows of a Parquet table whose column has one of the values, in table order."""
        table = pq.read_table(self.require(path), filters=pc.field(column).isin(pa.array(values, pa.string())))
        if "turns" in table.schema.names and table.schema.field("turns").type != SCHEMA.field("turns").type:
            raise HeartwoodError(f"{path}: written by another version of the code", hint="run `dvc repro`")
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    def record_files(self) -> list[Path]:
        """The tables of records, one a source."""
        files = sorted(self.require(layout.RECORDS).glob("*.parquet"))
        return [layout.RECORDS / f.name for f in files]

    def uids(self, path: Path, prefix: str) -> list[str]:
        """The uids of a table that start with a prefix, sorted."""
        column = pq.read_table(self.require(path), columns=["uid"]).column("uid")
        found: list[str] = column.filter(pc.starts_with(column, prefix)).to_pylist()
        return sorted(found)

    def records(self, uids: Iterable[str]) -> dict[str, Other]:
        """Records by uid with their places; those that deduplication made by merging labels among them."""
        wanted = sorted(set(uids))
        found: dict[str, Other] = {}
        origins = {r["uid"]: r for r in self.rows(layout.ORIGINS, "uid", wanted)}
        for path in self.record_files():
            for row in self.rows(path, "uid", wanted):
                origin = origins.get(row["uid"], {"file": "", "first_row": 0, "last_row": 0})
                place = Place(row["source"], origin["file"], origin["first_row"], origin["last_row"])
                found[row["uid"]] = Other(place, from_row(row))
        made = [u for u in wanted if u not in found]
        if made and self.has(layout.DEDUPLICATED):
            for row in self.rows(layout.DEDUPLICATED, "uid", made):
                found[row["uid"]] = Other(Place(row["source"]), from_row(row))
        return found

    def jsonl(self, path: Path, key: str, value: str) -> list[tuple[int, dict[str, Any]]]:
        """The rows of a JSON Lines table with this value under a key, numbered from 1."""
        if not self.has(path):
            return []
        with (self._root / path).open(encoding="utf-8") as handle:
            lines = [(number, line) for number, line in enumerate(handle, start=1) if value in line]
        rows = [(number, json.loads(line)) for number, line in lines]
        return [(number, row) for number, row in rows if row.get(key) == value]

    def line(self, path: Path, number: int) -> dict[str, Any]:
        """One row of a JSON Lines table, numbered from 1.

        Raises:
            HeartwoodError: the table is not there, or has no such row.
        """
        with self.require(path).open(encoding="utf-8") as handle:
            text = next(islice(handle, number - 1, None), None) if number else None
        if text is None:
            with self.require(path).open("rb") as handle_of_bytes:
                rows = sum(1 for _ in handle_of_bytes)
            raise HeartwoodError(f"{path}:{number}: no such row; it has {rows}", hint="rows count from 1")
        found: dict[str, Any] = json.loads(text)
        return found

    def draws(self, record: Conversation, available: int) -> tuple[Draw, ...]:
        """The rows of the mixture that are made of a record, in file order."""
        # Keys stand in the order and form in which write_jsonl writes them; inside a text, quotes are escaped.
        source, found, position = f'"source": {json.dumps(record.source)}', [], 0
        with (self._root / layout.MIXTURE).open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                if source not in line:
                    continue
                position += 1
                if record.uid in line and (row := json.loads(line))["conversation"] == record.uid:
                    turn = int(row["uid"].rpartition("-")[2])
                    found.append(Draw(number, row["uid"], turn, position, available))
        return tuple(found)

    def params(self, stage: str) -> dict[str, Any]:
        """The params that a stage ran with, by key, from ``dvc.lock``; empty where it has none of that stage.

        The stage's block alone is parsed: all of the file takes half a second.
        """
        path = self._root / LOCK
        if not path.is_file():
            return {}
        block = re.search(rf"^  {re.escape(stage)}:\n((?:    .*\n)+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if block is None:
            return {}
        from ruamel.yaml import YAML

        locked = YAML(typ="safe", pure=True).load(dedent(block[1]))
        found: dict[str, Any] = (locked.get("params") or {}).get("params.yaml", {})
        return found

    def report(self, name: str) -> dict[str, Any] | None:
        """A report of the workspace."""
        path = self._root / layout.REPORTS / f"{name}.json"
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return found


def explain(asked: str, root: Path) -> Answer:
    """Explain what an id stands for.

    Args:
        asked: a record's uid, its id (all copies), a prefix of at least 8 characters that only one id has, the uid
            of an example in the mixture, the id of a prompt, or FILE:ROW: of the mixture, the dev examples or the
            prompts by their path (``data/mixture/train.jsonl:7``), or of the raw data, the file named as in the
            origins (``train.tsv``), with its source before it where two sources have such a file.
        root: the project's root.

    Raises:
        HeartwoodError: nothing has this id, several have, or ``data/`` is not there.
    """
    tables = Tables(root)
    uids: Sequence[str]
    line: Line | None = None
    if (match := _ROW.fullmatch(asked)) is not None and (path := _lines(root, match["file"])) is not None:
        line = Line(path.as_posix(), int(match["row"]), tables.line(path, int(match["row"])))
        uids = [line.content["conversation"]]
    elif match is not None:
        quarantined, uids = _by_row(tables, match["file"], int(match["row"]))
        if quarantined:
            return Answer(asked, [], quarantined)
    else:
        uids = _by_id(tables, asked.lower())
    records = tables.records(uids)
    if line and line.content["conversation"] not in records:
        raise HeartwoodError(
            f"{line.file}:{line.row}: its record {line.content['conversation']} is not in data/records: these are of"
            " different runs",
            hint="run `dvc checkout`, or `dvc repro`",
        )
    return Answer(asked, [_explain(tables, records[uid]) for uid in uids], [], line)


def _lines(root: Path, file: str) -> Path | None:
    """The JSON Lines table that a file is, or None."""
    asked = (root / file).resolve()
    return next((path for path in LINES if (root / path).resolve() == asked), None)


def _by_row(tables: Tables, file: str, row: int) -> tuple[list[QuarantinedRow], list[str]]:
    parts = Path(file).as_posix().split("/")
    name, source = parts[-1], parts[-2] if len(parts) > 1 else ""
    quarantined = [
        QuarantinedRow(path.stem, item)
        for path in sorted(tables.require(layout.QUARANTINE).glob("*.jsonl"))
        for item in read_jsonl(path)
        if item["file"] == name and item["first_row"] <= row < item["first_row"] + item["rows"]
    ]
    origins = tables.rows(layout.ORIGINS, "file", [name])
    inside = [o["uid"] for o in origins if o["first_row"] <= row <= o["last_row"]]
    found = tables.records(inside)
    sources = {q.source for q in quarantined} | {o.place.source for o in found.values()}
    if source in sources:
        sources = {source}
    if len(sources) > 1:
        listed = ", ".join(f"{s}/{name}:{row}" for s in sorted(sources))
        raise HeartwoodError(f"{file}:{row}: several sources have such a row", hint=f"name one of {listed}")
    quarantined = [q for q in quarantined if q.source in sources]
    uids = sorted(uid for uid, o in found.items() if o.place.source in sources)
    if quarantined or uids:
        return quarantined, uids
    if not origins:
        files = pc.unique(pq.read_table(tables.require(layout.ORIGINS), columns=["file"]).column("file")).to_pylist()
        raise HeartwoodError(
            f"{file}:{row}: no record and no quarantined row comes from {name}; files: {', '.join(sorted(files))}",
            hint="name the file as it stands in data/raw/<source>/",
        )
    last = max(o["last_row"] for o in origins)
    raise HeartwoodError(
        f"{file}:{row}: no record and no quarantined row stands there; the last record of {name} ends at row {last}",
        hint="rows count from 1, and a header is row 1",
    )


def _by_id(tables: Tables, asked: str) -> list[str]:
    if (match := _EXAMPLE.fullmatch(asked)) is not None:
        asked = match["uid"]
    if _ID.fullmatch(asked) is None:
        raise HeartwoodError(
            f"{asked!r} is no id; allowed: a uid or id, at least {MIN_PREFIX} characters of one, or FILE:ROW",
            hint="ids stand in data/records, in the ledgers, in the mixture and in reports",
        )
    uids = [uid for path in tables.record_files() for uid in tables.uids(path, asked)]
    if not uids and tables.has(layout.DEDUPLICATED):
        uids = tables.uids(layout.DEDUPLICATED, asked)
    if not uids and tables.has(layout.PROMPTS):
        prompts = [p for p in read_jsonl(tables.require(layout.PROMPTS)) if p["id"].startswith(asked)]
        uids = sorted({p["conversation"] for p in prompts})
    if "-" in asked and asked in uids:
        return [asked]
    if not uids:
        raise HeartwoodError(
            f"no record has an id that starts with {asked}",
            hint="check the id; records of another revision need its data: `dvc checkout`",
        )
    if len({uid.partition("-")[0] for uid in uids}) > 1:
        listed = ", ".join(uid[: len(asked) + 8] for uid in uids[:5])
        raise HeartwoodError(
            f"{len(uids)} records have an id that starts with {asked}: {listed}", hint="give more of it"
        )
    return sorted(uids, key=lambda uid: int(uid.partition("-")[2]))


def _explain(tables: Tables, found: Other) -> Explanation:
    record = found.record
    decisions = [_parsed(tables, record)] if found.place.file else []
    split = _split(tables, record) if found.place.file else Decision("split", "train", "its parts stand in train")
    decisions.append(split)
    instead_of = _instead_of(tables, record.uid)
    if split.outcome == "train":
        for stage, output in (("dedup", layout.DEDUPLICATED), ("leakage", layout.CLEAN)):
            decisions.append(_filtered(tables, record, stage, output, instead_of))
            if decisions[-1].outcome != "kept":
                break
        else:
            decisions += [*_validated(tables, record, "train"), _mixed(tables, record)]
            if decisions[-1].draws:
                decisions += _checked(tables)
    elif split.outcome in layout.SPLIT:
        decisions.append(Decision("dedup", "kept", "held-out records are never touched, by dedup or by leakage"))
        decisions += [*_validated(tables, record, split.outcome), *_held_out(tables, record, split.outcome)]
    return Explanation(found.place, record, decisions, instead_of)


def _parsed(tables: Tables, record: Conversation) -> Decision:
    params = tables.params("records")
    entry = (params.get("sources") or {}).get(record.source)
    if not entry:
        return Decision("records", "kept")
    contact = (params.get("records") or {}).get("contact", "")
    return Decision("records", "kept", f"parsed as {entry['format']}; contact details: {contact}")


def _validated(tables: Tables, record: Conversation, split: str) -> list[Decision]:
    """What the suites of the tables that hold a record say of it; nothing where ``validate`` has not run."""
    report = tables.report("validation")
    if report is None:
        return []
    suites = [name for name in ("records", "splits", split) if name in report]
    checks = [(name, e) for name in suites for e in report[name]["expectations"]]
    named = [f"{name}: {e['description']} ({e['severity']})" for name, e in checks if record.uid in e["uids"]]
    counted = f"{len(checks)} expectations on the tables {', '.join(suites)}"
    if named:
        return [Decision("validate", "named", f"{len(named)} of {counted} name it: {'; '.join(named)}")]
    failed = sum(not e["success"] for _, e in checks)
    others = f"; {failed} failed because of others" if failed else ""
    return [Decision("validate", "passed", f"none of {counted} names it{others}")]


def _removal(tables: Tables, stage: str, row: dict[str, Any]) -> Decision:
    """A ledger row as the decision that it records."""
    other = tables.records([row["survivor"]]).get(row["survivor"]) if row["survivor"] else None
    return Decision(
        stage, "removed", row["detail"], row["rule"], json.loads(row["parameters"]), round(row["score"], 6), other
    )


def _not_run(stage: str, path: Path) -> Decision:
    return Decision(stage, "unknown", f"{path} is not there; `dvc repro {stage}` makes it")


def _split(tables: Tables, record: Conversation) -> Decision:
    if not tables.has(layout.LEDGER["split"]):
        return _not_run("split", layout.LEDGER["split"])
    if rows := tables.rows(layout.LEDGER["split"], "uid", [record.uid]):
        return _removal(tables, "split", rows[0])
    for name, path in layout.SPLIT.items():
        if tables.has(path) and tables.uids(path, record.uid):
            how = "divided by group and seed: it has no official split"
            return Decision("split", name, how if record.split == UNASSIGNED else "its official split")
    return _contradiction("split", "data/split", layout.LEDGER["split"])


def _contradiction(stage: str, output: object, ledger: Path) -> Decision:
    return Decision(
        stage,
        "unknown",
        f"neither in {output} nor in {ledger}: these are of different runs; `dvc repro {stage}`",
    )


def _filtered(
    tables: Tables, record: Conversation, stage: str, output: Path, instead_of: Sequence[Decision]
) -> Decision:
    ledger = layout.LEDGER[stage]
    if not tables.has(ledger) or not tables.has(output):
        return _not_run(stage, output)
    if rows := tables.rows(ledger, "uid", [record.uid]):
        return _removal(tables, stage, rows[0])
    if record.uid in tables.uids(output, record.uid):
        favoured = sum(d.stage == stage for d in instead_of)
        more = f"; {favoured} removed in its favour" if favoured else ""
        return Decision(stage, "kept", f"in {output}; no rule removed it{more}", passed=_rules(tables, stage))
    return _contradiction(stage, output, ledger)


def _rules(tables: Tables, stage: str) -> tuple[Rule, ...]:
    """The rules that every record of a stage's output has passed, in the order in which they are tried."""
    from curation.dedup import rules as dedup
    from curation.leakage import detect as leakage

    ran_with = tables.params(stage).get(stage)
    names = {"dedup": (dedup.EXACT, dedup.NEAR, dedup.SEMANTIC)}.get(
        stage, (leakage.EXACT, leakage.CONTAINED, leakage.SEMANTIC)
    )
    if ran_with is None:
        return tuple(Rule(name) for name in names)
    try:
        settings: dedup.DedupSettings | leakage.LeakageSettings = (
            dedup.DedupSettings(**ran_with) if stage == "dedup" else leakage.LeakageSettings(**ran_with["detector"])
        )
    except (KeyError, TypeError) as error:
        raise HeartwoodError(
            f"{LOCK}: the params of {stage} are of another version of the code ({error})",
            hint=f"run `dvc repro {stage}`",
        ) from None
    return tuple(Rule(name, dict(settings.parameters(name))) for name in names)


def _mixed(tables: Tables, record: Conversation) -> Decision:
    possible = len(examples_of(record, ""))
    receipt = tables.report("mixture")
    if not tables.has(layout.MIXTURE) or receipt is None:
        return _not_run("mix", layout.MIXTURE)
    drawn, available = (receipt[key].get(record.source, 0) for key in ("rows", "available"))
    share = receipt["requested"].get(record.source, 0)
    if draws := tables.draws(record, available):
        listed = ", ".join(f"row {d.row} (turn {d.turn}, draw {d.position})" for d in draws)
        realised = receipt.get("realised", {}).get(record.source)
        return Decision(
            "mix",
            "drawn",
            f"{len({d.uid for d in draws})} of its {possible} examples: {listed} of {layout.MIXTURE}; {drawn} are drawn"
            f" of the {available} examples of {record.source}, in the order of sha256(seed, uid); share {share:g}"
            f" of {receipt.get('unit', 'examples')} asked for"
            + (f", {realised:g} realised" if realised is not None else ""),
            draws=draws,
        )
    if not possible:
        return Decision("mix", "not drawn", "it gives no example: no assistant turn with something before it")
    if not share:
        return Decision("mix", "not drawn", f"the share of {record.source} is 0")
    return Decision(
        "mix",
        "not drawn",
        f"{drawn} of the {available} examples of {record.source} are wanted (share {share:g}), first in the order of"
        f" sha256(seed, uid); none of its {possible} is among them",
    )


def _checked(tables: Tables) -> list[Decision]:
    """What the last check said of the mixture as a whole; nothing where it has not run."""
    report = tables.report("check")
    if report is None:
        return []
    found = report["residual_leaks"] + report["records_with_evaluation_prompts"]
    because = f"{found} of the {report['records']} records in the mixture repeat text of dev, test or the prompts"
    return [Decision("check", "failed" if found else "passed", because)]


def _held_out(tables: Tables, record: Conversation, split: str) -> list[Decision]:
    decisions = []
    if split == "dev":
        if not tables.has(layout.DEV_EXAMPLES):
            decisions.append(_not_run("dev", layout.DEV_EXAMPLES))
        else:
            rows = tables.jsonl(layout.DEV_EXAMPLES, "conversation", record.uid)
            listed = ", ".join(str(n) for n, _ in rows) or "none"
            decisions.append(Decision("dev", "kept", f"examples in {layout.DEV_EXAMPLES}: rows {listed}"))
        if not tables.has(layout.PROMPTS):
            decisions.append(_not_run("prompts", layout.PROMPTS))
        else:
            prompts = [row["id"] for _, row in tables.jsonl(layout.PROMPTS, "conversation", record.uid)]
            outcome = "drawn" if prompts else "not drawn"
            because = f"prompt {', '.join(prompts)}" if prompts else "no evaluation prompt comes from it"
            decisions.append(Decision("prompts", outcome, because))
    return decisions


def _instead_of(tables: Tables, uid: str) -> list[Decision]:
    """The removals that name a record as the one that stands in the removed one's place."""
    ledgers = [(stage, path) for stage, path in layout.LEDGER.items() if tables.has(path)]
    rows = [(stage, row) for stage, path in ledgers for row in tables.rows(path, "survivor", [uid])]
    removed = tables.records(row["uid"] for _, row in rows)
    return [
        replace(_removal(tables, stage, {**row, "survivor": ""}), other=removed.get(row["uid"])) for stage, row in rows
    ]


def print_answer(console: Console, answer: Answer) -> None:
    """Print the explanation: facts first, then a paragraph a stage."""
    for quarantined in answer.quarantined:
        row = quarantined.row
        last = row["first_row"] + row["rows"] - 1
        place = Place(quarantined.source, row["file"], row["first_row"], last)
        _say(console, "origin", str(place))
        _say(console, "records", f"quarantined: {row['reason']} ({row['detail']})")
        raw = row["raw"]
        _say(
            console, "raw", raw if len(raw) <= _RAW_SHOWN else f"{raw[:_RAW_SHOWN]}… ({len(raw):,} characters: --json)"
        )
    if answer.line:
        _print_line(console, answer.line)
    for number, explanation in enumerate(answer.records):
        if number:
            console.print()
        _print_record(console, explanation)


def _print_line(console: Console, line: Line) -> None:
    content = line.content
    _say(console, "line", f"{line.file}, row {line.row}: {content.get('uid') or content.get('id')}")
    for message in (*content.get("prompt", ()), *content.get("messages", ()), *content.get("completion", ())):
        console.print(one_line(f"            {message['role']}: {message['content']}", console.width), soft_wrap=True)
    console.print()


def _print_record(console: Console, explanation: Explanation) -> None:
    record = explanation.record
    _say(console, "uid", record.uid)
    _say(console, "source", f"{record.source}, {record.task}")
    _say(console, "origin", str(explanation.place))
    _say(console, "group", record.group)
    if record.emotions:
        _say(console, "labels", ", ".join(record.emotions))
    _print_texts(console, record)
    console.print()
    for decision in explanation.decisions:
        _print_decision(console, decision, "in favour of" if decision.stage == "dedup" else "because of")
    if explanation.instead_of:
        console.print()
        console.print(f"removed because of it: {len(explanation.instead_of)}")
        for decision in explanation.instead_of[:_REMOVALS_SHOWN]:
            _print_decision(console, decision, "this record")
        if len(explanation.instead_of) > _REMOVALS_SHOWN:
            console.print(f"{len(explanation.instead_of) - _REMOVALS_SHOWN} more: --json")


def _print_decision(console: Console, decision: Decision, naming: str) -> None:
    said = decision.outcome
    if decision.rule:
        values = ", ".join(f"{k} {v}" for k, v in decision.parameters.items())
        said += f" by {decision.rule} ({values}), score {decision.score:.4f}"
    said += f": {decision.because}" if decision.because else ""
    _say(console, decision.stage, f"{said}; {naming}" if decision.other else said)
    for passed in decision.passed:
        values = ", ".join(f"{k} {v}" for k, v in passed.parameters.items())
        _say(console, "", f"passed {passed.rule}" + (f" ({values})" if values else ""))
    if decision.other:
        _say(console, "", decision.other.record.uid)
        _say(console, "", f"{decision.other.place}")
        _print_texts(console, decision.other.record)


def _say(console: Console, name: str, text: str) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=9, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(name, "".join(c if c.isprintable() else " " for c in text))
    console.print(grid)


def _print_texts(console: Console, record: Conversation) -> None:
    texts = [f"situation: {record.situation}"] if record.situation else []
    texts += [f"{t.role}: {t.text}" for t in record.turns]
    for text in texts[:_TEXTS_SHOWN]:
        console.print(one_line(f"            {text}", console.width), soft_wrap=True)
    if len(texts) > _TEXTS_SHOWN:
        console.print(f"            {len(texts) - _TEXTS_SHOWN} more turns: --json")
