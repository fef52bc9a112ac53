"""What 100 and 150 steps really see: shares of rows and of supervised tokens, counted where the loss is taken."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from curation.mixture import mix, read_request
from pipelines.sft.tokens import count_tokens
from pipelines.sft.train import TrainSettings, next_row, train
from tests.sft.conftest import rows_of
from tests.tiny_model import chat_row

SHARES = {"ed": "rest", "esconv": 0.3, "go": 0.2}
LENGTHS = {"ed": 3, "esconv": 6, "go": 1}
BATCH = 8
SETTINGS = TrainSettings(
    steps=100,
    learning_rate=1e-3,
    batch_size=BATCH,
    context=250,
    lora_rank=2,
    lora_alpha=4,
    lora_targets=("q_proj",),
    quantisation="none",
    device="cpu",
    threads=1,
)


def pool() -> list[dict[str, Any]]:
    """1,000 rows a source; replies of one source are longer than those of another, and differ among themselves."""
    rows = []
    for source, length in LENGTHS.items():
        for number in range(1000):
            row = chat_row(number, source=source)
            row["uid"] = f"{source}-{number}"
            row["completion"][0]["content"] = f"sorry {number} " * (length + number % 3)
            rows.append(row)
    return rows


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The supervised tokens of every row, in the order in which they enter the loss."""
    import trl

    rows: list[tuple[int, ...]] = []
    original = trl.SFTTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rows.extend(tuple(t for t in labels if t != -100) for _, labels in rows_of(inputs))
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", recording)
    return rows


@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_100_and_150_steps_see_the_shares_that_were_asked_for(
    unit: str, base_json: Path, tokenizer: Any, tmp_path: Path, seen: list[tuple[int, ...]]
) -> None:
    rows = pool()
    counts = {uid: supervised for uid, (_, supervised) in count_tokens(tokenizer, rows).items()}
    weights = counts if unit == "tokens" else None
    mixture = mix(rows, read_request(SHARES), size=1200, seed=0, when_short="error", weights=weights).examples
    first, second = tmp_path / "sft-100", tmp_path / "sft-150"
    train(mixture, base_json, first, SETTINGS, skip=next_row(base_json))
    at_100 = len(seen)
    child = TrainSettings(**{**vars(SETTINGS), "steps": 50, "learning_rate": 5e-4})
    train(mixture, first, second, child, skip=next_row(first))

    assert (at_100, len(seen)) == (100 * BATCH, 150 * BATCH)
    assert [len(tokens) for tokens in seen] == [counts[row["uid"]] for row in mixture[: len(seen)]]
    wanted = {"ed": Fraction(1, 2), "esconv": Fraction(3, 10), "go": Fraction(1, 5)}
    largest = max(counts.values())
    for upto in (at_100, len(seen)):
        consumed: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        for row, supervised in zip(mixture[:upto], seen[:upto], strict=True):
            consumed[row["source"]] += 1
            tokens[row["source"]] += len(supervised)
        for source, share in wanted.items():
            if unit == "examples":
                assert abs(consumed[source] - share * upto) < 1
            else:
                assert abs(tokens[source] - share * tokens.total()) <= 2 * largest
                assert abs(tokens[source] / tokens.total() - float(share)) < 0.005
    if unit == "examples":
        # Rows of unlike length: the shares of the tokens are others, which is why there is the other unit.
        assert tokens["go"] / tokens.total() < 0.15

    notes = [json.loads((out / "consumed.json").read_text()) for out in (first, second)]
    assert [(n["first_row"], n["next_row"], n["rows"]) for n in notes] == [(0, 800, 800), (800, 1200, 400)]
    for key, total in (("rows_by_source", consumed), ("supervised_tokens_by_source", tokens)):
        assert {name: notes[0][key][name] + notes[1][key][name] for name in LENGTHS} == dict(total)
