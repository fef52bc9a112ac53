from __future__ import annotations

from typing import Any

import pytest

from curation.errors import HeartwoodError
from pipelines.sft.formatting import Encoded, TooLongError, check_masks, encode_example, encode_prompt
from tests.tiny_model import SYSTEM, chat_row


def _supervised(encoded: Encoded) -> list[int]:
    return [token for token, mask in zip(encoded.input_ids, encoded.completion_mask, strict=True) if mask]


def test_loss_covers_the_completion_and_its_eos_only(tokenizer: Any) -> None:
    encoded = encode_example(tokenizer, chat_row(7, turns=2), 200)
    assert tokenizer.decode(_supervised(encoded)) == "I am sorry about day 7.</s>"
    assert encoded.input_ids[-1] == tokenizer.eos_token_id
    assert list(encoded.completion_mask) == sorted(encoded.completion_mask)
    assert encoded.truncated_turns == 0
    check_masks([encoded], tokenizer.eos_token_id)


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_generation_sees_exactly_the_unsupervised_prefix(tokenizer: Any, turns: int) -> None:
    row = chat_row(3, turns=turns)
    encoded = encode_example(tokenizer, row, 256)
    prompt = encode_prompt(tokenizer, row["prompt"], 256, 32)
    assert list(prompt.input_ids) == list(encoded.input_ids[: encoded.completion_mask.index(1)])
    assert tokenizer.decode(prompt.input_ids).endswith("</s>\n<|assistant|>\n")


def test_template_is_the_only_source_of_tokens(tokenizer: Any) -> None:
    row = chat_row(1)
    text = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    encoded = encode_example(tokenizer, row, 200)
    assert tokenizer.decode(encoded.input_ids) == text.removesuffix("\n")


def test_one_bos_at_most(tokenizer: Any) -> None:
    original = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{{ bos_token }}" + original
        encoded = encode_example(tokenizer, chat_row(1), 200)
        assert list(encoded.input_ids).count(tokenizer.bos_token_id) == 1
        tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + original
        with pytest.raises(HeartwoodError, match=r"row uid-001:0: starts with two '<s>'"):
            encode_example(tokenizer, chat_row(1), 200)
        with pytest.raises(HeartwoodError, match="starts with two"):
            encode_prompt(tokenizer, chat_row(1)["prompt"], 200, 10)
    finally:
        tokenizer.chat_template = original


def test_truncation_drops_whole_oldest_turns_and_keeps_the_system_message(tokenizer: Any) -> None:
    row = chat_row(5, turns=4)
    whole = encode_example(tokenizer, row, 256)
    cut = encode_example(tokenizer, row, len(whole.input_ids) - 1)
    assert cut.truncated_turns == 2
    kept = {**row, "prompt": [row["prompt"][0], *row["prompt"][3:]]}
    again = encode_example(tokenizer, kept, 256)
    assert (cut.input_ids, cut.completion_mask) == (again.input_ids, again.completion_mask)
    last = encode_example(tokenizer, chat_row(5), 256)
    text = tokenizer.decode(encode_example(tokenizer, row, len(last.input_ids)).input_ids)
    assert text.startswith(f"<|system|>\n{SYSTEM}</s>\n<|user|>\nI am sad, day 5, part 3.")


def test_prompt_truncation_leaves_room_for_the_reply(tokenizer: Any) -> None:
    messages = chat_row(5, turns=4)["prompt"]
    length = len(encode_prompt(tokenizer, messages, 256, 16).input_ids)
    assert encode_prompt(tokenizer, messages, length + 16, 16).truncated_turns == 0
    cut = encode_prompt(tokenizer, messages, length + 15, 16)
    assert cut.truncated_turns == 2
    assert len(cut.input_ids) <= length - 1


def test_too_long_names_row_and_lengths(tokenizer: Any) -> None:
    with pytest.raises(TooLongError, match=r"row uid-002:0: .* take \d+ tokens, sft.context is 20") as caught:
        encode_example(tokenizer, chat_row(2, turns=3), 20)
    assert "raise sft.context to" in caught.value.hint
    with pytest.raises(TooLongError, match=r"prompt p1: .* context 30 less 20 new tokens leaves 10"):
        encode_prompt(tokenizer, chat_row(2)["prompt"], 30, 20, where="prompt p1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": []}, "no messages"),
        ({"completion": [{"role": "assistant", "content": " "}]}, "completion must be one assistant message"),
        ({"completion": [{"role": "user", "content": "x"}]}, "completion must be one assistant message"),
        ({"completion": [{"role": "assistant", "content": "a</s>b"}]}, "holds 2 eos tokens"),
        ({"prompt": [{"role": "bot", "content": "x"}]}, "message 0 is {'role': 'bot'"),
        ({"prompt": [{"role": "user", "content": None}]}, "message 0 is"),
        ({"prompt": "hello"}, "no messages, found 'hello'"),
        (
            {"prompt": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
            "message 1 has role 'system' but is not first",
        ),
    ],
)
def test_row_of_another_shape(tokenizer: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeartwoodError, match=message) as caught:
        encode_example(tokenizer, {**chat_row(4), **change}, 200)
    assert str(caught.value).startswith("row uid-004:0")
    row = chat_row(4)
    del row["prompt"]
    with pytest.raises(HeartwoodError, match="row uid-004:0: no 'prompt'"):
        encode_example(tokenizer, row, 200)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ((5, 6, 2), (0, 0, 0), "no token is in the loss"),
        ((5, 6, 2), (1, 1, 1), "the prompt too"),
        ((5, 6, 7), (0, 0, 1), "not a supervised eos"),
        ((5, 6, 2), (0, 1, 0), "not a supervised eos"),
        ((5, 6, 2), (0, 1), "2 mask entries"),
    ],
)
def test_check_masks_finds_each_fault(ids: tuple[int, ...], mask: tuple[int, ...], message: str) -> None:
    good = Encoded((5, 6, 2), (0, 1, 1), 0)
    check_masks([good], 2)
    with pytest.raises(HeartwoodError, match=f"row 1 is wrong: .*{message}"):
        check_masks([good, Encoded(ids, mask, 0)], 2)
