"""Verdicts and exit codes."""

from __future__ import annotations

import pytest

from pipelines.provenance.chain import first_difference
from pipelines.provenance.verdict import Fault, ReportVerdict, ScoreVerdict, Unchecked, Verdict, exit_code


def of(*kinds: Verdict) -> ScoreVerdict:
    return ScoreVerdict("m", 1.0, faults=[Fault(kind, "s", kind, "what") for kind in kinds])


@pytest.mark.parametrize(
    ("kinds", "verdict"),
    [
        ((), "verified"),
        (("incomplete",), "incomplete"),
        (("incomplete", "stale"), "stale"),
        (("stale", "broken", "incomplete"), "broken"),
    ],
)
def test_the_gravest_fault_decides_and_the_first_of_that_kind_is_named(
    kinds: tuple[Verdict, ...], verdict: str
) -> None:
    found = of(*kinds)
    assert found.verdict == verdict
    assert (found.first.link if found.first else "verified") == verdict


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((), 0),
        ((of(), of()), 0),
        ((of(), of("incomplete")), 2),
        ((of("stale"), of("incomplete")), 1),
        ((of("incomplete"), ReportVerdict("r", faults=[Fault("broken", "s", "l", "m")])), 1),
    ],
)
def test_the_exit_code_of_many(verdicts: tuple[ScoreVerdict, ...], code: int) -> None:
    assert exit_code(verdicts) == code


def test_what_could_not_be_compared_changes_no_verdict() -> None:
    found = of()
    found.unchecked.append(Unchecked("x", "why"))
    found.count("links", 3)
    assert (found.verdict, found.checked, found.counts) == ("verified", 3, {"links": 3})


@pytest.mark.parametrize(
    ("there", "here", "place"),
    [
        ({"a": 1.0}, {"a": 1.0000005}, None),
        ({"a": 1.0}, {"a": 1.1}, "a"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[1]"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({"a": 1}, {}, "a"),
        ({"a": True}, {"a": 1.5}, "a"),
        ({"a": "x"}, {"a": "x"}, None),
        ({"a": None}, {"a": 0.0}, "a"),
    ],
)
def test_the_first_difference_is_found_at_its_place(there: dict, here: dict, place: str | None) -> None:
    found = first_difference(there, here, 1e-6)
    assert (found[0] if found else None) == place
