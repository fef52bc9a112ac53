"""JSON Lines: one object a line, UTF-8, LF, keys in the order given."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows; the bytes depend on the rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read rows.

    Raises:
        HeartwoodError: the file is missing or a line is not a JSON object; file and row are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HeartwoodError(f"{path}: missing", hint="run `dvc repro`, or `dvc pull`") from None
    except UnicodeDecodeError as error:
        raise HeartwoodError(f"{path}: not UTF-8 (byte {error.start})", hint="restore the file") from None
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise HeartwoodError(f"{path}, row {number}: not JSON ({error.msg})", hint="restore the file") from None
        if not isinstance(row, dict):
            raise HeartwoodError(f"{path}, row {number}: not a JSON object", hint="restore the file")
        rows.append(row)
    return rows
