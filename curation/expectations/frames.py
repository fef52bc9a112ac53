"""Tables as data frames: one row a record, sorted by uid, with the columns that the suites name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from curation.records import Conversation
from curation.splits import groups_of

if TYPE_CHECKING:
    import pandas as pd

_Row = TypeVar("_Row")

# Columns whose values may stand in a report: names and numbers, never text.
REPORTABLE = frozenset({"source", "split", "turn_count", "label_count", "completion_messages"})


def conversation_frame(conversations: Iterable[Conversation]) -> "pd.DataFrame":
    """One row a conversation.

    Columns: ``uid``, ``source``, ``task``, ``split``; ``roles``, ``turns`` (texts) and ``labels``, tuples;
    ``situation``, a text; ``turn_count``, ``label_count``.
    """
    rows = _by_uid(conversations)
    return _frame(
        {
            "uid": [c.uid for c in rows],
            "source": [c.source for c in rows],
            "task": [c.task for c in rows],
            "split": [c.split for c in rows],
            "roles": [tuple(t.role for t in c.turns) for c in rows],
            "turns": [tuple(t.text for t in c.turns) for c in rows],
            "situation": [c.situation for c in rows],
            "labels": [c.emotions for c in rows],
        },
        {"turn_count": [len(c.turns) for c in rows], "label_count": [len(c.emotions) for c in rows]},
    )


def split_frame(conversations: Iterable[Conversation]) -> "pd.DataFrame":
    """One row a conversation of train, dev or test.

    Columns: ``uid``, ``split``; ``conversation`` and ``situation``, the keys of its structural groups (the second
    is None where there is no situation text).
    """
    rows = _by_uid(conversations)
    groups = [dict(groups_of(c)) for c in rows]
    return _frame(
        {
            "uid": [c.uid for c in rows],
            "split": [c.split for c in rows],
            "conversation": [g["conversation"] for g in groups],
            "situation": [g.get("situation") for g in groups],
        },
        {},
    )


def example_frame(examples: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """One row an SFT example.

    Columns: ``uid`` (of its conversation), ``example`` (its own), ``source``; ``roles`` and ``turns`` (texts) of
    prompt and completion without a system message at the start; ``prompt_turns``, how many of them are the
    prompt's; ``completion_messages``.
    """
    rows = _sorted([(e["uid"], e) for e in examples])
    prompts = [e["prompt"][1:] if e["prompt"] and e["prompt"][0]["role"] == "system" else e["prompt"] for e in rows]
    messages = [[*prompt, *e["completion"]] for prompt, e in zip(prompts, rows, strict=True)]
    return _frame(
        {
            "uid": [e["conversation"] for e in rows],
            "example": [e["uid"] for e in rows],
            "source": [e["source"] for e in rows],
            "roles": [tuple(m["role"] for m in row) for row in messages],
            "turns": [tuple(m["content"] for m in row) for row in messages],
        },
        {"prompt_turns": [len(p) for p in prompts], "completion_messages": [len(e["completion"]) for e in rows]},
    )


def _by_uid(conversations: Iterable[Conversation]) -> list[Conversation]:
    return _sorted([(c.uid, c) for c in conversations])


def _sorted(rows: list[tuple[str, _Row]]) -> list[_Row]:
    uids = Counter(uid for uid, _ in rows)
    # A uid names one record; where a table breaks that, the records themselves decide the order.
    return [row for _, row in sorted(rows, key=lambda r: (r[0], repr(r[1]) if uids[r[0]] > 1 else ""))]


def _frame(objects: Mapping[str, list[Any]], counts: Mapping[str, list[int]]) -> "pd.DataFrame":
    import pandas as pd

    # As objects: pandas' own strings are UTF-8, and a lone surrogate in a text would stop the table from being made.
    columns = {name: pd.Series(values, dtype=object) for name, values in objects.items()}
    return pd.DataFrame(columns | {name: pd.Series(values, dtype="int64") for name, values in counts.items()})
