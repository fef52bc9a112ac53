import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.records import UNASSIGNED, Origin, Turn, identify
from curation.sources import LABELS, parse
from curation.sources.quarantine import Parsed, Quarantined
from tests.curation.making import chat, pair, parsed, parsed_or_refused, write_chat


def message(role, content="Hi."):
    return {"role": role, "content": content}


def talking(*messages, **fields):
    return {"messages": list(messages), **fields}


def only(folder, fmt="chat"):
    """The one record of a folder."""
    kept, broken = parsed(fmt, folder)
    assert broken == []
    (item,) = kept
    return item


class TestRows:
    def test_a_row_of_messages_is_a_conversation_with_its_fields(self, tmp_path):
        row = chat(
            " I am\nlost. ", "Why?", id="c7", situation="At  night.", emotions=["sad", "afraid", "sad"], other=[1]
        )
        write_chat(tmp_path, row)
        item = only(tmp_path)
        found = item.conversation
        assert found.turns == (Turn("user", "I am lost."), Turn("assistant", "Why?"))
        assert (found.source, found.task, found.group, found.split) == ("chat", "dialogue", "c7", UNASSIGNED)
        assert (found.situation, found.emotions) == ("At night.", ("afraid", "sad"))
        assert (item.origin, item.rows, item.system_messages) == (Origin("rows.jsonl", 1, 1), 1, 0)
        assert json.loads(item.raw) == row

    @pytest.mark.parametrize("prompt", ["I am lost.", [message("user", "I am lost.")]])
    @pytest.mark.parametrize("completion", ["Why?", [message("assistant", "Why?")]])
    def test_prompt_and_completion_are_texts_or_messages(self, tmp_path, prompt, completion):
        write_chat(tmp_path, pair(prompt, completion))
        turns = only(tmp_path, "prompt_completion").conversation.turns
        assert turns == (Turn("user", "I am lost."), Turn("assistant", "Why?"))

    def test_a_prompt_of_messages_keeps_its_history(self, tmp_path):
        history = [message("system"), message("user", "a"), message("assistant", "b"), message("user", "c")]
        write_chat(tmp_path, pair(history, [message("assistant", "d")]))
        item = only(tmp_path, "prompt_completion")
        assert [t.text for t in item.conversation.turns] == ["a", "b", "c", "d"]
        assert item.system_messages == 1

    def test_consecutive_messages_of_one_speaker_become_one_turn(self, tmp_path):
        write_chat(tmp_path, talking(*(message(*m) for m in [("user", "a"), ("user", "b"), ("assistant", "c")])))
        assert only(tmp_path).conversation.turns == (Turn("user", "a b"), Turn("assistant", "c"))

    def test_system_messages_are_left_out_and_counted_and_part_no_speaker(self, tmp_path):
        said = [message("system"), message("user", "a"), message("system", None), message("user", "b")]
        write_chat(tmp_path, talking(*said, message("assistant", "c")))
        item = only(tmp_path)
        assert item.system_messages == 2
        assert [t.text for t in item.conversation.turns] == ["a b", "c"]

    @pytest.mark.parametrize(
        ("emotions", "labels"),
        [(None, ()), ("", ()), ([], ()), ("joy", ("joy",)), ("any label at all", ("any label at all",))],
    )
    def test_emotions_are_a_text_or_a_list_and_any_label_is_allowed(self, tmp_path, emotions, labels):
        write_chat(tmp_path, chat(emotions=emotions))
        assert only(tmp_path).conversation.emotions == labels
        assert LABELS["chat"] is LABELS["prompt_completion"] is None


class TestGroups:
    @pytest.mark.parametrize(
        ("fields", "group"),
        [
            ({"id": "a"}, "a"),
            ({"id": 7}, "7"),
            ({"id": 7.0}, "7"),
            ({"conversation_id": "c", "id": "a"}, "c"),
            ({"conversation_id": None, "id": "a"}, "a"),
            ({"conversation_id": float("nan"), "id": "a"}, "a"),
        ],
    )
    def test_the_group_is_the_conversation_id_else_the_id(self, tmp_path, fields, group):
        write_chat(tmp_path, chat(**fields))
        assert only(tmp_path).conversation.group == group

    def test_without_an_id_it_is_what_was_said(self, tmp_path):
        write_chat(tmp_path, chat("a", "b"), chat(" a", "b", situation="Other.", id=""), chat("a", "c"))
        groups = [p.conversation.group for p in parsed("chat", tmp_path)[0]]
        assert groups[0] == groups[1] != groups[2]

    def test_rows_of_one_id_with_different_texts_are_one_group_and_two_records(self, tmp_path):
        write_chat(tmp_path, chat("a", "b", id="same"), chat("c", "d", id="same"))
        kept, broken = parsed("chat", tmp_path)
        assert broken == []
        assert {p.conversation.group for p in kept} == {"same"}
        assert len({c.uid for c, _ in identify((p.conversation, p.origin) for p in kept)}) == 2


BAD_ROWS = [
    ("{", "not_json"),
    ('{"messages": [', "not_json"),
    ('{"a": "b\x00"}', "not_json"),
    ("9" * 5_000, "not_json"),
    ("[" * 100_000 + "]" * 100_000, "too_deep"),
    (json.dumps(chat(other=json.loads("[" * 70 + "]" * 70))), "too_deep"),
    ("[1]", "not_object"),
    ("null", "not_object"),
    ('"text"', "not_object"),
    ({"message": []}, "no_messages"),
    ({"messages": None}, "no_messages"),
    ({"messages": json.dumps([message("user")])}, "no_messages"),
    (talking("Hi."), "bad_turn"),
    (talking(message("user"), message("assistant", None)), "bad_turn"),
    (talking(message("user", [{"type": "text", "text": "Hi."}])), "bad_turn"),
    (talking({"role": "user"}), "bad_turn"),
    (talking(message("tool")), "unknown_role"),
    (talking(message("User")), "unknown_role"),
    (talking(message(None)), "unknown_role"),
    (talking(message(["user"])), "unknown_role"),
    (talking({"from": "human", "value": "Hi."}), "unknown_role"),
    (talking(message("user"), message("assistant", " \u200b")), "empty_text"),
    (talking(message("user", "a\x00b")), "nul_byte"),
    (talking(message("user", "a\ud800b")), "lone_surrogate"),
    (talking(message("user", "x" * 20_001)), "too_long"),
    (talking(*[message("user", "x" * 15_000)] * 2), "too_long"),
    (talking(*[message("user", "x" * 100)] * 30_000), "too_long"),
    ({"messages": []}, "one_speaker"),
    (talking(message("user"), message("user")), "one_speaker"),
    (talking(message("system"), message("assistant")), "one_speaker"),
    (chat(id=[1]), "bad_field"),
    (chat(id=True), "bad_field"),
    (chat(id=1.5), "bad_field"),
    (chat(id=" "), "empty_text"),
    (chat(conversation_id="a\ud800"), "lone_surrogate"),
    (chat(situation=3), "bad_field"),
    (chat(situation="a\x00"), "nul_byte"),
    (chat(emotions=3), "bad_field"),
    (chat(emotions=["sad", None]), "bad_field"),
    (chat(emotions=["sad", ""]), "empty_text"),
    (chat(split="eval"), "unknown_split"),
    (chat(split=1), "unknown_split"),
    (chat(split=["train"]), "unknown_split"),
]


class TestQuarantine:
    @pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
    def test_each_unusable_row_has_its_reason_place_and_raw_text(self, tmp_path, row, reason):
        path = write_chat(tmp_path, chat(), row, chat())
        kept, broken = parsed("chat", tmp_path)
        raw = path.read_text(encoding="utf-8").split("\n")[1]
        assert [(q.file, q.first_row, q.rows, q.reason, q.raw) for q in broken] == [("rows.jsonl", 2, 1, reason, raw)]
        assert broken[0].detail
        broken[0].detail.encode()
        assert [p.origin.first_row for p in kept] == [1, 3]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"prompt": "Hi."}, "no_messages"),
            (pair(3), "no_messages"),
            (pair(completion={"role": "assistant"}), "no_messages"),
            (pair(""), "empty_text"),
            (pair(completion="\n"), "empty_text"),
            (pair(completion=[]), "one_speaker"),
            (pair([]), "one_speaker"),
            (pair([message("user"), message("assistant")], [message("user")]), "one_speaker"),
            (pair(["Hi."]), "bad_turn"),
            (pair([message("bot")]), "unknown_role"),
            (chat(), "no_messages"),
        ],
    )
    def test_each_unusable_pair_has_its_reason(self, tmp_path, row, reason):
        write_chat(tmp_path, pair(), row)
        kept, broken = parsed("prompt_completion", tmp_path)
        assert (len(kept), [(q.first_row, q.reason) for q in broken]) == (1, [(2, reason)])

    def test_the_keys_of_a_row_in_another_format_are_named(self, tmp_path):
        write_chat(tmp_path, {"conversations": [], "id": "x"})
        assert "['conversations', 'id']" in parsed("chat", tmp_path)[1][0].detail

    @given(
        data=st.binary(max_size=80) | st.lists(st.sampled_from(
            [b"\n", b"\r\n", b" ", b"{}", b"null", b'{"messages": []}', json.dumps(chat()).encode(), b"\xef\xbb\xbf",
             b'"', b"[", b"\x00", b"\xe2\x80\xa8", b"\xff", b"\x0c", b"1e999", b"NaN"]), max_size=12).map(b"".join)
    )  # fmt: skip
    def test_rows_in_are_kept_plus_quarantined_whatever_the_bytes(self, data, tmp_path_factory):
        folder = tmp_path_factory.mktemp("chat")
        (folder / "rows.jsonl").write_bytes(data)
        for fmt in ("chat", "prompt_completion"):
            items, refused = parsed_or_refused(fmt, folder)
            if refused:
                assert "rows.jsonl: not UTF-8" in refused or "rows.jsonl: the file is empty" in refused
                continue
            lines = data.decode("utf-8-sig").split("\n")
            rows = [n for n, line in enumerate(lines, start=1) if line.strip(" \t\r")]
            assert [i.origin.first_row if isinstance(i, Parsed) else i.first_row for i in items] == rows

    json_values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-3, 3)
        | st.floats()
        | st.sampled_from(["user", "assistant", "Hi.", ""]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "messages", "prompt", "completion"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
    fields = st.dictionaries(
        st.sampled_from(
            ["messages", "prompt", "completion", "id", "conversation_id", "situation", "emotions", "split"]
        ),
        json_values,
        max_size=4,
    )

    @settings(max_examples=150)
    @given(rows=st.lists(json_values | st.builds(lambda f: {**chat(), **pair(), **f}, fields), min_size=1, max_size=4))
    def test_rows_in_are_kept_plus_quarantined_whatever_the_values(self, rows, tmp_path_factory):
        folder = tmp_path_factory.mktemp("chat")
        write_chat(folder, *(json.dumps(row) for row in rows), json.dumps({**chat(), **pair()}))
        for fmt in ("chat", "prompt_completion"):
            kept, broken = parsed(fmt, folder)
            spots = [p.origin.first_row for p in kept] + [q.first_row for q in broken]
            assert sorted(spots) == list(range(1, len(rows) + 2))
            assert len(rows) + 1 in [p.origin.first_row for p in kept]


class TestFiles:
    def test_files_of_a_folder_are_the_splits(self, tmp_path):
        for name in ("train.jsonl", "validation.jsonl"):
            write_chat(tmp_path, chat(split="dev" if name[0] == "v" else None), name=name)
        pq.write_table(pa.Table.from_pylist([chat()]), tmp_path / "test.parquet")
        kept, broken = parsed("chat", tmp_path)
        assert broken == []
        assert [(p.origin.file, p.conversation.split) for p in kept] == [
            ("train.jsonl", "train"),
            ("validation.jsonl", "dev"),
            ("test.parquet", "test"),
        ]

    def test_the_rows_of_a_single_file_may_name_their_split(self, tmp_path):
        names = ("train", "dev", "valid", "validation", "test", None, "")
        write_chat(tmp_path, *(chat(split=name) for name in names))
        found = [p.conversation.split for p in parsed("chat", tmp_path)[0]]
        assert found == ["train", "dev", "dev", "dev", "test", UNASSIGNED, UNASSIGNED]

    def test_a_row_may_not_name_another_split_than_its_file(self, tmp_path):
        write_chat(tmp_path, chat(split="test"), name="train.jsonl")
        _, broken = parsed("chat", tmp_path)
        assert [(q.reason, q.detail) for q in broken] == [
            ("split_conflict", "split is 'test' in a file of the train split")
        ]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ([], r"no rows; allowed: train\.jsonl"),
            (["notes.txt"], r"no rows"),
            (["chats.jsonl"], r"chats\.jsonl is not named after a split"),
            (["train.jsonl", "train-00001-of-00002.parquet"], r"train-00001-of-00002\.parquet is not named after"),
            (["TRAIN.JSONL"], r"TRAIN\.JSONL is not named after a split"),
            (["train.jsonl", "rows.jsonl"], r"rows\.jsonl is not named after a split"),
            (["train.jsonl", "train.parquet"], r"train\.jsonl and train\.parquet are both the train split"),
            (["dev.jsonl", "valid.jsonl"], r"dev\.jsonl and valid\.jsonl are both the dev split"),
        ],
    )
    def test_a_folder_that_cannot_be_read_whole_is_an_error_that_names_the_file(self, tmp_path, names, message):
        for name in names:
            write_chat(tmp_path, chat(), name=name)
        with pytest.raises(HeartwoodError, match=message) as error:
            parse("chat", tmp_path, "mine")
        assert error.value.hint

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(HeartwoodError, match="nowhere: missing"):
            parse("chat", tmp_path / "nowhere", "mine")

    def test_blank_lines_line_ends_and_a_byte_order_mark(self, tmp_path):
        line = json.dumps(chat()).encode()
        (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n \n\t\r\n" + line)
        kept, broken = parsed("chat", tmp_path)
        assert broken == []
        assert [p.origin.first_row for p in kept] == [1, 5], "blank lines are no rows, but lines"
        assert kept[0].conversation == kept[1].conversation
        assert kept[0].raw == line.decode()

    def test_separators_inside_a_text_end_no_line(self, tmp_path):
        text = "a\u2028b\x85c\x0bd"
        write_chat(tmp_path, json.dumps(chat(text, "Why?"), ensure_ascii=False))
        assert only(tmp_path).conversation.turns[0].text == "a b c d"

    @pytest.mark.parametrize("data", [b"", b" \r\n\n", b"\xef\xbb\xbf"])
    def test_a_file_without_rows_is_an_error_that_names_it(self, tmp_path, data):
        write_chat(tmp_path, chat(), name="train.jsonl")
        (tmp_path / "dev.jsonl").write_bytes(data)
        with pytest.raises(HeartwoodError, match=r"dev\.jsonl: the file is empty"):
            parsed("chat", tmp_path)


class TestParquet:
    def write(self, folder, table, name="rows.parquet"):
        pq.write_table(table, folder / name)

    def test_rows_are_those_of_json_lines(self, tmp_path):
        lines, table = tmp_path / "lines", tmp_path / "table"
        rows = [chat("a", "b", id=1, situation=None, emotions=["x"]), chat("c", "d", id=2, situation="S.", emotions=[])]
        for folder in (lines, table):
            folder.mkdir()
        write_chat(lines, *rows)
        self.write(table, pa.Table.from_pylist(rows))
        (one, _), (other, broken) = parsed("chat", lines), parsed("chat", table)
        assert broken == []
        assert [p.conversation for p in one] == [p.conversation for p in other]
        assert [json.loads(p.raw) for p in other] == rows
        assert [p.origin for p in other] == [Origin("rows.parquet", 1, 1), Origin("rows.parquet", 2, 2)]

    def test_whole_numbers_with_gaps_are_ids_and_categories_are_texts(self, tmp_path):
        columns = {
            "prompt": pa.array(["a", "b"]).dictionary_encode(),
            "completion": pa.array(["c", "d"], pa.large_string()),
            "id": pa.array([7.0, None]),
        }
        self.write(tmp_path, pa.table(columns))
        groups = [p.conversation.group for p in parsed("prompt_completion", tmp_path)[0]]
        assert groups[0] == "7"
        assert len(groups[1]) == 32

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (pa.array([json.dumps([message("user")])] * 2), "no_messages"),
            (pa.array([1, 2]), "no_messages"),
            (pa.array([b"\xff", None]), "no_messages"),
            (pa.array([["a"], ["b"]]), "bad_turn"),
            (pa.array([[{"role": 1, "content": 2}], []]), None),
            (pa.array([None, None], pa.null()), "no_messages"),
        ],
    )
    def test_a_column_of_another_type_sets_every_row_aside(self, tmp_path, values, reason):
        self.write(tmp_path, pa.table({"messages": values}))
        kept, broken = parsed("chat", tmp_path)
        assert kept == []
        assert [(q.file, q.first_row) for q in broken] == [("rows.parquet", 1), ("rows.parquet", 2)]
        assert {q.reason for q in broken} == ({reason} if reason else {"unknown_role", "one_speaker"})
        assert all(json.loads(q.raw).keys() == {"messages"} for q in broken)

    @pytest.mark.parametrize(("fmt", "column"), [("chat", "messages"), ("prompt_completion", "prompt")])
    def test_a_missing_column_is_named_with_those_found(self, tmp_path, fmt, column):
        self.write(tmp_path, pa.table({"text": ["a"], "completion": ["b"]}))
        with pytest.raises(HeartwoodError, match=rf"rows\.parquet: no column '{column}'; found: text, completion"):
            parsed(fmt, tmp_path)

    def test_no_rows(self, tmp_path):
        self.write(tmp_path, pa.Table.from_pylist([chat()]).slice(0, 0))
        with pytest.raises(HeartwoodError, match=r"rows\.parquet: the file holds no rows"):
            parsed("chat", tmp_path)

    @pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.99])
    def test_a_truncated_file_is_named(self, tmp_path, kept):
        self.write(tmp_path, pa.Table.from_pylist([chat(str(n)) for n in range(1000)]))
        path = tmp_path / "rows.parquet"
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)] + b"x")
        with pytest.raises(HeartwoodError, match=r"rows\.parquet: cannot be read as Parquet"):
            parsed("chat", tmp_path)

    @pytest.mark.parametrize("at", range(10, 95, 7))
    def test_a_damaged_file_gives_an_error_or_accounts_for_every_row(self, tmp_path, at):
        self.write(tmp_path, pa.Table.from_pylist([chat(f"text {n}", f"reply {n * n}", id=n) for n in range(300)]))
        path = tmp_path / "rows.parquet"
        data = bytearray(path.read_bytes())
        start = len(data) * at // 100
        data[start : start + 6] = b"\xff\x00\xfe\x01\x80\x7f"
        path.write_bytes(data)
        items, refused = parsed_or_refused("chat", tmp_path)
        assert "rows.parquet" in refused or sum(i.rows for i in items) == 300

    def test_text_that_is_not_utf_8_is_an_error_that_names_the_file(self, tmp_path):
        bad = pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
        )
        self.write(tmp_path, pa.table({"prompt": bad, "completion": ["b"]}))
        with pytest.raises(HeartwoodError, match=r"rows\.parquet: cannot be read as Parquet"):
            parsed("prompt_completion", tmp_path)

    def test_two_columns_of_one_name_are_an_error_or_set_aside(self, tmp_path):
        self.write(
            tmp_path, pa.Table.from_arrays([pa.array(["a"])] * 2 + [pa.array(["b"])], ["prompt"] * 2 + ["completion"])
        )
        items, refused = parsed_or_refused("prompt_completion", tmp_path)
        assert "rows.parquet" in refused or len(items) == 1


def test_a_source_is_what_its_entry_is_called(tmp_path):
    write_chat(tmp_path, chat(), "{")
    items = list(parse("chat", tmp_path, "mine"))
    assert [type(i) for i in items] == [Parsed, Quarantined]
    assert items[0].conversation.source == "mine"
