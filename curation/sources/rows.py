"""What the parsers of people's own files share: names of splits, rows of JSON Lines and Parquet, merged turns."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import HeartwoodError
from curation.records import ROLES, Turn
from curation.sources.quarantine import MAX_TURN_CHARACTERS, UnusableError, read_text

SPLIT_OF = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}
MAX_DEPTH = 64
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row: its number (from 1), its text, and its value, or what keeps it from having one."""

    number: int
    raw: str
    value: Any
    problem: UnusableError | None = None


def split_files(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """The files of a folder that are named after a split (``valid.jsonl``), with the split: train, dev, test.

    Raises:
        HeartwoodError: two files of one split.
    """
    found: dict[str, str] = {}
    for stem, split in SPLIT_OF.items():
        for suffix in suffixes:
            name = stem + suffix
            if not (folder / name).is_file():
                continue
            if other := next((n for n, s in found.items() if s == split), None):
                raise HeartwoodError(
                    f"{folder}: {other} and {name} are both the {split} split", hint="leave one of them in the folder"
                )
            found[name] = split
    return found


def show(value: object) -> str:
    """A value as an error message shows it: cut, and without characters that UTF-8 lacks."""
    return ascii(value[:40] if isinstance(value, str) else value)[:60]


def load_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        UnusableError: it is no JSON, or nested too deeply to be handled further.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnusableError("not_json", f"{error.msg} at character {error.pos + 1}") from None
    except ValueError:
        # Python refuses to convert whole numbers of thousands of digits.
        raise UnusableError("not_json", "a number is too long") from None
    except RecursionError:
        raise too_deep() from None
    if deeper_than(value, MAX_DEPTH):
        raise too_deep()
    return value


def too_deep() -> UnusableError:
    """The error for a value that is nested too deeply."""
    return UnusableError("too_deep", f"lists and objects in each other; allowed: {MAX_DEPTH} levels")


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in each other more than so many levels deep."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON Lines file. Lines end with LF or CRLF; blank lines are no rows, but are counted.

    Raises:
        HeartwoodError: the file is empty or not UTF-8.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        raw = line.removesuffix("\r")
        if not raw.strip(" \t\r"):
            continue
        try:
            yield Row(number, raw, load_json(raw))
        except UnusableError as problem:
            yield Row(number, raw, None, problem)


def parquet_rows(path: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[Row]:
    """The rows of a Parquet file; the raw text of each is the JSON of the columns named.

    Raises:
        HeartwoodError: not Parquet, damaged, without rows, or without a required column.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [c for c in required if c not in names]:
                raise HeartwoodError(
                    f"{path}: no column {missing[0]!r}; found: {', '.join(names)}",
                    hint="rename the column, or give the source the format that its columns have",
                )
            if not file.metadata.num_rows:
                raise HeartwoodError(f"{path}: the file holds no rows", hint="remove it, or put rows into it")
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=[c for c in columns if c in names]):
                for value in batch.to_pylist():
                    number += 1
                    raw = json.dumps(value, ensure_ascii=False, default=str)
                    yield Row(number, raw, value, too_deep() if deeper_than(value, MAX_DEPTH) else None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise HeartwoodError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]:.200})", hint="write the file anew"
        ) from None


def add_turn(
    turns: list[Turn], role: str, text: str, strategies: tuple[str, ...] = (), feedback: tuple[int, ...] = ()
) -> None:
    """Append a turn, or join it to the last one if the same speaker goes on (strategies and feedback in order).

    Raises:
        UnusableError: the turn has grown too long.
    """
    if turns and turns[-1].role == role:
        last = turns.pop()
        text, strategies, feedback = f"{last.text} {text}", last.strategies + strategies, last.feedback + feedback
    turns.append(Turn(role, text, strategies, feedback))
    if len(text) > MAX_TURN_CHARACTERS:
        raise UnusableError("too_long", f"merged turn {len(turns)}; allowed: {MAX_TURN_CHARACTERS} characters")


def require_both_speakers(turns: Sequence[Turn]) -> None:
    """Accept a dialogue in which both speak.

    Raises:
        UnusableError: one of the two speakers, or both, say nothing.
    """
    roles = sorted({t.role for t in turns})
    if len(roles) != len(ROLES):
        raise UnusableError("one_speaker", f"speakers: {', '.join(roles) or 'none'}; needed: {' and '.join(ROLES)}")
