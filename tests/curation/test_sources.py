import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl, write_jsonl
from curation.records import UNASSIGNED, Origin, Turn, identify
from curation.sources import FILES, LABELS, PARSERS, empathetic_dialogues, esconv, goemotions, parse
from curation.sources.quarantine import text_problem
from tests.curation.making import chat, pair, parsed, write_chat

HEADER = ",".join(empathetic_dialogues.HEADER)


def ed_row(conv="c1", index="1", emotion="sad", situation="It rained.", text="I am wet.", rest=",,"):
    return f"{conv},{index},{emotion},{situation},{0},{text}{rest}"


def write_ed(folder: Path, *rows: str, valid=(), test=(), newline="\n"):
    for name, lines in (("train.csv", rows), ("valid.csv", valid), ("test.csv", test)):
        (folder / name).write_bytes((newline.join([HEADER, *lines]) + newline).encode())


def write_ge(folder: Path, *rows: str, dev=("ok\t0\td1",), test=("ok\t0\tt1",)):
    for name, lines in (("train.tsv", rows), ("dev.tsv", dev), ("test.tsv", test)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def said(speaker, content, strategy=None, **annotation):
    if strategy:
        annotation["strategy"] = strategy
    return {"speaker": speaker, "annotation": annotation, "content": content}


def dialogue(*turns, **fields):
    if not turns:
        turns = (said("seeker", "I am lost."), said("supporter", "Tell me.", "Question"))
    return {"emotion_type": "fear", "situation": "Work.", "dialog": list(turns), **fields}


def replied(*turns, **fields):
    """A dialogue in the hub's form."""
    turns = turns or (
        {"text": "I am lost.", "speaker": "usr"},
        {"text": "Why?", "speaker": "sys", "strategy": "Question"},
    )
    return {"emotion_type": "fear", "situation": "Work.", "dialog": list(turns), **fields}


def write_hub(folder: Path, *rows, valid=None, test=None, suffix=".jsonl"):
    """Rows of the train file: values, or lines as they are."""
    for name, found in (("train", rows), ("valid", valid or [replied()]), ("test", test or [replied()])):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in found]
        (folder / f"{name}{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def write_esconv(folder: Path, *dialogues, splits=None):
    (folder / "ESConv.json").write_text(json.dumps(list(dialogues)), encoding="utf-8")
    if splits is not None:
        (folder / "ESConv.hub_splits.json").write_text(json.dumps(splits), encoding="utf-8")


class TestEmpatheticDialogues:
    def test_a_conversation_alternates_and_carries_its_fields(self, tmp_path):
        write_ed(
            tmp_path,
            ed_row(text="I failed_comma_ again."),
            ed_row(index="2", text="Oh no."),
            valid=[ed_row("v1")],
            test=[ed_row("t1", emotion="proud", situation="I won_comma_ twice.")],
        )
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert broken == []
        first = kept[0].conversation
        assert first.turns == (Turn("user", "I failed, again."), Turn("assistant", "Oh no."))
        assert (first.source, first.task, first.group) == ("empathetic_dialogues", "dialogue", "c1")
        assert (first.situation, first.emotions) == ("It rained.", ("sad",))
        assert (kept[0].origin, kept[0].rows) == (Origin("train.csv", 2, 3), 2)
        assert [p.conversation.split for p in kept] == ["train", "dev", "test"]
        assert kept[2].conversation.situation == "I won, twice."

    def test_stray_quotes_are_text_and_merge_no_rows(self, tmp_path):
        write_ed(tmp_path, ed_row(text='"He said so.'), ed_row("c2", text='And "then'), ed_row("c3", text='it ended"'))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert broken == []
        assert [p.conversation.turns[0].text for p in kept] == ['"He said so.', 'And "then', 'it ended"']

    @pytest.mark.parametrize("rest", ["", ",5|5_5|5", ",,"])
    def test_six_to_eight_fields_are_read(self, tmp_path, rest):
        write_ed(tmp_path, ed_row(rest=rest))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert (len(kept), broken) == (1, [])

    def test_utterances_are_put_in_index_order_and_rows_may_be_apart(self, tmp_path):
        write_ed(tmp_path, ed_row(index="2", text="Two."), ed_row("c2"), ed_row(index="1", text="One."))
        kept, _ = parsed("empathetic_dialogues", tmp_path)
        assert [t.text for t in kept[0].conversation.turns] == ["One.", "Two."]
        assert kept[0].origin == Origin("train.csv", 2, 4)

    def test_the_same_conversation_id_in_two_files_is_two_conversations(self, tmp_path):
        write_ed(tmp_path, ed_row(), valid=[ed_row(text="Other.")])
        assert len(parsed("empathetic_dialogues", tmp_path)[0]) == 2

    def test_windows_line_ends_and_a_byte_order_mark_change_nothing(self, tmp_path):
        plain, windows = tmp_path / "plain", tmp_path / "windows"
        for folder, newline in ((plain, "\n"), (windows, "\r\n")):
            folder.mkdir()
            write_ed(folder, ed_row(rest=""), ed_row(index="2", rest=""), newline=newline)
        (windows / "train.csv").write_bytes(b"\xef\xbb\xbf" + (windows / "train.csv").read_bytes())
        assert parsed("empathetic_dialogues", windows) == parsed("empathetic_dialogues", plain)

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("c1,2,sad,It rained.", "field_count"),
            (ed_row(index="2", rest=",,,extra"), "field_count"),
            ("", "field_count"),
            (ed_row("", "2"), "missing_id"),
            (ed_row(index="two"), "bad_index"),
            (ed_row(index="-2"), "bad_index"),
            (ed_row(index=""), "bad_index"),
            (ed_row(index="2", emotion="grumpyish"), "unknown_label"),
            (ed_row(index="2", text=" \t"), "empty_text"),
            (ed_row(index="2", text="a\x00b"), "nul_byte"),
            (ed_row(index="2", text="x" * 20_001), "too_long"),
        ],
    )
    def test_each_malformed_row_has_its_reason_file_and_row(self, tmp_path, row, reason):
        write_ed(tmp_path, ed_row(), row)
        _, broken = parsed("empathetic_dialogues", tmp_path)
        bad = next(q for q in broken if q.first_row == 3)
        assert (bad.file, bad.rows, bad.reason, bad.raw) == ("train.csv", 1, reason, row)
        assert bad.detail

    def test_an_absurdly_long_index_is_quarantined(self, tmp_path):
        write_ed(tmp_path, ed_row(index="9" * 5000), ed_row("c2"))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert (len(kept), len(broken)) == (1, 1)

    def test_a_broken_row_takes_its_whole_conversation_and_no_other(self, tmp_path):
        write_ed(tmp_path, ed_row(), ed_row("c2"), ed_row(index="two"), ed_row(index="3"))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert [p.conversation.group for p in kept] == ["c2"]
        assert [(q.first_row, q.reason) for q in broken] == [
            (2, "broken_conversation"),
            (4, "bad_index"),
            (5, "broken_conversation"),
        ]
        assert "row 4" in broken[0].detail

    @pytest.mark.parametrize("indices", [["1", "3"], ["2", "3"], ["1", "1"], ["0", "1"]])
    def test_a_gap_in_the_indices_is_named_for_every_row(self, tmp_path, indices):
        write_ed(tmp_path, *(ed_row(index=i) for i in indices))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert kept == []
        assert [(q.first_row, q.reason) for q in broken] == [(2, "utterance_gap"), (3, "utterance_gap")]

    @pytest.mark.parametrize("other", [{"emotion": "proud"}, {"situation": "It snowed."}])
    def test_rows_of_one_id_that_differ_in_context_are_a_mixed_conversation(self, tmp_path, other):
        write_ed(tmp_path, ed_row(), ed_row(index="2", **other))
        _, broken = parsed("empathetic_dialogues", tmp_path)
        assert [q.reason for q in broken] == ["mixed_conversation", "mixed_conversation"]

    def test_a_nul_byte_in_the_situation_is_quarantined(self, tmp_path):
        write_ed(tmp_path, ed_row(situation="It\x00rained."))
        kept, broken = parsed("empathetic_dialogues", tmp_path)
        assert (kept, len(broken)) == ([], 1)

    def test_another_header_names_the_file(self, tmp_path):
        write_ed(tmp_path, ed_row())
        (tmp_path / "valid.csv").write_text("text,label\nhi,1\n")
        with pytest.raises(HeartwoodError, match=r"valid\.csv, row 1: header is 'text,label'"):
            parsed("empathetic_dialogues", tmp_path)

    @settings(max_examples=120)
    @given(
        data=st.data(),
        lengths=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    )
    def test_rows_in_are_kept_plus_quarantined_whatever_is_damaged(self, data, lengths, tmp_path_factory):
        folder = tmp_path_factory.mktemp("ed")
        rows = [ed_row(f"c{n}", str(i)) for n, size in enumerate(lengths) for i in range(1, size + 1)]
        rows = data.draw(st.permutations(rows))
        damage = st.sampled_from([",", "\t", "x", "", "\r", '"', "9", "\x00", "\u2028", "_comma_"])
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(rows) - 1))
            start = data.draw(st.integers(0, len(rows[at])))
            end = data.draw(st.integers(start, min(len(rows[at]), start + 6)))
            rows[at] = rows[at][:start] + data.draw(damage) + rows[at][end:]
        write_ed(folder, *rows)
        kept, broken = parsed("empathetic_dialogues", folder)
        counted = sum(p.rows for p in kept) + sum(q.rows for q in broken)
        assert counted == len(rows)
        spots = [q.first_row for q in broken]
        assert len(set(spots)) == len(spots)
        assert all(q.raw == rows[q.first_row - 2].removesuffix("\r") for q in broken)
        assert sum(len(p.conversation.turns) for p in kept) == sum(p.rows for p in kept)


class TestGoEmotions:
    def test_labels_by_id_sorted_by_name_and_without_repeats(self, tmp_path):
        write_ge(tmp_path, 'Great, "really" great\t27,0,0\tabc')
        record = parsed("goemotions", tmp_path)[0][0].conversation
        assert record.emotions == ("admiration", "neutral")
        assert record.turns == (Turn("user", 'Great, "really" great'),)
        assert (record.task, record.group, record.split) == ("emotion", "abc", "train")

    def test_files_are_the_splits_and_rows_count_from_one(self, tmp_path):
        write_ge(tmp_path, "a b\t1\tx", "c d\t2\ty")
        kept, _ = parsed("goemotions", tmp_path)
        assert [(p.conversation.split, p.origin.first_row) for p in kept] == [
            ("train", 1),
            ("train", 2),
            ("dev", 1),
            ("test", 1),
        ]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("text\t1", "field_count"),
            ("text\twith tab\t1\tid", "field_count"),
            ("", "field_count"),
            ("text\t1\t", "missing_id"),
            (" \t1\tid", "empty_text"),
            ("a\x00b\t1\tid", "nul_byte"),
            ("x" * 20_001 + "\t1\tid", "too_long"),
            ("text\t28\tid", "unknown_label"),
            ("text\t-1\tid", "unknown_label"),
            ("text\tjoy\tid", "unknown_label"),
            ("text\t\tid", "unknown_label"),
            ("text\t1,,2\tid", "unknown_label"),
            ("text\t1, 2\tid", "unknown_label"),
        ],
    )
    def test_each_malformed_row_has_its_reason_file_and_row(self, tmp_path, row, reason):
        write_ge(tmp_path, "fine\t1\tx", row, "fine too\t2\ty")
        kept, broken = parsed("goemotions", tmp_path)
        assert [(q.file, q.first_row, q.rows, q.reason, q.raw) for q in broken] == [("train.tsv", 2, 1, reason, row)]
        assert [p.origin.first_row for p in kept if p.origin.file == "train.tsv"] == [1, 3]

    def test_an_absurdly_long_label_id_is_quarantined(self, tmp_path):
        write_ge(tmp_path, "text\t" + "9" * 5000 + "\tid")
        assert [q.reason for q in parsed("goemotions", tmp_path)[1]] == ["unknown_label"]

    @given(rows=st.lists(st.text(st.sampled_from('ab ,\t019\r"\x00\x85\u2028é'), max_size=12), min_size=1, max_size=8))
    def test_rows_in_are_kept_plus_quarantined_whatever_they_hold(self, rows, tmp_path_factory):
        folder = tmp_path_factory.mktemp("ge")
        write_ge(folder, "fine\t1\tx")
        (folder / "train.tsv").write_bytes(("\n".join(["fine\t1\tx", *rows]) + "\n").encode())
        kept, broken = parsed("goemotions", folder)
        spots = [p.origin.first_row for p in kept if p.origin.file == "train.tsv"] + [q.first_row for q in broken]
        assert sorted(spots) == list(range(1, len(rows) + 2))


class TestESConv:
    def test_consecutive_turns_of_one_speaker_become_one_with_strategies_in_order(self, tmp_path):
        write_esconv(
            tmp_path,
            dialogue(
                said("seeker", "Hi\n"),
                said("seeker", "I am sad."),
                said("supporter", "Oh.", "Others"),
                said("supporter", "   "),
                said("supporter", "Why?", "Question"),
                said("supporter", "I see."),
                said("seeker", "Work."),
            ),
        )
        kept, broken = parsed("esconv", tmp_path)
        assert broken == []
        assert kept[0].conversation.turns == (
            Turn("user", "Hi I am sad."),
            Turn("assistant", "Oh. Why? I see.", ("Others", "Question")),
            Turn("user", "Work."),
        )

    def test_feedback_is_kept_in_order_with_the_turns_that_it_stands_in(self, tmp_path):
        write_esconv(
            tmp_path,
            dialogue(
                said("seeker", "Hi.", feedback="5"),
                said("seeker", "I am sad.", feedback=None),
                said("seeker", "So sad.", feedback=1),
                said("supporter", "Oh.", "Others"),
                said("seeker", "Yes.", feedback="3"),
            ),
        )
        kept, broken = parsed("esconv", tmp_path)
        assert broken == []
        assert [t.feedback for t in kept[0].conversation.turns] == [(5, 1), (), (3,)]
        assert kept[0].conversation.turns[0].text == "Hi. I am sad. So sad."

    @pytest.mark.parametrize("feedback", ["0", "6", "", " 5", "5.0", "five", 0, 6, 5.0, True, ["5"], {"a": 1}, "٣"])
    def test_feedback_other_than_one_to_five_is_quarantined(self, tmp_path, feedback):
        write_esconv(tmp_path, dialogue(said("seeker", "Hi.", feedback=feedback), said("supporter", "Oh.")), dialogue())
        kept, broken = parsed("esconv", tmp_path)
        assert [(q.first_row, q.reason) for q in broken] == [(1, "bad_feedback")]
        assert "allowed: 1 to 5" in broken[0].detail
        assert len(kept) == 1

    @pytest.mark.parametrize("annotation", [{"strategy": "Question"}, {"feedback": "4"}])
    def test_an_empty_turn_is_left_out_unless_something_is_known_of_it(self, tmp_path, annotation):
        empty = said("seeker", " \u200b", **annotation)
        write_esconv(tmp_path, dialogue(said("seeker", "Hi."), said("supporter", "Oh."), empty))
        assert [q.reason for q in parsed("esconv", tmp_path)[1]] == ["empty_text"]

    def test_fields_origin_and_no_split_without_a_split_file(self, tmp_path):
        write_esconv(tmp_path, dialogue(), dialogue(situation=" My  job. ", emotion_type="anger"))
        kept, _ = parsed("esconv", tmp_path)
        assert [p.conversation.split for p in kept] == [UNASSIGNED, UNASSIGNED]
        assert (kept[1].conversation.situation, kept[1].conversation.emotions) == ("My job.", ("anger",))
        assert kept[1].origin == Origin("ESConv.json", 2, 2)

    def test_a_dialogue_may_open_with_the_supporter(self, tmp_path):
        write_esconv(tmp_path, dialogue(said("supporter", "Hello!"), said("seeker", "Hi.")))
        assert [t.role for t in parsed("esconv", tmp_path)[0][0].conversation.turns] == ["assistant", "user"]

    def test_failed_dialogues_with_other_role_and_strategy_names_are_read(self, tmp_path):
        write_esconv(
            tmp_path,
            dialogue(said("speaker", "Hey."), said("listener", "Hi.", "Other"), said("listener", "Well?", "Questions")),
        )
        kept, broken = parsed("esconv", tmp_path)
        assert broken == []
        assert kept[0].conversation.turns[1] == Turn("assistant", "Hi. Well?", ("Others", "Question"))

    def test_the_group_is_the_dialogue_whatever_its_situation_and_emotion(self, tmp_path):
        other = dialogue(said("seeker", "I am fine."), said("supporter", "Good."))
        write_esconv(tmp_path, dialogue(), dialogue(situation="Other.", emotion_type="anger"), other)
        groups = [p.conversation.group for p in parsed("esconv", tmp_path)[0]]
        assert groups[0] == groups[1] != groups[2]

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            ("text", "no_dialogue"),
            ({"emotion_type": "fear"}, "no_dialogue"),
            (dialogue(dialog="text"), "no_dialogue"),
            (dialogue("text"), "bad_turn"),
            (dialogue(said("bystander", "Hi.")), "bad_turn"),
            (dialogue(said(["seeker"], "Hi.")), "bad_turn"),
            (dialogue(said("seeker", None)), "bad_turn"),
            (dialogue({"speaker": "seeker"}), "bad_turn"),
            (dialogue({"speaker": "seeker", "content": "Hi.", "annotation": "none"}), "bad_turn"),
            (dialogue({"speaker": "seeker", "content": "Hi.", "text": "Oh."}), "bad_turn"),
            (dialogue(said("seeker", "a\x00b")), "nul_byte"),
            (dialogue(said("seeker", "a\ud800b")), "lone_surrogate"),
            (dialogue(said("seeker", "x" * 20_001)), "too_long"),
            (dialogue(said("seeker", "Hi."), said("supporter", "Hi.", "Shrugging")), "unknown_label"),
            (dialogue(said("seeker", "Hi."), said("supporter", "Hi.", ["Question"])), "unknown_label"),
            (dialogue(said("seeker", "Hi."), said("supporter", "Hi.", 3)), "unknown_label"),
            (dialogue(said("seeker", "Hi."), said("seeker", "Anyone?")), "one_speaker"),
            (dialogue(said("supporter", "Hi."), said("seeker", " ")), "one_speaker"),
            (dialogue(dialog=[]), "one_speaker"),
            (dialogue(emotion_type=""), "bad_field"),
            (dialogue(emotion_type=None), "bad_field"),
            (dialogue(emotion_type=" "), "empty_text"),
            (dialogue(emotion_type=json.loads("[" * 80 + "]" * 80)), "too_deep"),
            (dialogue(situation=["a"]), "bad_field"),
        ],
    )
    def test_each_malformed_dialogue_has_its_reason_and_row(self, tmp_path, raw, reason):
        write_esconv(tmp_path, dialogue(), raw)
        kept, broken = parsed("esconv", tmp_path)
        assert [(q.file, q.first_row, q.rows, q.reason) for q in broken] == [("ESConv.json", 2, 1, reason)]
        assert json.loads(broken[0].raw) == raw
        assert len(kept) == 1

    @pytest.mark.parametrize("field", ["situation", "emotion_type"])
    @pytest.mark.parametrize("text", ["a\ud800b", "a\x00b"])
    def test_text_that_no_record_may_hold_is_quarantined_in_every_field(self, tmp_path, field, text):
        write_esconv(tmp_path, dialogue(), dialogue(**{field: text}))
        kept, broken = parsed("esconv", tmp_path)
        assert identify((p.conversation, p.origin) for p in kept)
        assert [q.first_row for q in broken] == [2]

    def test_a_quarantined_lone_surrogate_can_be_written_and_read(self, tmp_path):
        write_esconv(tmp_path, dialogue(said("seeker", "a\ud800b")), dialogue())
        _, broken = parsed("esconv", tmp_path)
        write_jsonl([{"raw": q.raw} for q in broken], tmp_path / "quarantine.jsonl")
        assert json.loads(read_jsonl(tmp_path / "quarantine.jsonl")[0]["raw"])["dialog"][0]["content"] == "a\ud800b"

    def test_turns_that_grow_too_long_by_merging_are_quarantined(self, tmp_path):
        write_esconv(
            tmp_path, dialogue(said("seeker", "x" * 15_000), said("seeker", "y" * 15_000), said("supporter", "Oh."))
        )
        assert [q.reason for q in parsed("esconv", tmp_path)[1]] == ["too_long"]

    def test_the_split_file_names_splits_and_the_rest_stays_unassigned(self, tmp_path):
        write_esconv(
            tmp_path,
            *(dialogue(situation=str(i)) for i in range(4)),
            splits={"train": [2], "valid": [0], "test": [3]},
        )
        assert [p.conversation.split for p in parsed("esconv", tmp_path)[0]] == ["dev", UNASSIGNED, "train", "test"]

    @pytest.mark.parametrize(
        ("splits", "named"),
        [
            ({"train": [2]}, "index 2"),
            ({"train": [-1]}, "index -1"),
            ({"train": [0], "test": [0]}, "index 0"),
            ({"dev": [0]}, "'dev'"),
            ({"train": ["0"]}, "'?0'?"),
            ({"train": 0}, "train"),
            ([0, 1], "list"),
        ],
    )
    def test_a_split_file_that_does_not_fit_is_an_error_that_names_it(self, tmp_path, splits, named):
        write_esconv(tmp_path, dialogue(), dialogue(), splits=splits)
        with pytest.raises(HeartwoodError, match=rf"ESConv\.hub_splits\.json.*{named}"):
            parsed("esconv", tmp_path)

    @pytest.mark.parametrize("text", ['[{"dialog": [', "not json", '{"a": 1}', "[]", "null"])
    def test_half_a_file_or_another_json_is_an_error_that_names_it(self, tmp_path, text):
        (tmp_path / "ESConv.json").write_text(text)
        with pytest.raises(HeartwoodError, match=r"ESConv\.json"):
            parsed("esconv", tmp_path)

    json_values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-3, 3)
        | st.sampled_from(["seeker", "supporter", "Question", "Hi.", ""]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["speaker", "content", "annotation", "strategy", "dialog"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )

    @settings(max_examples=150)
    @given(
        raws=st.lists(json_values | st.builds(lambda key, value: dialogue(**{key: value}), st.sampled_from(
            ["dialog", "situation", "emotion_type"]), json_values), min_size=1, max_size=4),
        turns=st.lists(json_values, max_size=3),
    )  # fmt: skip
    def test_rows_in_are_kept_plus_quarantined_whatever_they_hold(self, raws, turns, tmp_path_factory):
        folder = tmp_path_factory.mktemp("esconv")
        raws = [*raws, dialogue(said("seeker", "Hi."), *turns), dialogue()]
        write_esconv(folder, *raws)
        kept, broken = parsed("esconv", folder)
        spots = [p.origin.first_row for p in kept] + [q.first_row for q in broken]
        assert sorted(spots) == list(range(1, len(raws) + 1))
        assert len(raws) in [p.origin.first_row for p in kept]


class TestESConvOfTheHub:
    def test_files_are_the_splits_and_turns_are_those_of_the_official_form(self, tmp_path):
        hub, official = tmp_path / "hub", tmp_path / "official"
        hub.mkdir()
        official.mkdir()
        turns = [
            {"text": "Hi\n", "speaker": "usr"},
            {"text": "I am sad.", "speaker": "usr"},
            {"text": "Why?", "speaker": "sys", "strategy": "Question"},
        ]
        write_hub(hub, replied(*turns, survey_score={}), valid=[replied(situation="Other.")])
        known = said("seeker", "Hi\n"), said("seeker", "I am sad."), said("supporter", "Why?", "Question")
        write_esconv(official, dialogue(*known), splits={"train": [0]})
        kept, broken = parsed("esconv", hub)
        assert broken == []
        assert kept[0].conversation == parsed("esconv", official)[0][0].conversation
        assert [(p.conversation.split, p.origin) for p in kept] == [
            ("train", Origin("train.jsonl", 1, 1)),
            ("dev", Origin("valid.jsonl", 1, 1)),
            ("test", Origin("test.jsonl", 1, 1)),
        ]

    @pytest.mark.parametrize(
        "wrapped",
        [
            json.dumps({"text": json.dumps(replied())}),
            json.dumps(json.dumps(replied())),
            json.dumps(json.dumps({"text": json.dumps(replied())})),
        ],
    )
    def test_a_dialogue_may_be_json_inside_json(self, tmp_path, wrapped):
        write_hub(tmp_path, replied(), wrapped)
        kept, broken = parsed("esconv", tmp_path)
        assert broken == []
        assert kept[0].conversation == kept[1].conversation

    @pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".json"])
    def test_each_suffix_is_read(self, tmp_path, suffix):
        write_hub(tmp_path, replied(), suffix=suffix)
        assert len(parsed("esconv", tmp_path)[0]) == 3

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "not_json"),
            (json.dumps({"text": "no dialogue"}), "not_json"),
            (json.dumps({"text": json.dumps({"text": "{"})}), "not_json"),
            ("[1]", "no_dialogue"),
            ("null", "no_dialogue"),
            (json.dumps(replied(dialog="x")), "no_dialogue"),
            (json.dumps(replied({"text": "Hi.", "speaker": "bot"})), "bad_turn"),
            (json.dumps(replied({"text": "Hi.", "speaker": "sys", "strategy": "Shrug"})), "unknown_label"),
            (json.dumps(replied({"text": "Hi.", "speaker": "usr", "feedback": "9"})), "bad_feedback"),
            (json.dumps(replied({"text": "Hi.", "speaker": "usr"})), "one_speaker"),
            ("[" * 100_000 + "]" * 100_000, "too_deep"),
            ("9" * 5_000, "not_json"),
        ],
    )
    def test_each_malformed_line_has_its_reason_row_and_raw_text(self, tmp_path, line, reason):
        write_hub(tmp_path, replied(), line, replied())
        kept, broken = parsed("esconv", tmp_path)
        assert [(q.file, q.first_row, q.reason, q.raw) for q in broken] == [("train.jsonl", 2, reason, line)]
        assert [p.origin.first_row for p in kept] == [1, 3, 1, 1]

    def test_both_forms_in_one_folder_are_an_error_that_names_them(self, tmp_path):
        write_esconv(tmp_path, dialogue())
        write_hub(tmp_path, replied())
        with pytest.raises(HeartwoodError, match=r"holds ESConv\.json and train\.jsonl, valid\.jsonl, test\.jsonl"):
            parsed("esconv", tmp_path)

    def test_two_files_of_one_split_are_an_error_that_names_them(self, tmp_path):
        write_hub(tmp_path, replied())
        (tmp_path / "validation.jsonl").write_text("{}")
        with pytest.raises(HeartwoodError, match=r"valid\.jsonl and validation\.jsonl are both the dev split"):
            parsed("esconv", tmp_path)

    def test_a_missing_split_is_an_error_that_names_it(self, tmp_path):
        write_hub(tmp_path, replied())
        (tmp_path / "valid.jsonl").unlink()
        with pytest.raises(HeartwoodError, match=r"without a file of the dev split"):
            parsed("esconv", tmp_path)


WRITERS = {
    "empathetic_dialogues": lambda folder: write_ed(folder, ed_row()),
    "goemotions": lambda folder: write_ge(folder, "ok\t1\tx"),
    "esconv": lambda folder: write_esconv(folder, dialogue()),
    "chat": lambda folder: write_chat(folder, chat()),
    "prompt_completion": lambda folder: write_chat(folder, pair()),
}
EACH_FILE = [(fmt, name) for fmt, names in FILES.items() for name in names]


@pytest.mark.parametrize(("fmt", "name"), EACH_FILE)
def test_an_empty_file_is_an_error_that_names_it(tmp_path, fmt, name):
    WRITERS[fmt](tmp_path)
    (tmp_path / name).write_bytes(b" \n")
    with pytest.raises(HeartwoodError, match=f"{name}: the file is empty"):
        parsed(fmt, tmp_path)


@pytest.mark.parametrize(("fmt", "name"), EACH_FILE)
def test_another_encoding_is_an_error_that_names_file_and_byte(tmp_path, fmt, name):
    WRITERS[fmt](tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data + "é".encode("latin-1"))
    row = data.count(b"\n") + 1
    with pytest.raises(HeartwoodError, match=rf"{name}: not UTF-8 \(byte {len(data)}: 0xe9\) in row {row}$"):
        parsed(fmt, tmp_path)


@pytest.mark.parametrize(("fmt", "name"), EACH_FILE)
def test_a_missing_file_is_an_error_that_names_it(tmp_path, fmt, name):
    WRITERS[fmt](tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(HeartwoodError, match=f"{name}: missing") as error:
        parse(fmt, tmp_path, fmt)
    assert error.value.hint


def test_an_unknown_format_names_key_value_and_what_is_allowed(tmp_path):
    with pytest.raises(HeartwoodError, match=r"sources\.mine\.format: 'csv'.*chat, empathetic_dialogues, esconv"):
        parse("csv", tmp_path, "mine")


@pytest.mark.parametrize("fmt", sorted(PARSERS))
def test_the_source_is_the_name_in_params_not_the_format(tmp_path, fmt):
    WRITERS[fmt](tmp_path)
    assert {item.conversation.source for item in parse(fmt, tmp_path, "my_corpus")} == {"my_corpus"}


def test_the_label_sets_have_the_published_sizes():
    assert len(empathetic_dialogues.EMOTIONS) == 32
    assert len(goemotions.LABELS) == len(LABELS["goemotions"] or ()) == 28
    assert (goemotions.LABELS[0], goemotions.LABELS[27]) == ("admiration", "neutral")
    assert len(esconv.STRATEGIES) == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fine", None),
        ("\u00a0 \n", "empty_text"),
        ("a\x00", "nul_byte"),
        ("\udfff", "lone_surrogate"),
        ("", "empty_text"),
        ("\u200b\u200e \x07", "empty_text"),
        ("\u200fשלום", None),
        ("\U0001f600", None),
        ("x" * 20_000, None),
        ("x" * 20_001, "too_long"),
    ],
)
def test_text_problem(text, reason):
    assert text_problem(text) == reason


def test_no_letter_or_digit_is_invisible_so_that_the_first_character_may_decide():
    assert not [hex(n) for n in range(0x110000) if chr(n).isalnum() and text_problem(f" {chr(n)}") == "empty_text"]


@given(st.text(alphabet=st.sampled_from("a1 \t\x00\u200b\u00ad\ud800é") | st.characters()))
def test_the_problem_of_a_text_is_what_its_characters_say_one_by_one(text):
    invisible = all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)
    surrogate = any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    expected = "nul_byte" if "\x00" in text else "lone_surrogate" if surrogate else "empty_text" if invisible else None
    assert text_problem(text) == expected
