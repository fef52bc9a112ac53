"""Pretrain the base model from scratch on the token files that ``prepare`` wrote."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curation.errors import HeartwoodError
from pipelines.base_model.prepare import CONTEXT_LENGTH, Tokens

SHARD_SIZE = "14MB"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a run, besides the data."""

    hidden_size: int = 384
    layers: int = 8
    heads: int = 6
    kv_heads: int = 2
    feed_forward: int = 1024
    steps: int = 2400
    batch_size: int = 192
    sequence_length: int = 512
    peak_rate: float = 2e-3
    final_rate_share: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    dropout: float = 0.1
    dialogue_share_start: float = 0.45
    dialogue_share_end: float = 0.80
    evaluate_every: int = 150
    seed: int = 20_251

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step: linear warm-up, then a cosine that ends with the run."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_rate * (self.final_rate_share + (1 - self.final_rate_share) * cosine)

    def dialogue_rows(self, step: int) -> int:
        """Return how many rows of a step's batch are dialogue; the share rises linearly over the run."""
        progress = step / max(1, self.steps - 1)
        share = self.dialogue_share_start + (self.dialogue_share_end - self.dialogue_share_start) * progress
        return round(self.batch_size * share)


@dataclass(frozen=True)
class Corpus:
    """The token files, and where a dialogue window may start."""

    dialogues: Tokens
    validation: Tokens
    novels: Tokens
    turn_starts: npt.NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path, *, window: int, start_ids: list[int]) -> Corpus:
        """Read the files; a dialogue window starts at one of the role markers ``start_ids``.

        So the first token of a row is what the first token of a chat prompt is.
        """
        arrays: dict[str, Tokens] = {}
        for name in ("dialogues_train", "dialogues_valid", "novels_train"):
            path = folder / f"{name}.npy"
            if not path.is_file():
                raise HeartwoodError(f"{path}: no such file", hint="Run pipelines.base_model.prepare first.")
            arrays[name] = np.load(path)
            if len(arrays[name]) <= window:
                raise HeartwoodError(
                    f"{path}: {len(arrays[name])} tokens, a row needs {window}",
                    hint="Prepare more text or lower --sequence-length.",
                )
        starts = np.flatnonzero(np.isin(arrays["dialogues_train"][:-window], start_ids))
        return cls(arrays["dialogues_train"], arrays["dialogues_valid"], arrays["novels_train"], starts)

    def batch(self, recipe: Recipe, step: int, generator: np.random.Generator) -> Tensor:
        """Draw the rows of one step."""
        count = recipe.dialogue_rows(step)
        length = recipe.sequence_length
        chats = generator.choice(self.turn_starts, size=count)
        prose = generator.integers(0, len(self.novels) - length, size=recipe.batch_size - count)
        rows = [self.dialogues[start : start + length] for start in chats]
        rows += [self.novels[start : start + length] for start in prose]
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a freshly initialised model of the recipe's shape."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(config)


def drop_block_outputs(model: LlamaForCausalLM, share: float) -> None:
    """Let every attention and feed-forward block drop ``share`` of its output in training (Llama itself never does)."""

    def drop(module: torch.nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (torch.nn.functional.dropout(output[0], share, module.training), *output[1:])
        return torch.nn.functional.dropout(output, share, module.training)

    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)


def build_optimizer(model: LlamaForCausalLM, *, peak_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW that decays matrices but not norms."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak_rate, betas=(0.9, 0.95))


def batch_loss(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Return the mean next-token loss, computed under bf16 autocast."""
    with torch.autocast(rows.device.type, dtype=torch.bfloat16):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
    assert isinstance(loss, Tensor)
    return loss


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, tokens: Tokens, recipe: Recipe, device: str) -> float:
    """Return the mean loss over the held-out dialogues, cut into consecutive rows."""
    model.train(False)
    length = recipe.sequence_length
    count = len(tokens) // length
    rows = torch.from_numpy(tokens[: count * length].reshape(count, length).astype(np.int64))
    total = 0.0
    for start in range(0, count, recipe.batch_size):
        part = rows[start : start + recipe.batch_size].to(device)
        total += batch_loss(model, part).item() * len(part)
    model.train()
    return total / count


def save_checkpoint(model: LlamaForCausalLM, out: Path) -> None:
    """Write the weights in bf16; training goes on with the float32 ones."""
    weights = {name: weight.detach().to("cpu", torch.bfloat16) for name, weight in model.state_dict().items()}
    weights.pop("lm_head.weight")
    copy = LlamaForCausalLM(model.config).bfloat16()
    copy.load_state_dict(weights, strict=False)
    copy.tie_weights()
    copy.save_pretrained(out, max_shard_size=SHARD_SIZE)


def train(data: Path, out: Path, recipe: Recipe, *, device: str) -> list[dict[str, float]]:
    """Train, keep the checkpoint of the best validation loss in ``out``, and return the log.

    ``out/train_log.json`` holds the recipe and one entry for each evaluation.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data / "tokenizer")
    start_ids = tokenizer.convert_tokens_to_ids(["<|user|>", "<|system|>"])
    corpus = Corpus.load(data, window=recipe.sequence_length, start_ids=start_ids)
    generator = np.random.default_rng(recipe.seed)
    torch.set_float32_matmul_precision("high")
    model = build_model(recipe, tokenizer)
    torch.nn.Module.to(model, device)
    drop_block_outputs(model, recipe.dropout)
    optimizer = build_optimizer(model, peak_rate=recipe.peak_rate, weight_decay=recipe.weight_decay)

    out.mkdir(parents=True, exist_ok=True)
    log: list[dict[str, float]] = []
    best = math.inf
    running: list[Tensor] = []
    started = time.monotonic()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step)
        loss = batch_loss(model, corpus.batch(recipe, step, generator).to(device))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running.append(loss.detach())

        done = step + 1
        if done % recipe.evaluate_every and done != recipe.steps:
            continue
        entry = {
            "step": done,
            "tokens": done * recipe.batch_size * recipe.sequence_length,
            "train_loss": round(torch.stack(running).mean().item(), 4),
            "validation_loss": round(validation_loss(model, corpus.validation, recipe, device), 4),
            "seconds": round(time.monotonic() - started, 1),
        }
        running.clear()
        log.append(entry)
        print(json.dumps(entry), flush=True)
        if entry["validation_loss"] < best:
            best = entry["validation_loss"]
            save_checkpoint(model, out)
        document = {"recipe": vars(recipe), "log": log}
        (out / "train_log.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return log


def main() -> None:
    """Command line: ``python -m pipelines.base_model.train --data DIR --out DIR [options]``."""
    standard = Recipe()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and train_log.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in vars(standard).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    recipe = Recipe(**{name: getattr(args, name) for name in vars(standard)})
    try:
        train(args.data, args.out, recipe, device=args.device)
    except HeartwoodError as error:
        raise SystemExit(f"error: {error}\nhint: {error.hint}") from None


if __name__ == "__main__":
    main()
