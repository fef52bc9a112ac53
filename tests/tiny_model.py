"""A random Llama of two layers with a byte-level tokenizer and TinyLlama's chat template, built in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# The template of TinyLlama-1.1B-Chat-v1.0 (Zephyr's): role tags are plain text, each turn ends in eos + newline.
TINYLLAMA_TEMPLATE = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
SYSTEM = "You are kind."


def build_tiny_base(folder: Path, *, seed: int = 0, tie: bool = True, **tokenizer_keys: Any) -> Path:
    """Write the model to ``folder``; ``tokenizer_keys`` override ``tokenizer_config.json`` (None removes)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["<|user|>\nI am so sad today.", "<|assistant|>\nI am sorry to hear that.", "<|system|>\nYou are kind."],
        trainer,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=tie,
        initializer_range=0.2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    keys = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": TINYLLAMA_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        **tokenizer_keys,
    }
    content = {key: value for key, value in keys.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def write_pointer(folder: Path, path: Path) -> Path:
    """Resolve ``folder`` and write its pointer to ``path``."""
    from pipelines.sft.base import resolve_base

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(resolve_base(str(folder)).to_json(), encoding="utf-8", newline="\n")
    return path


def chat_row(number: int, *, source: str = "esconv", turns: int = 1) -> dict[str, Any]:
    """A mixture row with ``turns`` user turns before its completion."""
    prompt = [{"role": "system", "content": SYSTEM}]
    for turn in range(turns):
        if turn:
            prompt.append({"role": "assistant", "content": f"Tell me more, {turn}."})
        prompt.append({"role": "user", "content": f"I am sad, day {number}, part {turn}."})
    return {
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": f"I am sorry about day {number}."}],
        "source": source,
        "task": "reply",
        "uid": f"uid-{number:03d}:0",
        "conversation": f"conversation-{number}",
    }
