"""Tune a pretrained base model on the everyday dialogues that were written for it."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from curation.errors import HeartwoodError
from pipelines.base_model.prepare import SYSTEM_LINES, Dialogue, Everyday, read_dialogues, read_everyday
from pipelines.base_model.train import build_optimizer, drop_block_outputs, save_checkpoint

EVERYDAY = Path(__file__).parent / "everyday"
REPLAYED_SOURCES = ("self_dialogue", "topical_chat")
IGNORED = -100


@dataclass(frozen=True)
class TuningRecipe:
    """Everything that decides the result of a run, besides the data and the weights it starts from."""

    epochs: int = 8
    batch_size: int = 64
    replay_size: int = 8
    """Dialogues of the pretraining corpus beside the everyday ones of each step, against forgetting."""
    replay_tokens: int = 160
    peak_rate: float = 4e-4
    warmup_steps: int = 20
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    dropout: float = 0.1
    held_out_percent: float = 5.0
    system_percent: float = 60.0
    seed: int = 20_252

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the rate of a step: linear warm-up, then a cosine that ends at zero with the run."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


def encode(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue, system: str | None) -> list[int]:
    """Return the tokens of a dialogue in the chat template, after a system line if there is one."""
    rendered = str(tokenizer.apply_chat_template(dialogue.chat(system), tokenize=False))
    return list(tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False).ids)


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return input ids and labels (rows, longest); padding on the right is left out of the loss."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, : len(row)] = torch.tensor(row)
    return ids, labels


def summed_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Return the summed next-token loss under bf16 autocast, and the number of tokens in it.

    No attention mask is needed: padding stands after the text, where causal attention never looks.
    """
    ids, labels = ids.to(model.device), labels.to(model.device)
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits
    kept = labels[:, 1:] != IGNORED
    loss = torch.nn.functional.cross_entropy(logits[:, :-1][kept].float(), labels[:, 1:][kept], reduction="sum")
    return loss, int(kept.sum())


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, rows: Sequence[Sequence[int]], pad: int, *, batch: int = 64) -> float:
    """Return the mean loss of a token over ``rows``."""
    model.train(False)
    total, count = 0.0, 0
    for start in range(0, len(rows), batch):
        loss, tokens = summed_loss(model, *padded(rows[start : start + batch], pad))
        total, count = total + loss.item(), count + tokens
    model.train()
    return total / count


def batches(
    recipe: TuningRecipe, tokenizer: PreTrainedTokenizerFast, everyday: Sequence[Everyday], replay: Sequence[Dialogue]
) -> Iterator[tuple[int, list[list[int]]]]:
    """Yield for every step its epoch and rows: every everyday text at least once an epoch, and a draw of the replayed ones.

    Rows of like length share a step, so that little of a batch is padding.
    """
    generator = np.random.default_rng(recipe.seed)
    for epoch in range(recipe.epochs):
        rows = []
        for dialogue in (drawn for written in everyday for drawn in written.draw(generator)):
            spoken = generator.random() * 100 < recipe.system_percent
            line = SYSTEM_LINES[generator.integers(len(SYSTEM_LINES))]
            rows.append(encode(tokenizer, dialogue, line if spoken else None))
        noisy = np.array([len(row) for row in rows]) * generator.uniform(0.8, 1.2, len(rows))
        order = np.argsort(noisy, kind="stable")
        steps = np.array_split(order, math.ceil(len(rows) / recipe.batch_size))
        for step in generator.permutation(len(steps)):
            chosen = generator.choice(len(replay), recipe.replay_size, replace=False)
            old = [encode(tokenizer, replay[i], None)[: recipe.replay_tokens] for i in chosen]
            yield epoch, [*(rows[i] for i in steps[step]), *old]


def tune(
    start: Path, data: Path, everyday: Path, out: Path, recipe: TuningRecipe, *, device: str
) -> list[dict[str, float | None]]:
    """Tune the model in ``start``, keep it in ``out``, and return the log.

    ``out/tune_log.json`` holds the recipe and one entry for each epoch.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
    pad = int(tokenizer.pad_token_id)
    dialogues = read_everyday(everyday)
    training = [written for written in dialogues if written.percentile >= recipe.held_out_percent]
    kept = [written for written in dialogues if written.percentile < recipe.held_out_percent]
    generator = np.random.default_rng(recipe.seed)
    held_out = [encode(tokenizer, drawn, None) for written in kept for drawn in written.draw(generator)]
    replay = [d for d in read_dialogues(data / "dialogues.jsonl.xz") if d.source in REPLAYED_SOURCES and not d.held_out]
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
    torch.nn.Module.to(model, device)
    drop_block_outputs(model, recipe.dropout)
    optimizer = build_optimizer(model, peak_rate=recipe.peak_rate, weight_decay=recipe.weight_decay)
    drawn_in_an_epoch = sum(max(map(len, written.turns)) for written in training)
    steps = recipe.epochs * math.ceil(drawn_in_an_epoch / recipe.batch_size)

    out.mkdir(parents=True, exist_ok=True)
    log: list[dict[str, float | None]] = []
    began = time.monotonic()

    def record(epoch: int, losses: list[float], tokens: int) -> None:
        loss = round(held_out_loss(model, held_out, pad), 4)
        entry: dict[str, float | None] = {
            "epoch": epoch,
            "tokens": tokens,
            "train_loss": round(float(np.mean(losses)), 4) if losses else None,
            "held_out_loss": loss,
            "seconds": round(time.monotonic() - began, 1),
        }
        log.append(entry)
        print(json.dumps(entry), flush=True)
        document = {
            "recipe": vars(recipe),
            "everyday_dialogues": {"training": len(training), "held_out": len(kept)},
            "log": log,
        }
        (out / "tune_log.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    record(0, [], 0)
    losses: list[float] = []
    current, seen = 0, 0
    for step, (epoch, rows) in enumerate(batches(recipe, tokenizer, training, replay)):
        if epoch != current:
            record(epoch, losses, seen)
            losses, current = [], epoch
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step, steps)
        total, count = torch.zeros((), device=device), 0
        # The replayed rows are longer: apart, neither pads the other.
        for part in (rows[: -recipe.replay_size], rows[-recipe.replay_size :]):
            loss, tokens = summed_loss(model, *padded(part, pad))
            total, count = total + loss, count + tokens
        loss = total / count
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seen += count
    record(recipe.epochs, losses, seen)
    save_checkpoint(model, out)
    return log


def main() -> None:
    """Command line: ``python -m pipelines.base_model.tune --start DIR --data DIR --out DIR [options]``."""
    standard = TuningRecipe()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, default=Path("models/base"), help="the model to go on from")
    parser.add_argument("--data", type=Path, required=True, help="folder with dialogues.jsonl.xz, for the replay")
    parser.add_argument("--everyday", type=Path, default=EVERYDAY, help="folder with the everyday dialogues")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and tune_log.json")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in vars(standard).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    recipe = TuningRecipe(**{name: getattr(args, name) for name in vars(standard)})
    try:
        tune(args.start, args.data, args.everyday, args.out, recipe, device=args.device)
    except HeartwoodError as error:
        raise SystemExit(f"error: {error}\nhint: {error.hint}") from None


if __name__ == "__main__":
    main()
