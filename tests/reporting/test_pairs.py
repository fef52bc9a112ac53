from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup import DedupSettings
from curation.leakage import LeakageSettings
from curation.records import Conversation, Origin, Turn
from curation.tabular import Columns, RowFile, Unusable, read_rows
from curation.text import fold
from pipelines.reporting.pairs import (
    DUPLICATE_COLUMNS,
    LEAK_COLUMNS,
    find_duplicates,
    find_leaks,
    one_line,
    print_duplicates,
    print_leaks,
    whole_text,
)
from pipelines.settings.strict import read_params
from tests.curation.making import bag_of_words, sentences


def rows(name: str, *texts: str | tuple[str, ...], labels: tuple[str, ...] = (), unusable: int = 0) -> RowFile:
    """A file whose rows are texts, or chats that the user opens; unusable rows stand behind them."""
    usable = []
    for number, text in enumerate(texts, start=1):
        said = (text,) if isinstance(text, str) else text
        turns = tuple(Turn("assistant" if i % 2 else "user", t) for i, t in enumerate(said))
        label = (labels[number - 1],) if labels else ()
        usable.append((Conversation("rows", "rows", "", "train", turns, emotions=label), Origin(name, number, number)))
    bad = [Unusable(name, len(texts) + i, "empty", "no text") for i in range(1, unusable + 1)]
    return RowFile(name, len(texts) + unusable, "text", usable, bad)


LONG = "the dog was hit by a car on monday and i held him in my arms"


def test_defaults_are_those_of_the_pipeline(repo_root):
    params = read_params(repo_root / "params.yaml")
    assert asdict(DedupSettings()) == params["dedup"]
    assert asdict(LeakageSettings()) == params["leakage"]["detector"]


def test_each_removed_row_is_a_pair_and_the_counts_add_up():
    near = LONG + " again"
    found = find_duplicates(
        [rows("a", LONG, "ok", "ok", LONG.upper(), unusable=2), rows("b", near, "something else entirely here")],
        DedupSettings(),
        None,
    )
    counts = found.counts
    assert (counts["rows"], counts["compared"], counts["kept"], counts["removed"]) == (8, 6, 4, 2)
    assert counts["stock_phrases_kept"] == 2
    assert {p["rule"] for p in found.pairs} <= {"dedup-exact-v1", "dedup-near-v1"}
    removed = {(p["removed_file"], p["removed_row"]) for p in found.pairs}
    assert all((p["surviving_file"], p["surviving_row"]) not in removed for p in found.pairs)
    assert all(p["score"] >= 0.8 for p in found.pairs)
    assert sum(map(len, found.removed_rows().values())) == 2
    assert len(found.as_dict()["unusable"]) == 2
    assert list(found.pairs[0]) == DUPLICATE_COLUMNS.names


def test_copies_with_different_labels_are_counted_and_stay():
    found = find_duplicates([rows("a", LONG, LONG, LONG, labels=("x", "y", "y"))], DedupSettings(), None)
    assert (found.counts["label_conflict_groups"], found.counts["removed"]) == (1, 1)


def test_the_semantic_rule_needs_an_encoder():
    a, b = "my old dog died at home last night", "last night at home my old dog died"
    pair = [rows("a", a, b)]
    assert find_duplicates(pair, DedupSettings(), None).counts["removed"] == 0
    found = find_duplicates(pair, DedupSettings(), bag_of_words)
    assert [p["rule"] for p in found.pairs] == ["dedup-semantic-v1"]


def test_every_dev_row_is_judged_on_its_own_and_names_all_it_repeats():
    train = rows("t", "Thank you!", LONG, LONG.title(), "no no no no no no no no no")
    dev = rows("d", "thank you", LONG, LONG + "!", f"I said {LONG} yesterday", "unlike all else in here", unusable=1)
    found = find_leaks([train], [dev], LeakageSettings(), None, 100)
    assert found.as_dict()["train_rows"] == 4
    assert found.as_dict()["dev_rows"] == 6
    assert found.leaked == {"exact": 3, "contained": 1, "semantic": 0, "any": 4, "generic": 1}
    by_row: dict[int, list[int]] = {}
    for pair in found.pairs:
        by_row.setdefault(pair["dev_row"], []).append(pair["train_row"])
    assert by_row == {1: [1], 2: [2, 3], 3: [2, 3], 4: [2, 3]}
    assert [p["generic"] for p in found.pairs] == [True] + [False] * 6
    assert {p["kind"] for p in found.pairs if p["dev_row"] == 4} == {"contained"}
    assert list(found.pairs[0]) == LEAK_COLUMNS.names


def test_a_leak_in_other_words_is_semantic():
    settings = LeakageSettings(generic_words=3)
    dev = rows("d", "last night at home my old dog died")
    found = find_leaks([rows("t", "my old dog died at home last night")], [dev], settings, bag_of_words, 9)
    assert found.leaked == {"exact": 0, "contained": 0, "semantic": 1, "any": 1, "generic": 0}


def test_of_a_chat_every_turn_is_compared_and_a_row_with_more_than_stock_phrases_is_not_generic():
    train = rows("t", ("hi there", LONG))
    dev = rows("d", ("hi there", "what is it"), (LONG, "hi there"), ("hi there", "hi there"))
    found = find_leaks([train], [dev], LeakageSettings(), None, 100)
    assert (found.leaked["any"], found.leaked["generic"]) == (3, 2)
    second = [p for p in found.pairs if p["dev_row"] == 2]
    assert [(p["dev_side"], p["train_side"], p["generic"]) for p in second] == [
        ("prompt", "response", False),
        ("response", "prompt", True),
    ]


def test_too_many_pairs_leave_each_row_its_strongest_and_are_counted():
    train = rows("t", *["thank you"] * 1000)
    dev = rows("d", *["Thank you."] * 1000, LONG)
    found = find_leaks([train], [dev], LeakageSettings(), None, 2500)
    assert found.leaked["any"] == 1000
    assert len(found.pairs) == 2000
    assert found.pairs_left_out == 1000 * 1000 - 2000
    few = find_leaks([train], [dev], LeakageSettings(), None, 1)
    assert {p["dev_row"] for p in few.pairs} == set(range(1, 1001))


@pytest.mark.slow
def test_a_hundred_thousand_equal_rows_are_no_trouble():
    many = rows("m", *["so sorry to hear that, my friend, truly"] * 100_000)
    found = find_duplicates([many], DedupSettings(), None)
    assert found.counts["removed"] == 99_999
    assert {p["surviving_row"] for p in found.pairs} == {1}
    leaks = find_leaks([many], [replace(many, file="d")], LeakageSettings(), None, 100_000)
    assert leaks.leaked["exact"] == len(leaks.pairs) == 100_000


@given(st.lists(sentences, max_size=12), st.lists(sentences, max_size=12), st.randoms())
def test_leaks_are_what_a_search_row_by_row_finds_whatever_the_order(train, dev, random):
    settings = LeakageSettings(shingle_words=2, generic_words=3)
    found = find_leaks([rows("t", *train)], [rows("d", *dev)], settings, bag_of_words, 10_000)
    exact = {(i, j) for i, d in enumerate(dev, 1) for j, t in enumerate(train, 1) if fold(d) == fold(t)}
    assert {(p["dev_row"], p["train_row"]) for p in found.pairs if p["kind"] == "exact"} == exact
    for number, text in enumerate(dev, 1):
        alone = find_leaks([rows("t", *train)], [rows("d", text)], settings, bag_of_words, 10_000)
        assert [{**p, "dev_row": number} for p in alone.pairs] == [p for p in found.pairs if p["dev_row"] == number]
    mixed = list(enumerate(train, 1))
    random.shuffle(mixed)
    again = find_leaks([rows("t", *(t for _, t in mixed))], [rows("d", *dev)], settings, bag_of_words, 10_000)
    place = {new: old for new, (old, _) in enumerate(mixed, 1)}
    assert {(p["dev_row"], place[p["train_row"]], p["kind"]) for p in again.pairs} == {
        (p["dev_row"], p["train_row"], p["kind"]) for p in found.pairs
    }
    assert again.leaked == found.leaked


def test_nothing_in_a_text_steers_the_terminal(capsys):
    from rich.console import Console

    text = "[red]\x1b[31mx\x07\u202e" + "字" * 100 + "\nsecond line of it"
    assert one_line(text, 40).cell_len <= 40
    console = Console(width=80, markup=False, highlight=False, force_terminal=False)
    print_duplicates(console, find_duplicates([rows("a", text, text)], DedupSettings(), None), 5)
    print_leaks(console, find_leaks([rows("t", text)], [rows("d", text)], LeakageSettings(), None, 9), 5)
    printed = capsys.readouterr().out
    assert "[red]" in printed
    assert not any(not c.isprintable() and c != "\n" for c in printed)


def test_a_chat_is_shown_with_its_speakers():
    [(chat, _), (text, _)] = rows("a", ("hello", "hi"), "plain").usable
    assert whole_text(chat) == "user: hello\nassistant: hi"
    assert whole_text(text) == "plain"


@pytest.mark.real_data
@pytest.mark.parametrize(("split", "exact"), [("dev", 113), ("test", 109)])
def test_goemotions_rows_of_dev_and_test_that_stand_in_train(real_data, split, exact):
    folder = real_data / "goemotions"
    train = read_rows(folder / "train.tsv", Columns(), "train")
    dev = read_rows(folder / f"{split}.tsv", Columns(), "dev")
    found = find_leaks([train], [dev], LeakageSettings(), None, 100_000)
    assert found.leaked["exact"] == exact
    assert found.pairs_left_out == 0
    assert len({p["dev_row"] for p in found.pairs if p["kind"] == "exact"}) == exact


@pytest.mark.real_data
def test_goemotions_label_conflicts(real_data):
    train = read_rows(real_data / "goemotions" / "train.tsv", Columns(label="2"), "train")
    found = find_duplicates([train], DedupSettings(), None)
    assert found.counts["label_conflict_groups"] == 124
    assert found.counts["compared"] == found.counts["kept"] + found.counts["removed"] == 43_410
