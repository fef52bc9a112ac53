"""One adapter to Great Expectations: a table's frame and its suite in, plain results out.

Great Expectations takes seconds to import, and its results carry timestamps, numpy types, row values and the order
of rows; all of that stays inside ``validate_table``, whose result depends on the data alone and holds no text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import HeartwoodError
from curation.expectations.frames import REPORTABLE

if TYPE_CHECKING:
    import pandas as pd

SUITES = Path(__file__).parent / "suites"
NAMED_ROWS = 5
_LONGEST_NAME = 40
_LONGEST_ARGUMENT = 160


@dataclass(frozen=True)
class Outcome:
    """What one expectation found on one table.

    ``arguments`` are the suite's with its parameters filled in; ``observed`` is what was measured (rows, rows or
    shares by source, or the values found wrong), None where there is nothing to say; ``unexpected`` counts the rows
    that do not meet the expectation, None for one about the whole table; ``uids`` names up to ``NAMED_ROWS`` of
    them, the first in uid order.
    """

    expectation: str
    severity: str
    description: str
    arguments: dict[str, Any]
    success: bool
    observed: Any
    unexpected: int | None
    uids: tuple[str, ...]


@dataclass(frozen=True)
class SuiteResult:
    """The outcomes of one suite on one table, in the suite's order."""

    table: str
    rows: int
    outcomes: tuple[Outcome, ...]

    def not_met(self, severity: str) -> list[Outcome]:
        """The expectations of a severity (``critical`` or ``warning``) that the table does not meet."""
        return [o for o in self.outcomes if not o.success and o.severity == severity]

    def as_dict(self) -> dict[str, Any]:
        """For the report; plain JSON values, no text of the corpora."""
        return {
            "rows": self.rows,
            "success": not self.not_met("critical"),
            "warnings": len(self.not_met("warning")),
            "expectations": [
                {
                    "expectation": o.expectation,
                    "severity": o.severity,
                    "description": o.description,
                    "arguments": o.arguments,
                    "success": o.success,
                    "observed": o.observed,
                    "unexpected_rows": o.unexpected,
                    "uids": list(o.uids),
                }
                for o in self.outcomes
            ],
        }


def validate_table(table: str, frame: "pd.DataFrame", parameters: Mapping[str, Any]) -> SuiteResult:
    """Run ``suites/<table>.json`` over a table.

    Args:
        frame: the table's columns, sorted by ``uid`` (``curation.expectations.frames``).
        parameters: values of the suite's ``$PARAMETER`` entries; more than the suite names are allowed.

    Raises:
        HeartwoodError: the suite names an unknown expectation, argument or parameter, a text is not valid Unicode,
            or an expectation could not be computed (a missing column, say).
    """
    import great_expectations as gx
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.exceptions.exceptions import GreatExpectationsError

    import curation.expectations.custom  # noqa: F401  (registers the expectations)

    path = SUITES / f"{table}.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    # Results come back in another order, and a configuration that is not valid would be left out with a log line.
    entries = [entry | {"meta": {"position": i}} for i, entry in enumerate(definition["expectations"])]
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    definition_of_batch = (
        context.data_sources.add_pandas("tables")
        .add_dataframe_asset(table)
        .add_batch_definition_whole_dataframe("whole")
    )
    try:
        batch = definition_of_batch.get_batch(batch_parameters={"dataframe": _named_columns(frame, entries)})
    except UnicodeEncodeError as error:
        raise HeartwoodError(
            f"{table}: a text holds a lone surrogate ({error.reason}); allowed: text that UTF-8 can hold",
            hint="leave that record out, or repair its text in the raw file",
        ) from None
    try:
        suite = gx.ExpectationSuite(name=definition["name"], expectations=entries)
        validated = batch.validate(suite, expectation_parameters=dict(parameters), result_format=_RESULT_FORMAT)
    except (GreatExpectationsError, ValidationError) as error:
        raise HeartwoodError(f"{path.name}: {_one_line(error)}", hint=f"correct {path}") from None
    by_position: dict[int, dict[str, Any]] = {}
    for result in validated.results:
        plain: dict[str, Any] = result.to_json_dict()
        by_position[plain["expectation_config"]["meta"]["position"]] = plain
    for position, entry in enumerate(entries):
        if position not in by_position:
            raise HeartwoodError(f"{path.name}: {entry['type']} is not a valid configuration", hint=f"correct {path}")
    return SuiteResult(table, len(frame), tuple(_outcome(by_position[i], frame, path) for i in range(len(entries))))


# Row values are left out, since they may be corpus text; rows are named by their position.
_RESULT_FORMAT = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": NAMED_ROWS,
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


def _outcome(result: Mapping[str, Any], frame: "pd.DataFrame", path: Path) -> Outcome:
    config = result["expectation_config"]
    if raised := _raised(result.get("exception_info") or {}):
        raise HeartwoodError(
            f"{config['type']} could not be computed on {path.stem}: {raised}", hint=f"correct {path}, or the table"
        )
    arguments = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    found = result["result"]
    positions = found.get("partial_unexpected_index_list", [])
    observed = found.get("observed_value")
    if positions and arguments.get("column") in REPORTABLE:
        observed = sorted(set(frame[arguments["column"]].iloc[positions].tolist()))
    return Outcome(
        expectation=config["type"],
        severity=config["severity"],
        description=config["description"],
        arguments=_plain(arguments),
        success=bool(result["success"]),
        observed=_plain(observed),
        unexpected=found.get("unexpected_count"),
        uids=tuple(dict.fromkeys(frame["uid"].iloc[positions])),
    )


def _named_columns(frame: "pd.DataFrame", entries: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    # Great Expectations hashes every column that it is given, and names rows by the index that it finds.
    named = {c for e in entries for c in (e["kwargs"].get("column"), *e["kwargs"].get("column_list", ()))}
    return frame[[c for c in frame.columns if c in named]].reset_index(drop=True)


def _raised(info: Mapping[str, Any]) -> str | None:
    # One dictionary for the expectation, or one for each metric that failed.
    for one in [info] if "raised_exception" in info else info.values():
        if isinstance(one, dict) and one.get("raised_exception"):
            return _one_line(one["exception_message"])
    return None


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _plain(value: Any) -> Any:
    """JSON values with sorted keys, floats rounded, numpy scalars as Python's, and no name longer than a name."""
    if isinstance(value, Mapping):
        return {str(k)[:_LONGEST_NAME]: _plain(v) for k, v in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str):
        return value[:_LONGEST_NAME]
    if isinstance(value, float):
        return round(value, 6)
    return value


def explain(result: SuiteResult, outcome: Outcome) -> str:
    """One line: the table, the expectation, what is allowed, how many rows do not meet it and the first of them."""
    allowed = ", ".join(f"{k}={_short(v)}" for k, v in outcome.arguments.items() if not k.startswith("column"))
    where = outcome.arguments.get("column") or ", ".join(outcome.arguments.get("column_list", ())) or "the table"
    parts = [f"{result.table}: {outcome.expectation} is not met on {where}: {outcome.description}"]
    if allowed:
        parts.append(f"allowed: {allowed}")
    if outcome.observed is not None:
        parts.append(f"found: {_short(outcome.observed)}")
    if outcome.unexpected is not None:
        parts.append(f"{outcome.unexpected} of {result.rows} rows, the first: {', '.join(outcome.uids)}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_ARGUMENT or not isinstance(value, dict | list) else f"{len(value)} entries"


def warnings_of(results: Sequence[SuiteResult]) -> list[str]:
    """One line for each expectation of severity warning that a table does not meet."""
    return [explain(r, o) for r in results for o in r.not_met("warning")]


def require(results: Sequence[SuiteResult]) -> None:
    """Raise unless every table meets every critical expectation.

    Raises:
        HeartwoodError: one line for each expectation that is not met.
    """
    failed = [(r, o) for r in results for o in r.not_met("critical")]
    if not failed:
        return
    uid = next((uid for _, o in failed for uid in o.uids), None)
    look = f"run `heartwood explain {uid}`" if uid else "see in reports/ where the rows went"
    raise HeartwoodError(
        "\n  ".join(explain(r, o) for r, o in failed),
        hint=f"{look}; then correct the data, params.yaml, or the suite in curation/expectations/suites",
    )
