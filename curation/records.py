"""Conversations, their content ids and their Arrow tables.

A ``Conversation`` is what parsing, splitting, deduplication, leakage checks and validation work on.
Its ``id`` is the sha256 of its content alone (scheme ``record-v1``); its ``uid`` is the id plus a copy
number, so that equal content can be told apart without file names or row numbers.
"""

import gc
import hashlib
import json
import sys
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SCHEME = "record-v1"
SPLITS = ("train", "dev", "test")
UNASSIGNED = ""
ROLES = ("user", "assistant")
TASKS = ("dialogue", "emotion")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of talk: who speaks (``user`` or ``assistant``), the text, and what is known of it.

    ``strategies`` are the support strategies of an assistant's turn, ``feedback`` the ratings from 1 (worst) to 5
    that a seeker gave, in this turn, to what was said before; a turn merged of several carries all of theirs.
    """

    role: str
    text: str
    strategies: tuple[str, ...] = ()
    feedback: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of one source. A GoEmotions comment is a conversation of one user turn with labels.

    ``group`` names the structural unit that may not stand in two splits (a conversation id, a dialogue);
    ``split`` is the official split, or empty where the corpus has none.
    """

    source: str
    task: str
    group: str
    split: str
    turns: tuple[Turn, ...]
    situation: str = ""
    emotions: tuple[str, ...] = ()
    id: str = ""
    copy: int = 0

    @property
    def uid(self) -> str:
        """Content id and copy number, unique in a corpus."""
        return f"{self.id}-{self.copy}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record stood in the raw data: file and first and last row (1-based, header included)."""

    file: str
    first_row: int
    last_row: int


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic collector away while a table becomes objects: a ``with`` block, or a decorator.

    Tables are millions of small objects that stay and have no cycles; walking them again and again takes longer than
    making them.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces, in NFC; the byte form that every content digest is taken over."""
    return unicodedata.normalize("NFC", _CANONICAL.encode(value))


def digest(value: object) -> str:
    """Hex sha256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def text_digest(text: str) -> str:
    """Hex sha256 of one text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _turn_content(turn: Turn) -> list[object]:
    # Feedback is named only where there is some: records without any keep the id that they have always had.
    content: list[object] = [turn.role, turn.text, list(turn.strategies)]
    return [*content, list(turn.feedback)] if turn.feedback else content


def content_id(conversation: Conversation) -> str:
    """Hex sha256 of what was said and labelled: never of split, group, file or row."""
    return digest(
        {
            "scheme": SCHEME,
            "source": conversation.source,
            "task": conversation.task,
            "situation": conversation.situation,
            "turns": [_turn_content(t) for t in conversation.turns],
            "emotions": list(conversation.emotions),
        }
    )


def identify(rows: Iterable[tuple[Conversation, Origin]]) -> list[tuple[Conversation, Origin]]:
    """Give every record its id and copy number; the result is sorted by uid.

    Copies of equal content are numbered in the order train, dev, test, unassigned, then by group, so that
    row order never decides; only records equal in all of these are told apart by their origin.
    """
    rank = {name: i for i, name in enumerate((*SPLITS, UNASSIGNED))}
    by_id: dict[str, list[tuple[Conversation, Origin]]] = defaultdict(list)
    for conversation, origin in rows:
        by_id[content_id(conversation)].append((conversation, origin))
    result = []
    for key in sorted(by_id):
        copies = sorted(by_id[key], key=lambda r: (rank[r[0].split], r[0].group, r[1].file, r[1].first_row))
        result += [(replace(c, id=key, copy=n), origin) for n, (c, origin) in enumerate(copies)]
    return result


def clean_text(text: str) -> str:
    """NFC, line ends and other whitespace runs as one space, trimmed."""
    return " ".join(unicodedata.normalize("NFC", text).split())


SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("id", pa.string()),
        ("copy", pa.int32()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("situation", pa.string()),
        (
            "turns",
            pa.list_(
                pa.struct(
                    [
                        ("role", pa.string()),
                        ("text", pa.string()),
                        ("strategies", pa.list_(pa.string())),
                        ("feedback", pa.list_(pa.int32())),
                    ]
                )
            ),
        ),
        ("emotions", pa.list_(pa.string())),
    ]
)

ORIGIN_SCHEMA = pa.schema(
    [("uid", pa.string()), ("file", pa.string()), ("first_row", pa.int64()), ("last_row", pa.int64())]
)


def as_row(conversation: Conversation) -> dict[str, Any]:
    """The record as one row of ``SCHEMA``."""
    return {
        "uid": conversation.uid,
        "id": conversation.id,
        "copy": conversation.copy,
        "source": conversation.source,
        "task": conversation.task,
        "group": conversation.group,
        "split": conversation.split,
        "situation": conversation.situation,
        "turns": [
            {"role": t.role, "text": t.text, "strategies": list(t.strategies), "feedback": list(t.feedback)}
            for t in conversation.turns
        ],
        "emotions": list(conversation.emotions),
    }


def from_row(row: dict[str, Any]) -> Conversation:
    """The record that ``as_row`` wrote."""
    return Conversation(
        source=row["source"],
        task=row["task"],
        group=row["group"],
        split=row["split"],
        turns=tuple(Turn(t["role"], t["text"], tuple(t["strategies"]), tuple(t["feedback"])) for t in row["turns"]),
        situation=row["situation"],
        emotions=tuple(row["emotions"]),
        id=row["id"],
        copy=row["copy"],
    )


def by_uid(conversations: Iterable[Conversation]) -> list[Conversation]:
    """The records in the one total order used everywhere."""
    return sorted(conversations, key=lambda c: (c.id, c.copy))


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet whose bytes depend on the rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=65536, store_schema=False)


def column(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """An array of texts, of whole numbers, or of lists of them.

    Its buffers are made here, since ``pa.array`` imports pandas (0.5 s).

    Raises:
        OverflowError: more than 2 GiB of text.
    """
    if pa.types.is_list(kind):
        inner = column(kind.value_type, list(chain.from_iterable(values)))
        return pa.ListArray.from_arrays(_offsets(values), inner, type=kind)
    if pa.types.is_string(kind):
        encoded = [value.encode() for value in values]
        data = [None, _offsets(encoded).buffers()[1], pa.py_buffer(b"".join(encoded))]
    else:
        data = [None, pa.py_buffer(np.array(values, dtype=kind.to_pandas_dtype()))]
    return pa.Array.from_buffers(kind, len(values), data)


def _offsets(parts: Sequence[Sequence[object]]) -> pa.Array:
    ends = array("i", accumulate(map(len, parts), initial=0))
    return pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(ends)])


def to_table(conversations: Sequence[Conversation]) -> pa.Table:
    """The records as a table of ``SCHEMA``, in their order: what ``as_row`` gives, a column at a time."""
    turns = [turn for c in conversations for turn in c.turns]
    kind = SCHEMA.field("turns").type
    said = [column(field.type, [getattr(turn, field.name) for turn in turns]) for field in kind.value_type]
    lists = pa.ListArray.from_arrays(
        _offsets([c.turns for c in conversations]),
        pa.StructArray.from_arrays(said, fields=list(kind.value_type)),
        type=kind,
    )
    columns = [
        lists if field.name == "turns" else column(field.type, [getattr(c, field.name) for c in conversations])
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@collector_paused()
def from_table(table: pa.Table) -> list[Conversation]:
    """The records of a table with the columns of ``SCHEMA``, in its order; values of lists are made all at once."""
    said = table.column("turns").combine_chunks()
    parts = said.flatten()
    texts, strategies, feedback = (_values(parts.field(name)) for name in ("text", "strategies", "feedback"))
    turns = list(map(Turn, map(sys.intern, parts.field("role").to_pylist()), texts, strategies, feedback))
    columns = {
        name: _values(table.column(name).combine_chunks())
        for name in ("source", "task", "group", "split", "situation", "emotions", "id", "copy")
    }
    return list(
        map(
            Conversation,
            *(columns[name] for name in ("source", "task", "group", "split")),
            _cut(turns, said),
            *(columns[name] for name in ("situation", "emotions", "id", "copy")),
        )
    )


def _values(column: pa.Array) -> list[Any]:
    """Python's values of an array of texts, numbers or lists of them, the lists as tuples."""
    if pa.types.is_list(column.type):
        return _cut(_values(column.flatten()), column)
    values: list[Any] = column.to_pylist()
    return values


def _cut(values: list[Any], lists: pa.ListArray) -> list[tuple[Any, ...]]:
    """The values of the lists' own ``flatten`` in one tuple a list."""
    ends = list(accumulate(pc.list_value_length(lists).to_pylist(), initial=0))
    return [tuple(values[start:end]) for start, end in pairwise(ends)]


def write_records(conversations: Iterable[Conversation], path: Path) -> None:
    """Write records as Parquet, sorted by uid."""
    write_table(to_table(by_uid(conversations)), path)


def read_records(path: Path) -> list[Conversation]:
    """Read what ``write_records`` wrote."""
    # Not pq.read_table, which imports pandas (0.5 s).
    with pq.ParquetFile(path) as file:
        return from_table(file.read())


def distinct_texts(paths: Iterable[Path]) -> list[str]:
    """Every distinct text of the turns and situations in files of ``write_records``, sorted by text digest."""
    texts: set[str] = set()
    for path in paths:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=["situation", "turns"])
        situations = pc.unique(table.column("situation")).to_pylist()
        texts.update(text for text in situations if text)
        texts.update(pc.unique(pc.struct_field(pc.list_flatten(table.column("turns")), "text")).to_pylist())
    return sorted(texts, key=text_digest)


def write_origins(rows: Sequence[tuple[Conversation, Origin]], path: Path) -> None:
    """Write where each record stood in the raw data."""
    placed = sorted(((c.uid, o) for c, o in rows), key=lambda r: r[0])
    values = {"uid": [uid for uid, _ in placed]}
    values |= {name: [getattr(o, name) for _, o in placed] for name in ("file", "first_row", "last_row")}
    columns = [column(field.type, values[field.name]) for field in ORIGIN_SCHEMA]
    write_table(pa.Table.from_arrays(columns, schema=ORIGIN_SCHEMA), path)
