import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl, write_jsonl

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\n\u2028é"), inner, max_size=3),
    max_leaves=5,
)


@given(rows=st.lists(st.dictionaries(st.text("ab\u0085"), values, max_size=3), max_size=4))
def test_round_trip_one_line_a_row(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("jsonl") / "folder" / "rows.jsonl"
    write_jsonl(rows, path)
    assert read_jsonl(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows)


def test_text_is_written_as_it_reads_with_keys_in_the_order_given(tmp_path):
    write_jsonl([{"b": "é", "a": 1}], tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == '{"b": "é", "a": 1}\n'.encode()


@pytest.mark.parametrize(("line", "reason"), [('{"a": ', "not JSON"), ("[1]", "not a JSON object"), ("", "not JSON")])
def test_a_bad_line_names_file_and_row(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(HeartwoodError, match=rf"rows\.jsonl, row 2: {reason}"):
        read_jsonl(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HeartwoodError, match=r"rows\.jsonl: missing"):
        read_jsonl(tmp_path / "rows.jsonl")


def test_a_last_line_that_was_cut_off_is_not_lost_in_silence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2')
    with pytest.raises(HeartwoodError, match=r"rows\.jsonl, row 2"):
        read_jsonl(path)


def test_a_last_line_without_newline_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_bytes_that_are_not_utf8_name_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\xe9"}\n')
    with pytest.raises(HeartwoodError, match=r"rows\.jsonl"):
        read_jsonl(path)
