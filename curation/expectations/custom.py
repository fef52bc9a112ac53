"""Expectations about conversations, for Great Expectations' pandas engine.

Importing this module registers them; it takes seconds, since it imports Great Expectations. Expectations about
single rows are map expectations: their results name rows, and ``mostly`` is the share of rows that must meet them.
Columns are those of ``curation.expectations.frames``.
"""

# Great Expectations calls the function of a metric with the class.
# ruff: noqa: N805

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import pandas as pd
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import (
    ColumnAggregateExpectation,
    ColumnMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metrics.column_aggregate_metric_provider import (
    ColumnAggregateMetricProvider,
    column_aggregate_value,
)
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
    column_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import (
    ColumnMapMetricProvider,
)
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
    multicolumn_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_map_metric_provider import (
    MulticolumnMapMetricProvider,
)

from curation.contact import any_contacts
from curation.expectations.conditions import (
    has_visible_text,
    missed_shares,
    repeated_texts,
    roles_alternate,
    straddling,
    unknown_labels,
)


def _met(flags: Iterable[bool], index: pd.Index) -> pd.Series:
    # Without the dtype an empty column would hold objects, and Great Expectations negates what it gets.
    return pd.Series(list(flags), index=index, dtype=bool)


class RolesAlternate(ColumnMapMetricProvider):
    """Rows whose speakers alternate."""

    condition_metric_name = "column_values.roles_alternate"
    condition_value_keys = ("last_role",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, last_role: str | None = None, **_: Any) -> pd.Series:
        met = {roles: roles_alternate(roles, last_role) for roles in set(column)}
        return _met((met[roles] for roles in column), column.index)


class ExpectColumnRolesToAlternate(ColumnMapExpectation):
    """Speakers are ``user`` or ``assistant`` and take turns; the last is ``last_role``, where one is named."""

    last_role: Literal["user", "assistant"] | None = None
    map_metric = "column_values.roles_alternate"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "last_role")


class TurnsVisible(ColumnMapMetricProvider):
    """Rows in which every turn has visible text."""

    condition_metric_name = "column_values.turns_visible"

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, **_: Any) -> pd.Series:
        return _met((all(map(has_visible_text, turns)) for turns in column), column.index)


class ExpectColumnTurnsToHaveVisibleText(ColumnMapExpectation):
    """No turn is empty, or made of whitespace, control and format characters alone."""

    map_metric = "column_values.turns_visible"


class TurnsWithin(ColumnMapMetricProvider):
    """Rows in which no turn is longer than ``max_value`` characters."""

    condition_metric_name = "column_values.turns_within"
    condition_value_keys = ("max_value",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, max_value: int, **_: Any) -> pd.Series:
        return _met((max(map(len, turns), default=0) <= max_value for turns in column), column.index)


class ExpectColumnTurnLengthsToBeAtMost(ColumnMapExpectation):
    """No turn has more than ``max_value`` characters."""

    max_value: int
    map_metric = "column_values.turns_within"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "max_value")


class NoContacts(MulticolumnMapMetricProvider):
    """Rows in which neither a turn nor the situation holds contact details; columns: turns, situation."""

    condition_metric_name = "multicolumn_values.no_contacts"

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series:
        turns, situations = (column_list[name] for name in column_list.columns)
        pairs = zip(turns, situations, strict=True)
        return _met((not any_contacts((*texts, situation)) for texts, situation in pairs), column_list.index)


class ExpectTextsToHaveNoContactDetails(MulticolumnMapExpectation):
    """No text holds a link, an e-mail address or a telephone number (masked ones are none).

    Columns: turns, situation.
    """

    map_metric = "multicolumn_values.no_contacts"


class LabelsKnown(MulticolumnMapMetricProvider):
    """Rows whose labels are all in the set of their source; columns: source, labels."""

    condition_metric_name = "multicolumn_values.labels_known"
    condition_value_keys = ("label_sets",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, label_sets: dict[str, list[str] | None], **_: Any) -> pd.Series:
        sources, labels = (column_list[name] for name in column_list.columns)
        pairs = list(zip(sources, labels, strict=True))
        met = {(source, found): not unknown_labels(source, found, label_sets) for source, found in set(pairs)}
        return _met((met[pair] for pair in pairs), column_list.index)


class ExpectLabelsToBeInSetOfSource(MulticolumnMapExpectation):
    """Every label is in the set of its source; columns: source, labels. A set of None allows any label."""

    label_sets: dict[str, Any]
    map_metric = "multicolumn_values.labels_known"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "label_sets")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        validated: dict[str, Any] = super()._validate(metrics, runtime_configuration, execution_engine)
        label_sets = self._get_success_kwargs()["label_sets"]
        rows = (tuple(row.values()) for row in metrics[f"{self.map_metric}.unexpected_values"])
        unknown = {label for source, labels in rows for label in unknown_labels(source, labels, label_sets)}
        validated["result"]["observed_value"] = sorted(unknown) or None
        return validated


class InOneSplit(MulticolumnMapMetricProvider):
    """Rows whose group stands in one split only; columns: group, split."""

    condition_metric_name = "multicolumn_values.in_one_split"

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series:
        groups, splits = (column_list[name] for name in column_list.columns)
        return _met((not wrong for wrong in straddling(groups, splits)), column_list.index)


class ExpectGroupsToStandInOneSplit(MulticolumnMapExpectation):
    """No group stands in two splits; columns: group, split. Every row of a straddling group is unexpected."""

    map_metric = "multicolumn_values.in_one_split"


class NoDuplicateText(MulticolumnMapMetricProvider):
    """Rows whose text no other row repeats; columns: source, task, turns, labels."""

    condition_metric_name = "multicolumn_values.no_duplicate_text"
    condition_value_keys = ("stock_words", "label_conflicts")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, stock_words: int, label_conflicts: str, **_: Any) -> pd.Series:
        sources, tasks, turns, labels = (column_list[name] for name in column_list.columns)
        kinds = list(zip(sources, tasks, strict=True))
        wrong = repeated_texts(kinds, turns, labels, stock_words=stock_words, label_conflicts=label_conflicts)
        return _met((not repeated for repeated in wrong), column_list.index)


class ExpectTextsToHaveNoDuplicates(MulticolumnMapExpectation):
    """No two rows of one source and task have the same turns, joined and folded.

    Columns: source, task, turns, labels. Stock phrases, texts of at most ``stock_words`` folded words, may repeat.
    Under ``label_conflicts`` ``keep`` so may texts whose labels differ. Every row of a repeated text is unexpected.
    """

    stock_words: int | dict[str, str]
    label_conflicts: str | dict[str, str]
    map_metric = "multicolumn_values.no_duplicate_text"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "stock_words", "label_conflicts")


class RowsByValue(ColumnAggregateMetricProvider):
    """How many rows each value of a column has."""

    metric_name = "column.rows_by_value"

    @column_aggregate_value(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, **_: Any) -> dict[str, int]:
        return {str(value): int(rows) for value, rows in column.value_counts().items()}


class ExpectColumnSharesToBeAsRequested(ColumnAggregateExpectation):
    """Each value's rows are less than one row away from its share of all rows; a share of 0 allows no row."""

    shares: dict[str, Any]
    metric_dependencies = ("column.rows_by_value",)
    success_keys: ClassVar[tuple[str, ...]] = ("shares",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        rows = metrics["column.rows_by_value"]
        size = sum(rows.values())
        shares = self._get_success_kwargs()["shares"]
        realised = {name: rows.get(name, 0) / size if size else 0.0 for name in {*rows, *shares}}
        return {"success": not missed_shares(rows, shares), "result": {"observed_value": realised}}


class ExpectColumnRowsByValueToEqual(ColumnAggregateExpectation):
    """Each value has exactly as many rows as ``rows`` says; a value that it does not name has none."""

    rows: dict[str, Any]
    metric_dependencies = ("column.rows_by_value",)
    success_keys: ClassVar[tuple[str, ...]] = ("rows",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        found = metrics["column.rows_by_value"]
        wanted = {name: count for name, count in self._get_success_kwargs()["rows"].items() if count}
        return {"success": found == wanted, "result": {"observed_value": found}}
