import hashlib
import subprocess
import sys
import unicodedata
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.records import (
    SCHEMA,
    Conversation,
    Origin,
    Turn,
    as_row,
    by_uid,
    canonical_json,
    clean_text,
    content_id,
    distinct_texts,
    from_row,
    from_table,
    identify,
    read_records,
    text_digest,
    to_table,
    write_origins,
    write_records,
)
from tests.curation.making import comment, conversations, numbered, talk

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
any_conversation = st.builds(
    Conversation,
    source=st.sampled_from(["a", "b"]),
    task=st.sampled_from(["dialogue", "emotion"]),
    group=texts,
    split=st.sampled_from(["train", "dev", "test", ""]),
    turns=st.lists(
        st.builds(
            Turn,
            st.sampled_from(["user", "assistant"]),
            texts,
            st.lists(texts, max_size=2).map(tuple),
            st.lists(st.integers(1, 5), max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    situation=texts,
    emotions=st.lists(texts, max_size=2).map(tuple),
)


def at(records, file="f"):
    return [(c, Origin(file, i, i)) for i, c in enumerate(records, start=1)]


def test_the_id_is_sha256_over_canonical_json_of_the_content():
    record = Conversation("s", "dialogue", "g", "train", (Turn("user", "Hé", ("Q",)),), "sit", ("sad",))
    text = (
        '{"emotions":["sad"],"scheme":"record-v1","situation":"sit","source":"s","task":"dialogue",'
        '"turns":[["user","Hé",["Q"]]]}'
    )
    assert content_id(record) == hashlib.sha256(text.encode()).hexdigest()


def test_feedback_stands_in_the_id_where_there_is_any():
    record = Conversation("s", "dialogue", "g", "train", (Turn("user", "Hi", (), (5, 1)),))
    text = (
        '{"emotions":[],"scheme":"record-v1","situation":"","source":"s","task":"dialogue",'
        '"turns":[["user","Hi",[],[5,1]]]}'
    )
    assert content_id(record) == hashlib.sha256(text.encode()).hexdigest()


@given(any_conversation, texts, st.sampled_from(["train", "dev", "test", ""]))
def test_the_id_ignores_group_split_and_copy(record, group, split):
    assert content_id(replace(record, group=group, split=split, id="x", copy=7)) == content_id(record)


@given(any_conversation, texts)
def test_the_id_follows_every_part_of_the_content(record, text):
    turn = record.turns[0]
    changed = [
        replace(record, source=record.source + "x"),
        replace(record, task=record.task + "x"),
        replace(record, situation=record.situation + "x"),
        replace(record, emotions=(*record.emotions, "x")),
        replace(record, turns=(*record.turns, Turn("user", text))),
        replace(record, turns=(replace(turn, text=turn.text + "x"), *record.turns[1:])),
        replace(record, turns=(replace(turn, role=turn.role + "x"), *record.turns[1:])),
        replace(record, turns=(replace(turn, strategies=(*turn.strategies, "x")), *record.turns[1:])),
        replace(record, turns=(replace(turn, feedback=(*turn.feedback, 3)), *record.turns[1:])),
    ]
    ids = [content_id(c) for c in [record, *changed]]
    assert len(set(ids)) == len(ids)


def test_moving_a_word_between_turns_changes_the_id():
    assert content_id(talk("a b", "c")) != content_id(talk("a", "b c"))


@given(any_conversation)
def test_composed_and_decomposed_text_have_one_id(record):
    composed, decomposed = (
        replace(record, situation=unicodedata.normalize(form, record.situation + "Zoë naïve Å"))
        for form in ("NFC", "NFD")
    )
    assert composed.situation != decomposed.situation
    assert content_id(composed) == content_id(decomposed)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_clean_text_is_composed_trimmed_and_single_spaced(text):
    cleaned = clean_text(f"\u00a0{text}\r\n")
    assert cleaned == " ".join(unicodedata.normalize("NFC", text).split())
    assert clean_text(cleaned) == cleaned


def test_canonical_json_has_sorted_keys_and_no_spaces():
    assert canonical_json({"b": [1, "e\u0301"], "a": None}) == '{"a":null,"b":[1,"é"]}'


@given(st.lists(any_conversation, max_size=8), st.randoms(use_true_random=False))
def test_uids_are_unique_and_independent_of_row_order_and_file(records, random):
    records = [*records, *records[:3]]
    shuffled = list(records)
    random.shuffle(shuffled)
    one, other = ([c for c, _ in identify(rows)] for rows in (at(records), at(shuffled, "another")))
    assert one == other
    assert len({c.uid for c in one}) == len(records)
    assert one == by_uid(one)


@given(st.lists(any_conversation, max_size=8))
def test_copies_are_numbered_from_zero(records):
    identified = [c for c, _ in identify(at([*records, *records]))]
    for key in {c.id for c in identified}:
        copies = [c.copy for c in identified if c.id == key]
        assert copies == list(range(len(copies)))


def test_copies_are_numbered_train_dev_test_unassigned_then_by_group():
    made = [
        talk("a", split=s, group=g) for s, g in [("", "g"), ("test", "g"), ("train", "h"), ("train", "g"), ("dev", "g")]
    ]
    assert [(c.split, c.group) for c in numbered(made)] == [
        ("train", "g"),
        ("train", "h"),
        ("dev", "g"),
        ("test", "g"),
        ("", "g"),
    ]


def test_each_record_keeps_its_own_origin():
    rows = [(talk("a", group="g2"), Origin("f", 1, 4)), (talk("a", group="g1"), Origin("f", 9, 12))]
    assert [(c.group, o.first_row) for c, o in identify(rows)] == [("g1", 9), ("g2", 1)]


@settings(max_examples=25)
@given(records=st.lists(any_conversation, max_size=6), random=st.randoms(use_true_random=False))
def test_parquet_round_trip_and_same_bytes_for_shuffled_input(records, random, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    rows = numbered([*records, *records])
    shuffled = list(rows)
    random.shuffle(shuffled)
    write_records(rows, folder / "a.parquet")
    write_records(shuffled, folder / "b.parquet")
    assert read_records(folder / "a.parquet") == rows
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


@settings(max_examples=10)
@given(records=st.lists(conversations, max_size=6))
def test_origins_hold_one_row_a_record_whatever_the_order(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("origins")
    rows = identify(at(records))
    write_origins(rows, folder / "a.parquet")
    write_origins(rows[::-1], folder / "b.parquet")
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()
    found = {r["uid"]: (r["file"], r["first_row"]) for r in pq.read_table(folder / "a.parquet").to_pylist()}
    assert found == {c.uid: (o.file, o.first_row) for c, o in rows}


def test_distinct_texts_are_those_of_turns_and_situations_each_once_in_one_order(tmp_path):
    one = [talk("hello", "hello", "bye", situation="My dog died."), comment("hello", "joy")]
    other = [talk("bye", "My dog died.", "so sad"), talk("", "only an answer")]
    write_records(numbered(one), tmp_path / "one.parquet")
    write_records(numbered(other), tmp_path / "other.parquet")
    texts = distinct_texts([tmp_path / "one.parquet", tmp_path / "other.parquet"])
    assert texts == distinct_texts([tmp_path / "other.parquet", tmp_path / "one.parquet"])
    assert texts == sorted({"hello", "bye", "My dog died.", "so sad", "", "only an answer"}, key=text_digest)
    write_records([], tmp_path / "none.parquet")
    assert distinct_texts([tmp_path / "none.parquet"]) == []


@given(st.lists(any_conversation, max_size=6))
def test_a_table_made_by_columns_is_the_one_made_by_rows(records):
    by_rows = pa.Table.from_pylist([as_row(c) for c in records], schema=SCHEMA)
    table = to_table(records)
    table.validate(full=True)
    assert table.equals(by_rows)
    assert from_table(table) == from_table(by_rows) == [from_row(row) for row in by_rows.to_pylist()] == records


def test_records_are_read_and_written_without_pandas(tmp_path):
    code = (
        "import sys; from pathlib import Path; from curation.records import *\n"
        "path = Path(sys.argv[1]); records = [Conversation('s', 'dialogue', 'g', 'train', (Turn('user', 'Hi'),))]\n"
        "write_records(records, path); assert read_records(path) == records and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.parquet")], check=True)
