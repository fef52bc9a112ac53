import json
from dataclasses import replace

import pytest

from curation.errors import HeartwoodError
from curation.examples import make_examples
from curation.expectations import conversation_frame, example_frame, validate_frame
from curation.expectations.validation import SUITES
from curation.records import Turn
from tests.curation.making import numbered, talk

pytestmark = pytest.mark.slow
LABELS = {"talks": frozenset({"sad", "angry"}), "open": None}
BOUNDS = {"sources": ["open", "talks"], "max_contacts": 0, "min_rows": 3, "splits": ["dev"]}
SPLIT_OF = {"records": "train", "train": "train", "held_out": "dev"}
ROWS = "expect_table_row_count_to_be_between"
UNIQUE, AMONG, BETWEEN = (f"expect_column_values_to_be_{x}" for x in ("unique", "in_set", "between"))


def good(split):
    return numbered(talk(f"I am sad, number {i}.", "Tell me more.", split=split) for i in range(4))


def validate(suite, rows, **bounds):
    return validate_frame(suite, suite, conversation_frame(rows, LABELS), {**BOUNDS, **bounds})


def failures(result):
    return {(e["expectation"], e["arguments"].get("column")) for e in result.failed}


def change(rows, **fields):
    return [replace(rows[0], **fields), *rows[1:]]


def first_turn(text):
    return lambda rows: change(rows, turns=(Turn("user", text), *rows[0].turns[1:]))


CRITICAL = {
    (ROWS, None): lambda rows: rows[:2],
    (UNIQUE, "uid"): lambda rows: [*rows, rows[0]],
    (AMONG, "source"): lambda rows: change(rows, source="reddit"),
    (AMONG, "roles_alternate"): lambda rows: change(rows, turns=(Turn("user", "a"), Turn("user", "b"))),
    (AMONG, "labels_known"): lambda rows: change(rows, emotions=("sad", "grumpyish")),
    (BETWEEN, "turns"): lambda rows: change(rows, turns=()),
    (BETWEEN, "shortest_turn"): first_turn(""),
    (BETWEEN, "longest_turn"): first_turn("x" * 20_001),
    (BETWEEN, "contacts"): first_turn("write to a@b.de"),
    (AMONG, "split"): lambda rows: change(rows, split="validation"),
}
# A conversation without turns has no shortest turn either.
ALSO = {(BETWEEN, "turns"): {(BETWEEN, "shortest_turn")}}


@pytest.mark.parametrize("suite", sorted(SPLIT_OF))
def test_every_critical_expectation_of_a_suite_has_its_must_fail_case(suite):
    definition = json.loads((SUITES / f"{suite}.json").read_text())
    critical = {
        (e["type"], e["kwargs"].get("column")) for e in definition["expectations"] if e["severity"] == "critical"
    }
    assert critical == set(CRITICAL)


def test_no_suite_stands_outside_these_tests():
    assert {p.stem for p in SUITES.glob("*.json")} == {*SPLIT_OF, "mixture"}


@pytest.mark.parametrize("suite", sorted(SPLIT_OF))
def test_a_good_table_passes_every_expectation(suite):
    result = validate(suite, good(SPLIT_OF[suite]))
    assert [e for e in result.expectations if not e["success"]] == []
    assert result.as_dict()["success"] is True
    assert (result.rows, result.table) == (4, suite)


@pytest.mark.parametrize("suite", sorted(SPLIT_OF))
@pytest.mark.parametrize("wrong", sorted(CRITICAL, key=str), ids=lambda w: f"{w[0][7:]}:{w[1]}")
def test_each_wrong_table_fails_for_its_own_reason_alone(suite, wrong):
    result = validate(suite, CRITICAL[wrong](good(SPLIT_OF[suite])))
    assert failures(result) == {wrong} | ALSO.get(wrong, set())
    assert result.as_dict()["success"] is False


def test_train_and_held_out_refuse_each_others_records():
    assert failures(validate("train", good("dev"))) == {(AMONG, "split")}
    assert failures(validate("held_out", good("train"))) == {(AMONG, "split")}
    assert failures(validate("held_out", good("test"), splits=["test"])) == set()


def test_contacts_pass_where_they_are_kept_on_purpose():
    rows = CRITICAL[BETWEEN, "contacts"](good("train"))
    assert failures(validate("train", rows, max_contacts=10**9)) == set()


def test_a_source_with_open_labels_takes_any():
    assert failures(validate("train", [replace(c, source="open", emotions=("shame",)) for c in good("train")])) == set()


def test_warnings_are_reported_and_do_not_fail():
    rows = numbered(
        [
            *(talk("I am sad.", "Why?"), talk("i am SAD", "why"), talk("It ended.", "Oh.", emotions=())),
            talk("x" * 2001, "Oh."),
        ]
    )
    result = validate("train", rows)
    assert result.failed == []
    warned = {e["arguments"]["column"] for e in result.expectations if not e["success"]}
    assert warned == {"first_of_its_text", "labels", "longest_turn"}


def test_an_empty_table_fails_for_its_size():
    assert failures(validate("records", [])) == {(ROWS, None)}


def test_the_same_data_gives_the_same_plain_json_twice():
    rows = CRITICAL[AMONG, "source"](good("train"))
    one, other = (json.dumps(validate("train", rows).as_dict()) for _ in range(2))
    assert one == other
    assert "reddit" in one


def test_a_missing_column_is_an_error_that_names_expectation_and_table():
    frame = conversation_frame(good("train"), LABELS).drop(columns="contacts")
    with pytest.raises(HeartwoodError, match=f"{BETWEEN} could not be computed on train"):
        validate_frame("train", "train", frame, BOUNDS)


def edit(**fields):
    return lambda examples: [examples[0] | fields, *examples[1:]]


MIXTURE_CRITICAL = {
    ("expect_table_row_count_to_equal", None): lambda examples: examples[1:],
    (AMONG, "source"): edit(source="reddit"),
    (BETWEEN, "prompt_messages"): edit(prompt=[]),
    (AMONG, "last_prompt_role"): edit(prompt=[{"role": "system", "content": "Be kind."}]),
    (AMONG, "completion_messages"): edit(completion=[{"role": "assistant", "content": "a"}] * 2),
    (BETWEEN, "completion_characters"): edit(completion=[{"role": "assistant", "content": ""}]),
}
MIXTURE_ALSO = {(BETWEEN, "prompt_messages"): {(AMONG, "last_prompt_role")}}


def mixture(examples):
    return validate_frame("mixture", "mixture", example_frame(examples), {"size": 4, "sources": ["talks"]})


def test_every_critical_expectation_of_the_mixture_has_its_must_fail_case():
    definition = json.loads((SUITES / "mixture.json").read_text())
    assert set(MIXTURE_CRITICAL) == {
        (e["type"], e["kwargs"].get("column")) for e in definition["expectations"] if e["severity"] == "critical"
    }


def test_a_good_mixture_passes():
    result = mixture(make_examples(good("train"), "Be kind."))
    assert [e for e in result.expectations if not e["success"]] == []


@pytest.mark.parametrize("wrong", sorted(MIXTURE_CRITICAL, key=str), ids=lambda w: f"{w[0][7:]}:{w[1]}")
def test_each_wrong_mixture_fails_for_its_own_reason_alone(wrong):
    result = mixture(MIXTURE_CRITICAL[wrong](make_examples(good("train"), "Be kind.")))
    assert failures(result) == {wrong} | MIXTURE_ALSO.get(wrong, set())


def test_repeated_examples_are_a_warning():
    examples = make_examples(good("train"), "Be kind.")
    result = mixture([*examples[:3], examples[0]])
    assert result.failed == []
    assert [e["arguments"]["column"] for e in result.expectations if not e["success"]] == ["uid"]
