import random

from curation.review import Decision, count_by_rule, sample


def decisions(number):
    return [
        Decision(f"rule{n % 2}", 0.8 + n / 10_000, n % 3 == 0, f"u{n}", f"text {n}", f"o{n}", f"other {n}")
        for n in range(number)
    ]


def test_decisions_are_counted_by_rule_and_outcome():
    assert count_by_rule(decisions(7)) == {"rule0": {"flagged": 2, "passed": 2}, "rule1": {"flagged": 1, "passed": 2}}
    assert count_by_rule([]) == {}


def test_the_sample_is_fixed_whatever_the_order_and_holds_each_rule_and_outcome():
    rows = decisions(400)
    drawn = sample(rows, 10)
    random.Random(1).shuffle(rows)
    assert sample(rows, 10) == drawn
    assert {(d["rule"], d["flagged"]) for d in drawn} == {(r, f) for r in ("rule0", "rule1") for f in (True, False)}
    assert len(drawn) == 40
    assert [d["rule"] for d in drawn] == sorted(d["rule"] for d in drawn)


def test_a_small_group_is_taken_whole():
    assert len(sample(decisions(5), 10)) == 5
