"""What training takes in memory, estimated before the weights are loaded, and what would fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from curation.errors import HeartwoodError

GIB = 1024**3
_ITEM = {"float32": 4, "float16": 2, "bfloat16": 2}
_NF4_BYTES = 0.52
_OPTIMIZER_BYTES = 16
_HEAD_ROWS = 1024
_HEAD_BYTES = 12


@dataclass(frozen=True)
class Shape:
    """What the estimate needs of a base model: sizes as in its config, all weights counted, tied ones once."""

    parameters: int
    embedding: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    def adapter(self, rank: int, targets: int) -> int:
        """Parameters of a LoRA on ``targets`` modules of every layer, rounded up: all as wide as the widest."""
        return self.layers * targets * rank * (self.hidden + self.intermediate)


@dataclass(frozen=True)
class Load:
    """One way to train: tokens of the largest micro-batch, and how weights and activations are held."""

    tokens: int
    dtype: str
    nf4: bool
    dequantised: bool
    checkpointing: bool
    trainable: int


def shape_of(config: dict[str, Any], parameters: int) -> Shape:
    """The shape in a model's ``config.json``; sizes that it lacks are taken from the usual proportions."""
    hidden = int(config.get("hidden_size") or 1024)
    layers = int(config.get("num_hidden_layers") or 24)
    vocabulary = int(config.get("vocab_size") or 32000)
    copies = 1 if config.get("tie_word_embeddings", False) else 2
    return Shape(
        parameters=parameters,
        embedding=copies * vocabulary * hidden,
        layers=layers,
        hidden=hidden,
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=vocabulary,
    )


def estimate(shape: Shape, load: Load) -> int:
    """Bytes at the peak of a training step.

    Weights, four float32 numbers for each trained parameter, and what a decoder layer keeps of every token for the
    backward pass: about 16 vectors of the hidden size and 4 of the feed-forward size (TinyLlama's shape in bfloat16,
    8 x 512 tokens: 9.9 GiB, where 11.2 GiB were measured with all logits at once). With checkpointing a layer keeps
    its input, and one layer at a time the rest. The head runs over a thousand tokens at a time.
    """
    item = _ITEM[load.dtype]
    inner = max(0, shape.parameters - shape.embedding)
    per_weight = _NF4_BYTES if load.nf4 and not load.dequantised else item
    weights = shape.embedding * item + inner * per_weight
    if load.nf4 and not load.dequantised:
        weights += inner / shape.layers * item
    of_a_layer = (16 * shape.hidden + 4 * shape.intermediate) * item
    of_a_token = shape.layers * shape.hidden * item + of_a_layer if load.checkpointing else shape.layers * of_a_layer
    head = min(load.tokens, _HEAD_ROWS) * shape.vocabulary * _HEAD_BYTES
    return int(weights + load.trainable * _OPTIMIZER_BYTES + load.tokens * of_a_token + head)


def keeps_dequantised(parameters: int, dtype: str, total_memory: int) -> bool:
    """Whether NF4 weights are dequantised once and kept: where they take at most an eighth of the device's memory.

    The products are the same either way; a device that must hold memory together (a T4 with TinyLlama) dequantises
    at each use, a large one, or a CPU with a small model, does not.
    """
    return parameters * _ITEM[dtype] <= total_memory / 8


def check_memory(shape: Shape, load: Load, batch_size: int, accumulation: int, free: int) -> int:
    """The estimate in bytes.

    Raises HeartwoodError when it is more than ``free``; the hint says what would fit.
    """
    needed = estimate(shape, load)
    if needed > free:
        raise HeartwoodError(
            f"training needs about {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free here: micro-batches of up to "
            f"{load.tokens} tokens (sft.batch_size {batch_size}), gradient checkpointing "
            f"{'on' if load.checkpointing else 'off'}",
            hint=what_fits(shape, load, batch_size, accumulation, free),
        )
    return needed


def what_fits(shape: Shape, load: Load, batch_size: int, accumulation: int, free: int) -> str:
    """The params that would fit ``free`` bytes with the same rows a step, or what the base alone takes."""
    size, steps = batch_size, accumulation
    options = []
    while True:
        tokens = max(1, load.tokens * size // batch_size)
        options += [(size, steps, checkpointing, tokens) for checkpointing in (load.checkpointing, True)]
        if size == 1:
            break
        size, steps = (size // 2, steps * 2) if size % 2 == 0 else (1, steps * size)
    for size, steps, checkpointing, tokens in options:
        needed = estimate(shape, replace(load, tokens=tokens, checkpointing=checkpointing))
        if needed <= free:
            return (
                f"this would take about {needed / GIB:.1f} GiB for the same rows a step: -S sft.batch_size={size} -S "
                f"sft.gradient_accumulation={steps} -S sft.gradient_checkpointing={str(checkpointing).lower()}"
            )
    least = estimate(shape, replace(load, tokens=1, checkpointing=True))
    return f"no batch size fits: weights alone take about {least / GIB:.1f} GiB; free memory, or name a smaller base"
