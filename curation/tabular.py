"""Rows of anybody's files: JSONL, CSV, TSV or Parquet, each row a text or a chat.

Rows are numbered from 1, in file order; a header has no number. In JSONL, and in a CSV or TSV without quoting,
each line is a row, blank lines too; in a quoted CSV a row may span lines (RFC 4180). A CSV whose quotation marks
enclose nothing (``_marks_are_text``) is read without quoting, so that no stray mark merges rows. A row that holds
nothing to compare is listed as unusable with its reason: rows = usable + unusable, always.

Which column is read:

- the one that is asked for: a text, or a chat (a list of messages with ``role`` and ``content``);
- else ``text``; else ``messages``, a chat; else ``prompt`` and ``completion``, each a text or a list of messages;
- in a file without header columns are named by number, and the text is column 1.

A CSV has a header. A TSV has one if a field of its first row is a column that is asked for by name (or, if none
is asked for, the names above); otherwise its first row is data. A caller who knows better says so.
"""

import csv
import gzip
import io
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import HeartwoodError
from curation.records import Conversation, Origin, Turn, clean_text

TEXT, MESSAGES, PROMPT, COMPLETION = "text", "messages", "prompt", "completion"
FORMS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
DELIMITER = {"csv": ",", "tsv": "\t"}
ROLE_OF = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant"}
LEFT_OUT = frozenset({"system", "developer", "tool"})
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ENCLOSED = re.compile(r'"(?:[^"]|"")*"')
BAD_QUOTING = "bad_quoting"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Columns:
    """What the caller says of a file: its text and label columns, and header and quoting (None: by the rules)."""

    text: str | None = None
    label: str | None = None
    header: bool | None = None
    quoting: bool | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row with nothing to compare: where it stands, a reason code, and what is wrong with it."""

    file: str
    row: int
    reason: str
    detail: str


@dataclass(frozen=True)
class RowFile:
    """One file: how many rows, what was read as text, and each row as a conversation or as unusable."""

    file: str
    rows: int
    reading: str
    usable: list[tuple[Conversation, Origin]]
    unusable: list[Unusable]


class _RowError(Exception):
    """Why one row cannot be used: a reason code and a detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class _Line:
    """A row as it stands in the file: its bytes, and its values by column or why they cannot be had."""

    raw: bytes
    values: Mapping[str, Any] | _RowError


@dataclass(frozen=True)
class _Body:
    """A file's rows in order, after its header (empty if it has none), and the names of its columns."""

    header: bytes
    columns: Sequence[str]
    lines: list[_Line]
    named: bool = True
    marks_are_text: bool = False


def form_of(path: Path) -> str:
    """The format that a file's name says: jsonl, csv, tsv or parquet.

    Raises:
        HeartwoodError: another suffix.
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
        if suffixes and suffixes[-1] == ".parquet":
            suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMS:
        raise HeartwoodError(
            f"{path}: the name does not say what it holds; allowed: {', '.join(FORMS)}"
            " (all but Parquet also with .gz behind it)",
            hint="give the file one of these suffixes",
        )
    return FORMS[suffixes[-1]]


def read_rows(path: Path, columns: Columns, split: str) -> RowFile:
    """Read one file's rows as conversations of one ``split``; ids are not set.

    A text becomes one user turn; a chat, or prompt and completion, becomes its turns, without system and tool
    messages. Labels are those of the label column, sorted.

    Raises:
        HeartwoodError: no such file, another format, damaged as a whole, no such column, or no usable row.
    """
    body = _read_body(path, columns)
    text_columns = _text_columns(path, body, columns.text)
    if columns.label is not None and columns.label not in body.columns:
        raise _no_column(path, body, columns.label, "--label-column")
    usable: list[tuple[Conversation, Origin]] = []
    unusable: list[Unusable] = []
    for number, line in enumerate(body.lines, start=1):
        try:
            if isinstance(line.values, _RowError):
                raise line.values
            turns = _turns(line.values, text_columns)
            labels = () if columns.label is None else _labels(line.values.get(columns.label))
        except _RowError as problem:
            unusable.append(Unusable(str(path), number, problem.reason, problem.detail))
            continue
        record = Conversation("rows", "rows", "", split, turns, emotions=labels)
        usable.append((record, Origin(str(path), number, number)))
    if not usable:
        first = f"; the first: row 1: {unusable[0].reason} ({unusable[0].detail})" if unusable else ""
        raise HeartwoodError(
            f"{path}: none of its {len(body.lines)} rows can be used{first}",
            hint="name the column that holds the text with --text-column, or correct the file",
        )
    reading = " and ".join(text_columns) if body.named else f"column {text_columns[0]}, no header"
    if body.marks_are_text:
        reading += ", quotation marks as plain text"
    return RowFile(str(path), len(body.lines), reading, usable, unusable)


def _read_body(path: Path, columns: Columns) -> _Body:
    form = form_of(path)
    if not path.is_file():
        raise HeartwoodError(f"{path}: no such file", hint="correct the path")
    if form == "parquet":
        return _parquet_body(path, columns)
    data = _read_bytes(path)
    if form == "jsonl":
        return _jsonl_body(data)
    if columns.quoting is not None:
        return _delimited_body(path, data, form, columns, columns.quoting)
    stray = form == "csv" and _marks_are_text(path, data, DELIMITER[form])
    body = _delimited_body(path, data, form, columns, form == "csv" and not stray)
    return replace(body, marks_are_text=stray)


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise HeartwoodError(f"{path}: not whole gzip ({error}); half a download?", hint="get it again") from None
    return data


def _lines_of(data: bytes) -> list[bytes]:
    """The lines with their ends, as ``\\n`` alone divides them."""
    lines = data.removeprefix(_BOM).split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _decode(raw: bytes) -> str:
    # Bytes that are not UTF-8 become lone surrogates, which no UTF-8 text can hold, and are found as such.
    return raw.decode("utf-8", errors="surrogateescape").removesuffix("\n").removesuffix("\r")


def _jsonl_body(data: bytes) -> _Body:
    lines = [_Line(raw, _json_values(_decode(raw))) for raw in _lines_of(data)]
    names = {name: None for line in lines if not isinstance(line.values, _RowError) for name in line.values}
    return _Body(b"", list(names), lines)


def _json_values(text: str) -> Mapping[str, Any] | _RowError:
    if not text.strip():
        return _RowError("blank", "the line is blank")
    if _SURROGATE.search(text):
        return _RowError("not_utf8", "the line is not UTF-8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _RowError("not_json", f"the line is not JSON ({str(error)[:80]})")
    if not isinstance(value, dict):
        return _RowError("not_object", f"the line holds {type(value).__name__}; allowed: an object")
    return value


def _delimited_body(path: Path, data: bytes, form: str, columns: Columns, quoted: bool) -> _Body:
    rows = list(_quoted_rows(path, data, DELIMITER[form]) if quoted else _plain_rows(data, DELIMITER[form]))
    if not rows:
        return _Body(b"", [], [])
    raw, first = rows[0]
    names = [] if isinstance(first, _RowError) else [name.strip() for name in first]
    has_header = columns.header if columns.header is not None else form == "csv" or _is_header(names, columns)
    if not has_header:
        width = next((len(fields) for _, fields in rows if not isinstance(fields, _RowError)), 0)
        names = [str(n) for n in range(1, width + 1)]
    elif isinstance(first, _RowError):
        raise HeartwoodError(f"{path}: the header cannot be read: {first.detail}", hint="correct the first row")
    elif twice := sorted({n for n in names if n and names.count(n) > 1}):
        raise HeartwoodError(f"{path}: the header names {twice[0]!r} twice", hint="rename one of the two columns")
    lines = [_Line(r, _named(fields, names)) for r, fields in rows[has_header:]]
    return _Body(raw if has_header else b"", names, lines, named=has_header)


def _is_header(names: Sequence[str], columns: Columns) -> bool:
    if asked := {name for name in (columns.text, columns.label) if name is not None}:
        # A number asks for a column of a file without header, even where a label of the first row is that number.
        return any(name in names and not name.isdecimal() for name in asked)
    return TEXT in names or MESSAGES in names or {PROMPT, COMPLETION} <= set(names)


def _named(fields: list[str] | _RowError, names: Sequence[str]) -> Mapping[str, Any] | _RowError:
    if isinstance(fields, _RowError):
        return fields
    if len(fields) != len(names):
        return _RowError("field_count", f"{len(fields)} fields; allowed: {len(names)}, as in the first row")
    return dict(zip(names, fields, strict=True))


def _plain_rows(data: bytes, delimiter: str) -> Iterator[tuple[bytes, list[str] | _RowError]]:
    for raw in _lines_of(data):
        text = _decode(raw)
        yield raw, text.split(delimiter) if text.strip() else _RowError("blank", "the line is blank")


def _quoted_rows(path: Path, data: bytes, delimiter: str) -> Iterator[tuple[bytes, list[str] | _RowError]]:
    lines = _lines_of(data)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader((_keep_end(raw) for raw in lines), delimiter=delimiter, strict=True)
        end = 0
        while end < len(lines):
            start = end
            fields: list[str] | _RowError
            try:
                fields = next(reader)
            except csv.Error as error:
                where = (
                    f"line {start + 1}" if reader.line_num == start + 1 else f"lines {start + 1} to {reader.line_num}"
                )
                if reader.line_num == len(lines) and "unexpected end of data" in str(error):
                    raise HeartwoodError(
                        f"{path}, line {start + 1}: a quotation mark opens here and is never closed",
                        hint="correct the line, or say --no-quoting if quotation marks are plain text in this file",
                    ) from None
                fields = _RowError(BAD_QUOTING, f"{where}: {error}")
            end = reader.line_num
            if not isinstance(fields, _RowError) and not any(f.strip() for f in fields):
                fields = _RowError("blank", f"line {start + 1} is blank")
            yield b"".join(lines[start:end]), fields
    finally:
        csv.field_size_limit(limit)


def _marks_are_text(path: Path, data: bytes, delimiter: str) -> bool:
    """Whether the quotation marks of a CSV enclose nothing, so that each line is a row.

    They do not where one that opens a field is never closed, is closed inside the field, or would make one row of
    lines that are whole rows; while every line with a mark has as many fields as the first line without any help of
    quoting, and more of them only open a field than enclose one. Lines of two fields are too easily whole by chance
    to be taken for rows that were merged.
    """
    if b'"' not in data:
        return False
    lines = [_decode(raw).split(delimiter) for raw in _lines_of(data)]
    width = len(lines[0])
    marked = [fields for fields in lines if any('"' in value for value in fields)]
    if width < 2 or any(len(fields) != width for fields in marked):
        return False
    enclosing = sum(any(_ENCLOSED.fullmatch(v) for v in fields) for fields in marked)
    opening = sum(any(v.startswith('"') and not _ENCLOSED.fullmatch(v) for v in fields) for fields in marked)
    if opening <= enclosing:
        return False
    try:
        rows = list(_quoted_rows(path, data, delimiter))
    except HeartwoodError:
        return True
    return any(
        (isinstance(fields, _RowError) and fields.reason == BAD_QUOTING) or (width > 2 and b"\n" in raw[:-1])
        for raw, fields in rows
    )


def _keep_end(raw: bytes) -> str:
    return raw.decode("utf-8", errors="surrogateescape")


def _parquet_body(path: Path, columns: Columns) -> _Body:
    return _parquet_columns(path, (TEXT, MESSAGES, PROMPT, COMPLETION, columns.text, columns.label))


def _parquet_columns(path: Path, wanted: Sequence[str | None]) -> _Body:
    if not path.is_file():
        raise HeartwoodError(f"{path}: no such file", hint="correct the path")
    try:
        schema = pq.read_schema(path)
        names = [n for n in schema.names if n in wanted]
        table = pq.read_table(path, columns=names)
        values = {name: table.column(name).to_pylist() for name in names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise HeartwoodError(
            f"{path}: not whole Parquet ({str(error).splitlines()[0][:120]})", hint="restore the file"
        ) from None
    lines = [_Line(b"", {name: values[name][i] for name in names}) for i in range(table.num_rows)]
    return _Body(b"", schema.names, lines)


def _text_columns(path: Path, body: _Body, asked: str | None) -> tuple[str, ...]:
    if asked is not None:
        if asked not in body.columns and body.lines:
            raise _no_column(path, body, asked, "--text-column")
        return (asked,)
    if not body.named:
        return ("1",)
    for found in ((TEXT,), (MESSAGES,), (PROMPT, COMPLETION)):
        if set(found) <= set(body.columns):
            return found
    if not any(not isinstance(line.values, _RowError) for line in body.lines):
        return (TEXT,)
    raise HeartwoodError(
        f"{path}: no column {TEXT}, {MESSAGES}, or {PROMPT} and {COMPLETION}; it has {_listed(body.columns)}",
        hint="name the column that holds the text with --text-column",
    )


def _no_column(path: Path, body: _Body, name: str, option: str) -> HeartwoodError:
    return HeartwoodError(
        f"{path}: no column {name!r}; {'it has' if body.named else 'without header it has columns'}"
        f" {_listed(body.columns)}",
        hint=f"correct {option}, or say --header or --no-header",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n[:40]) for n in names[:12])
    return (shown or "none") + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _turns(values: Mapping[str, Any], columns: Sequence[str]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for column, role in zip(columns, ("user", "assistant"), strict=False):
        value = values.get(column)
        if value is None:
            raise _RowError("missing", f"no value under {column}")
        if isinstance(value, str) and column == MESSAGES:
            value = _json_list(value)
        turns += _messages(value, column) if isinstance(value, list) else [_turn(role, value, column)]
    if any(_SURROGATE.search(t.text) for t in turns):
        raise _RowError("not_unicode", "bytes that are not UTF-8, or a lone surrogate")
    if not any(_is_visible(c) for t in turns for c in t.text):
        raise _RowError("empty", "the text has no visible character")
    return tuple(turns)


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")


def _json_list(value: str) -> list[Any]:
    try:
        loaded = json.loads(value)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, list):
        raise _RowError("bad_messages", f"{MESSAGES} is text, but not a JSON list")
    return loaded


def _turn(role: str, text: object, where: str) -> Turn:
    if not isinstance(text, str):
        raise _RowError("not_text", f"{where} is {type(text).__name__}; allowed: text, or a list of messages")
    return Turn(role, clean_text(text))


def _messages(messages: Sequence[Any], column: str) -> list[Turn]:
    turns = []
    for number, message in enumerate(messages, start=1):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLE_OF.keys() | LEFT_OUT:
            raise _RowError(
                "bad_messages",
                f"{column}, message {number}: role {role!r:.40}; allowed: {', '.join([*ROLE_OF, *sorted(LEFT_OUT)])}",
            )
        if role in ROLE_OF:
            turns.append(_turn(ROLE_OF[role], message.get("content"), f"{column}, message {number}: content"))
    return turns


def _labels(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(sorted(str(v).strip() for v in value if v is not None))
    return () if value is None or not str(value).strip() else (str(value).strip(),)


def keep_rows(paths: Sequence[Path], columns: Columns, dropped: Mapping[str, set[int]], destination: Path) -> int:
    """Write the rows of all files but the dropped ones, in order and unchanged; returns how many.

    Args:
        dropped: row numbers by file, as ``read_rows`` names them.

    Raises:
        HeartwoodError: the destination is an input, or another format; headers or schemas differ.
    """
    check_destination(destination, paths)
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    count = _keep_parquet(paths, dropped, part) if form_of(destination) == "parquet" else None
    if count is None:
        count, data = _keep_lines(paths, columns, dropped)
        part.write_bytes(gzip.compress(data, mtime=0) if destination.suffix.lower() == ".gz" else data)
    part.replace(destination)
    return count


def check_destination(destination: Path, paths: Sequence[Path]) -> None:
    """Whether surviving rows of these files can be written there.

    Raises:
        HeartwoodError: the destination is one of them, or not of their format.
    """
    forms = sorted({form_of(p) for p in paths})
    if forms != [form_of(destination)]:
        raise HeartwoodError(
            f"{destination}: rows are kept unchanged, and the input is {' and '.join(forms)}",
            hint=f"give it the suffix of the input, {paths[0].name.removeprefix(paths[0].stem)}",
        )
    if destination.resolve() in {p.resolve() for p in paths}:
        raise HeartwoodError(f"{destination}: is one of the inputs", hint="write to another file")


def _keep_lines(paths: Sequence[Path], columns: Columns, dropped: Mapping[str, set[int]]) -> tuple[int, bytes]:
    kept: list[bytes] = []
    header = b""
    count = 0
    for i, path in enumerate(paths):
        body = _read_body(path, columns)
        if i == 0:
            header = body.header
            kept += [header] if header else []
        elif body.header.strip() != header.strip():
            raise HeartwoodError(f"{path}: its header is not that of {paths[0]}", hint="keep the rows file by file")
        without = dropped.get(str(path), set())
        rows = [line.raw for number, line in enumerate(body.lines, start=1) if number not in without]
        count += len(rows)
        kept += rows
    ended = [line if line.endswith(b"\n") else line + b"\n" for line in kept[:-1]]
    return count, b"".join(ended + kept[-1:])


def _keep_parquet(paths: Sequence[Path], dropped: Mapping[str, set[int]], part: Path) -> int:
    tables: list[pa.Table] = []
    for path in paths:
        table = pq.read_table(path)
        if tables and table.schema != tables[0].schema:
            raise HeartwoodError(f"{path}: its schema is not that of {paths[0]}", hint="keep the rows file by file")
        without = dropped.get(str(path), set())
        tables.append(table.take(pa.array([i for i in range(table.num_rows) if i + 1 not in without], pa.int64())))
    kept = pa.concat_tables(tables)
    pq.write_table(kept, part, compression="zstd")
    return int(kept.num_rows)


def check_table(destination: Path, others: Iterable[Path]) -> None:
    """Whether rows can be written there.

    Raises:
        HeartwoodError: another suffix, or the destination is one of the other files.
    """
    if destination.suffix.lower() not in (".jsonl", ".csv", ".parquet"):
        raise HeartwoodError(f"{destination}: allowed: .jsonl, .csv, .parquet", hint="give it one of these suffixes")
    if destination.resolve() in {p.resolve() for p in others}:
        raise HeartwoodError(f"{destination}: is one of the other files", hint="write to another file")


def write_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, destination: Path) -> None:
    """Write rows as JSONL, CSV or Parquet, by suffix; the columns are those of ``schema``.

    Raises:
        HeartwoodError: another suffix.
    """
    check_table(destination, ())
    form = form_of(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), destination, compression="zstd")
        return
    buffer = io.StringIO(newline="")
    if form == "csv":
        writer = csv.DictWriter(buffer, schema.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            buffer.write(json.dumps({name: row[name] for name in schema.names}, ensure_ascii=False) + "\n")
    destination.write_text(buffer.getvalue(), encoding="utf-8", newline="")


@dataclass(frozen=True)
class NamedRows:
    """One file by columns: their names, its usable rows (number, values by column) and the unusable ones."""

    columns: Sequence[str]
    rows: list[tuple[int, Mapping[str, Any]]]
    unusable: list[Unusable]


def read_named(path: Path, needed: Sequence[str], also: Sequence[str] = ()) -> NamedRows:
    """Read columns of a file by name: ``needed`` ones, and those of ``also`` that it has. CSV and TSV have a header.

    Raises:
        HeartwoodError: no such file, another format, damaged as a whole, or a needed column is missing.
    """
    parquet = form_of(path) == "parquet"
    body = _parquet_columns(path, (*needed, *also)) if parquet else _read_body(path, Columns(header=True))
    rows: list[tuple[int, Mapping[str, Any]]] = []
    unusable: list[Unusable] = []
    for number, line in enumerate(body.lines, start=1):
        if isinstance(line.values, _RowError):
            unusable.append(Unusable(str(path), number, line.values.reason, line.values.detail))
        else:
            rows.append((number, line.values))
    if missing := [name for name in needed if name not in body.columns]:
        raise HeartwoodError(
            f"{path}: no column {missing[0]!r}; it has {_listed(body.columns)}",
            hint=f"name the columns of the file {' and '.join(needed)}",
        )
    return NamedRows(body.columns, rows, unusable)
