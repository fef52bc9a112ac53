"""Training rows as the model sees them, with the loss mask made visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.base import read_pointer, tokenizer_of
from pipelines.sft.formatting import Encoded, TooLongError, check_masks, encode_example
from pipelines.sft.rows import next_row


@dataclass(frozen=True)
class Part:
    """A stretch of a row that is in the loss (``supervised``) or not, decoded with its special tokens."""

    supervised: bool
    text: str
    tokens: int


@dataclass(frozen=True)
class PreviewRow:
    """One row of the mixture; without ``parts`` where it does not fit the context and is passed over."""

    row: int
    uid: str
    source: str
    tokens: int
    supervised_tokens: int
    truncated_turns: int
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "parts": [vars(part) for part in self.parts]}


def preview(
    rows: Sequence[Mapping[str, Any]], model: Path, count: int, context: int, *, root: Path = Path()
) -> list[PreviewRow]:
    """The first ``count`` rows that training from ``model`` reads, masks checked.

    Raises HeartwoodError for an empty mixture, and for what training would refuse.
    """
    if not rows:
        raise HeartwoodError("the mixture has no rows", hint="write it again with: dvc repro mix")
    tokenizer = tokenizer_of(read_pointer(model), root=root)
    first = next_row(model)
    shown = []
    for number in range(first, first + min(count, len(rows))):
        row = rows[number % len(rows)]
        try:
            encoded = encode_example(tokenizer, row, context)
        except TooLongError:
            shown.append(PreviewRow(number, str(row["uid"]), str(row["source"]), 0, 0, 0, ()))
            continue
        check_masks([encoded], tokenizer.eos_token_id)
        shown.append(
            PreviewRow(
                row=number,
                uid=str(row["uid"]),
                source=str(row["source"]),
                tokens=len(encoded.input_ids),
                supervised_tokens=sum(encoded.completion_mask),
                truncated_turns=encoded.truncated_turns,
                parts=_parts(tokenizer, encoded),
            )
        )
    return shown


def _parts(tokenizer: Any, encoded: Encoded) -> tuple[Part, ...]:
    parts = []
    start = 0
    mask = encoded.completion_mask
    for place in range(1, len(mask) + 1):
        if place == len(mask) or mask[place] != mask[start]:
            text = tokenizer.decode(list(encoded.input_ids[start:place]), clean_up_tokenization_spaces=False)
            parts.append(Part(bool(mask[start]), text, place - start))
            start = place
    return tuple(parts)
