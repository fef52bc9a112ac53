from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import HeartwoodError
from pipelines.evaluation.respond import RespondSettings, generate, respond
from pipelines.sft.base import read_pointer
from pipelines.sft.formatting import EncodedPrompt, encode_prompt
from pipelines.sft.hardware import choose
from pipelines.sft.model import load_model
from pipelines.sft.train import TrainSettings, train
from tests.tiny_model import build_tiny_base, chat_row, write_pointer

SETTINGS = RespondSettings(batch_size=3, context=200, max_new_tokens=12, device="cpu", threads=1)
PROMPTS = [{"id": f"p{n}", "messages": chat_row(n, turns=1 + n % 3)["prompt"]} for n in range(7)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_pointer(build_tiny_base(folder / "base"), folder / "base.json")


def test_rows_come_in_file_order_with_their_counts(base_json: Path) -> None:
    replies = respond(base_json, PROMPTS, SETTINGS)
    assert [row["prompt_id"] for row in replies] == [prompt["id"] for prompt in PROMPTS]
    for row in replies:
        assert set(row) == {
            "prompt_id",
            "text",
            "new_tokens",
            "finished",
            "special_tokens",
            "prompt_tokens",
            "prompt_truncated_turns",
        }
        assert row["text"] == row["text"].rstrip()
        assert 1 <= row["new_tokens"] <= 12
        assert row["finished"] or row["new_tokens"] == 12
        assert row["prompt_truncated_turns"] == 0


@pytest.mark.parametrize("decoding", ["greedy", "sample"])
def test_the_same_batches_give_the_same_replies(base_json: Path, decoding: str) -> None:
    settings = replace(SETTINGS, decoding=decoding)
    assert respond(base_json, PROMPTS, settings) == respond(base_json, PROMPTS, settings)
    if decoding == "sample":
        assert respond(base_json, PROMPTS, settings) != respond(base_json, PROMPTS, replace(settings, seed=1))


def test_padding_does_not_reach_the_reply(base_json: Path) -> None:
    """In float32 the replies of a padded batch are those of the prompts one by one."""
    batched = respond(base_json, PROMPTS, replace(SETTINGS, batch_size=7, quantisation="none"))
    single = respond(base_json, PROMPTS, replace(SETTINGS, batch_size=1, quantisation="none"))
    assert batched == single


def test_greedy_is_the_argmax_of_a_plain_forward_pass(base_json: Path) -> None:
    model, tokenizer, _ = load_model(base_json, choose("cpu", 1), "none")
    encoded = encode_prompt(tokenizer, PROMPTS[0]["messages"], 200, 12)
    ids = list(encoded.input_ids)
    for _ in range(12):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    reply = [token for token in ids[len(encoded.input_ids) :] if token != tokenizer.eos_token_id]
    row = respond(base_json, PROMPTS[:1], replace(SETTINGS, quantisation="none"))[0]
    assert row["text"] == tokenizer.decode(reply, skip_special_tokens=True).rstrip()


def test_a_tuned_model_replies_as_it_was_taught(base_json: Path, tmp_path: Path) -> None:
    rows = [chat_row(1)]
    settings = TrainSettings(
        steps=40,
        learning_rate=2e-2,
        batch_size=1,
        context=128,
        lora_targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        lora_dropout=0.0,
        device="cpu",
        threads=1,
    )
    train(rows, base_json, tmp_path / "sft-40", settings, skip=0)
    prompts = [{"id": "p", "messages": rows[0]["prompt"]}]
    reply = respond(tmp_path / "sft-40", prompts, replace(SETTINGS, max_new_tokens=40))[0]
    assert reply["text"] == "I am sorry about day 1."
    assert reply["finished"]
    assert respond(base_json, prompts, SETTINGS)[0]["text"] != reply["text"]


@pytest.mark.parametrize("decoding", ["greedy", "sample"])
def test_base_and_tuned_models_are_given_the_same_token_ids(
    base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding: str
) -> None:
    """What reaches generation: ids, attention, padding, order, batches and decoding settings."""
    settings = TrainSettings(steps=1, learning_rate=1e-3, batch_size=1, context=128, device="cpu", threads=1)
    train([chat_row(1)], base_json, tmp_path / "sft-1", settings, skip=0)
    given: dict[Path, list[Any]] = {}

    def loading(path: Path, *args: Any, **keys: Any) -> Any:
        model, tokenizer, pointer = load_model(path, *args, **keys)
        inner = model.generate

        def recording(**inputs: Any) -> Any:
            config = inputs["generation_config"].to_dict()
            given.setdefault(path, []).append(
                (inputs["input_ids"].numpy().tobytes(), inputs["attention_mask"].numpy().tobytes(), config)
            )
            return inner(**inputs)

        model.generate = recording
        return model, tokenizer, pointer

    monkeypatch.setattr("pipelines.evaluation.respond.load_model", loading)
    for path in (base_json, tmp_path / "sft-1"):
        respond(path, PROMPTS, replace(SETTINGS, decoding=decoding))
    base, tuned = given.values()
    assert len(base) == 3
    assert base == tuned


class _Scripted(torch.nn.Module):
    """Stands in for a model: writes ``script`` after any prompt."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.script = script

    def generate(self, input_ids: Any, attention_mask: Any, generation_config: Any) -> Any:
        assert attention_mask.tolist()[0][0] == 0
        reply = torch.tensor([self.script] * len(input_ids))
        return torch.cat([input_ids, reply], dim=1)


def test_finished_and_special_tokens(base_json: Path) -> None:
    from pipelines.sft.base import load_tokenizer

    pointer = read_pointer(base_json)
    tokenizer = load_tokenizer(Path(pointer.name), pointer.pad_token)
    bos, eos, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    word = tokenizer("sad ").input_ids
    prompts = [("a", EncodedPrompt((5, 6), 0)), ("b", EncodedPrompt((5, 6, 7), 1))]
    done = generate(_Scripted([*word, bos, eos, pad, pad]), tokenizer, prompts, SETTINGS)
    assert [row["text"] for row in done] == ["sad", "sad"]
    assert done[0]["finished"]
    assert done[0]["new_tokens"] == len(word) + 2
    assert done[0]["special_tokens"] == 1
    assert [row["prompt_tokens"] for row in done] == [2, 3]
    assert done[1]["prompt_truncated_turns"] == 1
    cut = generate(_Scripted(word), tokenizer, prompts, SETTINGS)[0]
    assert (cut["finished"], cut["new_tokens"], cut["special_tokens"]) == (False, len(word), 0)
    empty = generate(_Scripted([eos, pad]), tokenizer, prompts, SETTINGS)[0]
    assert (empty["text"], empty["finished"], empty["new_tokens"]) == ("", True, 1)


def test_errors_name_the_prompt_and_the_key(base_json: Path) -> None:
    with pytest.raises(HeartwoodError, match=r"prompt 0 \(0-based\) has no text 'id'"):
        respond(base_json, [{"messages": []}], SETTINGS)
    with pytest.raises(HeartwoodError, match=r"prompt p0: .* context 30 less 12 new tokens"):
        respond(base_json, PROMPTS, replace(SETTINGS, context=30))
    with pytest.raises(HeartwoodError, match=r"respond\.context is 500, the model takes at most 256"):
        respond(base_json, PROMPTS, replace(SETTINGS, context=500))
    with pytest.raises(HeartwoodError, match="does not exist"):
        respond(base_json.parent / "sft-100", PROMPTS, SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoding": "beam"}, "respond.decoding is 'beam', allowed: greedy or sample"),
        ({"batch_size": 0}, "respond.batch_size is 0"),
        ({"context": 12}, r"respond.context is 12, allowed: more than max_new_tokens \(12\)"),
        ({"top_p": 0.0}, "respond.top_p"),
        ({"temperature": 0.0}, "respond.temperature"),
    ],
)
def test_impossible_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeartwoodError, match=message):
        replace(SETTINGS, **change)
