"""The seeds' model, by its exact shape; no weights are needed for counting."""

from __future__ import annotations

from typing import Any

import pytest

from curation.errors import HeartwoodError
from pipelines.sft.base import BasePointer, files_digest, pad_note, resolve_base
from pipelines.sft.model import TINYLLAMA_PARAMETERS, check_share, count_parameters
from tests.tiny_model import build_tiny_base


def pointer(parameters: int = TINYLLAMA_PARAMETERS) -> BasePointer:
    return BasePointer(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "fe8a4ea1ffedaf415f4da2f062534de366a451e6",
        {},
        files_digest({}),
        parameters,
        "LlamaForCausalLM",
        True,
        "<unk>",
    )


def counts(rank: int, targets: tuple[str, ...]) -> tuple[int, int]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        base: Any = LlamaForCausalLM(config)
        assert sum(p.numel() for p in base.parameters()) == TINYLLAMA_PARAMETERS
        model = get_peft_model(base, LoraConfig(r=rank, target_modules=list(targets), task_type="CAUSAL_LM"))
    return count_parameters(model, pointer())


@pytest.mark.parametrize(("rank", "targets"), [(8, "qkvo"), (16, "qv")])
def test_its_lora_is_0_2044_percent(rank: int, targets: str) -> None:
    trainable, total = counts(rank, tuple(f"{letter}_proj" for letter in targets))
    assert trainable == 2_252_800
    assert f"{check_share(trainable, total, pointer()):.4%}" == "0.2044%"


def test_another_share_is_refused_for_it_and_for_no_other_base() -> None:
    with pytest.raises(HeartwoodError, match=r"\(0\.1023%\), allowed for TinyLlama-1\.1B: 0\.2% to 0\.4%"):
        check_share(1_126_400, TINYLLAMA_PARAMETERS + 1_126_400, pointer())
    with pytest.raises(HeartwoodError, match=r"0\.5700%|0\.57"):
        check_share(6_307_840, TINYLLAMA_PARAMETERS + 6_307_840, pointer())
    assert check_share(900_000, 16_600_000, pointer(15_700_000)) > 0.05


def test_its_own_pad_is_eos_and_unk_is_taken_and_said(tmp_path: Any) -> None:
    base = build_tiny_base(tmp_path / "base", pad_token="</s>")
    found = resolve_base(str(base))
    assert found.pad_token == "<unk>"
    note = pad_note(found)
    assert note is not None
    assert "own pad token is </s>, its end of turn: padding with <unk> instead" in note
    assert pad_note(resolve_base(str(build_tiny_base(tmp_path / "padded", pad_token="<s>")))) is None
