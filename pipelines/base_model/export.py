"""Turn a checkpoint and its tokenizer into the folder ``models/base``, and show greedy replies."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curation.errors import HeartwoodError
from pipelines.base_model.prepare import CHAT_TEMPLATE, CONTEXT_LENGTH

SIZE_LIMIT_BYTES = 32_000_000
SAMPLE_PROMPTS = (
    "I lost my job today.",
    "I got the job!",
    "My dog died last night.",
    "Hello, how are you?",
    "What is your favorite movie?",
    "I am so nervous about my exam tomorrow.",
    "Nobody came to my birthday party.",
    "Can you help me?",
)


def export(checkpoint: Path, tokenizer_folder: Path, out: Path) -> None:
    """Write weights in one bf16 file, configs, tokenizer and chat template to ``out``."""
    for path in (checkpoint / "config.json", tokenizer_folder / "tokenizer.json"):
        if not path.is_file():
            raise HeartwoodError(f"{path}: no such file", hint="Run prepare and train first, or correct the path.")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    model = LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    if model.config.vocab_size != len(tokenizer):
        raise HeartwoodError(
            f"{checkpoint}: vocabulary of {model.config.vocab_size}, the tokenizer has {len(tokenizer)}",
            hint="Export a checkpoint with the tokenizer that it was trained with.",
        )
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model.config.update(special)
    model.generation_config = GenerationConfig.from_dict({"do_sample": False, "max_new_tokens": 64, **special})
    model.save_pretrained(out, max_shard_size="1GB")
    size = (out / "model.safetensors").stat().st_size
    if size > SIZE_LIMIT_BYTES:
        raise HeartwoodError(
            f"{out / 'model.safetensors'}: {size} bytes, at most {SIZE_LIMIT_BYTES} are allowed",
            hint="Train a smaller shape.",
        )
    tokenizer.backend_tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_tokenizer_config(tokenizer, out / "tokenizer_config.json")


def write_tokenizer_config(tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write a tokenizer_config.json that every transformers 4 and 5 reads as a plain fast tokenizer."""
    added = {
        str(number): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
    }
    document = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": added,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_max_length": CONTEXT_LENGTH,
        "pad_token": "<pad>",
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def greedy_reply(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, message: str) -> str:
    """Return the greedy answer to one user message, special tokens removed."""
    chat = [{"role": "user", "content": message}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([tokenizer.backend_tokenizer.encode(str(prompt), add_special_tokens=False).ids])
    with torch.no_grad():
        output = model.generate(inputs=ids, attention_mask=torch.ones_like(ids))  # type: ignore[misc]
    reply = output[0, ids.shape[1] :].tolist()
    return tokenizer.backend_tokenizer.decode(reply, skip_special_tokens=True).strip()


def main() -> None:
    """Command line: ``python -m pipelines.base_model.export --checkpoint DIR --tokenizer DIR --out DIR``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that train wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the tokenizer folder that prepare wrote")
    parser.add_argument("--out", type=Path, default=Path("models/base"))
    args = parser.parse_args()
    try:
        export(args.checkpoint, args.tokenizer, args.out)
    except HeartwoodError as error:
        raise SystemExit(f"error: {error}\nhint: {error.hint}") from None
    model = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).train(False)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
    for prompt in SAMPLE_PROMPTS:
        print(f"- {prompt}\n  -> {greedy_reply(model, tokenizer, prompt)}")


if __name__ == "__main__":
    main()
