import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup import DedupSettings, deduplicate
from curation.expectations.conditions import (
    has_visible_text,
    missed_shares,
    repeated_texts,
    roles_alternate,
    straddling,
    unknown_labels,
)
from curation.mixture import allocate, resolve_shares
from curation.splits import groups_of, split_records
from tests.curation.making import conversations, numbered


@pytest.mark.parametrize("text", ["a", "!", "\u05e9", "\U0001f642", "\u200fx", " \x00.", "\ue000", "\U000323af0"])
def test_visible_texts(text):
    assert has_visible_text(text)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\u200b\u200f", "\ufeff", "\u2028 \u3000", "\ud800", "\xad"])
def test_texts_without_anything_to_see(text):
    assert not has_visible_text(text)


@pytest.mark.parametrize(
    ("roles", "alternate"),
    [
        ((), True),
        (("user",), True),
        (("assistant", "user"), True),
        (("user", "assistant", "user"), True),
        (("user", "user"), False),
        (("user", "assistant", "assistant"), False),
        (("user", "system"), False),
        (("",), False),
    ],
)
def test_roles_alternate(roles, alternate):
    assert roles_alternate(roles) is alternate


def test_the_last_role_can_be_asked_for():
    assert roles_alternate(("user", "assistant"), "assistant")
    assert not roles_alternate(("user", "assistant", "user"), "assistant")
    assert not roles_alternate((), "assistant")


def test_labels_are_those_of_the_source():
    sets = {"talks": ["sad"], "open": None}
    assert unknown_labels("talks", ("sad", "grumpyish"), sets) == {"grumpyish"}
    assert unknown_labels("open", ("grumpyish",), sets) == frozenset()
    assert unknown_labels("reddit", ("sad",), sets) == {"sad"}


def test_every_row_of_a_straddling_group_is_named():
    groups, splits = ["a", "b", "a", "c", "c", None], ["train", "train", "dev", "dev", "dev", "test"]
    assert straddling(groups, splits) == [True, False, True, False, False, False]


@given(st.lists(conversations, max_size=12))
def test_splitting_leaves_no_straddling_group(records):
    result = split_records(numbered(records), seed=0, dev_share=0.3, test_share=0.3)
    kept = [c for split in result.splits.values() for c in split]
    for kind in ("conversation", "situation"):
        placed = [(dict(groups_of(c)).get(kind), c.split) for c in kept]
        placed = [(group, split) for group, split in placed if group]
        assert not any(straddling([g for g, _ in placed], [s for _, s in placed]))


def repeated(records, conflicts="keep", stock_words=3):
    return repeated_texts(
        [(c.source, c.task) for c in records],
        [[t.text for t in c.turns] for c in records],
        [c.emotions for c in records],
        stock_words=stock_words,
        label_conflicts=conflicts,
    )


def test_repeated_texts():
    kinds, sad, angry = [("talks", "dialogue")] * 4, ("sad",), ("angry",)
    turns = [["I feel sad,", "why?"], ["i feel SAD", "Why"], ["thank you so"], ["Thank you so!"]]
    same = repeated_texts(kinds, turns, [sad] * 4, stock_words=3, label_conflicts="keep")
    assert same == [True, True, False, False]
    assert all(repeated_texts(kinds, turns, [sad] * 4, stock_words=2, label_conflicts="keep"))
    labels = [sad, angry, sad, sad]
    assert not any(repeated_texts(kinds, turns, labels, stock_words=3, label_conflicts="keep"))
    assert repeated_texts(kinds, turns, labels, stock_words=3, label_conflicts="merge") == same
    elsewhere = [("talks", "dialogue"), ("other", "dialogue"), *kinds[:2]]
    assert not any(repeated_texts(elsewhere, turns, [sad] * 4, stock_words=3, label_conflicts="keep"))


@settings(deadline=None)
@given(st.lists(conversations, max_size=12), st.sampled_from(["keep", "merge", "drop"]), st.integers(1, 5))
def test_deduplication_leaves_no_repeated_text(records, conflicts, stock_words):
    thresholds = DedupSettings(label_conflicts=conflicts, generic_words=stock_words)
    kept = deduplicate(numbered(records), thresholds, None).kept
    assert not any(repeated(kept, conflicts, stock_words))


shares = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)


@given(shares, st.integers(1, 5000))
def test_exact_allocations_miss_no_share(parts, size):
    asked = {f"s{i}": part / 1000 for i, part in enumerate(parts)} | {"z": "rest"}
    wanted = resolve_shares(asked)
    rows = allocate(wanted, size)
    given_shares = {name: float(share) for name, share in wanted.items()}
    assert missed_shares(rows, given_shares) == []
    assert missed_shares({n: r for n, r in rows.items() if r}, given_shares) == []


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=5))
def test_one_row_more_than_a_whole_number_of_rows_is_missed(rows):
    size = sum(rows)
    exact = {f"s{i}": n / size for i, n in enumerate(rows)}
    moved = {f"s{i}": n for i, n in enumerate(rows)}
    assert missed_shares(moved, exact) == []
    moved["s0"], moved["s1"] = moved["s0"] - 1, moved["s1"] + 1
    assert missed_shares(moved, exact) == ["s0", "s1"]


def test_a_share_of_nothing_allows_no_row():
    rows = {"a": 1999, "b": 1}
    assert missed_shares(rows, {"a": 0.9995, "b": 0.0005}) == []
    assert missed_shares(rows, {"a": 0.9995, "b": 0.0}) == ["b"]
    assert missed_shares(rows, {"a": 0.9995}) == ["b"]
    assert missed_shares({}, {"a": 0.5, "b": 0.5}) == []
