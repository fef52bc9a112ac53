from dataclasses import replace

import pytest

from curation.errors import HeartwoodError
from curation.examples import make_examples
from curation.leakage import Detector, LeakageSettings, remove_leaks
from curation.leakage.residual import records_of, residual_leaks
from tests.curation.making import comment, numbered, orthogonal, talk

LONG = "we lost our dog this morning and i do not know how i shall tell the children when they come home"
SYSTEM = "You listen."
CLEAN = numbered(
    [
        talk("hello", "hi, how are you?", "my own words of this day", "and an answer to them"),
        comment("a comment of my own"),
    ]
)
HELD_OUT = numbered([talk("Hello!", LONG, split="dev"), comment("Thank you", split="test")])


def detector():
    return Detector(HELD_OUT, LeakageSettings(), orthogonal)


def test_the_records_behind_a_mixture_are_found():
    examples = make_examples(CLEAN, SYSTEM)
    assert records_of(examples[::-1], CLEAN[::-1], SYSTEM) == CLEAN
    assert records_of(examples[:1], CLEAN, SYSTEM) == [c for c in CLEAN if c.uid == examples[0]["conversation"]]


@pytest.mark.parametrize("field", ["prompt", "completion", "source", "conversation"])
def test_an_example_that_no_clean_record_gives_is_named(field):
    examples = make_examples(CLEAN, SYSTEM)
    forged = {"prompt": [{"role": "user", "content": LONG}], "completion": [], "source": "x", "conversation": "gone"}
    examples[-1][field] = forged[field]
    with pytest.raises(HeartwoodError, match="not one that clean train gives"):
        records_of(examples, CLEAN, SYSTEM)


def test_another_system_message_is_another_example():
    with pytest.raises(HeartwoodError, match="not one that clean train gives"):
        records_of(make_examples(CLEAN, "Be brief."), CLEAN, SYSTEM)


@pytest.mark.parametrize(
    ("generic", "leaking"), [("remove", ["thanks"]), ("strict", ["greeting", "thanks"]), ("keep", [])]
)
def test_stock_phrases_are_residual_by_the_rule_that_cleaned_train(generic, leaking):
    rows = {"greeting": CLEAN[0] if len(CLEAN[0].turns) > 1 else CLEAN[1], "thanks": numbered([comment("thank you")])[0]}
    found = residual_leaks(list(rows.values()), detector(), generic=generic)
    assert sorted(found.leaking) == sorted(rows[name].uid for name in leaking)
    assert sorted(found.leaking + found.stock_phrases) == sorted(c.uid for c in rows.values())


@pytest.mark.parametrize("generic", ["remove", "strict", "keep"])
def test_a_substantive_leak_is_always_residual(generic):
    leaking = numbered([replace(talk("so", LONG.upper()), group="x")])
    assert residual_leaks(leaking, detector(), generic=generic).leaking == [leaking[0].uid]


@pytest.mark.parametrize("generic", ["remove", "strict", "keep"])
def test_what_the_rule_left_has_no_residual(generic):
    rows = [*CLEAN, *numbered([comment("thank you"), talk("oh", LONG), talk("hello", "thank you")])]
    kept = remove_leaks(rows, detector(), generic=generic).kept
    assert residual_leaks(kept, detector(), generic=generic).leaking == []
