"""Watching a model learn: losses and their verdict, a progress bar, and sample replies."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.sft.formatting import Encoded

SAMPLE_TOKENS = 48
_NORMAL_95 = 1.96
_FEWEST_ROWS = 5


@dataclass(frozen=True)
class StepLoss:
    """One optimizer step: mean loss (nats) over its supervised tokens, and the learning rate it used.

    ``tokens`` counts all tokens of its rows, ``supervised_tokens`` those in the loss.
    """

    step: int
    loss: float
    learning_rate: float
    supervised_tokens: int
    tokens: int


@dataclass(frozen=True)
class DevLoss:
    """The dev loss after ``step`` steps: for each row of the fixed sample its summed loss (nats) and its tokens."""

    step: int
    sums: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def loss(self) -> float:
        """Mean over all supervised tokens."""
        return math.fsum(self.sums) / sum(self.tokens)


@dataclass(frozen=True)
class Verdict:
    """What the dev losses say: ``improving``, ``level``, ``overfitting``, ``diverging`` or ``unknown``, and why."""

    verdict: str
    evidence: str
    best: DevLoss
    last: DevLoss
    rise: float
    low: float
    high: float


def judge(steps: Sequence[StepLoss], dev: Sequence[DevLoss], window: int) -> Verdict | None:
    """Whether the run went past its best; None without dev losses.

    The last dev loss is compared with the lowest one, row by row: the same rows both times, so their difference is far
    less noisy than either. It counts as a rise when its 95 % interval (ratio of sums, normal) lies above 0. A rise
    while the train loss (mean of ``window`` steps) went up too is ``diverging``, any other rise ``overfitting``.
    The lowest of several noisy numbers flatters itself a little, so a narrow verdict wants a second look.
    """
    if not dev:
        return None
    best = min(dev, key=lambda d: (d.loss, d.step))
    first, last = dev[0], dev[-1]
    rise, low, high = _difference(best, last)
    before, after = _mean_loss(steps, max(best.step, window), window), _mean_loss(steps, last.step, window)
    said = (
        f"dev loss {first.loss:.4f} at step {first.step}, lowest {best.loss:.4f} at step {best.step}, "
        f"{last.loss:.4f} at step {last.step}"
    )
    rose = f"; {rise:+.4f} since the lowest (95 % interval {low:+.4f} to {high:+.4f}, {len(last.sums)} rows)"
    trained = f"; mean train loss {before:.4f} then, {after:.4f} over the last {min(window, len(steps))} steps"
    if len(dev) < 2 or len(last.sums) < _FEWEST_ROWS:
        return Verdict("unknown", f"{said}: too few losses or rows", best, last, rise, low, high)
    if low > 0:
        return Verdict(
            "diverging" if after > before else "overfitting", said + rose + trained, best, last, rise, low, high
        )
    if best.step == last.step:
        gain, gain_low, gain_high = _difference(dev[-2], last)
        since = f"; {gain:+.4f} since step {dev[-2].step} (95 % interval {gain_low:+.4f} to {gain_high:+.4f})"
        return Verdict("improving" if gain_high < 0 else "level", said + since, best, last, rise, low, high)
    return Verdict("level", said + rose, best, last, rise, low, high)


def _difference(earlier: DevLoss, later: DevLoss) -> tuple[float, float, float]:
    """Difference of two mean losses per token over the same rows, and its 95 % interval."""
    differences = [b - a for a, b in zip(earlier.sums, later.sums, strict=True)]
    total, count = sum(later.tokens), len(differences)
    mean = math.fsum(differences) / total
    if count < 2:
        return mean, -math.inf, math.inf
    residuals = math.fsum((d - mean * t) ** 2 for d, t in zip(differences, later.tokens, strict=True))
    error = math.sqrt(residuals * count / (count - 1)) / total
    return mean, mean - _NORMAL_95 * error, mean + _NORMAL_95 * error


def _mean_loss(steps: Sequence[StepLoss], upto: int, window: int) -> float:
    """Mean loss per supervised token over the ``window`` steps that end with step ``upto``."""
    part = [s for s in steps if upto - window < s.step <= upto] or list(steps)
    return math.fsum(s.loss * s.supervised_tokens for s in part) / max(1, sum(s.supervised_tokens for s in part))


def row_losses(
    model: Any, collate: Callable[[list[dict[str, Any]]], Any], rows: Sequence[Encoded], size: int, device: Any
) -> list[float]:
    """The summed loss (nats) of each row over its supervised tokens, ``size`` rows at a time.

    ``model`` has TRL's fused head, ``collate`` is the trainer's own collator: padded or packed as in training.
    """
    import torch

    losses: list[float] = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        inputs = collate([as_features(row) for row in batch])
        inputs = {name: value.to(device) if hasattr(value, "to") else value for name, value in inputs.items()}
        with torch.no_grad():
            found = model(**inputs, use_cache=False, fused_lm_head=True).log_probs.float()
        if found.shape[0] == len(batch) and len(batch) > 1:
            losses += (-found.sum(dim=1)).tolist()
        else:
            # Position i predicts token i + 1, so the last position of a row predicts nothing of its own.
            lengths = [len(row.input_ids) for row in batch]
            losses += [-part.sum().item() for part in found[0].split([*lengths[:-1], lengths[-1] - 1])]
    return losses


def as_features(row: Encoded) -> dict[str, Any]:
    """A row as the trainer's collator takes it: tokens outside the loss are labelled -100."""
    labels = [token if mask else -100 for token, mask in zip(row.input_ids, row.completion_mask, strict=True)]
    return {"input_ids": list(row.input_ids), "labels": labels}


def sample_replies(model: Any, tokenizer: Any, rows: Sequence[tuple[str, Encoded]]) -> list[dict[str, Any]]:
    """Greedy replies to the prompts of some rows, as ``{"uid", "prompt", "reply"}``; one batch, padded on the left."""
    import torch

    if not rows:
        return []
    prompts = [row.input_ids[: row.completion_mask.index(1)] for _, row in rows]
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device),
            attention_mask=torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device),
            max_new_tokens=SAMPLE_TOKENS,
            do_sample=False,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
        )
    replies = []
    for (uid, _), prompt, row in zip(rows, prompts, output[:, longest:].tolist(), strict=True):
        reply = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
        replies.append(
            {
                "uid": uid,
                "prompt": tokenizer.decode(prompt, clean_up_tokenization_spaces=False),
                "reply": tokenizer.decode(reply, clean_up_tokenization_spaces=False),
            }
        )
    return replies


@contextmanager
def training_bar(steps: int, *, shown: bool = True) -> Iterator[Callable[[StepLoss, DevLoss | None], None]]:
    """A callable that takes each step's loss and the latest dev loss.

    On a terminal a bar shows step, losses, tokens/s and the time left; in a log nothing is printed.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda step, dev: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bar:
        task = bar.add_task("training", total=steps, said="")
        started, tokens = time.monotonic(), 0

        def show(step: StepLoss, dev: DevLoss | None) -> None:
            nonlocal tokens
            tokens += step.tokens
            rate = tokens / max(1e-9, time.monotonic() - started)
            said = f"loss {step.loss:.3f}" + (f", dev {dev.loss:.3f}" if dev else "") + f", {rate:,.0f} tokens/s"
            bar.update(task, completed=step.step, said=said)

        yield show
