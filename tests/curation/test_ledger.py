import json

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.ledger import Removal, read_removed, write_ledger
from curation.records import by_uid, read_records, write_records
from tests.curation.making import conversations, numbered, talk


def removal(record, **fields):
    return Removal(record, "rule-v1", {"jaccard": 0.8, "a": "x"}, "survivor-0", 0.87654321, "why", **fields)


@settings(max_examples=25)
@given(rows=st.lists(conversations, max_size=8).map(numbered), mask=st.integers(0, 255))
def test_output_and_ledger_sorted_by_uid_are_the_input_again(rows, mask, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    kept = [c for i, c in enumerate(rows) if mask >> i & 1]
    removed = [c for i, c in enumerate(rows) if not mask >> i & 1]
    write_records(kept, folder / "kept.parquet")
    write_ledger([removal(c) for c in removed[::-1]], folder / "ledger.parquet")
    write_records(rows, folder / "input.parquet")
    again = by_uid(read_records(folder / "kept.parquet") + read_removed(folder / "ledger.parquet"))
    write_records(again, folder / "again.parquet")
    assert again == rows
    assert (folder / "again.parquet").read_bytes() == (folder / "input.parquet").read_bytes()


def test_a_row_says_why(tmp_path):
    record = talk("gone")
    write_ledger([removal(record)], tmp_path / "l.parquet")
    (row,) = pq.read_table(tmp_path / "l.parquet").to_pylist()
    assert row["uid"] == record.uid
    assert (row["rule"], row["survivor"], row["score"], row["detail"]) == ("rule-v1", "survivor-0", 0.876543, "why")
    assert row["parameters"] == '{"a":"x","jaccard":0.8}'
    assert json.loads(row["parameters"])["jaccard"] == 0.8


def test_the_order_of_removals_does_not_change_the_bytes(tmp_path):
    removals = [removal(c) for c in numbered(talk(str(i % 4)) for i in range(9))]
    write_ledger(removals, tmp_path / "a.parquet")
    write_ledger(removals[::-1], tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert read_removed(tmp_path / "a.parquet") == by_uid(r.record for r in removals)


def test_an_empty_ledger_can_be_written_and_read(tmp_path):
    write_ledger([], tmp_path / "l.parquet")
    assert read_removed(tmp_path / "l.parquet") == []
