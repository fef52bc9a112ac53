from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.leakage import GENERIC_POLICIES, KINDS, Detector, LeakageSettings, measure_recall, remove_leaks
from curation.leakage.detect import CONTAINED, EXACT, SEMANTIC, STOCK_COVERAGE, leaked_pair, pieces
from curation.leakage.planted import ALTER, PER_KIND, plant, wilson
from curation.records import by_uid
from curation.review import MARGIN
from curation.text import equality_key, fold, shingles
from tests.curation.making import bag_of_words, by_angle, comment, conversations, numbered, orthogonal, talk

SETTINGS = LeakageSettings(contained_share=0.8, shingle_words=4, semantic_cosine=0.85, generic_words=6)
BLIND = replace(SETTINGS, contained_share=1.0, shingle_words=60, semantic_cosine=1.0)
LONG = "we lost our dog this morning and i do not know how i shall tell the children when they come home"
REPLY = "that is a heavy thing to carry through a whole day so be gentle with yourself until they are back"


def detector(*held_out, encode=orthogonal, settings=SETTINGS):
    return Detector(held_out, settings, encode)


def hit(held_out, train, **options):
    """The pair that speaks for one train record, or None."""
    found = detector(held_out, **options).leaks_of([train])
    return leaked_pair(found[train.uid]) if found else None


def dev(*texts, **fields):
    return talk(*texts, split="dev", source="held_out", **fields)


@given(
    st.lists(conversations, max_size=6).map(numbered),
    st.lists(conversations, max_size=3).map(numbered),
    st.lists(conversations, max_size=6).map(numbered),
)
def test_an_extended_detector_finds_what_one_of_all_records_finds_and_leaves_the_first_alone(held_out, more, train):
    settings = replace(SETTINGS, shingle_words=2, generic_words=2)
    texts = [p.text for c in train for p in pieces(c)]
    first = Detector(held_out, settings, bag_of_words)
    alone = first.search(texts)
    found = first.extended(more).search(texts)
    whole = Detector([*held_out, *more], settings, bag_of_words).search(texts)
    assert found.hits.keys() == whole.hits.keys()
    for text, hits in whole.hits.items():
        assert sorted(found.hits[text], key=repr) == sorted(hits, key=repr) or len(fold(text).split()) <= 2
    assert first.search(texts) == Detector(held_out, settings, bag_of_words).search(texts) == alone


class TestDetection:
    @pytest.mark.parametrize("text", [LONG, LONG.upper() + " !!", "Why?", "thank you"])
    def test_equal_folded_texts_of_any_length_are_exact(self, text):
        leak = hit(dev(fold(text)), talk(text))
        assert (leak.rule, leak.score, leak.held_out.text) == (EXACT, 1.0, fold(text))

    def test_a_part_of_a_held_out_text_is_contained(self):
        words = LONG.split()
        leak = hit(dev(LONG), talk(" ".join(words[: len(words) * 2 // 3])))
        assert (leak.rule, leak.score) == (CONTAINED, 1.0)

    def test_a_held_out_text_wrapped_in_other_words_is_contained(self):
        leak = hit(dev(LONG), talk(f"Let me tell you how it was. {LONG} And that was all of it."))
        assert (leak.rule, leak.score) == (CONTAINED, 1.0)

    def test_the_contained_score_is_the_share_of_the_shorter_texts_ngrams(self):
        words = LONG.split()
        mixed = " ".join([*words[:10], "but", "then", "something", "else", "came", "up"])
        wanted = 7 / 13
        assert hit(dev(LONG), talk(mixed), settings=replace(SETTINGS, contained_share=wanted)).score == wanted
        assert hit(dev(LONG), talk(mixed), settings=replace(SETTINGS, contained_share=wanted + 0.01)) is None

    def test_other_words_with_the_same_meaning_are_semantic(self):
        encode = by_angle({LONG: 0, REPLY: 30})
        leak = hit(dev(LONG), talk(REPLY), encode=encode)
        assert leak.rule == SEMANTIC
        assert leak.score == pytest.approx(np.cos(np.radians(30)), abs=1e-6)
        assert hit(dev(LONG), talk(REPLY), encode=by_angle({LONG: 0, REPLY: 35})) is None

    def test_the_nearest_held_out_text_is_named(self):
        near, far = dev(LONG), dev("one more text that has more than six words in it")
        encode = by_angle({LONG: 5, far.turns[0].text: 20, REPLY: 0})
        assert detector(near, far, encode=encode).search([REPLY]).hits[REPLY][0].piece.uid == near.uid

    def test_what_is_nearly_a_stock_phrase_is_found_and_called_generic(self):
        encode = by_angle({"I am so sorry": 0, "I feel sorry for you": 20})
        found = hit(dev("I am so sorry"), talk("I feel sorry for you"), encode=encode)
        assert (found.rule, found.generic) == (SEMANTIC, True)
        assert found.score == pytest.approx(np.cos(np.radians(20)), abs=1e-6)
        assert hit(dev("I am so sorry"), talk("I am so sorry")).generic
        assert hit(dev("I am so very sorry"), talk("I am so very sorry dear")).generic
        assert hit(dev(LONG), talk("I am so sorry"), encode=by_angle({LONG: 0, "I am so sorry": 0})).generic
        assert hit(dev(LONG), talk(" ".join(LONG.split()[:5]))) is None

    def test_of_equally_near_held_out_texts_a_stock_phrase_names_the_first(self):
        encode = by_angle({"I am so sorry": 0, "so sorry": 0, "I feel sorry for you": 10})
        held = by_uid([dev("I am so sorry"), dev("so sorry")])
        for order in (held, held[::-1]):
            found = Detector(order, SETTINGS, encode).search(["I feel sorry for you"]).hits["I feel sorry for you"]
            assert [h.piece.uid for h in found] == [held[0].uid]

    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize(
        ("rest", "leaks"), [("", True), ("and then", True), ("and then it was so very late", False)]
    )
    def test_a_short_text_is_contained_where_it_makes_up_half_of_the_longer(self, rest, leaks, swapped):
        short = "the ferry never left Ostend"
        texts = [short, f"{short} that night {rest}".strip()]
        held, train = texts[::-1] if swapped else texts
        found = hit(dev(held), talk(train), settings=replace(SETTINGS, shingle_words=2))
        assert (found is not None) == leaks
        if leaks:
            assert (found.rule, found.score, found.generic) == (CONTAINED, 1.0, False)

    def test_a_long_text_is_not_generic(self):
        assert not hit(dev(LONG), talk(LONG)).generic

    def test_texts_without_words_and_an_empty_held_out_set_find_nothing(self):
        assert hit(dev("?!"), talk("...")) is None
        assert Detector([], SETTINGS, bag_of_words).leaks_of([talk(LONG)]) == {}
        assert detector(dev(LONG), encode=bag_of_words).leaks_of([]) == {}

    def test_labels_and_sources_do_not_matter(self):
        assert hit(comment(LONG, "joy", split="dev", source="a"), talk(LONG, source="b")).rule == EXACT

    @pytest.mark.parametrize("train_side", ["prompt", "response", "situation"])
    @pytest.mark.parametrize("held_side", ["prompt", "response", "situation"])
    def test_every_side_is_compared_with_every_side(self, train_side, held_side):
        def with_text_at(side, make, filler):
            if side == "prompt":
                return make(LONG, filler)
            return make(filler, LONG) if side == "response" else make(filler, situation=LONG)

        leak = hit(
            with_text_at(held_side, dev, "an answer that stands in dev alone"),
            with_text_at(train_side, talk, "quite another text for train alone"),
        )
        assert (leak.train.side, leak.held_out.side) == (train_side, held_side)

    def test_leaks_come_strongest_first_and_generic_last(self):
        held = dev("Oh no, that is sad", LONG, REPLY)
        wrapped = f"Let me tell you how it was. {REPLY} And that was all of it."
        found = detector(held).leaks_of([talk("oh no that is sad", wrapped, LONG)])
        ((rules),) = [[(x.hits[0].rule, x.generic) for x in leaks] for leaks in found.values()]
        assert rules == [(EXACT, False), (CONTAINED, False), (EXACT, True)]

    def test_of_equal_held_out_texts_the_smallest_uid_stands_for_all(self):
        held = by_uid([dev(LONG, group="a"), dev(LONG, REPLY), dev(LONG, "Another reply that nobody gave so far")])
        for order in (held, held[::-1]):
            assert hit_uid(order) == held[0].uid


def hit_uid(held_out):
    return leaked_pair(detector(*held_out).leaks_of([talk(LONG)])[talk(LONG).uid]).held_out.uid


class TestRemoval:
    def test_leaking_records_leave_train_with_evidence(self):
        held, clean, leaking = dev("hello", LONG), talk("a thing of my own that no one said"), talk("so", LONG)
        result = remove_leaks([leaking, clean], detector(held), generic="remove")
        assert result.kept == [clean]
        (removal,) = result.removals
        assert (removal.record, removal.rule, removal.survivor, removal.score) == (leaking, EXACT, held.uid, 1.0)
        assert removal.parameters == {"fold": "fold-v1"}
        assert removal.detail == "substantive, response: response repeats response"
        assert list(result.pairs) == [leaking.uid]

    def test_a_pair_says_which_sides_leaked(self):
        held = dev(LONG, REPLY)
        for turns, sides in (((LONG, "mine"), "prompt"), (("mine", LONG), "response"), ((REPLY, LONG), "both")):
            assert hit(held, talk(*turns)).sides == sides
        assert hit(held, talk("mine", REPLY, situation=LONG)).sides == "both"

    def test_of_equally_strong_held_out_records_the_one_that_shares_more_sides_speaks(self):
        alone, both = sorted([dev(LONG, "one"), dev(LONG, REPLY)], key=lambda c: c.uid)
        expected = alone if alone.turns[1].text == REPLY else both
        for order in ((alone, both), (both, alone)):
            pair = leaked_pair(detector(*order).leaks_of([talk(LONG, REPLY)])[talk(LONG, REPLY).uid])
            assert (pair.held_out.uid, pair.sides) == (expected.uid, "both")

    def test_parameters_of_the_other_rules(self):
        contained = {"share": 0.8, "shingle_words": 4, "generic_words": 6, "stock_coverage": 0.5}
        assert SETTINGS.parameters(CONTAINED) == contained
        assert SETTINGS.parameters(SEMANTIC) == {"cosine": 0.85, "generic_words": 6}

    @pytest.mark.parametrize(
        ("generic", "gone"),
        [("remove", ["alone", "real"]), ("strict", ["alone", "among", "real"]), ("keep", ["real"])],
    )
    def test_stock_phrases_leave_or_stay_as_asked_and_are_reported_either_way(self, generic, gone):
        rows = {
            "alone": talk("Thank you!", "thank you"),
            "among": talk("Thank you!", "my own words that stand nowhere else"),
            "real": talk("thank you", LONG),
        }
        result = remove_leaks(rows.values(), detector(dev("Thank you."), dev(LONG)), generic=generic)
        assert by_uid(r.record for r in result.removals) == by_uid(rows[name] for name in gone)
        assert by_uid([*result.kept, *(rows[name] for name in gone)]) == by_uid(rows.values())
        assert {uid: p.generic for uid, p in result.pairs.items()} == {
            rows["alone"].uid: True,
            rows["among"].uid: True,
            rows["real"].uid: False,
        }
        details = {r.record.uid: r.detail.partition(",")[0] for r in result.removals}
        assert details == {rows[name].uid: "substantive" if name == "real" else "generic" for name in gone}

    @pytest.mark.parametrize(("generic", "left"), [("remove", False), ("strict", True), ("keep", False)])
    def test_a_record_of_near_stock_phrases_leaves_under_the_strict_policy_alone(self, generic, left):
        encode = by_angle({"I am so sorry": 0, "I feel sorry for you": 20})
        result = remove_leaks(
            [talk("I feel sorry for you")], detector(dev("I am so sorry"), encode=encode), generic=generic
        )
        assert bool(result.removals) == left
        assert len(result.pairs) == 1
        assert result.close_calls == []

    def test_near_misses_are_told_with_their_score(self):
        encode = by_angle({LONG: 0, REPLY: 32.5})
        missed = detector(dev(LONG), encode=encode).search([REPLY])
        assert missed.hits == {}
        assert (missed.misses[REPLY].rule, missed.misses[REPLY].piece.text) == (SEMANTIC, LONG)
        assert missed.misses[REPLY].score == pytest.approx(np.cos(np.radians(32.5)), abs=1e-6)
        assert detector(dev(LONG), encode=by_angle({LONG: 0, REPLY: 40})).search([REPLY]).misses == {}

    def test_without_an_encoder_the_lexical_rules_stand_alone(self):
        found = Detector([dev(LONG)], SETTINGS, None).search([LONG.upper(), REPLY])
        assert (list(found.hits), found.misses) == ([LONG.upper()], {})

    @given(
        st.lists(conversations, max_size=6).map(numbered),
        st.lists(conversations, max_size=6).map(numbered),
        st.sampled_from(GENERIC_POLICIES),
        st.randoms(use_true_random=False),
    )
    def test_laws_of_removal(self, train, held_out, generic, random):
        settings = replace(SETTINGS, generic_words=3, shingle_words=2)
        before = list(held_out)
        found = Detector(held_out, settings, bag_of_words)
        result = remove_leaks(train, found, generic=generic)
        assert held_out == before
        assert by_uid(result.kept + [r.record for r in result.removals]) == train
        keys = {c.uid: {equality_key(p.text) for p in pieces(c)} for c in [*train, *held_out]}
        for removal in result.removals:
            assert removal.survivor in {c.uid for c in held_out}
            if removal.rule == EXACT:
                assert keys[removal.record.uid] & keys[removal.survivor]
        left = found.leaks_of(result.kept)
        assert all(x.generic and generic != "strict" for row in left.values() for x in row)
        if generic == "remove":
            # Word for word: what is nearly a stock phrase stays.
            held = {key for c in held_out for key in keys[c.uid]}
            assert not any({equality_key(t.text) for t in c.turns} <= held for c in result.kept)
        shuffled_train, shuffled_held_out = list(train), list(held_out)
        random.shuffle(shuffled_train)
        random.shuffle(shuffled_held_out)
        again = remove_leaks(shuffled_train, Detector(shuffled_held_out, settings, bag_of_words), generic=generic)
        assert (again.kept, again.removals) == (result.kept, result.removals)
        for c in train:
            alone = found.leaks_of([c]).get(c.uid)
            assert (leaked_pair(alone) if alone else None) == result.pairs.get(c.uid)


def made_held_out(number=12):
    """Conversations with long turns that share no words."""
    return [
        dev(
            " ".join(f"user{n}word{i}" for i in range(15)),
            " ".join(f"assistant{n}word{i}" for i in range(18)),
            situation=f"short situation {n}",
        )
        for n in range(number)
    ]


def recalls(held_out, settings=SETTINGS, paraphrases=(), train=()):
    return measure_recall(train, held_out, detector(*held_out, encode=bag_of_words, settings=settings), paraphrases, 0)


class TestRecall:
    def test_all_planted_kinds_are_found_by_a_working_detector(self):
        found = recalls(made_held_out())
        assert tuple(found) == KINDS
        for kind in KINDS[:-1]:
            assert (found[kind].planted, found[kind].found, found[kind].recall) == (24, 24, 1.0)

    def test_a_blind_detector_misses_what_equality_does_not_show(self):
        found = recalls(made_held_out(), BLIND)
        assert {kind: found[kind].recall for kind in KINDS[:-1]} == {
            "verbatim": 1.0,
            "recased": 1.0,
            "truncated": 0.0,
            "rewrapped": 0.0,
            "role_swapped": 1.0,
        }
        assert found["truncated"].high < 0.2

    def test_a_greeting_in_dev_hides_no_miss(self):
        # A host's other turns may stand in dev themselves; only the planted text counts.
        host = talk("Hello there!", "words of a reply that no one has used before")
        found = recalls([*made_held_out(), dev("Hello there!")], BLIND, train=[host])
        assert (found["truncated"].found, found["rewrapped"].found) == (0, 0)

    def test_planted_leaks_that_come_out_equal_count_alike_above_and_below_the_line(self):
        start = " ".join(f"same{i}" for i in range(10))
        found = recalls([dev(f"{start} one two three four five"), dev(f"{start} six seven eight nine ten")])
        assert found["truncated"].recall == 1.0

    def test_paraphrases_are_planted_against_their_originals(self):
        pairs = [
            ("the river took our little house away last spring", "last spring our little house took the river away"),
            ("my exam went so badly that i cried on the bus", "nothing of all this shares any words or sense"),
            ("too short", "short too"),
        ]
        found = recalls(made_held_out(), paraphrases=pairs)["paraphrased"]
        assert (found.planted, found.found) == (2, 1)

    def test_nothing_held_out_gives_a_recall_of_zero_not_one(self):
        found = recalls([])
        assert {r.recall for r in found.values()} == {0.0}
        assert (found["verbatim"].low, found["verbatim"].high) == (0.0, 1.0)

    def test_planting_is_capped_and_follows_the_seed_and_not_the_order(self):
        held_out, train = made_held_out(140), numbered(talk(f"host {n} says") for n in range(20))
        for kind in ("verbatim", "rewrapped"):
            planted = plant(train, held_out, kind, 0, 6)
            assert len(planted) == PER_KIND < 280
            assert plant(train[::-1], held_out[::-1], kind, 0, 6) == planted
            assert plant(train, held_out, kind, 1, 6) != planted

    def test_stock_phrases_are_not_planted(self):
        assert plant([], [dev("thank you so much", "you are welcome")], "verbatim", 0, 6) == []

    @pytest.mark.parametrize(
        ("kind", "roles"), [("verbatim", ["user", "assistant"]), ("role_swapped", ["assistant", "user"])]
    )
    def test_a_planted_leak_speaks_in_the_held_out_role_unless_it_is_swapped(self, kind, roles):
        held = made_held_out(1)
        spoken = {p.original: p.record.turns[-1].role for p in plant([], held, kind, 0, 6)}
        assert [spoken[t.text] for t in held[0].turns] == roles

    def test_a_rewrapped_leak_stands_within_a_turn_of_a_train_record(self):
        host = talk("how are you today", "it was a long day for me")
        (planted,) = plant([host], [dev(LONG)], "rewrapped", 0, 6)
        assert planted.record.turns[0] == host.turns[0]
        assert planted.record.turns[1].text == f"it was a {LONG} long day for me"

    def test_what_an_alteration_keeps(self):
        assert ALTER["recased"](LONG) != LONG
        assert fold(ALTER["recased"](LONG)) == fold(LONG)
        assert LONG.startswith(ALTER["truncated"](LONG))
        assert len(ALTER["truncated"](LONG).split()) == 14


@pytest.mark.parametrize(
    ("found", "planted", "low", "high"),
    [
        # Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0000),
    ],
)
def test_wilson_known_values(found, planted, low, high):
    assert wilson(found, planted) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


WORDY = st.lists(st.sampled_from("a b c d".split()), min_size=1, max_size=14).map(" ".join)


def contained_plainly(text, held_out, settings, is_generic):
    """Every held-out text compared with the text: scores down to the margin, best first."""
    grams = shingles(text.split(), settings.shingle_words)
    found = []
    for j, other in enumerate(held_out):
        others = shingles(other.split(), settings.shingle_words)
        shared = len(grams & others)
        shorter, longer = sorted((len(grams), len(others)))
        if not shared or shared / shorter < settings.contained_share - MARGIN:
            continue
        if (is_generic(text) or is_generic(other)) and shared / longer < STOCK_COVERAGE:
            continue
        found.append((shared / shorter, j))
    return sorted(found, key=lambda f: (-f[0], f[1]))


@given(
    st.lists(WORDY, unique=True, max_size=12),
    WORDY,
    st.sampled_from([0.01, 0.3, 0.5, 0.52, 0.6, 0.77, 0.8, 0.82, 1.0]) | st.floats(0.01, 1),
    st.integers(1, 4),
)
def test_rare_ngrams_find_what_comparing_with_every_text_finds(held_out, text, share, size):
    settings = LeakageSettings(contained_share=share, shingle_words=size, generic_words=5)
    found = Detector([dev(other) for other in held_out], settings, None)
    expected = contained_plainly(text, found._keys, settings, found.is_generic)
    assert found._contained(text, found.is_generic(text)) == expected


def test_texts_of_one_template_are_not_all_compared(monkeypatch):
    template = "the {} of order {} for {} has been shipped on {} and will reach you by {} at the door of {} as agreed"
    held_out = [template.format(*(f"d{n}x{slot}" for slot in range(6))) for n in range(300)]
    train = [template.format(*(f"t{n}x{slot}" for slot in range(6))) for n in range(300)]
    made = Detector([dev(text) for text in held_out], LeakageSettings(), None)

    class Counted(frozenset):
        looked = 0

        def __rand__(self, other):
            Counted.looked += 1
            return frozenset(other) & frozenset(self)

    made._grams = [Counted(grams) for grams in made._grams]
    assert not made.search(train).hits
    assert Counted.looked == 0
