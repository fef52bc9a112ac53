from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.records import SPLITS, by_uid
from curation.splits import RULE, assign, groups_of, split_records
from curation.text import fold
from tests.curation.making import comment, numbered, talk


def split(records, seed=0, dev_share=0.2, test_share=0.1):
    return split_records(records, seed=seed, dev_share=dev_share, test_share=test_share)


def uids(records):
    return {c.uid for c in records}


def test_official_splits_are_kept():
    rows = numbered(talk(f"{s} {i}", split=s, group=f"{s}{i}") for s in SPLITS for i in range(20))
    result = split(rows)
    assert {name: uids(found) for name, found in result.splits.items()} == {
        name: uids(c for c in rows if c.split == name) for name in SPLITS
    }
    assert (result.removals, result.assigned) == ([], {"train": 0, "dev": 0, "test": 0})


@pytest.mark.parametrize(("early", "late"), [("train", "dev"), ("train", "test"), ("dev", "test")])
@pytest.mark.parametrize("kind", ["conversation", "situation"])
def test_a_straddling_group_leaves_the_earlier_split_with_a_ledger_row(early, late, kind):
    shared = {"group": "g"} if kind == "conversation" else {"situation": "My dog died."}
    folded = {"group": "g"} if kind == "conversation" else {"situation": "my dog DIED"}
    leaver, stayer = numbered([talk("one", split=early, **shared), talk("two", split=late, **folded)])
    leaver, stayer = (leaver, stayer) if leaver.split == early else (stayer, leaver)
    bystander = talk("three", split=early, group="other")
    result = split([leaver, stayer, bystander])
    assert result.splits[late] == [stayer]
    assert result.splits[early] == [bystander]
    (removal,) = result.removals
    assert (removal.record, removal.survivor, removal.rule, removal.score) == (leaver, stayer.uid, RULE, 1.0)
    assert removal.detail == f"{kind} also stands in {late}"
    assert result.straddling_groups == {"conversation": 0, "situation": 0} | {kind: 1}


def test_a_group_in_all_three_splits_stays_in_test_alone():
    rows = numbered(talk(s, split=s, group="g") for s in SPLITS)
    result = split(rows)
    assert [len(result.splits[s]) for s in SPLITS] == [0, 0, 1]
    assert {r.survivor for r in result.removals} == uids(result.splits["test"])


def test_groups_of_different_sources_do_not_meet():
    shared = {"group": "g", "situation": "My dog died."}
    rows = numbered([talk("a", source="x", **shared), talk("b", source="y", split="dev", **shared)])
    assert split(rows).removals == []


def test_equal_text_alone_is_not_this_functions_business():
    rows = numbered([comment("same", group="1"), comment("same", group="2", split="test")])
    assert split(rows).removals == []


def test_a_symbol_only_situation_is_no_group():
    assert [kind for kind, _ in groups_of(talk("a", situation="?!"))] == ["conversation"]


crowded = st.builds(
    lambda text, split, group, situation: talk(text, split=split, group=group, situation=situation),
    st.sampled_from("abcdef"),
    st.sampled_from([*SPLITS, ""]),
    st.sampled_from(["g1", "g2", "g3"]),
    st.sampled_from(["", "one", "Two!", "two"]),
)
records = st.lists(crowded, max_size=10).map(numbered)


@given(records, st.randoms(use_true_random=False))
def test_output_and_removals_are_the_input_and_nothing_moves(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    result = split(shuffled)
    assert result == split(rows)
    parts = [c for found in result.splits.values() for c in found] + [r.record for r in result.removals]
    assert [replace(c, split="") for c in by_uid(parts)] == [replace(c, split="") for c in rows]
    official = {c.uid: c.split for c in rows if c.split}
    for name, found in result.splits.items():
        assert found == by_uid(found)
        assert all(c.split == name and official.get(c.uid, name) == name for c in found)
    assert sum(result.assigned.values()) == sum(not c.split for c in rows)


@given(records)
def test_no_group_stands_in_two_splits(rows):
    holders: dict[tuple[str, str], set[str]] = {}
    for name, found in split(rows).splits.items():
        for c in found:
            for group in groups_of(c):
                holders.setdefault(group, set()).add(name)
    assert all(len(names) == 1 for names in holders.values())


@settings(max_examples=150)
@given(records)
def test_every_removed_record_shares_a_group_with_a_survivor_in_a_later_split(rows):
    result = split(rows)
    where = {c.uid: (c, name) for name, found in result.splits.items() for c in found}
    for removal in result.removals:
        survivor, name = where[removal.survivor]
        assert SPLITS.index(name) > SPLITS.index(removal.record.split)
        assert set(groups_of(survivor)) & set(groups_of(removal.record))


def test_a_record_that_left_dev_takes_nothing_out_of_train():
    chain = numbered(
        [
            talk("train", split="train", group="g1", situation="one"),
            talk("dev", split="dev", group="g1", situation="two"),
            talk("test", split="test", group="g2", situation="two"),
        ]
    )
    result = split(chain)
    assert [[c.turns[0].text for c in result.splits[s]] for s in SPLITS] == [["train"], [], ["test"]]


def test_unassigned_records_are_divided_roughly_by_the_shares():
    rows = numbered(talk(f"t{i}", split="", group=f"g{i}", situation=f"situation {i}") for i in range(3000))
    result = split(rows, dev_share=0.2, test_share=0.1)
    sizes = {s: len(found) for s, found in result.splits.items()}
    assert sizes == result.assigned
    # Five standard deviations of a binomial count.
    assert sizes["dev"] == pytest.approx(600, abs=110)
    assert sizes["test"] == pytest.approx(300, abs=83)


def test_the_division_follows_the_seed_and_a_record_alone():
    rows = [talk(f"t{i}", split="", group=f"g{i}") for i in range(200)]
    together = {c.uid: s for s, found in split(rows).splits.items() for c in found}
    alone = {c.uid: assign(c, 0, 0.2, 0.1) for c in rows}
    assert together == alone
    assert any(assign(c, 1, 0.2, 0.1) != alone[c.uid] for c in rows)


def test_zero_shares_leave_everything_in_train():
    rows = [talk(f"t{i}", split="", group=f"g{i}") for i in range(50)]
    assert Counter(assign(c, 0, 0.0, 0.0) for c in rows) == {"train": 50}


def test_unassigned_records_with_the_same_situation_are_never_divided():
    rows = numbered(
        talk(
            f"t{i}",
            split="",
            group=f"g{i}",
            situation=["Job crisis.", "job CRISIS!", "Job  crisis"][i % 3] + f" {i // 3}",
        )
        for i in range(300)
    )
    result = split(rows)
    assert result.removals == []
    of = {}
    for name, found in result.splits.items():
        for c in found:
            of.setdefault(fold(c.situation), set()).add(name)
    assert len(of) == 100
    assert all(len(names) == 1 for names in of.values())


def test_what_left_is_counted_by_source_and_split():
    situation = "My dog died last night."
    rows = [
        talk("a b c", source="x", split="train", group="1", situation=situation),
        talk("d e f", source="x", split="dev", group="2", situation=situation),
        talk("g h i", source="x", split="test", group="3", situation=situation),
        talk("j k l", source="y", split="train", group="4"),
    ]
    result = split_records(numbered(rows), seed=0, dev_share=0.1, test_share=0.1)
    assert result.removed_by_source_and_split() == {"x": {"dev": 1, "train": 1}}
