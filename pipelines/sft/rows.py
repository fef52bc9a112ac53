"""Which rows of the mixture a run trains on, in file order, encoded, and the record of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.base import pointer_path
from pipelines.sft.formatting import Encoded, TooLongError, encode_example

CONSUMED_FILE = "consumed.json"
MAX_TOO_LONG = 0.05


@dataclass(frozen=True)
class Consumed:
    """Which rows of the mixture a run consumed; the content of ``consumed.json``.

    ``first_row`` and ``next_row`` count from the start of the first pass over the mixture and go on past its
    end (row ``next_row % mixture_rows`` is next). ``rows`` were trained on, ``too_long`` were passed over,
    ``truncated`` lost their oldest turns. ``rows_by_source`` and ``supervised_tokens_by_source`` count what was
    trained on, ``epochs_by_source`` is rows trained on by rows in the mixture.
    ``uids_sha256`` is over the newline-joined uids trained on, in order.
    """

    first_row: int
    next_row: int
    rows: int
    mixture_rows: int
    rows_by_source: dict[str, int]
    supervised_tokens_by_source: dict[str, int]
    epochs_by_source: dict[str, float]
    uids_sha256: str
    too_long: int
    truncated: int

    def to_json(self) -> str:
        """As JSON: sorted keys, LF, one newline at the end."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Selection:
    """The rows of one run, encoded, in order, and the record of them."""

    encoded: tuple[Encoded, ...]
    uids: tuple[str, ...]
    consumed: Consumed


def next_row(parent: Path) -> int:
    """Where training from ``parent`` begins: 0 for a base, the adapter's ``next_row`` otherwise.

    Raises HeartwoodError when an adapter folder has no readable ``consumed.json``.
    """
    if not parent.is_dir():
        pointer_path(parent)
        return 0
    path = parent / CONSUMED_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["next_row"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeartwoodError(
            f"cannot read next_row from {path}: {error!r}", hint=f"make it again with: dvc repro sft@{parent.name}"
        ) from error
    if not isinstance(value, int) or value < 0:
        raise HeartwoodError(
            f"{path}: next_row is {value!r}, allowed: 0 or more", hint=f"make it again: dvc repro sft@{parent.name}"
        )
    return value


def select_rows(tokenizer: Any, rows: Sequence[Mapping[str, Any]], skip: int, count: int, context: int) -> Selection:
    """Encode ``count`` rows of the mixture in file order from row ``skip`` on, going round at its end.

    Rows whose last turn and completion do not fit ``context`` are passed over and counted; the next row takes
    their place. Raises HeartwoodError when the mixture is empty or more than 5 % of ``count`` are passed over.
    """
    if not rows:
        raise HeartwoodError("the mixture has no rows", hint="write it again with: dvc repro mix")
    if skip < 0:
        raise HeartwoodError(f"first row is {skip}, allowed: 0 or more", hint="use the parent's next_row")
    encoded: list[Encoded] = []
    uids: list[str] = []
    sources: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    position, too_long = skip, 0
    while len(encoded) < count:
        row = rows[position % len(rows)]
        position += 1
        try:
            encoded.append(encode_example(tokenizer, row, context))
        except TooLongError as error:
            too_long += 1
            if too_long > MAX_TOO_LONG * count:
                raise HeartwoodError(
                    f"more than {MAX_TOO_LONG:.0%} of the {count} rows to train on do not fit: {error}",
                    hint=f"raise sft.context (now {context})",
                ) from error
            continue
        uids.append(str(row["uid"]))
        sources[str(row["source"])] += 1
        tokens[str(row["source"])] += sum(encoded[-1].completion_mask)
    in_mixture = Counter(str(row["source"]) for row in rows)
    consumed = Consumed(
        first_row=skip,
        next_row=position,
        rows=count,
        mixture_rows=len(rows),
        rows_by_source={name: sources[name] for name in sorted(in_mixture)},
        supervised_tokens_by_source={name: tokens[name] for name in sorted(in_mixture)},
        epochs_by_source={name: round(sources[name] / size, 6) for name, size in sorted(in_mixture.items())},
        uids_sha256=hashlib.sha256("\n".join(uids).encode()).hexdigest(),
        too_long=too_long,
        truncated=sum(example.truncated_turns > 0 for example in encoded),
    )
    return Selection(encoded=tuple(encoded), uids=tuple(uids), consumed=consumed)


def dev_sample(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], count: int, context: int
) -> tuple[tuple[str, Encoded], ...]:
    """A fixed sample of dev rows, uid and encoded row: equally many of each source, in the order of their uids' sha256.

    It depends on the dev rows alone, so that the dev losses of two mixtures are over the same rows. Rows that do not
    fit ``context`` are passed over. Fewer than ``count`` only where dev has fewer.
    """
    by_source: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: hashlib.sha256(str(r["uid"]).encode()).hexdigest()):
        by_source.setdefault(str(row["source"]), []).append(row)
    queues = [iter(by_source[name]) for name in sorted(by_source)]
    sample: list[tuple[str, Encoded]] = []
    while queues and len(sample) < count:
        for queue in list(queues):
            encoded = _first_that_fits(tokenizer, queue, context)
            if encoded is None:
                queues.remove(queue)
            elif len(sample) < count:
                sample.append(encoded)
    return tuple(sample)


def _first_that_fits(tokenizer: Any, rows: Iterator[Mapping[str, Any]], context: int) -> tuple[str, Encoded] | None:
    for row in rows:
        try:
            return str(row["uid"]), encode_example(tokenizer, row, context)
        except TooLongError:
            continue
    return None
