"""Rows laid end to end, 4-bit weights kept dequantised, checkpointed activations: the same numbers, cheaper."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines.sft.attention import NAME, fits, register
from pipelines.sft.base import read_pointer
from pipelines.sft.formatting import Encoded, encode_example
from pipelines.sft.hardware import choose
from pipelines.sft.model import load_base
from pipelines.sft.train import TrainSettings, train
from pipelines.sft.watch import row_losses
from tests.tiny_model import chat_row

ROWS = [chat_row(number, turns=1 + number % 4) for number in range(12)]
SETTINGS = TrainSettings(
    steps=3, learning_rate=1e-2, batch_size=4, context=200, lora_rank=4, lora_dropout=0.0, device="cpu", threads=1
)


def _collator(tokenizer: Any, *, packed: bool) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(tokenizer.pad_token_id, padding_free=packed)


def _model(base_json: Path, attention: str, *, quantisation: str = "none", **options: Any) -> Any:
    from trl.trainer.utils import add_fused_lm_head

    model, _ = load_base(read_pointer(base_json), choose("cpu", 1), quantisation, **options)
    model.set_attn_implementation(attention)
    add_fused_lm_head(model)
    return model


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> list[Encoded]:
    return [encode_example(tokenizer, row, 200) for row in ROWS]


def test_packed_and_padded_batches_give_each_row_the_same_loss(
    base_json: Path, tokenizer: Any, encoded: list[Encoded]
) -> None:
    padded = row_losses(_model(base_json, "sdpa"), _collator(tokenizer, packed=False), encoded, 5, "cpu")
    packed = row_losses(_model(base_json, register()), _collator(tokenizer, packed=True), encoded, 5, "cpu")
    alone = row_losses(_model(base_json, "sdpa"), _collator(tokenizer, packed=False), encoded, 1, "cpu")
    masked = row_losses(_model(base_json, "sdpa"), _collator(tokenizer, packed=True), encoded, 5, "cpu")
    unmasked = row_losses(_model(base_json, register()), _collator(tokenizer, packed=False), encoded, 5, "cpu")
    assert len({len(row.input_ids) for row in encoded}) > 3
    for found in (packed, alone, masked, unmasked):
        assert found == pytest.approx(padded, rel=1e-5)


def test_packed_and_padded_training_is_the_same(base_json: Path, tmp_path: Path) -> None:
    runs = {}
    for batches in ("packed", "padded"):
        out = tmp_path / batches
        runs[batches] = train(ROWS, base_json, out, replace(SETTINGS, batches=batches), skip=0, dev=ROWS[:6])
    packed, padded = runs["packed"], runs["padded"]
    assert [s.loss for s in packed.losses] == pytest.approx([s.loss for s in padded.losses], rel=1e-5)
    assert packed.consumed == padded.consumed
    assert packed.dev_losses[-1].sums == pytest.approx(padded.dev_losses[-1].sums, rel=1e-4)
    weights = [load_file(str(tmp_path / name / "adapter_model.safetensors")) for name in runs]
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=1e-4), name


def test_a_row_does_not_see_its_neighbours_nor_pull_on_them(
    base_json: Path, tokenizer: Any, encoded: list[Encoded]
) -> None:
    model, collate = _model(base_json, register()), _collator(tokenizer, packed=True)
    before = row_losses(model, collate, encoded[:3], 3, "cpu")
    other = replace(encoded[0], input_ids=tuple(reversed(encoded[0].input_ids)))
    after = row_losses(model, collate, [other, *encoded[1:3]], 3, "cpu")
    assert after[0] != before[0]
    assert after[1:] == before[1:]

    embedding = model.get_input_embeddings().weight
    states = embedding[torch.tensor([encoded[1].input_ids + encoded[2].input_ids])].detach().requires_grad_()
    first = len(encoded[1].input_ids)
    starts = torch.tensor([0, first, states.shape[1]], dtype=torch.int32)
    places = torch.cat([torch.arange(first), torch.arange(states.shape[1] - first)])[None]
    output = model.model(
        inputs_embeds=states,
        position_ids=places,
        cu_seq_lens_q=starts,
        max_length_q=int(starts.diff().max()),
        use_cache=False,
    ).last_hidden_state
    output[0, first:].sum().backward()
    assert states.grad is not None
    assert states.grad[0, :first].abs().max() == 0
    assert states.grad[0, first:].abs().max() > 0


def test_padding_on_the_right_takes_no_mask_and_padding_on_the_left_does(base_json: Path) -> None:
    model, plain = _model(base_json, register()), _model(base_json, "sdpa")
    ids = torch.randint(5, 200, (3, 9), generator=torch.Generator().manual_seed(1))
    masks: list[Any] = []

    def seen(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        masks.append(options["attention_mask"])

    model.model.layers[0].self_attn.register_forward_pre_hook(seen, with_kwargs=True)
    for side, column in (("right", slice(6, None)), ("left", slice(None, 3))):
        real = torch.ones(3, 9, dtype=torch.long)
        real[1, column] = 0
        with torch.no_grad():
            found, wanted = model(ids, attention_mask=real).logits, plain(ids, attention_mask=real).logits
        assert (masks[-1] is None) == (side == "right")
        assert torch.allclose(found[real.bool()], wanted[real.bool()], atol=1e-5)
    real = torch.ones(3, 9, dtype=torch.long)
    real[0, :4] = 0
    replies = [m.generate(ids, attention_mask=real, max_new_tokens=8, do_sample=False) for m in (model, plain)]
    assert torch.equal(*replies)


def test_models_with_windows_train_on_padded_batches() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "vocab_size": 32}
    assert fits(LlamaForCausalLM(LlamaConfig(**sizes)))
    assert not fits(MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)))
    assert fits(MistralForCausalLM(MistralConfig(**sizes, sliding_window=None)))
    assert register() == register() == NAME


def test_weights_kept_dequantised_compute_what_each_use_would(base_json: Path, tokenizer: Any) -> None:
    ids = torch.tensor([tokenizer("I am so sad today, and you?").input_ids] * 2)
    results = []
    for dequantise in (False, True):
        model = _model(base_json, "sdpa", quantisation="nf4", dequantise=dequantise)
        linear = type(model.model.layers[0].mlp.up_proj).__name__
        assert linear == ("Linear" if dequantise else "Linear4bit")
        states = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=states).logits
        logits.logsumexp(-1).sum().backward()
        results.append((logits.detach(), states.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] is not None
    assert torch.equal(results[0][1], results[1][1])
    full = _model(base_json, "sdpa")(ids).logits
    assert not torch.allclose(results[0][0], full, atol=1e-3)


def test_training_does_not_depend_on_how_the_4_bit_weights_are_kept(
    base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(ROWS, base_json, tmp_path / "kept", SETTINGS, skip=0)
    monkeypatch.setattr("pipelines.sft.train.keeps_dequantised", lambda *arguments: False)
    result = train(ROWS, base_json, tmp_path / "each", SETTINGS, skip=0)
    assert not result.dequantised
    for name in ("adapter_model.safetensors", "adapter_config.json", "consumed.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "each" / name).read_bytes(), name


PEAK = """
import sys, torch
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.set_num_threads(1)
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(hidden_size=256, intermediate_size=1024, num_hidden_layers=12, vocab_size=64,
    num_attention_heads=4, num_key_value_heads=4))
model.requires_grad_(False)
model.train()
if sys.argv[1] == "on":
    model.gradient_checkpointing_enable({"use_reentrant": False})
ids = torch.arange(1024)[None] % 64
states = model.get_input_embeddings()(ids).detach().requires_grad_()
before = peak()
loss = model(inputs_embeds=states, labels=ids, use_cache=False).loss
loss.backward()
print(peak() - before, float(loss), float(states.grad.abs().sum()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux")
def test_gradient_checkpointing_lowers_the_peak_and_changes_nothing_else(base_json: Path, tmp_path: Path) -> None:
    found = {}
    for switch in ("off", "on"):
        done = subprocess.run([sys.executable, "-c", PEAK, switch], capture_output=True, text=True, check=True)
        found[switch] = [float(number) for number in done.stdout.split()]
    assert found["on"][0] < 0.6 * found["off"][0]
    assert found["on"][1:] == pytest.approx(found["off"][1:], rel=1e-5)

    plain = train(ROWS, base_json, tmp_path / "off", SETTINGS, skip=0)
    saving = train(ROWS, base_json, tmp_path / "on", replace(SETTINGS, gradient_checkpointing=True), skip=0)
    assert [s.loss for s in saving.losses] == pytest.approx([s.loss for s in plain.losses], rel=1e-5)
