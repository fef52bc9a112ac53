"""Every expectation of every suite fails on a table made to break it, and only for its own reason."""

import json
import random
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from curation.errors import HeartwoodError
from curation.examples import make_examples
from curation.expectations import (
    conversation_frame,
    example_frame,
    require,
    split_frame,
    validate_table,
    validation,
    warnings_of,
)
from curation.records import Turn
from tests.curation.making import numbered, talk

pytestmark = pytest.mark.slow
PARAMETERS = {
    "sources": ["open", "talks"],
    "label_sets": {"talks": ["angry", "sad"], "open": None},
    "min_train_rows": 3,
    "min_dev_rows": 3,
    "max_rows": 10,
    "contact_free_share": 1.0,
    "stock_words": 3,
    "label_conflicts": "keep",
}
MIXED = {"sources": ["open", "talks"], "size": 4, "shares": {"talks": 1.0}, "rows": {"talks": 4}}
# Stands in every text of the good tables, and may not stand in any result.
MARK = "zyxwvu"
SPLIT_OF = {"records": "train", "train": "train", "dev": "dev", "test": "test"}


def good(table):
    if table == "mixture":
        return make_examples(good("train"), "Be kind.")
    texts = [(f"I am sad, {MARK} number {i}.", f"Tell me more {MARK}.") for i in range(4)]
    if table == "splits":
        splits = ["train", "train", "dev", "test"]
        return numbered(talk(*t, split=s, situation=f"{t[0]} It ended.") for t, s in zip(texts, splits, strict=True))
    return numbered(talk(*t, split=SPLIT_OF[table], situation=f"{MARK} My cat died.") for t in texts)


def validate(table, records, **parameters):
    if table == "mixture":
        return validate_table(table, example_frame(records), MIXED | parameters)
    frame = split_frame(records) if table == "splits" else conversation_frame(records)
    return validate_table(table, frame, PARAMETERS | parameters)


def name_of(expectation, kwargs, severity):
    columns = kwargs.get("column_list") or [kwargs.get("column", "table")]
    bounds = sorted({"min_value", "max_value"} & set(kwargs))
    return " ".join([expectation.removeprefix("expect_"), ",".join(columns), *bounds, severity])


def entries(table):
    definition = json.loads((validation.SUITES / f"{table}.json").read_text())
    return [name_of(e["type"], e["kwargs"], e["severity"]) for e in definition["expectations"]]


def not_met(result):
    return {name_of(o.expectation, o.arguments, o.severity) for o in result.outcomes if not o.success}


@dataclass
class Case:
    """A change to a good table that breaks one expectation, and those that cannot but fail with it."""

    change: Callable[[list[Any]], list[Any]] = lambda rows: rows
    also: set[str] = field(default_factory=set)
    parameters: dict[str, Any] = field(default_factory=dict)
    names_rows: bool = True


def first(**fields):
    return lambda rows: [replace(rows[0], **fields), *rows[1:]]


def first_turn(text):
    return lambda rows: first(turns=(Turn("user", text), *rows[0].turns[1:]))(rows)


def again(**fields):
    return lambda rows: [*rows, replace(rows[0], copy=9, **fields)]


CONTACTS = "texts_to_have_no_contact_details turns,situation"
ONE_SPLIT = "groups_to_stand_in_one_split"
LABELS = "labels_to_be_in_set_of_source source,labels critical"
LONG = "column_turn_lengths_to_be_at_most turns max_value"
CONVERSATIONS = {
    "table_row_count_to_be_between table min_value critical": Case(lambda rows: [], names_rows=False),
    "table_row_count_to_be_between table max_value warning": Case(parameters={"max_rows": 3}, names_rows=False),
    "column_values_to_be_unique uid critical": Case(lambda rows: first(id=rows[1].id, copy=rows[1].copy)(rows)),
    "column_values_to_be_in_set source critical": Case(first(source="reddit"), also={LABELS}),
    "column_values_to_be_in_set split critical": Case(first(split="validation")),
    "column_values_to_be_between turn_count min_value critical": Case(first(turns=())),
    "column_roles_to_alternate roles critical": Case(first(turns=(Turn("user", "a"), Turn("user", "b")))),
    LABELS: Case(first(emotions=("sad", "grumpyish"))),
    "column_values_to_be_between label_count min_value warning": Case(first(emotions=())),
    "column_turns_to_have_visible_text turns critical": Case(first_turn(" \u200b\x00\n")),
    f"{LONG} critical": Case(first_turn("x" * 20_001), also={f"{LONG} warning"}),
    f"{LONG} warning": Case(first_turn("x" * 2001)),
    f"{CONTACTS} critical": Case(first(situation="I wrote to ann@example.com."), also={f"{CONTACTS} warning"}),
    f"{CONTACTS} warning": Case(first_turn("I wrote to ann@example.com."), parameters={"contact_free_share": 0.0}),
}
MUST_FAIL: dict[str, dict[str, Case]] = {
    "records": CONVERSATIONS,
    "train": CONVERSATIONS
    | {
        "texts_to_have_no_duplicates source,task,turns,labels critical": Case(
            lambda rows: again(turns=(Turn("user", rows[0].turns[0].text.upper()), rows[0].turns[1]))(rows)
        )
    },
    "dev": CONVERSATIONS,
    "test": CONVERSATIONS,
    "splits": {
        "column_values_to_be_unique uid critical": Case(
            lambda rows: [*rows, replace(rows[0], group="other", situation="", split="test")]
        ),
        f"{ONE_SPLIT} conversation,split critical": Case(again(split="dev", situation="")),
        f"{ONE_SPLIT} situation,split critical": Case(
            lambda rows: again(split="dev", group="other", situation=f"{rows[0].situation.upper()}!")(rows)
        ),
    },
}
SHARES, ROWS = "column_shares_to_be_as_requested source critical", "column_rows_by_value_to_equal source critical"


def edit(**fields):
    return lambda examples: [examples[0] | fields, *examples[1:]]


def said(*roles):
    return [{"role": role, "content": MARK} for role in roles]


MUST_FAIL["mixture"] = {
    "table_row_count_to_equal table critical": Case(parameters={"size": 5}, names_rows=False),
    "column_values_to_be_in_set source critical": Case(edit(source="reddit"), also={SHARES, ROWS}),
    SHARES: Case(parameters={"shares": {"talks": 0.5, "open": 0.5}}, names_rows=False),
    ROWS: Case(parameters={"rows": {"talks": 3, "open": 1}}, names_rows=False),
    "column_roles_to_alternate roles critical": Case(edit(prompt=said("user", "user"))),
    "column_values_to_be_between prompt_turns min_value critical": Case(edit(prompt=said("system"))),
    "column_values_to_be_in_set completion_messages critical": Case(edit(completion=said("assistant", "user") * 2)),
    "column_turns_to_have_visible_text turns critical": Case(
        edit(completion=[{"role": "assistant", "content": "\u200b"}])
    ),
    "column_values_to_be_unique example warning": Case(lambda examples: [*examples[:3], examples[0]]),
}
# Four messages end with the user's.
MUST_FAIL["mixture"]["column_values_to_be_in_set completion_messages critical"].also.add(
    "column_roles_to_alternate roles critical"
)
CASES = [(table, entry) for table, cases in MUST_FAIL.items() for entry in cases]
TABLES = sorted(MUST_FAIL)


def test_every_suite_is_tested():
    assert {p.stem for p in validation.SUITES.glob("*.json")} == set(MUST_FAIL)


@pytest.mark.parametrize("table", TABLES)
def test_every_entry_of_a_suite_has_its_must_fail_case(table):
    assert len(entries(table)) == len(set(entries(table)))
    assert set(entries(table)) == set(MUST_FAIL[table])


@pytest.mark.parametrize("table", TABLES)
def test_a_suite_is_one_of_great_expectations_and_says_what_each_entry_is_for(table):
    import great_expectations as gx

    import curation.expectations.custom  # noqa: F401

    definition = json.loads((validation.SUITES / f"{table}.json").read_text())
    suite = gx.ExpectationSuite(**definition)
    assert suite.name == table
    assert len(suite.expectations) == len(definition["expectations"])
    assert all(e.description for e in suite.expectations)


def test_every_custom_expectation_stands_in_a_suite():
    from great_expectations.expectations.expectation import Expectation

    from curation.expectations import custom

    ours = [
        v for v in vars(custom).values() if isinstance(v, type) and issubclass(v, Expectation) and v.expectation_type
    ]
    ours = {v.expectation_type for v in ours if v.__module__ == custom.__name__}
    used = {
        e["type"] for path in validation.SUITES.glob("*.json") for e in json.loads(path.read_text())["expectations"]
    }
    assert ours
    assert ours <= used


@pytest.mark.parametrize("table", TABLES)
def test_a_good_table_meets_every_expectation(table):
    result = validate(table, good(table))
    assert not_met(result) == set()
    assert (result.table, result.rows, result.as_dict()["success"]) == (table, 4, True)
    require([result])
    assert warnings_of([result]) == []


@pytest.mark.parametrize(("table", "entry"), CASES, ids=lambda value: value.replace(" ", ":"))
def test_a_table_made_to_break_an_expectation_fails_for_that_reason_alone(table, entry):
    case, rows = MUST_FAIL[table][entry], good(table)
    broken = case.change(rows)
    result = validate(table, broken, **case.parameters)
    assert not_met(result) == {entry} | case.also
    critical = any(name.endswith("critical") for name in {entry} | case.also)
    assert result.as_dict()["success"] is not critical

    (outcome,) = [o for o in result.outcomes if name_of(o.expectation, o.arguments, o.severity) == entry]
    known = {row["conversation"] if table == "mixture" else row.uid for row in broken}
    assert bool(outcome.unexpected) == bool(outcome.uids) == case.names_rows
    assert set(outcome.uids) <= known
    assert list(outcome.uids) == sorted(outcome.uids)

    report = json.dumps(result.as_dict())
    assert MARK not in report
    assert "example.com" not in report
    lines = warnings_of([result])
    if critical:
        with pytest.raises(HeartwoodError) as caught:
            require([result])
        lines += str(caught.value).split("\n  ")
        assert "heartwood explain" in caught.value.hint if outcome.uids else "reports/" in caught.value.hint
    (line,) = [x for x in lines if outcome.expectation in x and outcome.description in x]
    assert line.startswith(f"{table}: ")
    assert MARK not in line
    assert all(uid in line for uid in outcome.uids)


def test_an_error_says_table_expectation_bound_count_and_rows():
    rows = first_turn("x" * 20_001)(good("train"))
    with pytest.raises(HeartwoodError) as caught:
        require([validate("train", rows)])
    assert str(caught.value) == (
        "train: expect_column_turn_lengths_to_be_at_most is not met on turns: no turn is absurdly long (characters);"
        f" allowed: max_value=20000; 1 of 4 rows, the first: {rows[0].uid}"
    )
    assert caught.value.hint.startswith(f"run `heartwood explain {rows[0].uid}`")


def test_every_critical_failure_of_every_table_is_told_at_once():
    with pytest.raises(HeartwoodError) as caught:
        require([validate("dev", []), validate("test", first(split="dev")(good("test")))])
    dev, test = str(caught.value).split("\n  ")
    assert dev == (
        "dev: expect_table_row_count_to_be_between is not met on the table: the table is not empty or cut short;"
        " allowed: min_value=3; found: 0"
    )
    assert test.startswith("test: expect_column_values_to_be_in_set is not met on split")
    assert 'allowed: value_set=["test"]; found: ["dev"]; 1 of 4 rows' in test


def test_the_rows_of_duplicates_and_straddling_groups_are_all_named():
    rows = good("train")
    twice = MUST_FAIL["train"]["texts_to_have_no_duplicates source,task,turns,labels critical"].change(rows)
    assert validate("train", twice).not_met("critical")[0].uids == tuple(sorted((twice[0].uid, twice[-1].uid)))
    rows = good("splits")
    straddling = MUST_FAIL["splits"][f"{ONE_SPLIT} situation,split critical"].change(rows)
    named = validate("splits", straddling).not_met("critical")[0].uids
    assert named == tuple(sorted((straddling[0].uid, straddling[-1].uid)))


def test_stock_phrases_and_label_conflicts_are_no_residual_duplicates():
    rows = numbered([talk("Thank you.", "Oh."), talk("thank you", "oh!"), *good("train")])
    assert not_met(validate("train", rows)) == set()
    conflict = again(emotions=("angry",))(good("train"))
    assert not_met(validate("train", conflict)) == set()
    assert {n.split()[0] for n in not_met(validate("train", conflict, label_conflicts="merge"))} == {
        "texts_to_have_no_duplicates"
    }


def test_unknown_labels_are_named_and_long_ones_cut():
    (outcome,) = validate("train", first(emotions=("sad", "grumpyish", "x" * 90))(good("train"))).not_met("critical")
    assert outcome.observed == ["grumpyish", "x" * 40]


def test_a_source_of_open_labels_takes_any():
    rows = [replace(c, source="open", emotions=("shame",)) for c in good("train")]
    assert not_met(validate("train", rows)) == set()


def test_contacts_kept_on_purpose_are_a_warning():
    rows = CONVERSATIONS[f"{CONTACTS} critical"].change(good("train"))
    result = validate("train", rows, contact_free_share=0.0)
    assert result.not_met("critical") == []
    assert len(warnings_of([result])) == 1


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_table_has_a_result_and_no_crash(table):
    result = validate(table, [])
    expected = {
        "splits": set(),
        "mixture": {"table_row_count_to_equal table critical", ROWS},
    }.get(table, {"table_row_count_to_be_between table min_value critical"})
    assert not_met(result) == expected


def messy():
    """Rows that break most expectations of the records suite, several rows each."""
    rows = good("records")
    changes = [case.change(rows) for case in CONVERSATIONS.values()]
    changed = [row for change in changes for row in change if row not in rows]
    return [replace(row, copy=i % 7) for i, row in enumerate([*rows, *changed] * 3)]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_rows_changes_no_byte_of_the_results(seed):
    rows = messy()
    expected = json.dumps([validate(t, rows).as_dict() for t in ("train", "splits")], allow_nan=False)
    assert expected.count('"success": false') > 10
    random.Random(seed).shuffle(rows)
    assert json.dumps([validate(t, rows).as_dict() for t in ("train", "splits")], allow_nan=False) == expected


def test_the_order_of_examples_changes_no_byte_of_the_results():
    examples = [*good("mixture")[1:], *edit(source="open")(good("mixture"))]
    expected = json.dumps(validate("mixture", examples).as_dict(), allow_nan=False)
    assert '"talks": 0.857143' in expected
    assert json.dumps(validate("mixture", examples[::-1]).as_dict(), allow_nan=False) == expected


def test_at_most_a_few_rows_are_named():
    result = validate("dev", [replace(c, split="train", copy=i) for i, c in enumerate(good("dev") * 5)])
    (outcome,) = result.not_met("critical")
    assert (outcome.unexpected, len(outcome.uids)) == (20, validation.NAMED_ROWS)


def test_a_lone_surrogate_is_an_error_where_columns_are_text_and_no_crash_elsewhere():
    with pytest.raises(HeartwoodError, match="train: a text holds a lone surrogate"):
        validate("train", first(situation="\udfff")(good("train")))
    rows = first(turns=(Turn("user", "a \ud800 b"), Turn("assistant", "c\x00d")))(good("train"))
    assert not_met(validate("train", rows)) == set()


def test_nothing_is_sent_and_nothing_is_written(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a connection or a temporary folder")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.chdir(tmp_path)
    validate("train", good("train"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_an_error_that_names_expectation_and_table():
    frame = conversation_frame(good("train")).drop(columns="turns")
    with pytest.raises(HeartwoodError, match="expect_column_turns_to_have_visible_text could not be computed on train"):
        validate_table("train", frame, PARAMETERS)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"type": "expect_sun", "kwargs": {}}, "expect_sun"),
        ({"type": "expect_column_roles_to_alternate", "kwargs": {"column": "roles", "colour": 1}}, "colour"),
        ({"type": "expect_column_roles_to_alternate", "kwargs": {}}, "column"),
        ({"type": "expect_column_values_to_be_unique", "kwargs": {"column": ""}}, "column"),
        ({"type": "expect_table_row_count_to_equal", "kwargs": {"value": {"$PARAMETER": "sighs"}}}, "sighs"),
        ({"type": "expect_column_turn_lengths_to_be_at_most", "kwargs": {"column": "turns", "max_value": "x"}}, "max"),
    ],
)
def test_a_wrong_suite_is_an_error_that_names_it(monkeypatch, tmp_path, entry, named):
    entry |= {"severity": "critical", "description": "made wrong"}
    (tmp_path / "train.json").write_text(json.dumps({"name": "train", "expectations": [entry]}))
    monkeypatch.setattr(validation, "SUITES", tmp_path)
    with pytest.raises(HeartwoodError, match=named) as caught:
        validate("train", good("train"))
    assert "train" in str(caught.value)
    assert "train.json" in caught.value.hint
