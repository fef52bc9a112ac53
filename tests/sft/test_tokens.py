from __future__ import annotations

from typing import Any

import pytest

from pipelines.sft.formatting import encode_example
from pipelines.sft.tokens import count_tokens
from tests.tiny_model import chat_row

ENDLESS = 10**9


def test_counts_are_those_of_the_rows_that_training_encodes(tokenizer: Any) -> None:
    rows = [chat_row(number, turns=1 + number % 4) for number in range(1100)]
    counts = count_tokens(tokenizer, rows)
    assert list(counts) == [row["uid"] for row in rows]
    for row in [*rows[:20], *rows[-20:]]:
        encoded = encode_example(tokenizer, row, ENDLESS)
        assert counts[row["uid"]] == (len(encoded.input_ids), sum(encoded.completion_mask))


def test_truncating_the_prompt_keeps_the_supervised_tokens(tokenizer: Any) -> None:
    row = chat_row(0, turns=4)
    everything, supervised = count_tokens(tokenizer, [row])[row["uid"]]
    shortened = encode_example(tokenizer, row, 110)
    assert shortened.truncated_turns
    assert everything > len(shortened.input_ids)
    assert supervised == sum(shortened.completion_mask)


def test_a_repeated_row_counts_once_and_no_rows_are_no_counts(tokenizer: Any) -> None:
    assert len(count_tokens(tokenizer, [chat_row(1), chat_row(1)])) == 1
    assert count_tokens(tokenizer, []) == {}


@pytest.mark.parametrize(
    "reply", ["", " ", "a</s>b", "\ud83d\ude42".encode("utf-16", "surrogatepass").decode("utf-16")]
)
def test_odd_replies_count_at_least_one_token(tokenizer: Any, reply: str) -> None:
    row = chat_row(0)
    row["completion"][0]["content"] = reply
    everything, supervised = count_tokens(tokenizer, [row])[row["uid"]]
    assert 1 <= supervised < everything
