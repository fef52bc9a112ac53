import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.tabular import Columns, RowFile, check_destination, check_table, keep_rows, read_rows, write_rows


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(folder: Path, name: str, data: str | bytes, **columns) -> RowFile:
    return read_rows(write(folder, name, data), Columns(**columns), "train")


def texts(found: RowFile) -> dict[int, str]:
    return {o.first_row: " / ".join(t.text for t in c.turns) for c, o in found.usable}


def reasons(found: RowFile) -> dict[int, str]:
    return {u.row: u.reason for u in found.unusable}


def test_jsonl_rows_are_lines_and_each_bad_one_has_a_reason(tmp_path):
    lines = [
        '{"text": "  one\\n two "}',
        "",
        "{not json",
        "[1, 2]",
        '{"text": null}',
        '{"other": 1}',
        '{"text": 7}',
        '{"text": "\\u200b \\u0007"}',
        '{"text": "\\ud800"}',
        '{"text": "😂"}',
        "[" * 100_000,
        '{"text": ' + "9" * 5000 + "}",
    ]
    found = read(tmp_path, "a.jsonl", "\n".join(lines).encode() + b'\n{"text": "\xff"}\n')
    assert texts(found) == {1: "one two", 10: "😂"}
    assert reasons(found) == {
        2: "blank",
        3: "not_json",
        4: "not_object",
        5: "missing",
        6: "missing",
        7: "not_text",
        8: "empty",
        9: "not_unicode",
        11: "not_json",
        12: "not_json",
        13: "not_utf8",
    }
    assert found.rows == 13


def test_nul_bytes_marks_and_very_long_rows_are_compared(tmp_path):
    long = "word " * 250_000
    rows = [{"text": "a\x00b"}, {"text": "\u202bשלום"}, {"text": long}]
    found = read(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    assert texts(found) == {1: "a\x00b", 2: "\u202bשלום", 3: long.strip()}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "end"])
def test_line_ends_marks_and_gzip_change_nothing(tmp_path, ending, mark, last):
    body = mark + ending.join(["text,label", '"one, ""1""",a', "two,b"]) + (ending if last else "")
    for name, data in (("a.csv", body.encode()), ("b.csv.gz", gzip.compress(body.encode()))):
        found = read(tmp_path, name, data, label="label")
        assert texts(found) == {1: 'one, "1"', 2: "two"}
        assert [c.emotions for c, _ in found.usable] == [("a",), ("b",)]
        assert not found.unusable


def test_a_quoted_csv_row_may_span_lines_and_rows_are_counted_not_lines(tmp_path):
    found = read(tmp_path, "a.csv", 'text,n\n"one\n\ntwo",1\n\nthree,2\nx,1,2\n"a"b,1\nfour,3\n')
    assert texts(found) == {1: "one two", 3: "three", 6: "four"}
    assert reasons(found) == {2: "blank", 4: "field_count", 5: "bad_quoting"}


def test_a_megabyte_in_a_csv_field_is_read_and_the_limit_of_others_is_left_alone(tmp_path):
    before = csv.field_size_limit()
    found = read(tmp_path, "a.csv", "text\n" + "x" * 1_000_000 + "\n")
    assert len(texts(found)[1]) == 1_000_000
    assert csv.field_size_limit() == before


def test_a_quotation_mark_that_is_never_closed_is_an_error_that_names_its_line(tmp_path):
    data = 'text,n\n"one, two",1\n"two,2\nthree,3\n'
    with pytest.raises(HeartwoodError, match=r"a\.csv, line 3: a quotation mark opens here") as caught:
        read(tmp_path, "a.csv", data)
    assert "--no-quoting" in caught.value.hint
    found = read(tmp_path, "a.csv", data, quoting=False)
    assert texts(found) == {2: '"two', 3: "three"}
    assert reasons(found) == {1: "field_count"}


STRAY = {
    "never closed": ['"two,2,x', "three,3,y"],
    "closed inside the field": ['"so" he said_comma_ "no",2,x', "three,3,y"],
    "closed rows later": ['"two,2,x', "three,3,y", 'four",4,z'],
    "some enclose a field": ['"two",2,x', '"three,3,y', '"four,4,z', "five,5,w"],
}


@pytest.mark.parametrize("rows", STRAY.values(), ids=list(STRAY))
def test_marks_that_enclose_nothing_merge_no_rows(tmp_path, rows):
    data = "\n".join(["text,n,m", "one_comma_ first,1,w", *rows, ""])
    found = read(tmp_path, "a.csv", data)
    assert texts(found) == {1: "one_comma_ first"} | {n: r.rsplit(",", 2)[0] for n, r in enumerate(rows, start=2)}
    assert found.rows == len(rows) + 1
    assert found.reading == "text, quotation marks as plain text"
    assert not found.unusable
    kept = tmp_path / "kept.csv"
    assert keep_rows([tmp_path / "a.csv"], Columns(), {str(tmp_path / "a.csv"): {1}}, kept) == len(rows)
    assert kept.read_text() == "\n".join(["text,n,m", *rows, ""])


@given(
    st.lists(
        st.tuples(st.text(st.sampled_from('ab ",\n'), min_size=1).filter(str.strip), st.integers(0, 9)), min_size=1
    ),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_a_writer_of_rfc_4180_quotes_is_read_back_row_by_row(tmp_path_factory, rows, style):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, quoting=style)
        writer.writerow(["text", "n"])
        writer.writerows(rows)
    found = read_rows(path, Columns(quoting=None), "train")
    assert found.rows == len(rows)
    assert "plain text" not in found.reading


@given(st.lists(st.text(st.sampled_from('ab "'), min_size=1).map(lambda t: t + "x"), min_size=1))
def test_lines_that_are_whole_rows_stay_as_many_rows(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text("text,n,m\n" + "".join(f"{value},1,2\n" for value in values), encoding="utf-8")
    assert read_rows(path, Columns(), "train").rows == len(values)


def test_a_tsv_has_a_header_only_if_its_first_row_names_a_column_that_is_wanted(tmp_path):
    plain = 'I am sad\t2\tid1\nNo "quote\t2\tid2\n'
    assert texts(read(tmp_path, "a.tsv", plain)) == {1: "I am sad", 2: 'No "quote'}
    assert texts(read(tmp_path, "a.tsv", "label\ttext\n2\tI am sad\n")) == {1: "I am sad"}
    assert texts(read(tmp_path, "a.tsv", "label\tcomment\n2\tI am sad\n", text="comment")) == {1: "I am sad"}
    assert texts(read(tmp_path, "a.tsv", "a\tb\n1\t2\n", header=True, text="b")) == {1: "2"}
    assert texts(read(tmp_path, "a.tsv", "text\n1\n", header=False)) == {1: "text", 2: "1"}
    # A label of the first row that is also the number of a column makes no header.
    labelled = read(tmp_path, "a.tsv", plain, label="2")
    assert [c.emotions for c, _ in labelled.usable] == [("2",), ("2",)]
    assert "no header" in labelled.reading
    quoted = read(tmp_path, "a.tsv", 'text\tn\n"a\tb"\t1\n', quoting=True)
    assert texts(quoted) == {1: "a b"}


def test_columns_are_chosen_by_name_in_order(tmp_path):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    both = json.dumps({"text": "t", "messages": chat, "prompt": "p", "completion": "c"})
    assert texts(read(tmp_path, "a.jsonl", both)) == {1: "t"}
    assert texts(read(tmp_path, "a.jsonl", both, text="messages")) == {1: "u / a"}
    assert texts(read(tmp_path, "a.jsonl", json.dumps({"messages": chat, "prompt": "p"}))) == {1: "u / a"}
    assert texts(read(tmp_path, "a.jsonl", json.dumps({"prompt": "p", "completion": "c"}))) == {1: "p / c"}
    lists = {"prompt": chat[:2], "completion": chat[2:]}
    found = read(tmp_path, "a.jsonl", json.dumps(lists))
    assert [(t.role, t.text) for t in found.usable[0][0].turns] == [("user", "u"), ("assistant", "a")]
    in_csv = io.StringIO()
    csv.writer(in_csv).writerows([["messages"], [json.dumps(chat)], ["no list"]])
    found = read(tmp_path, "a.csv", in_csv.getvalue())
    assert texts(found) == {1: "u / a"}
    assert reasons(found) == {2: "bad_messages"}


def test_bad_messages_are_named(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": "fine"}]},
        {"messages": [{"role": "narrator", "content": "x"}]},
        {"messages": ["x"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": []},
        {"messages": [{"role": "system", "content": "only"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
    ]
    found = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert list(texts(found)) == [1]
    wanted = {2: "bad_messages", 3: "bad_messages", 4: "not_text", 5: "empty", 6: "empty", 7: "bad_messages"}
    assert reasons(found) == wanted


def test_parquet_is_read_by_the_same_rules(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None, " "], "label": [["b", "a"], [], None]}), path)
    found = read_rows(path, Columns(label="label"), "train")
    assert texts(found) == {1: "one"}
    assert reasons(found) == {2: "missing", 3: "empty"}
    assert found.usable[0][0].emotions == ("a", "b")
    pq.write_table(pa.table({"text": [1, 2]}), path)
    with pytest.raises(HeartwoodError, match=r"none of its 2 rows can be used; the first: row 1: not_text"):
        read_rows(path, Columns(), "train")


@pytest.mark.parametrize(
    ("name", "data", "columns", "message"),
    [
        ("a.txt", "x", {}, "does not say what it holds"),
        ("a.parquet.gz", "x", {}, "does not say what it holds"),
        ("a.parquet", "PAR1 cut off", {}, "not whole Parquet"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], {}, "not whole gzip"),
        ("a.jsonl", "", {}, "none of its 0 rows"),
        ("a.csv", "", {}, "none of its 0 rows"),
        ("a.csv", "text\n", {}, "none of its 0 rows"),
        ("a.csv", "a,b\n1,2\n", {}, "no column text, messages, or prompt and completion; it has 'a', 'b'"),
        ("a.csv", "a,b\n1,2\n", {"text": "c"}, "no column 'c'; it has 'a', 'b'"),
        ("a.csv", "text,b\n1,2\n", {"label": "c"}, "no column 'c'"),
        ("a.csv", "text,b,text\n1,2,3\n", {}, "names 'text' twice"),
        ("a.tsv", "x\ty\n", {"text": "3"}, "without header it has columns '1', '2'"),
        ("a.jsonl", "\n\n", {}, "none of its 2 rows can be used; the first: row 1: blank"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), {}, "not_utf8"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_why(tmp_path, name, data, columns, message):
    with pytest.raises(HeartwoodError) as caught:
        read(tmp_path, name, data, **columns)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(HeartwoodError, match="no such file"):
        read_rows(tmp_path / "a.csv", Columns(), "train")


line = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(lambda t: json.dumps({"text": t}).encode()),
    st.sampled_from([b'a,"b', b'"x",y', b"x\ty", b'"', b"", b"\r", b"\xff", b"text,n", b"one,2"]),
)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
@given(lines=st.lists(line, max_size=12), header=st.booleans())
def test_rows_are_usable_or_unusable_whatever_the_bytes(tmp_path_factory, name, lines, header):
    folder = tmp_path_factory.mktemp("rows")
    data = (b"text,n\n" if header else b"") + b"\n".join(lines)
    try:
        found = read(folder, name, data)
    except HeartwoodError:
        return
    numbers = sorted([o.first_row for _, o in found.usable] + [u.row for u in found.unusable])
    assert numbers == list(range(1, found.rows + 1))
    # Nothing is lost on the way back either: without anything dropped, the file is what it was.
    kept = folder / f"kept{Path(name).suffix}"
    keep_rows([folder / name], Columns(), {}, kept)
    assert kept.read_bytes() == data.removeprefix(b"\xef\xbb\xbf")


@given(
    rows=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=9), max_size=9),
    dropped=st.sets(st.integers(1, 9)),
)
def test_kept_rows_are_those_that_csv_itself_reads_less_the_dropped(tmp_path_factory, rows, dropped):
    folder = tmp_path_factory.mktemp("rows")
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([["text", "n"], *([row, i] for i, row in enumerate(rows, start=1))])
    path = write(folder, "a.csv", buffer.getvalue())
    keep_rows([path], Columns(), {str(path): dropped}, folder / "kept.csv")
    text = (folder / "kept.csv").read_bytes().decode()
    wanted = [[row, str(i)] for i, row in enumerate(rows, start=1) if i not in dropped]
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == wanted


def test_several_files_are_kept_as_one(tmp_path):
    first, second = write(tmp_path, "a.csv", "\ufefftext\none\ntwo"), write(tmp_path, "b.csv", "text\nthree\n")
    assert keep_rows([first, second], Columns(), {str(first): {1}}, tmp_path / "kept.csv.gz") == 2
    assert gzip.decompress((tmp_path / "kept.csv.gz").read_bytes()) == b"text\ntwo\nthree\n"
    other = write(tmp_path, "c.csv", "text,n\nfour,1\n")
    with pytest.raises(HeartwoodError, match=r"c\.csv: its header is not that of"):
        keep_rows([first, other], Columns(), {}, tmp_path / "kept.csv")


def test_parquet_rows_are_kept_with_their_schema(tmp_path):
    table = pa.table({"text": ["one", "two", None], "n": pa.array([1, 2, 3], pa.int8())})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "b.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert keep_rows(paths, Columns(), {str(paths[0]): {2}}, tmp_path / "kept.parquet") == 5
    kept = pq.read_table(tmp_path / "kept.parquet")
    assert kept.schema == table.schema
    assert kept.column("n").to_pylist() == [1, 3, 1, 2, 3]
    pq.write_table(table.drop(["n"]), tmp_path / "b.parquet")
    with pytest.raises(HeartwoodError, match=r"b\.parquet: its schema"):
        keep_rows(paths, Columns(), {}, tmp_path / "kept.parquet")


def test_rows_are_not_kept_in_another_format_or_over_an_input(tmp_path):
    path = write(tmp_path, "a.csv", "text\none\n")
    with pytest.raises(HeartwoodError, match="the input is csv"):
        check_destination(tmp_path / "kept.jsonl", [path])
    with pytest.raises(HeartwoodError, match="is one of the inputs"):
        check_destination(tmp_path / "sub" / ".." / "a.csv", [path])
    with pytest.raises(HeartwoodError, match=r"allowed: \.jsonl"):
        check_table(tmp_path / "pairs.tsv", [])
    with pytest.raises(HeartwoodError, match="is one of the other files"):
        check_table(path, [path])


def test_pairs_are_written_in_each_format(tmp_path):
    schema = pa.schema([("row", pa.int64()), ("text", pa.string())])
    rows = [{"row": 1, "text": 'a "b",\nc'}, {"row": 2, "text": "é\x00"}]
    for made in (rows, []):
        write_rows(made, schema, tmp_path / "a.parquet")
        assert pq.read_table(tmp_path / "a.parquet").to_pylist() == made
        assert pq.read_table(tmp_path / "a.parquet").schema == schema
        write_rows(made, schema, tmp_path / "a.jsonl")
        assert [json.loads(x) for x in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()] == made
        write_rows(made, schema, tmp_path / "a.csv")
        with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as handle:
            assert [{"row": int(r["row"]), "text": r["text"]} for r in csv.DictReader(handle)] == made


@pytest.mark.real_data
def test_every_row_of_the_headerless_official_files_is_read(real_data):
    for split, rows in (("train", 43_410), ("dev", 5_426), ("test", 5_427)):
        found = read_rows(real_data / "goemotions" / f"{split}.tsv", Columns(label="2"), split)
        assert (found.rows, len(found.usable), found.unusable) == (rows, rows, [])
