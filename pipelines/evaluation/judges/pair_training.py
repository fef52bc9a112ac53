"""Fitting the pair encoder: LoRA on the packaged MiniLM and three ordinal heads, in one training.

What is learnt, all from the rated pairs given:

- levels: cumulative logits, cross-entropy against the share of raters above 0 and above 1;
- rationales: which tokens of the reply the raters marked (their softmax also weighs the reply's tokens);
- the rated pair against the same reply under another seeker, an auxiliary task whose head is not kept: the sentence
  encoder tells the two apart far better (`fit`);
- changed replies of `variants`, whose levels are known.

On a CPU with AMX tiles, and on CUDA, matrix products run in bfloat16 (torch autocast); elsewhere in fp32, which on a
CPU takes about three times as long. Parameters that are learnt are fp32 everywhere.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.embedding.graph import LAYERS, WIDTH
from curation.embedding.minilm import packaged_folder
from pipelines.evaluation.judges.pair import (
    FROZEN,
    LEVEL_LOGITS,
    POOLED,
    RANK,
    PairEncoder,
    PairTokenizer,
    TokenPair,
    matrices,
    plain,
)
from pipelines.evaluation.judges.training_rows import SHARES, Row, Shares, training_rows
from pipelines.evaluation.ratings import MECHANISMS, RatedPair

PAD_TO = 16
"""Batches are padded to a multiple of so many tokens: few shapes, so that compiled kernels are used again."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults were chosen on the inner split of one fold."""

    epochs: int = 3
    batch: int = 16
    learning_rate: float = 1.5e-3
    head_learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.2
    alpha: int = 16
    rationale_weight: float = 0.5
    fit_weight: float = 0.3
    shares: Shares = SHARES


RECIPE = Recipe()
"""The recipe of the shipped judge."""

Progress = Callable[[int, int, float], None]


def train_pair_encoder(
    pairs: Sequence[RatedPair],
    seed: int,
    recipe: Recipe = RECIPE,
    threads: int = 1,
    progress: Progress | None = None,
) -> PairEncoder:
    """Fits the encoder to ``pairs``; ``progress`` hears (step, steps, loss). Same arguments and machine, same numbers.

    Raises `HeartwoodError` if the packaged weights are missing or not the official ones.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _train(pairs, seed, recipe, progress)
    finally:
        torch.set_num_threads(before)


def precision() -> str:
    """``cuda-bfloat16``, ``cpu-bfloat16`` (AMX tiles present) or ``cpu-float32``: what a training here runs in."""
    import torch

    if torch.cuda.is_available():
        return "cuda-bfloat16"
    return "cpu-bfloat16" if torch.cpu._is_amx_tile_supported() else "cpu-float32"


def token_marks(row: Row, tokens: TokenPair) -> npt.NDArray[np.float32]:
    """Whether each token of the reply lies in a reason, by mechanism; shape (tokens, mechanisms), NaN where unknown."""
    found = np.full((len(tokens.spans), len(MECHANISMS)), np.nan, dtype=np.float32)
    text = plain(row.reply).lower()
    for column, reasons in enumerate(row.marks):
        if reasons is None:
            continue
        spans = [m.span() for reason in reasons for m in re.finditer(re.escape(plain(reason).lower()), text)]
        if reasons and not spans:
            continue
        found[:, column] = [any(a < end and start < b for start, end in spans) for a, b in tokens.spans]
    return found


def _train(pairs: Sequence[RatedPair], seed: int, recipe: Recipe, progress: Progress | None) -> PairEncoder:
    import torch

    mode = precision()
    device = mode.partition("-")[0]
    model = _Model(recipe).to(device)
    model.train()
    if mode != "cpu-float32":
        # Autocast would cast the frozen matrices again at every step.
        for name, parameter in model.bert.named_parameters():
            if name.endswith("base_layer.weight"):
                parameter.data = parameter.data.to(torch.bfloat16)
    learnt = [p for p in model.bert.parameters() if p.requires_grad]
    heads = [p for name, p in model.named_parameters() if not name.startswith("bert.")]
    optimizer = torch.optim.AdamW(
        [{"params": learnt, "lr": recipe.learning_rate}, {"params": heads, "lr": recipe.head_learning_rate}],
        weight_decay=recipe.weight_decay,
    )
    random = Random(seed)
    rows = training_rows(pairs, recipe.shares, random)
    tokens = PairTokenizer(packaged_folder()).encode([(row.seeker, row.reply) for row in rows])
    batches = [batch for _ in range(recipe.epochs) for batch in _batches([len(t.ids) for t in tokens], recipe, random)]
    lower = model.lower(tokens, device, mode != "cpu-float32")
    warm = max(1, round(recipe.warmup * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (len(batches) - step) / max(1, len(batches) - warm))
    )
    for step, batch in enumerate(batches, start=1):
        loss = model.loss([(rows[i], tokens[i], lower[i]) for i in batch], device, mode != "cpu-float32")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*learnt, *heads], 1.0)
        optimizer.step()
        schedule.step()
        if progress:
            progress(step, len(batches), float(loss.detach()))
    return PairEncoder(model.tensors())


def _batches(lengths: Sequence[int], recipe: Recipe, random: Random) -> list[list[int]]:
    """All rows in batches of near lengths, in a random order."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + random.uniform(-8, 8))
    made = [order[start : start + recipe.batch] for start in range(0, len(order), recipe.batch)]
    random.shuffle(made)
    return made


def _module() -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn
    from torch.nn import functional
    from transformers import BertModel

    class Model(nn.Module):
        """MiniLM with LoRA, the heads of `PairEncoder`, and one for the auxiliary task."""

        def __init__(self, recipe: Recipe) -> None:
            super().__init__()
            # Eager attention: on a CPU the backward pass of the fused one takes half of a step.
            bert = BertModel.from_pretrained(
                str(packaged_folder()),
                add_pooling_layer=False,
                attn_implementation="eager",
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
            config = LoraConfig(
                r=RANK,
                lora_alpha=recipe.alpha,
                target_modules=["query", "key", "value", "dense"],
                layers_to_transform=list(range(FROZEN, LAYERS)),
                layers_pattern="layer",
            )
            self.bert = get_peft_model(bert, config)
            self.recipe = recipe
            self.scale = recipe.alpha / RANK
            self.token = nn.Linear(WIDTH, len(MECHANISMS))
            self.level_weight = nn.Parameter(torch.randn(*LEVEL_LOGITS, POOLED) * 0.02)
            self.level_bias = nn.Parameter(torch.zeros(LEVEL_LOGITS))
            self.fit = nn.Linear(POOLED, 1)
            self.dropout = nn.Dropout(recipe.dropout)

        def lower(self, tokens: Sequence[TokenPair], device: str, enabled: bool) -> list[Any]:
            """States of each row (tokens, width) after the frozen layers, in fp16."""
            base: Any = self.bert.get_base_model()
            order = sorted(range(len(tokens)), key=lambda i: len(tokens[i].ids))
            found: list[Any] = [None] * len(tokens)
            for start in range(0, len(order), self.recipe.batch):
                chosen = order[start : start + self.recipe.batch]
                shape = (len(chosen), _padded(max(len(tokens[i].ids) for i in chosen)))
                ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
                for row, i in enumerate(chosen):
                    ids[row, : len(tokens[i].ids)], mask[row, : len(tokens[i].ids)] = tokens[i].ids, 1
                with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=enabled):
                    hidden = base.embeddings(input_ids=torch.from_numpy(ids).to(device))
                    hidden = self.layers(hidden, torch.from_numpy(mask).to(device), 0, FROZEN)
                for row, i in enumerate(chosen):
                    found[i] = hidden[row, : len(tokens[i].ids)].half().cpu()
            return found

        def layers(self, hidden: Any, mask: Any, first: int, last: int) -> Any:
            base: Any = self.bert.get_base_model()
            outside = (1 - mask)[:, None, None, :] * -1e9
            for layer in base.encoder.layer[first:last]:
                hidden = layer(hidden, outside)
            return hidden

        def loss(self, batch: list[tuple[Row, TokenPair, Any]], device: str, enabled: bool) -> Any:
            shape = (len(batch), _padded(max(len(tokens.ids) for _, tokens, _ in batch)))
            mask, heard, said = (np.zeros(shape, dtype=np.float32) for _ in range(3))
            below = torch.zeros(*shape, WIDTH)
            marks = np.full((*shape, len(MECHANISMS)), np.nan, dtype=np.float32)
            for i, (row, tokens, states) in enumerate(batch):
                n = len(tokens.ids)
                below[i, :n], mask[i, :n] = states.float(), 1
                heard[i, 1 : tokens.start - 1], said[i, tokens.start : n - 1] = 1, 1
                if tokens.spans:
                    marks[i, tokens.start : n - 1] = token_marks(row, tokens)

            def put(array: npt.NDArray[Any]) -> torch.Tensor:
                return torch.from_numpy(np.ascontiguousarray(array)).to(device)

            with torch.autocast(device, torch.bfloat16, enabled=enabled):
                hidden = self.layers(below.to(device), put(mask), FROZEN, LAYERS)
            hidden = hidden.float()
            of_seeker, of_reply = put(heard)[:, :, None], put(said)[:, :, None]
            seeker = (hidden * of_seeker).sum(1) / of_seeker.sum(1).clamp(min=1)
            reply = (hidden * of_reply).sum(1) / of_reply.sum(1).clamp(min=1)
            scores = self.token(hidden)
            shares = scores.masked_fill(of_reply == 0, -1e9).softmax(1)
            weighed = torch.einsum("btm,btw->bmw", shares, hidden)
            both = torch.cat((reply, seeker), -1)[:, None, :].expand(-1, len(MECHANISMS), -1)
            pooled = self.dropout(torch.cat((weighed, both), -1))
            levels = torch.einsum("bmw,mtw->bmt", pooled, self.level_weight) + self.level_bias
            fit = self.fit(self.dropout(torch.cat((reply, seeker, reply * seeker), -1)))[:, 0]
            total = _masked(functional, levels, put(np.stack([row.levels for row, _, _ in batch])))
            total = total + self.recipe.rationale_weight * _masked(functional, scores, put(marks))
            wanted = put(np.array([row.fit for row, _, _ in batch], dtype=np.float32))
            return total + self.recipe.fit_weight * _masked(functional, fit, wanted)

        def tensors(self) -> dict[str, npt.NDArray[Any]]:
            """The arrays of `pair.shapes`; the updates rounded to fp16, as they are shipped."""
            state = {k: v.detach().cpu().float().numpy() for k, v in self.bert.state_dict().items() if "lora_" in k}
            found: dict[str, npt.NDArray[Any]] = {}
            for name, _ in matrices():
                down = state[f"base_model.model.{name}.lora_A.default.weight"]
                up = state[f"base_model.model.{name}.lora_B.default.weight"] * self.scale
                found[f"{name}.down"], found[f"{name}.up"] = down.astype(np.float16), up.astype(np.float16)
            for name, value in (
                ("token_weight", self.token.weight),
                ("token_bias", self.token.bias),
                ("level_weight", self.level_weight),
                ("level_bias", self.level_bias),
            ):
                found[name] = value.detach().cpu().float().numpy().copy()
            return found

    return Model


def _padded(longest: int) -> int:
    return -(-longest // PAD_TO) * PAD_TO


def _masked(functional: Any, logits: Any, target: Any) -> Any:
    """Mean cross-entropy where ``target`` is known; 0 if nowhere."""
    known = ~target.isnan()
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.binary_cross_entropy_with_logits(logits[known], target[known])


def _Model(recipe: Recipe) -> Any:  # noqa: N802
    return _module()(recipe)
