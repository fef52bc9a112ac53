"""What every parser makes of hostile input; the reasons of each format alone are tested with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.records import content_id, identify
from curation.sources import parse
from curation.sources.intake import take_in
from curation.sources.quarantine import Parsed, Quarantined, has_format_characters
from curation.text import fold
from tests.curation.making import chat, comment, pair, parsed_or_refused, write_chat
from tests.curation.test_sources import (
    dialogue,
    ed_row,
    replied,
    said,
    write_ed,
    write_esconv,
    write_ge,
    write_hub,
)

Write = Callable[[Path, list[str]], None]


def _rows_of_ed(folder: Path, texts: list[str]) -> None:
    write_ed(folder, *(ed_row(f"c{n}", text=text.replace(",", "_comma_")) for n, text in enumerate(texts)))


def _rows_of_ge(folder: Path, texts: list[str]) -> None:
    write_ge(folder, *(f"{text}\t1\tid{n}" for n, text in enumerate(texts)))


def _rows_of_esconv(folder: Path, texts: list[str]) -> None:
    write_esconv(folder, *(dialogue(said("seeker", text), said("supporter", "Why?")) for text in texts))


def _rows_of_hub(folder: Path, texts: list[str]) -> None:
    turns = [({"text": text, "speaker": "usr"}, {"text": "Why?", "speaker": "sys"}) for text in texts]
    write_hub(folder, *(replied(*both) for both in turns))


def _rows_of_chat(folder: Path, texts: list[str]) -> None:
    write_chat(folder, *(chat(text, "Why?") for text in texts))


def _rows_of_pairs(folder: Path, texts: list[str]) -> None:
    write_chat(folder, *(pair(text) for text in texts))


def _rows_of_parquet(folder: Path, texts: list[str]) -> None:
    pq.write_table(pa.Table.from_pylist([pair(text) for text in texts]), folder / "rows.parquet")


# Name: format, main file, writer of rows that differ in the user's text alone.
WRITERS: dict[str, tuple[str, str, Write]] = {
    "empathetic_dialogues": ("empathetic_dialogues", "train.csv", _rows_of_ed),
    "goemotions": ("goemotions", "train.tsv", _rows_of_ge),
    "esconv": ("esconv", "ESConv.json", _rows_of_esconv),
    "hub": ("esconv", "train.jsonl", _rows_of_hub),
    "chat": ("chat", "rows.jsonl", _rows_of_chat),
    "prompt_completion": ("prompt_completion", "rows.jsonl", _rows_of_pairs),
    "parquet": ("prompt_completion", "rows.parquet", _rows_of_parquet),
}
LINES = [name for name in WRITERS if name not in ("esconv", "parquet")]
each = pytest.mark.parametrize("name", WRITERS)
each_of_lines = pytest.mark.parametrize("name", LINES)


def items_of(folder: Path, name: str) -> list[Parsed | Quarantined]:
    """What the parser yields of the main file."""
    fmt, file, _ = WRITERS[name]
    found = list(parse(fmt, folder, fmt))
    return [i for i in found if (i.origin.file if isinstance(i, Parsed) else i.file) == file]


def of_texts(folder: Path, name: str, texts: list[str]) -> list[Parsed | Quarantined]:
    """What the parser makes of rows with these texts."""
    WRITERS[name][2](folder, texts)
    return items_of(folder, name)


@each
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("word " * 200_000, "too_long"),
        ("a\x00b", "nul_byte"),
        ("\u200b\u200e\ufeff", "empty_text"),
        ("\x07", "empty_text"),
    ],
)
def test_a_text_that_no_record_may_hold_is_quarantined_with_its_raw_text(tmp_path, name, text, reason):
    good, bad, also_good = of_texts(tmp_path, name, ["fine", text, "also fine"])
    assert isinstance(good, Parsed)
    assert isinstance(also_good, Parsed)
    assert isinstance(bad, Quarantined)
    # ESConv's empty turns are left out, as its authors leave them; then the seeker says nothing.
    left_out = reason == "empty_text" and WRITERS[name][0] == "esconv"
    assert bad.reason == ("one_speaker" if left_out else reason)
    assert text in bad.raw or json.dumps(text)[1:-1] in bad.raw or json.dumps(text, ensure_ascii=False)[1:-1] in bad.raw


@pytest.mark.parametrize("name", ["esconv", "hub", "chat", "prompt_completion"])
@pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
def test_a_lone_surrogate_is_quarantined_and_its_raw_text_can_be_written(tmp_path, name, text):
    _, bad, _ = of_texts(tmp_path, name, ["fine", text, "fine"])
    assert isinstance(bad, Quarantined)
    assert bad.reason == "lone_surrogate"
    bad.raw.encode()
    assert json.dumps(text)[1:-1] in bad.raw


@each
@pytest.mark.parametrize(
    "text",
    [
        "\U0001f600\U0001f62d",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u200fשלום\u200f, hello",
        "\u202eolleh\u202c",
        "x" * 20_000,
        "naïve café",
    ],
)
def test_emoji_directional_marks_and_long_texts_are_kept_as_they_are(tmp_path, name, text):
    _, item, _ = of_texts(tmp_path, name, ["fine", text, "fine"])
    assert isinstance(item, Parsed)
    assert item.conversation.turns[0].text == text


@each
def test_texts_in_two_normal_forms_are_one_text(tmp_path, name):
    one, other = of_texts(tmp_path, name, ["Zoë", "Zoe\u0308"])
    assert isinstance(one, Parsed)
    assert isinstance(other, Parsed)
    assert content_id(one.conversation) == content_id(other.conversation)


def test_format_characters_make_another_record_and_are_counted():
    plain, marked, split = "so sad", "so sad\u200f", "so s\u200bad"
    assert len({content_id(comment(text)) for text in (plain, marked, split)}) == 3
    assert fold(plain) == fold(marked), "at the edge of a word they hide nothing from the fold"
    assert fold(plain) != fold(split), "inside a word they do: hence the count"
    assert [has_format_characters(t) for t in (plain, marked, split, "a\x07", "naïve \U0001f600", "")] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


@each
def test_records_with_format_characters_are_counted(tmp_path, name):
    items = of_texts(tmp_path, name, ["fine", "so s\u200bad", "so sad\u200f"])
    assert take_in(items, "mask").counts["records_with_format_characters"] == 2


@pytest.mark.parametrize(
    ("name", "size"), [(name, 100_000 if name in ("goemotions", "chat") else 10_000) for name in WRITERS]
)
def test_identical_rows_by_the_hundred_thousand_are_as_many_records(tmp_path, name, size):
    items = of_texts(tmp_path, name, ["the same"] * size)
    assert len(items) == size
    uids = {c.uid for c, _ in identify((i.conversation, i.origin) for i in items if isinstance(i, Parsed))}
    assert len(uids) == size
    assert len({uid[:64] for uid in uids}) == 1


@each_of_lines
def test_a_line_cut_off_in_the_middle_costs_itself_alone(tmp_path, name):
    of_texts(tmp_path, name, ["one", "two", "three"])
    path = tmp_path / WRITERS[name][1]
    lines = path.read_text(encoding="utf-8").split("\n")
    at = next(i for i, line in enumerate(lines) if "two" in line)
    lines[at] = lines[at][: lines[at].index("two")]
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    found = items_of(tmp_path, name)
    assert [isinstance(i, Parsed) for i in found if i.raw != lines[at]] == [True, True]
    assert [(i.first_row, i.raw) for i in found if isinstance(i, Quarantined)] == [(at + 1, lines[at])]


@each_of_lines
def test_line_ends_and_a_byte_order_mark_change_no_record(tmp_path, name):
    plain = of_texts(tmp_path, name, ["one", "two"])
    path = tmp_path / WRITERS[name][1]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert items_of(tmp_path, name) == plain


@each_of_lines
@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n "])
def test_an_empty_file_of_a_split_is_an_error_that_names_it(tmp_path, name, data):
    of_texts(tmp_path, name, ["one"])
    fmt, file, _ = WRITERS[name]
    (tmp_path / file).write_bytes(data)
    items, refused = parsed_or_refused(fmt, tmp_path)
    assert items == []
    assert f"{file}: the file is empty" in refused


PIECES = [b"\n", b"\r\n", b"\t", b",", b"1", b"c1", b"sad", b"{", b"}", b"[", b'"', b"null", b" ", b"\x00", b"\xff"]


@each_of_lines
@given(data=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join))
def test_rows_in_are_kept_plus_quarantined_whatever_bytes_follow(name, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    of_texts(folder, name, ["one"])
    fmt, file, _ = WRITERS[name]
    path = folder / file
    before = path.read_bytes()
    path.write_bytes(before + data)
    items, refused = parsed_or_refused(fmt, folder)
    if refused:
        assert f"{file}: not UTF-8" in refused
        with pytest.raises(UnicodeDecodeError):
            data.decode()
        return
    lines = (before + data).decode().removesuffix("\n").split("\n")
    if fmt == "empathetic_dialogues":
        lines = lines[1:]
    elif fmt != "goemotions":
        lines = [line for line in lines if line.strip(" \t\r")]
    counted = [i for i in items if (i.origin.file if isinstance(i, Parsed) else i.file) == file]
    assert sum(i.rows for i in counted) == len(lines)
    assert any(isinstance(i, Parsed) for i in counted) or fmt == "empathetic_dialogues", "its conversation may be hit"
    for item in counted:
        item.raw.encode()
