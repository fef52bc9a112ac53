"""Tables as plain columns that expectations can speak of, and one adapter to Great Expectations.

Great Expectations takes five seconds to import and its results carry timestamps and numpy types; both stay
inside ``validate_frame``, whose result depends on the data alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.contact import find_contacts
from curation.errors import HeartwoodError
from curation.records import Conversation
from curation.text import fold

if TYPE_CHECKING:
    import pandas as pd

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class SuiteResult:
    """The outcome of one suite on one table; each expectation as plain JSON."""

    table: str
    rows: int
    expectations: list[dict[str, Any]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Expectations of severity critical that the table does not meet."""
        return [e for e in self.expectations if not e["success"] and e["severity"] == "critical"]

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {"rows": self.rows, "success": not self.failed, "expectations": self.expectations}


def conversation_frame(
    conversations: Sequence[Conversation], labels: Mapping[str, frozenset[str] | None]
) -> "pd.DataFrame":
    """One row a conversation, with the columns that the suites name.

    Args:
        labels: the allowed emotion labels by source; None where any label is allowed.
    """
    import pandas as pd

    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    rows = []
    for c in conversations:
        roles = [t.role for t in c.turns]
        allowed = labels.get(c.source)
        key = (c.source, fold(" ".join(t.text for t in c.turns)), c.emotions)
        rows.append(
            {
                "uid": c.uid,
                "source": c.source,
                "task": c.task,
                "split": c.split,
                "group": c.group,
                "turns": len(c.turns),
                "roles_alternate": all(a != b for a, b in pairwise(roles)),
                "shortest_turn": min((len(t.text) for t in c.turns), default=0),
                "longest_turn": max((len(t.text) for t in c.turns), default=0),
                "labels": len(c.emotions),
                "labels_known": allowed is None or set(c.emotions) <= allowed,
                "contacts": sum(sum(find_contacts(t.text).values()) for t in c.turns),
                "first_of_its_text": key not in seen,
            }
        )
        seen.add(key)
    return pd.DataFrame(rows, columns=_CONVERSATION_COLUMNS)


_CONVERSATION_COLUMNS = [
    "uid",
    "source",
    "task",
    "split",
    "group",
    "turns",
    "roles_alternate",
    "shortest_turn",
    "longest_turn",
    "labels",
    "labels_known",
    "contacts",
    "first_of_its_text",
]


def example_frame(examples: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """One row an SFT example, with the columns that the mixture suite names."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "uid": e["uid"],
                "source": e["source"],
                "prompt_messages": len(e["prompt"]),
                "last_prompt_role": e["prompt"][-1]["role"] if e["prompt"] else "",
                "completion_messages": len(e["completion"]),
                "completion_characters": len(e["completion"][0]["content"]) if e["completion"] else 0,
            }
            for e in examples
        ],
        columns=[
            "uid",
            "source",
            "prompt_messages",
            "last_prompt_role",
            "completion_messages",
            "completion_characters",
        ],
    )


def validate_frame(
    table: str, suite: str, frame: "pd.DataFrame", bounds: Mapping[str, Any] | None = None
) -> SuiteResult:
    """Run ``suites/<suite>.json`` over a table.

    Args:
        bounds: values that the suite's placeholders (``"$name"``) stand for.

    Raises:
        HeartwoodError: an expectation could not be computed (a missing column, say).
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = (
        context.data_sources.add_pandas("tables")
        .add_dataframe_asset(table)
        .add_batch_definition_whole_dataframe("whole")
        .get_batch(batch_parameters={"dataframe": frame})
    )
    definition = json.loads((SUITES / f"{suite}.json").read_text(encoding="utf-8"))
    filled = _fill(definition, bounds or {})
    result = batch.validate(
        gx.ExpectationSuite(**filled), result_format={"result_format": "SUMMARY", "partial_unexpected_count": 3}
    )
    return SuiteResult(table, len(frame), [_plain(r.to_json_dict(), table) for r in result.results])


def _fill(value: Any, bounds: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {k: _fill(v, bounds) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, bounds) for v in value]
    if isinstance(value, str) and value.startswith("$"):
        return bounds[value[1:]]
    return value


def _plain(result: dict[str, Any], table: str) -> dict[str, Any]:
    config = result["expectation_config"]
    exceptions = result.get("exception_info") or {}
    infos = [exceptions] if "raised_exception" in exceptions else list(exceptions.values())
    raised = [e["exception_message"] for e in infos if isinstance(e, dict) and e.get("raised_exception")]
    if raised:
        raise HeartwoodError(
            f"{config['type']} could not be computed on {table}: {raised[0]}",
            hint="correct the suite in curation/expectations/suites",
        )
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    outcome = result.get("result") or {}
    kept = ("observed_value", "unexpected_count", "unexpected_percent", "partial_unexpected_list")
    plain: dict[str, Any] = json.loads(
        json.dumps(
            {
                "expectation": config["type"],
                "severity": config.get("severity") or "critical",
                "arguments": kwargs,
                "success": result["success"],
                "result": {k: outcome[k] for k in kept if k in outcome},
            },
            default=lambda o: o.item(),
            sort_keys=True,
        )
    )
    return plain
