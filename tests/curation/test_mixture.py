from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.mixture import allocate, draw_order, interleave, mix, resolve_shares

DEFAULTS = {"empathetic_dialogues": "rest", "esconv": 0.3, "goemotions": 0.2}


def example(source, number):
    return {"uid": f"{source}-{number}", "source": source}


def examples(**available):
    return [example(source, i) for source, n in available.items() for i in range(n)]


def drawn(mixture, source):
    return [e["uid"] for e in mixture.examples if e["source"] == source]


def take(pool, shares, size, seed=0, when_short="error"):
    return mix(pool, resolve_shares(shares), size=size, seed=seed, when_short=when_short)


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

    @pytest.mark.parametrize("value", [-0.1, 1.01, float("nan"), float("inf"), "0.3", "half", True, None, [0.3]])
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
