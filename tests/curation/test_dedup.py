from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup import LABEL_POLICIES, DedupSettings, deduplicate, restore
from curation.dedup.rules import ABSORBED, CONFLICT, EXACT, MERGED, NEAR, SEMANTIC, joined, side_vectors
from curation.records import Turn, by_uid, content_id
from curation.text import is_generic, jaccard, shingles
from tests.curation.making import bag_of_words, by_angle, comment, conversations, numbered, orthogonal, talk

SETTINGS = DedupSettings(
    near_jaccard=0.8, shingle_words=2, permutations=128, bands=32, semantic_cosine=0.95, generic_words=2
)
LONG = "my sister moved to the other coast on saturday and i helped her pack all of her boxes until the night fell"


def dedup(records, encode=orthogonal, **changes):
    return deduplicate(records, replace(SETTINGS, **changes), encode)


def swap(text, number):
    """The text with some words exchanged: each word counts against the Jaccard of its shingles."""
    parts = text.split()
    for i in range(number):
        parts[-1 - i] = f"other{i}"
    return " ".join(parts)


def cosine(one, other, encode):
    roles = {t.role for t in one.turns} | {t.role for t in other.turns}
    sides = (side_vectors([one, other], role, encode) for role in roles)
    return min(float(a @ b) for a, b in sides)


def test_equal_folded_text_with_equal_labels_is_exact():
    rows = numbered(
        [comment("I am so lost.", "fear"), comment("i AM so... lost", "fear"), comment("I am found", "fear")]
    )
    result = dedup(rows)
    (removal,) = result.removals
    assert (removal.rule, removal.score, removal.parameters) == (EXACT, 1.0, {"fold": "fold-v1"})
    assert joined(removal.record) == "i am so lost"
    assert removal.survivor in {c.uid for c in result.kept}
    assert len(result.kept) == 2


def test_the_smallest_uid_survives():
    rows = numbered([comment("I am so lost", "fear")] * 4)
    result = dedup(rows[::-1])
    assert result.kept == rows[:1]
    assert {r.survivor for r in result.removals} == {rows[0].uid}


def test_near_copies_are_removed_with_their_exact_jaccard():
    rows = numbered([talk(LONG, "Oh."), talk(swap(LONG, 1), "Oh.")])
    (removal,) = dedup(rows, near_jaccard=0.7).removals
    one, other = (shingles(joined(c).split(), 2) for c in rows)
    assert removal.rule == NEAR
    assert removal.score == jaccard(one, other) < 1.0
    assert removal.parameters == {"jaccard": 0.7, "shingle_words": 2, "permutations": 128, "bands": 32}


def test_a_pair_under_the_jaccard_threshold_stays():
    rows = numbered([talk(LONG), talk(swap(LONG, 8))])
    assert dedup(rows).removals == []


def test_semantic_copies_are_removed_with_their_cosine():
    rows = numbered([comment("all words are new here"), comment("nothing stands in both of them")])
    (removal,) = dedup(rows, by_angle({rows[0].turns[0].text: 0, rows[1].turns[0].text: 15})).removals
    assert (removal.rule, removal.parameters) == (SEMANTIC, {"cosine": 0.95})
    assert removal.score == pytest.approx(np.cos(np.radians(15)), abs=1e-6)
    assert dedup(rows, by_angle({rows[0].turns[0].text: 0, rows[1].turns[0].text: 20})).removals == []


@pytest.mark.parametrize(("user", "assistant", "removed"), [(5, 10, 1), (5, 40, 0), (40, 5, 0), (40, 40, 0)])
def test_the_semantic_rule_needs_both_sides_and_scores_the_weaker(user, assistant, removed):
    rows = numbered(
        [talk("my user text one", "my assistant text one"), talk("her user words two", "her assistant two")]
    )
    encode = by_angle(
        {"my user text one": 0, "her user words two": user, "my assistant text one": 0, "her assistant two": assistant}
    )
    removals = dedup(rows, encode).removals
    assert len(removals) == removed
    if removed:
        assert removals[0].score == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_sides_are_not_mixed():
    crossed = numbered(
        [talk("first text of mine", "second text of yours"), talk("third text of all", "fourth text of us")]
    )
    encode = by_angle(
        {"first text of mine": 0, "fourth text of us": 0, "second text of yours": 90, "third text of all": 90}
    )
    assert dedup(crossed, encode).removals == []


def test_a_lone_user_is_no_match_for_a_dialogue_whichever_comes_first():
    first = set()
    for n in range(8):
        rows = numbered([talk(f"{n} first text of mine"), talk(f"{n} third text of all", "Oh no, tell me more")])
        first.add(len(rows[0].turns))
        assert dedup(rows, by_angle({c.turns[0].text: 0 for c in rows})).removals == []
    assert first == {1, 2}


def test_near_evidence_is_preferred_to_semantic():
    tries = (
        [comment(f"{n} {text}") for text in ("quite another text of all", LONG, swap(LONG, 1))] for n in range(200)
    )
    like_meaning, like_words, last = next(rows for rows in tries if rows == by_uid(rows))
    encode = by_angle({like_meaning.turns[0].text: 0, last.turns[0].text: 0})
    (removal,) = dedup([like_meaning, like_words, last], encode, near_jaccard=0.85).removals
    assert (removal.record, removal.survivor, removal.rule) == (last, like_words.uid, NEAR)


@pytest.mark.parametrize(("angle", "nearest"), [(10, 0), (15, 1)])
def test_the_higher_score_is_preferred(angle, nearest):
    rows = numbered(comment(f"text number {n} of this test") for n in "abc")
    encode = by_angle({c.turns[0].text: a for c, a in zip(rows, (0, 25, angle), strict=True)})
    assert [r.survivor for r in dedup(rows, encode).removals] == [rows[nearest].uid]


def test_matching_is_not_transitive_semantically():
    rows = numbered(comment(f"text number {n} of this test") for n in "abc")
    encode = by_angle({c.turns[0].text: 15 * i for i, c in enumerate(rows)})
    result = dedup(rows, encode)
    assert result.kept == [rows[0], rows[2]]
    assert [r.record for r in result.removals] == [rows[1]]


def test_matching_is_not_transitive_by_words():
    tries = ([comment(f"{n} {text}") for text in (LONG, swap(LONG, 1), swap(LONG, 2))] for n in range(200))
    chain = next(rows for rows in tries if rows == by_uid(rows))
    result = dedup(chain, near_jaccard=0.85)
    assert [r.record for r in result.removals] == [chain[1]]
    assert result.kept == [chain[0], chain[2]]


def test_a_chain_end_that_matches_the_first_survivor_only_through_a_removed_one_stays_even_among_many():
    rows = numbered(comment(f"text number {n} of this test") for n in range(12))
    encode = by_angle({c.turns[0].text: 15 * i for i, c in enumerate(rows)})
    assert dedup(rows, encode).kept == rows[::2]


def test_copies_with_other_labels_are_kept_and_counted():
    rows = numbered(
        [comment("I am so lost", "fear"), comment("i am so lost!", "anger"), comment("fine with me", "joy")]
    )
    result = dedup(rows, bag_of_words)
    assert result.kept == rows
    assert result.label_conflict_groups == 1


def test_near_and_semantic_copies_with_other_labels_are_kept():
    rows = numbered([comment(LONG, "fear"), comment(swap(LONG, 1), "anger")])
    assert dedup(rows, bag_of_words, near_jaccard=0.5, semantic_cosine=0.5).removals == []


def test_stock_phrases_are_kept_and_counted():
    rows = numbered(
        [comment("Thank you!"), comment("thank you"), comment("Thank you so much"), comment("thank you so much")]
    )
    result = dedup(rows, bag_of_words)
    assert result.stock_phrases == 2
    assert len(result.kept) == 3


def test_different_stock_phrases_with_one_meaning_are_kept():
    rows = numbered([comment("Thank you"), comment("Thanks!")])
    assert dedup(rows, by_angle({"Thank you": 0, "Thanks!": 0})).kept == rows


def test_texts_shorter_than_a_shingle_are_neither_merged_nor_dropped():
    rows = numbered(
        [
            comment("i am lost"),
            comment("i am here"),
            comment("you are kind"),
            comment("I am lost!"),
            comment("😀"),
            comment("😡"),
        ]
    )
    result = dedup(rows, shingle_words=5, generic_words=1)
    assert [(r.rule, joined(r.record)) for r in result.removals] == [(EXACT, "i am lost")]
    assert len(result.kept) == 5


def test_sources_and_tasks_are_not_compared():
    rows = numbered(
        [talk("I am so lost", source="a"), talk("I am so lost", source="b"), comment("I am so lost", "sad", source="a")]
    )
    assert dedup(rows, bag_of_words).removals == []


@pytest.mark.parametrize(("angle", "removed"), [(17, True), (19, False)])
def test_decisions_close_to_the_cosine_threshold_are_listed(angle, removed):
    rows = numbered([comment("all words are new here"), comment("nothing stands in both of them")])
    texts = [c.turns[0].text for c in rows]
    (call,) = dedup(rows, by_angle({texts[0]: 0, texts[1]: angle})).close_calls
    assert (call.rule, call.flagged, call.uid, call.other_uid) == (SEMANTIC, removed, rows[1].uid, rows[0].uid)
    assert call.score == pytest.approx(np.cos(np.radians(angle)), abs=1e-6)
    for clear in (1, 40):
        assert dedup(rows, by_angle({texts[0]: 0, texts[1]: clear})).close_calls == []


@pytest.mark.parametrize(("threshold", "removed"), [(7 / 11, True), (7 / 11 + 0.01, False)])
def test_decisions_close_to_the_jaccard_threshold_are_listed(threshold, removed):
    words = "one two three four five six seven eight nine ten".split()
    rows = numbered([comment(" ".join(words)), comment(" ".join([*words[:8], "other", "ten"]))])
    (call,) = dedup(rows, near_jaccard=threshold, bands=128).close_calls
    assert (call.rule, call.flagged, call.score) == (NEAR, removed, 7 / 11)


class TestLabelConflicts:
    def rows(self):
        return numbered(
            [
                comment("I am so very lost", "fear"),
                comment("i am so very lost!", "anger"),
                comment("i am so very lost!!", "anger"),
                comment("it is all fine with me", "joy"),
                comment("It is all fine with me", "joy"),
                comment("thank you", "joy"),
                comment("Thank you", "gratitude"),
            ]
        )

    def test_keep_counts_them_and_removes_only_copies_that_agree(self):
        result = dedup(self.rows(), label_conflicts="keep")
        assert (result.label_conflict_groups, result.stock_label_conflict_groups) == (2, 1)
        assert {r.rule for r in result.removals} == {EXACT}
        assert len(result.kept) == 5

    def test_merge_makes_one_record_with_all_labels_and_keeps_the_members_as_they_were(self):
        rows = self.rows()
        result = dedup(rows, label_conflicts="merge")
        members = [c for c in rows if joined(c) == "i am so very lost"]
        merged = [r for r in result.removals if r.rule == MERGED]
        assert by_uid(r.record for r in merged) == members
        (survivor,) = [c for c in result.kept if c.uid == merged[0].survivor]
        assert (survivor.emotions, survivor.turns) == (("anger", "fear"), members[0].turns)
        assert survivor.id == content_id(survivor) != members[0].id
        assert {r.detail for r in merged} == {"labels: anger | fear"}
        assert restore(result.kept, result.removals) == rows

    def test_merge_takes_a_member_that_has_all_labels_as_it_is(self):
        rows = numbered([comment("I am so very lost", e) for e in ("fear", "anger")])
        complete = numbered([replace(rows[0], emotions=("anger", "fear"))])[0]
        result = dedup([*rows, complete], label_conflicts="merge")
        assert result.kept == [complete]
        assert {(r.rule, r.survivor) for r in result.removals} == {(ABSORBED, complete.uid)}
        assert restore(result.kept, result.removals) == by_uid([*rows, complete])

    def test_drop_removes_all_copies_and_names_no_survivor(self):
        rows = self.rows()
        result = dedup(rows, label_conflicts="drop")
        assert "i am so very lost" not in {joined(c) for c in result.kept}
        assert {r.survivor for r in result.removals if r.rule == CONFLICT} == {""}
        assert restore(result.kept, result.removals) == rows

    @pytest.mark.parametrize("policy", LABEL_POLICIES)
    def test_stock_phrases_are_touched_by_no_policy(self, policy):
        kept = dedup(self.rows(), label_conflicts=policy).kept
        assert sum(joined(c) == "thank you" for c in kept) == 2

    def test_a_merged_record_survives_its_own_near_copies(self):
        pair = [comment(LONG, "fear"), comment(LONG.upper(), "anger")]
        both = [replace(comment(swap(LONG, n)), emotions=("anger", "fear")) for n in range(1, 9)]
        result = dedup(numbered(pair + both), label_conflicts="merge", near_jaccard=0.5)
        (survivor,) = {r.survivor for r in result.removals if r.rule == MERGED}
        assert survivor in {c.uid for c in result.kept}
        assert {r.survivor for r in result.removals} <= {c.uid for c in result.kept}


def test_nothing_in_nothing_out():
    result = dedup([])
    assert (result.kept, result.removals) == ([], [])


def test_a_copy_of_a_removed_record_is_held_against_the_survivor_itself():
    # The copy has the same folded text, but its own wording decides what the encoder makes of it.
    plain, shouted = "nobody answers me these days", "NOBODY answers me these days"
    tries = ([comment(f"{n} they all stay silent when i call"), comment(plain), comment(shouted)] for n in range(200))
    rows = next(rows for rows in tries if by_uid(rows)[0] == rows[0])
    plain, shouted = (c.turns[0].text for c in by_uid(rows)[1:])
    other = rows[0].turns[0].text
    encode = by_angle({other: 0, plain: 10, shouted: 60})
    result = dedup(rows, encode)
    kept = {c.uid: c for c in result.kept}
    for removal in result.removals:
        if removal.rule == SEMANTIC:
            assert removal.score == pytest.approx(cosine(removal.record, kept[removal.survivor], encode), abs=1e-5)


corpora = st.lists(
    conversations | st.sampled_from([LONG, swap(LONG, 1), swap(LONG, 2), swap(LONG, 4), LONG.upper()]).map(comment),
    max_size=10,
).map(numbered)


@given(corpora, st.sampled_from(LABEL_POLICIES), st.randoms(use_true_random=False))
def test_every_removal_names_a_survivor_that_it_truly_matches(rows, policy, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    result = dedup(shuffled, bag_of_words, label_conflicts=policy)
    assert result == dedup(rows, bag_of_words, label_conflicts=policy), "row order must not matter"
    kept = {c.uid: c for c in result.kept}
    assert restore(result.kept, result.removals) == rows
    assert result.kept == by_uid(result.kept)
    for removal in result.removals:
        if removal.rule == CONFLICT:
            assert removal.survivor == ""
            continue
        record, survivor = removal.record, kept[removal.survivor]
        if removal.rule in (MERGED, ABSORBED):
            assert set(record.emotions) <= set(survivor.emotions)
            assert joined(record) == joined(survivor)
            continue
        assert (record.source, record.task, record.emotions) == (survivor.source, survivor.task, survivor.emotions)
        texts = [joined(record), joined(survivor)]
        if removal.rule == EXACT:
            assert texts[0] == texts[1]
            assert removal.score == 1.0
        elif removal.rule == NEAR:
            assert removal.score == jaccard(*(shingles(t.split(), 2) for t in texts)) >= 0.8
        else:
            assert removal.score >= 0.95
            assert removal.score == pytest.approx(cosine(record, survivor, bag_of_words), abs=1e-5)


@given(corpora)
def test_no_two_kept_records_match(rows):
    kept = [c for c in dedup(rows, bag_of_words).kept if not is_generic(joined(c), SETTINGS.generic_words)]
    for i, one in enumerate(kept):
        for other in kept[:i]:
            if (one.task, one.emotions) == (other.task, other.emotions):
                a, b = joined(one), joined(other)
                assert a != b
                assert jaccard(shingles(a.split(), 2), shingles(b.split(), 2)) < 0.8
                if len(one.turns) > 1 and len(other.turns) > 1:
                    assert cosine(one, other, bag_of_words) < 0.95 + 1e-5
    assert dedup(kept, bag_of_words).removals == []


def test_many_identical_rows_leave_one_and_are_encoded_once():
    base = talk(LONG, "Oh no.")
    rows = [replace(base, copy=n) for n in range(100_000)]
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return bag_of_words(texts)

    result = dedup(rows, encode)
    assert (len(result.kept), len(result.removals)) == (1, 99_999)
    assert sorted(encoded) == sorted([LONG, "Oh no."])


def test_many_rows_that_differ_in_punctuation_alone_leave_one():
    rows = numbered(comment(LONG + "!" * n) for n in range(2_000))
    result = dedup(rows, bag_of_words)
    assert (len(result.kept), {r.rule for r in result.removals}) == (1, {EXACT})


def test_a_side_is_the_unit_mean_of_its_turns_and_zero_where_it_is_silent():
    record = replace(talk("a"), turns=(Turn("user", "a"), Turn("assistant", "x"), Turn("user", "b")))
    encode = by_angle({"a": 0, "b": 90, "x": 30})
    vectors = side_vectors([record, talk("a")], "user", encode)
    np.testing.assert_allclose(vectors, [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(side_vectors([talk("a")], "assistant", encode), [[0, 0]])
