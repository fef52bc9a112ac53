"""People's own chats, as TRL and most trainers read them (https://huggingface.co/docs/trl/dataset_formats).

``chat``: JSON Lines or Parquet rows with ``messages``, a list of ``{"role", "content"}``.
``prompt_completion``: rows with ``prompt`` and ``completion``, each a text or a list of messages.
Both may carry ``conversation_id`` or ``id`` (the group that may not stand in two splits: rows that share one stay
together, whatever they say; without one, the digest of what was said), ``situation``, ``emotions`` (a text or a
list) and ``split``. Other columns are not read.

A folder holds files named after their split; a single file is kept as ``rows.jsonl`` or ``rows.parquet`` and is
without split unless its rows name one. System messages are no turns: they are left out and counted. Consecutive
turns of one speaker become one turn.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.records import ROLES, UNASSIGNED, Conversation, Origin, Turn, digest
from curation.sources.quarantine import Parsed, Quarantined, UnusableError, checked_text, optional_text
from curation.sources.rows import (
    SPLIT_OF,
    Row,
    add_turn,
    jsonl_rows,
    parquet_rows,
    require_both_speakers,
    show,
    split_files,
)

SUFFIXES = (".jsonl", ".parquet")
SINGLE = "rows"
SYSTEM = "system"
COLUMNS: dict[str, tuple[str, ...]] = {"chat": ("messages",), "prompt_completion": ("prompt", "completion")}
OPTIONAL = ("conversation_id", "id", "situation", "emotions", "split")


def find(folder: Path, hint: str) -> tuple[str, ...]:
    """The names of a folder's files: one for each split that it has, or the single file.

    Raises:
        HeartwoodError: none, two of one split, or a further JSON Lines or Parquet file that would not be read.
    """
    if not folder.is_dir():
        raise HeartwoodError(f"{folder}: missing", hint=hint)
    found = tuple(split_files(folder, SUFFIXES))
    single = tuple(n for n in (SINGLE + s for s in SUFFIXES) if (folder / n).is_file())
    names = found or single[:1]
    others = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.name not in names]
    allowed = ", ".join(f"{stem}.jsonl" for stem in SPLIT_OF)
    if not names and not others:
        raise HeartwoodError(f"{folder}: no rows; allowed: {allowed}, or the same with .parquet", hint=hint)
    if others:
        raise HeartwoodError(
            f"{folder}: {others[0]} is not named after a split; allowed: {allowed}, or the same with .parquet",
            hint="rename it, take it out of the folder, or name a single file as the path",
        )
    return names


def _messages(row: dict[str, Any]) -> list[Any]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        found = f"messages is {type(messages).__name__}; allowed: a list; keys: {show(sorted(row))}"
        raise UnusableError("no_messages", found)
    return messages


def _prompt_and_completion(row: dict[str, Any]) -> list[Any]:
    sides = [_side(row, "prompt", "user"), _side(row, "completion", "assistant")]
    if not any(isinstance(m, dict) and m.get("role") == "assistant" for m in sides[1]):
        raise UnusableError("one_speaker", "the assistant says nothing in completion")
    return sides[0] + sides[1]


def _side(row: dict[str, Any], name: str, role: str) -> list[Any]:
    side = row.get(name)
    if isinstance(side, str):
        return [{"role": role, "content": side}]
    if not isinstance(side, list):
        found = f"{name} is {type(side).__name__}; allowed: a text or a list of messages; keys: {show(sorted(row))}"
        raise UnusableError("no_messages", found)
    return side


def _turns(messages: Sequence[Any]) -> tuple[list[Turn], int]:
    turns: list[Turn] = []
    system = 0
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            raise UnusableError("bad_turn", f"message {number} is {show(message)}; allowed: role and content")
        role, content = message.get("role"), message.get("content")
        if role == SYSTEM:
            system += 1
            continue
        if role not in ROLES:
            allowed = ", ".join((SYSTEM, *ROLES))
            raise UnusableError("unknown_role", f"message {number}: role {show(role)}; allowed: {allowed}")
        if not isinstance(content, str):
            raise UnusableError("bad_turn", f"message {number}: content is {type(content).__name__}; allowed: a text")
        add_turn(turns, role, checked_text(content, f"message {number}"))
    require_both_speakers(turns)
    return turns, system


def _identifier(row: dict[str, Any]) -> str:
    for name in ("conversation_id", "id"):
        value = row.get(name)
        if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
            # What data frames make of a column of whole numbers with gaps.
            value = None if math.isnan(value) else int(value)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise UnusableError("bad_field", f"{name} is {show(value)}; allowed: a text or a whole number")
        checked_text(str(value), name)
        return str(value)
    return ""


def _emotions(value: Any) -> tuple[str, ...]:
    labels = [] if value is None or value == "" else [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UnusableError("bad_field", f"emotions is {show(value)}; allowed: a text or a list of texts")
    return tuple(sorted({checked_text(label, "emotions") for label in labels}))


def _situation(value: Any) -> str:
    if not isinstance(value, str | None):
        raise UnusableError("bad_field", f"situation is {show(value)}; allowed: a text")
    return optional_text(value or "", "situation")


def _split(value: Any, of_file: str) -> str:
    if value is None or value == "":
        return of_file
    if not isinstance(value, str) or value not in SPLIT_OF:
        raise UnusableError("unknown_split", f"split is {show(value)}; allowed: {', '.join(SPLIT_OF)}")
    if of_file not in (UNASSIGNED, SPLIT_OF[value]):
        raise UnusableError("split_conflict", f"split is {show(value)} in a file of the {of_file} split")
    return SPLIT_OF[value]


_READ: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "chat": _messages,
    "prompt_completion": _prompt_and_completion,
}


def _parse_row(row: Row, format_name: str, name: str, source: str, of_file: str) -> Parsed:
    if row.problem:
        raise row.problem
    if not isinstance(row.value, dict):
        raise UnusableError("not_object", f"the row is {show(row.value)}; allowed: an object")
    turns, system = _turns(_READ[format_name](row.value))
    conversation = Conversation(
        source=source,
        task="dialogue",
        group=_identifier(row.value) or digest([[t.role, t.text] for t in turns])[:32],
        split=_split(row.value.get("split"), of_file),
        turns=tuple(turns),
        situation=_situation(row.value.get("situation")),
        emotions=_emotions(row.value.get("emotions")),
    )
    return Parsed(conversation, Origin(name, row.number, row.number), 1, row.raw, system)


def parse(format_name: str, folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Yield one record a row, file by file and in file order; rows are numbered from 1.

    Args:
        format_name: ``chat`` or ``prompt_completion``.

    Raises:
        HeartwoodError: a file is empty or damaged as a whole (not UTF-8, not Parquet, without its columns).
    """
    splits = split_files(folder, SUFFIXES)
    for name in find(folder, "run `dvc repro -f raw`"):
        path = folder / name
        required = COLUMNS[format_name]
        rows = jsonl_rows(path) if path.suffix == ".jsonl" else parquet_rows(path, required + OPTIONAL, required)
        for row in rows:
            try:
                yield _parse_row(row, format_name, name, source, splits.get(name, UNASSIGNED))
            except UnusableError as problem:
                yield Quarantined(name, row.number, 1, problem.reason, problem.detail, row.raw)
