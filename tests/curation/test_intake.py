import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.jsonl import write_jsonl
from curation.records import Origin
from curation.sources import parse
from curation.sources.intake import take_in
from curation.sources.quarantine import Parsed, Quarantined
from tests.curation.making import chat, talk, write_chat

parsed_rows = st.builds(
    lambda text, rows, at: Parsed(talk(text, "Oh."), Origin("f", at, at + rows - 1), rows, text),
    st.sampled_from(["I am lost.", "Write to a@b.de.", "See https://x.org/y now.", "so s\u200bad"]),
    st.integers(1, 4),
    st.integers(1, 9),
)
bad_rows = st.builds(
    lambda reason, rows, at: Quarantined("f", at, rows, reason, "why", "raw"),
    st.sampled_from(["not_json", "too_long"]),
    st.integers(1, 3),
    st.integers(1, 9),
)
yields = st.lists(parsed_rows | bad_rows, max_size=8)


@given(yields, st.sampled_from(["mask", "quarantine", "keep"]))
def test_every_raw_row_is_kept_or_quarantined(items, contact):
    intake = take_in(items, contact)
    counts = intake.counts
    assert counts["raw_rows"] == sum(i.rows for i in items)
    assert counts["raw_rows"] == counts["raw_rows_kept"] + counts["raw_rows_quarantined"]
    assert sum(counts["quarantined_by_reason"].values()) == counts["raw_rows_quarantined"]
    assert sum(q.rows for q in intake.quarantined) == counts["raw_rows_quarantined"]
    assert len(intake.records) == counts["records"] == sum(counts["records_by_split"].values())
    assert len(intake.records) + len(intake.quarantined) == len(items)
    assert 0 <= intake.quarantined_share <= 1


@given(yields, st.sampled_from(["mask", "quarantine", "keep"]))
def test_contacts_are_counted_the_same_whatever_becomes_of_them(items, contact):
    counts, masked = (take_in(items, policy).counts for policy in (contact, "mask"))
    for key in ("contacts", "records_with_contacts", "raw_rows"):
        assert counts[key] == masked[key]


@given(yields, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_record_and_no_count(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    one, other = take_in(items, "mask"), take_in(shuffled, "mask")
    assert [c for c, _ in one.records] == [c for c, _ in other.records]
    assert one.counts == other.counts


WITH_CONTACTS = [
    chat("Write to jo@example.org.", "I will.", id="a"),
    chat("I am lost.", "Why?", id="b", situation="See https://example.org/x or call 555-010-0123."),
    chat("I am lost.", "Why?", id="c"),
]


def intake_of(folder, contact):
    write_chat(folder, *WITH_CONTACTS, "{")
    return take_in(parse("chat", folder, "mine"), contact)


def test_under_quarantine_a_record_with_contacts_is_set_aside_with_its_raw_text(tmp_path):
    intake = intake_of(tmp_path, "quarantine")
    assert [c.group for c, _ in intake.records] == ["c"]
    assert [(q.first_row, q.rows, q.reason, q.detail) for q in intake.quarantined[:2]] == [
        (1, 1, "contact", "EMAIL 1"),
        (2, 1, "contact", "PHONE 1, URL 1"),
    ]
    assert [json.loads(q.raw) for q in intake.quarantined[:2]] == WITH_CONTACTS[:2]
    assert intake.counts["quarantined_by_reason"] == {"contact": 2, "not_json": 1}
    assert intake.counts["contacts"] == {"EMAIL": 1, "PHONE": 1, "URL": 1}
    assert intake.quarantined_share == 0.75


def test_under_mask_they_are_masked_and_under_keep_they_stay(tmp_path):
    said = {}
    for contact in ("mask", "keep"):
        intake = intake_of(tmp_path, contact)
        said[contact] = {c.group: (c.turns[0].text, c.situation) for c, _ in intake.records}
        assert intake.counts["records_with_contacts"] == 2
        assert [q.reason for q in intake.quarantined] == ["not_json"]
    assert said["mask"] == {
        "a": ("Write to [EMAIL].", ""),
        "b": ("I am lost.", "See [URL] or call [PHONE]."),
        "c": ("I am lost.", ""),
    }
    assert said["keep"]["a"] == ("Write to jo@example.org.", "")


def test_system_messages_of_kept_rows_are_counted(tmp_path):
    system = {"role": "system", "content": "Be kind."}
    row = chat()
    row["messages"] = [system, *row["messages"], system]
    write_chat(tmp_path, row, chat(), {"messages": [system]})
    assert take_in(parse("chat", tmp_path, "mine"), "mask").counts["system_messages_left_out"] == 2


def test_nothing_is_a_share_of_nothing():
    assert take_in([], "mask").quarantined_share == 0


@pytest.mark.parametrize("raw", ["a\x00b", "\u2028", "שלום"])
def test_quarantined_rows_can_be_written_and_read(tmp_path, raw):
    (q,) = take_in([Quarantined("f", 1, 1, "r", "d", raw)], "mask").quarantined
    write_jsonl([{"raw": q.raw}], tmp_path / "q.jsonl")
    lines = (tmp_path / "q.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0]) == {"raw": raw}
