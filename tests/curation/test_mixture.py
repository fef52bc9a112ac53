import zlib
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.examples import content_digest, make_examples
from curation.mixture import (
    allocate,
    draw_order,
    interleave,
    mix,
    read_request,
    receipt,
    require_token_shares,
    resolve_shares,
)
from curation.records import Turn
from tests.curation.making import comment, numbered, talk

DEFAULTS = {"empathetic_dialogues": "rest", "esconv": 0.3, "goemotions": 0.2}


def example(source, number):
    return {"uid": f"{source}-{number}", "source": source}


def examples(**available):
    return [example(source, i) for source, n in available.items() for i in range(n)]


def drawn(mixture, source):
    return [e["uid"] for e in mixture.examples if e["source"] == source]


def take(pool, shares, size, seed=0, when_short="error", temperature=None, weights=None):
    request = read_request(shares, temperature)
    return mix(pool, request, size=size, seed=seed, when_short=when_short, weights=weights)


def weighed(pool, *lightest_and_heaviest):
    """Supervised tokens that differ from row to row, the same for the same uid."""
    low, high = lightest_and_heaviest
    return {e["uid"]: low + zlib.crc32(e["uid"].encode()) % (high - low + 1) for e in pool}


def tokens_of(mixture, weights):
    found = dict.fromkeys(mixture.rows, 0)
    for e in mixture.examples:
        found[e["source"]] += weights[e["uid"]]
    return found


# Shares in hundredths that sum to at most 1; the first source takes the rest.
asked = (
    st.lists(st.integers(0, 40), min_size=1, max_size=4)
    .filter(lambda p: sum(p) < 100)
    .map(lambda parts: {"a_rest": "rest", **{f"s{i}": p / 100 for i, p in enumerate(parts)}})
)
sizes = st.integers(1, 400)


class TestShares:
    def test_rest_is_an_equal_part_of_what_is_left(self):
        assert resolve_shares({"a": "rest", "b": 0.1, "c": "rest"}) == {
            "a": Fraction(9, 20),
            "b": Fraction(1, 10),
            "c": Fraction(9, 20),
        }

    def test_decimals_are_exact_so_tenths_sum_to_one(self):
        assert sum(resolve_shares({f"s{i}": 0.1 for i in range(10)}).values()) == 1

    @given(asked)
    def test_shares_sum_to_one_and_numbers_are_kept(self, shares):
        resolved = resolve_shares(shares)
        assert sum(resolved.values()) == 1
        assert all(resolved[n] == Fraction(str(v)) for n, v in shares.items() if v != "rest")
        assert list(resolved) == sorted(shares)

    @pytest.mark.parametrize(
        "value", [-0.1, 1.01, 10**400, float("nan"), float("inf"), "0.3", "half", True, None, [0.3]]
    )
    def test_what_is_no_share_is_an_error_that_names_key_value_and_allowed(self, value):
        with pytest.raises(HeartwoodError) as error:
            resolve_shares({"esconv": value, "other": "rest"})
        assert "mix.esconv" in str(error.value)
        assert (repr(value) if isinstance(value, str) else str(value)) in str(error.value)
        assert "allowed: a number from 0 to 1, or 'rest'" in str(error.value)
        assert error.value.hint

    def test_more_than_one_in_sum(self):
        with pytest.raises(HeartwoodError, match=r"sum to 1\.2 \(a=0\.7, b=0\.5\); allowed: at most 1"):
            resolve_shares({"a": 0.7, "b": 0.5, "c": "rest"})

    def test_less_than_one_in_sum_with_no_rest(self):
        with pytest.raises(HeartwoodError, match=r"sum to 0\.9 .*no source is 'rest'"):
            resolve_shares({"a": 0.7, "b": 0.2})

    def test_a_rest_with_nothing_left(self):
        with pytest.raises(HeartwoodError, match=r"mix\.c: 'rest' is empty"):
            resolve_shares({"a": 0.7, "b": 0.3, "c": "rest"})

    def test_no_sources_at_all(self):
        with pytest.raises(HeartwoodError, match="sum to 0"):
            resolve_shares({})


class TestAllocation:
    def test_whole_rows_are_exact(self):
        assert allocate(resolve_shares({**DEFAULTS, "esconv": 0.4}), 1200) == {
            "empathetic_dialogues": 480,
            "esconv": 480,
            "goemotions": 240,
        }

    def test_the_largest_remainders_take_the_rows_that_are_left(self):
        shares = {"a": Fraction(50, 100), "b": Fraction(28, 100), "c": Fraction(22, 100)}
        assert allocate(shares, 9) == {"a": 4, "b": 3, "c": 2}

    def test_ties_go_by_name(self):
        assert allocate(dict.fromkeys(["c", "a", "b"], Fraction(1, 3)), 5) == {"a": 2, "b": 2, "c": 1}

    @given(asked, sizes)
    def test_rows_sum_to_the_size_and_stay_within_one_row_of_the_share(self, shares, size):
        resolved = resolve_shares(shares)
        rows = allocate(resolved, size)
        assert sum(rows.values()) == size
        assert all(abs(rows[n] - resolved[n] * size) < 1 for n in rows)
        assert all(rows[n] == resolved[n] * size for n in rows if (resolved[n] * size).denominator == 1)

    @given(asked, sizes)
    def test_the_order_of_sources_does_not_matter(self, shares, size):
        resolved = resolve_shares(shares)
        assert allocate(dict(reversed(resolved.items())), size) == allocate(resolved, size)


class TestOrder:
    @given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 60), min_size=1))
    def test_every_prefix_keeps_the_shares_within_one_row(self, rows):
        order = interleave(rows)
        assert Counter(order) == Counter({n: k for n, k in rows.items() if k})
        size = len(order)
        seen: Counter[str] = Counter()
        for place, name in enumerate(order, start=1):
            seen[name] += 1
            assert all(abs(seen[n] - Fraction(rows[n] * place, size)) < 1 for n in rows)

    @given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 30), min_size=1))
    def test_the_order_of_keys_does_not_matter(self, rows):
        assert interleave(dict(reversed(rows.items()))) == interleave(rows)

    def test_equal_sources_take_turns_by_name(self):
        assert interleave({"b": 2, "a": 2}) == ["a", "b", "a", "b"]

    def test_draws_follow_seed_and_uid_alone(self):
        pool = examples(a=50)
        order = draw_order(pool, 0)
        assert draw_order(pool[::-1], 0) == order
        assert draw_order(pool, 1) != order
        assert draw_order([e for e in pool if e != order[3]], 0) == [e for e in order if e != order[3]]


class TestMix:
    def test_forty_percent_of_1200_is_exact(self):
        pool = examples(empathetic_dialogues=900, esconv=700, goemotions=400)
        mixture = take(pool, {**DEFAULTS, "esconv": 0.4}, 1200)
        assert Counter(e["source"] for e in mixture.examples) == {
            "empathetic_dialogues": 480,
            "esconv": 480,
            "goemotions": 240,
        }
        assert mixture.rows["esconv"] / len(mixture.examples) == 0.40
        assert mixture.requested["esconv"] == Fraction(2, 5)
        assert mixture.available == {"empathetic_dialogues": 900, "esconv": 700, "goemotions": 400}
        assert mixture.repeats == {"empathetic_dialogues": 0, "esconv": 0, "goemotions": 0}

    @given(asked, st.integers(1, 60), st.randoms(use_true_random=False))
    def test_the_mixture_does_not_depend_on_the_order_of_its_input(self, shares, size, random):
        pool = examples(**dict.fromkeys(shares, 60))
        shuffled = list(pool)
        random.shuffle(shuffled)
        mixture = take(pool, shares, size)
        assert mixture == take(shuffled, shares, size)
        assert Counter(e["source"] for e in mixture.examples) == Counter({n: k for n, k in mixture.rows.items() if k})
        assert len({e["uid"] for e in mixture.examples}) == size

    @given(st.integers(0, 49), st.integers(0, 49), st.integers(1, 100))
    def test_a_larger_share_only_adds_rows_of_its_source(self, one, other, size):
        low, high = sorted((one, other))
        pool = examples(a=100, b=100, c=100)
        small, large = (take(pool, {"a": "rest", "b": n / 100, "c": 0.5}, size) for n in (low, high))
        assert drawn(large, "b")[: small.rows["b"]] == drawn(small, "b")
        assert drawn(small, "a")[: large.rows["a"]] == drawn(large, "a")

    def test_a_larger_mixture_only_adds_rows(self):
        pool = examples(a=100, b=100)
        small, large = (take(pool, {"a": 0.3, "b": "rest"}, size) for size in (40, 90))
        for source in "ab":
            assert drawn(large, source)[: small.rows[source]] == drawn(small, source)

    def test_a_source_with_share_zero_gives_nothing_and_needs_nothing(self):
        mixture = take(examples(a=5), {"a": "rest", "b": 0}, 5)
        assert mixture.rows == {"a": 5, "b": 0}

    def test_sources_that_are_not_asked_for_are_left_out(self):
        assert {e["source"] for e in take(examples(a=5, z=5), {"a": 1}, 5).examples} == {"a"}


class TestShort:
    pool = examples(a=100, b=6)

    def test_error_names_source_rows_needed_and_rows_left(self):
        with pytest.raises(
            HeartwoodError, match=r"mix\.b: a share of 0\.3 of 40 rows needs 12 examples, 6 are left"
        ) as e:
            take(self.pool, {"a": "rest", "b": 0.3}, 40)
        assert "mix.when_short" in e.value.hint

    def test_repeat_starts_again_from_the_first_row_and_counts(self):
        mixture = take(self.pool, {"a": "rest", "b": 0.4}, 40, when_short="repeat")
        rows = drawn(mixture, "b")
        assert len(rows) == 16
        assert rows[6:12] == rows[:6]
        assert rows[12:] == rows[:4]
        assert len(set(rows)) == 6
        assert mixture.repeats == {"a": 0, "b": 10}
        assert mixture.rows == {"a": 24, "b": 16}

    def test_shrink_takes_the_largest_size_that_keeps_the_shares(self):
        shares = {"a": "rest", "b": 0.3}
        mixture = take(self.pool, shares, 40, when_short="shrink")
        size = len(mixture.examples)
        resolved = resolve_shares(shares)
        assert allocate(resolved, size) == mixture.rows
        assert mixture.rows["b"] == 6
        assert allocate(resolved, size + 1)["b"] == 7
        assert mixture.repeats == {"a": 0, "b": 0}
        assert mixture.requested == resolved

    @pytest.mark.parametrize("when_short", ["error", "repeat", "shrink"])
    def test_enough_rows_give_the_same_mixture_under_every_rule(self, when_short):
        shares = {"a": "rest", "b": 0.1}
        assert take(self.pool, shares, 40, when_short=when_short) == take(self.pool, shares, 40)

    @pytest.mark.parametrize("when_short", ["repeat", "shrink"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 1])
    def test_a_source_with_nothing_left_is_an_error_that_names_it(self, when_short, share):
        shares = {"a": "rest" if share < 1 else 0, "b": share}
        with pytest.raises(HeartwoodError, match="no examples are left after curation for b"):
            take(examples(a=100), shares, 40, when_short=when_short)

    @pytest.mark.parametrize("when_short", ["error", "shrink"])
    def test_a_size_far_beyond_the_data_is_decided_at_once(self, when_short):
        shares = {"a": "rest", "b": 0.3}
        if when_short == "error":
            with pytest.raises(HeartwoodError, match=r"mix\.a: a share of 0\.7 of 10000000 rows needs 7000000"):
                take(self.pool, shares, 10**7)
        else:
            found = take(self.pool, shares, 10**7, when_short="shrink")
            assert found == take(self.pool, shares, len(found.examples))

    def test_shrink_never_gives_more_than_asked_for(self):
        # Hamilton's method is not monotone: 10 rows take 2 of c, 11 rows only 1 (the Alabama paradox).
        pool = examples(a=100, b=100, c=1)
        shares = {"a": 0.43, "b": 0.43, "c": 0.14}
        assert [allocate(resolve_shares(shares), n)["c"] for n in (10, 11)] == [2, 1]
        for size in range(1, 40):
            assert len(take(pool, shares, size, when_short="shrink").examples) <= size


class TestTemperature:
    sizes = {"a": 800, "b": 150, "c": 50}  # noqa: RUF012

    def test_one_is_proportional_and_exact(self):
        asked = dict.fromkeys("abc", "rest")
        assert resolve_shares(asked, 1.0, self.sizes) == {n: Fraction(k, 1000) for n, k in self.sizes.items()}

    def test_two_is_the_square_root(self):
        found = resolve_shares(dict.fromkeys("ab", "rest"), 2.0, {"a": 900, "b": 100})
        assert {n: float(v) for n, v in found.items()} == pytest.approx({"a": 0.75, "b": 0.25}, abs=1e-15)

    @given(st.floats(0.1, 100), st.lists(st.integers(1, 10**6), min_size=2, max_size=4))
    def test_it_divides_what_the_numbers_leave(self, temperature, sizes):
        by_name = {f"r{i}": n for i, n in enumerate(sizes)}
        asked = {**dict.fromkeys(by_name, "rest"), "x": 0.3}
        found = resolve_shares(asked, temperature, {**by_name, "x": 5})
        assert sum(found.values()) == 1
        assert found["x"] == Fraction(3, 10)
        rest = sorted(by_name, key=lambda n: by_name[n])
        assert all(found[m] <= found[n] for m, n in pairwise(rest))

    def test_a_high_one_comes_close_to_equal_parts_and_a_low_one_to_the_largest(self):
        asked = dict.fromkeys("abc", "rest")
        assert all(abs(v - Fraction(1, 3)) < 0.02 for v in resolve_shares(asked, 100, self.sizes).values())
        assert resolve_shares(asked, 0.1, self.sizes)["a"] > 0.9999

    @pytest.mark.parametrize(
        ("asked", "how_many"), [({"a": "rest", "b": 0.3, "c": 0.2}, 1), ({"a": 0.5, "b": 0.3, "c": 0.2}, 0)]
    )
    def test_with_fewer_than_two_sources_to_weigh_it_contradicts_the_shares(self, asked, how_many):
        with pytest.raises(
            HeartwoodError, match=rf"mix\.temperature: 2 weighs .* here are {how_many} of those"
        ) as error:
            read_request(asked, 2.0)
        assert "-S mix.<source>=rest" in error.value.hint

    @pytest.mark.parametrize("when_short", ["error", "repeat", "shrink"])
    def test_a_source_with_nothing_left_is_named_not_left_out(self, when_short):
        with pytest.raises(HeartwoodError, match="no examples are left after curation for b"):
            take(examples(a=9), dict.fromkeys("ab", "rest"), 4, temperature=1.0, when_short=when_short)

    def test_nothing_left_at_all(self):
        with pytest.raises(HeartwoodError, match="no examples are left after curation for a, b"):
            take([], dict.fromkeys("ab", "rest"), 4, temperature=1.0)

    def test_proportional_mixing_of_examples_and_of_tokens(self):
        pool = examples(a=80, b=20)
        assert take(pool, dict.fromkeys("ab", "rest"), 50, temperature=1.0).rows == {"a": 40, "b": 10}
        weights = {e["uid"]: 4 if e["source"] == "b" else 1 for e in pool}
        by_tokens = take(pool, dict.fromkeys("ab", "rest"), 50, temperature=1.0, weights=weights)
        assert by_tokens.requested == {"a": Fraction(1, 2), "b": Fraction(1, 2)}
        assert by_tokens.rows == {"a": 40, "b": 10}


class TestTokens:
    pool = examples(a=300, b=300, c=300)
    weights = weighed(pool, 1, 40)

    @given(st.integers(1, 70), st.integers(1, 29), st.integers(1, 300))
    def test_every_prefix_keeps_the_shares_of_the_tokens_as_near_as_rows_allow(self, one, other, size):
        shares = {"a": one / 100, "b": other / 100, "c": "rest"}
        mixture = take(self.pool, shares, size, weights=self.weights)
        assert len(mixture.examples) == size == len({e["uid"] for e in mixture.examples})
        for place in {1, size // 3 + 1, size}:
            found = Counter()
            for e in mixture.examples[:place]:
                found[e["source"]] += self.weights[e["uid"]]
            require_token_shares(found, mixture.requested, sources=3, largest=mixture.largest)

    @given(st.integers(0, 49), st.integers(0, 49), st.integers(1, 300))
    def test_a_larger_share_only_adds_rows_of_its_source(self, one, other, size):
        low, high = sorted((one, other))
        small, large = (
            take(self.pool, {"a": "rest", "b": n / 100, "c": 0.5}, size, weights=self.weights) for n in (low, high)
        )
        assert drawn(large, "b")[: small.rows["b"]] == drawn(small, "b")
        assert drawn(small, "a")[: large.rows["a"]] == drawn(large, "a")

    @given(st.integers(1, 200), st.integers(1, 200))
    def test_a_larger_mixture_goes_on_where_a_smaller_one_ends(self, one, other):
        small, large = (take(self.pool, {"a": 0.3, "b": "rest"}, n, weights=self.weights) for n in sorted((one, other)))
        assert large.examples[: len(small.examples)] == small.examples

    @given(st.randoms(use_true_random=False))
    def test_the_order_of_the_input_does_not_matter(self, random):
        shuffled = list(self.pool)
        random.shuffle(shuffled)
        shares = {"c": 0.2, "b": "rest", "a": 0.5}
        assert take(shuffled, shares, 100, weights=self.weights) == take(self.pool, shares, 100, weights=self.weights)

    def test_long_rows_get_fewer_places(self):
        pool = examples(a=100, b=100)
        weights = {e["uid"]: 30 if e["source"] == "a" else 10 for e in pool}
        mixture = take(pool, {"a": 0.5, "b": "rest"}, 80, weights=weights)
        assert mixture.rows == {"a": 20, "b": 60}
        assert tokens_of(mixture, weights) == {"a": 600, "b": 600}

    def test_too_few_rows(self):
        pool = examples(a=100, b=3)
        weights = {e["uid"]: 2 for e in pool}
        shares = {"a": "rest", "b": 0.25}
        with pytest.raises(HeartwoodError, match=r"mix\.b: .* supervised tokens of 40 rows needs more than the 3") as e:
            take(pool, shares, 40, weights=weights)
        assert "mix.when_short" in e.value.hint
        shrunk = take(pool, shares, 40, weights=weights, when_short="shrink")
        assert shrunk.repeats == {"a": 0, "b": 0}
        assert shrunk.rows["b"] == 3
        assert take(pool, shares, len(shrunk.examples), weights=weights) == shrunk
        with pytest.raises(HeartwoodError):
            take(pool, shares, len(shrunk.examples) + 1, weights=weights)
        repeated = take(pool, shares, 40, weights=weights, when_short="repeat")
        assert (repeated.rows, repeated.repeats) == ({"a": 30, "b": 10}, {"a": 0, "b": 7})
        assert drawn(repeated, "b")[3:6] == drawn(repeated, "b")[:3]

    def test_shares_that_are_not_those_asked_for_are_refused(self):
        shares = {"a": Fraction(1, 2), "b": Fraction(1, 2)}
        require_token_shares({"a": 515, "b": 485}, shares, sources=2, largest=10)
        with pytest.raises(HeartwoodError, match=r"mix\.a: 520 of 1000 supervised tokens are 0\.5200; asked for 0\.5"):
            require_token_shares({"a": 520, "b": 480}, shares, sources=2, largest=10)


class TestReceipt:
    support = replace(
        talk("I lost my job.", "How do you feel?", "Low.", "I see.", source="es", emotions=("sadness",)),
        turns=(
            Turn("user", "I lost my job."),
            Turn("assistant", "How do you feel?", ("Question",)),
            Turn("user", "Low."),
            Turn("assistant", "I see.", ("Reflection", "Question")),
        ),
    )
    records = numbered([support, comment("What a day", "anger", "joy", source="go"), comment("Ok", source="go")])

    def made(self, weights=False, **rules):
        pool = make_examples(self.records, "")
        tokens = {e["uid"]: (10, 2 if e["source"] == "go" else 6) for e in pool}
        asked = {"es": 0.5, "go": "rest"}
        supervised = {uid: n for uid, (_, n) in tokens.items()} if weights else None
        mixture = take(pool, asked, rules.pop("size", 4), weights=supervised, **rules)
        return mixture, receipt(mixture, self.records, tokens)

    def test_by_examples(self):
        mixture, found = self.made()
        assert found == {
            "size": 4,
            "unit": "examples",
            "requested": {"es": 0.5, "go": 0.5},
            "realised": {"es": 0.5, "go": 0.5},
            "shares": {"examples": {"es": 0.5, "go": 0.5}, "supervised_tokens": {"es": 0.75, "go": 0.25}},
            "rows": {"es": 2, "go": 2},
            "available": {"es": 2, "go": 2},
            "repeats": {"es": 0, "go": 0},
            "tokens": {"es": {"all": 20, "supervised": 12}, "go": {"all": 20, "supervised": 4}},
            "labels": {"es": {"sadness": 2}, "go": {"anger": 1, "joy": 1, "neutral": 1}},
            "strategies": {"es": {"Question": 2, "Reflection": 1}, "go": {}},
            "examples_sha256": content_digest(mixture.examples),
        }

    def test_by_tokens_with_repeats(self):
        _, found = self.made(weights=True, when_short="repeat", size=8)
        assert (found["unit"], found["rows"]) == ("tokens", {"es": 2, "go": 6})
        assert found["realised"] == found["shares"]["supervised_tokens"] == {"es": 0.5, "go": 0.5}
        assert found["shares"]["examples"] == {"es": 0.25, "go": 0.75}
        assert found["repeats"] == {"es": 0, "go": 4}
        assert found["tokens"]["go"] == {"all": 60, "supervised": 12}
        assert (found["available_tokens"], found["largest_example_tokens"]) == ({"es": 12, "go": 4}, 6)

    def test_shrink_says_so(self):
        _, found = self.made(when_short="shrink", size=9)
        assert (found["size"], found["rows"]) == (4, {"es": 2, "go": 2})

    def test_it_holds_no_text(self):
        _, found = self.made()
        assert "job" not in str(found)
        assert "day" not in str(found)

    def test_labels_that_are_texts_are_counted_together(self):
        texts = [comment(f"comment {n}", f"label {n}", source="go") for n in range(150)]
        records = numbered([*texts, comment("ok", "a whole sentence that somebody wrote as a label", source="go")])
        pool = make_examples(records, "")
        mixture = take(pool, {"go": 1}, len(pool))
        labels = receipt(mixture, records, {e["uid"]: (2, 1) for e in pool})["labels"]["go"]
        assert len(labels) == 101
        assert labels["(other)"] == 51
        assert sum(labels.values()) == 151
        assert not any("sentence" in name for name in labels)
