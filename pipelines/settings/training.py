"""Sections of params.yaml for the base model and for SFT."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.settings.strict import Count, Section, Seed

Rate = Annotated[float, Field(gt=0, lt=1)]


class BaseParams(Section):
    """The base model: a folder of the repository, or a hub name with a pinned revision (40 hex digits)."""

    name: str = Field(min_length=1)
    revision: str


class LoraParams(Section):
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): rank, alpha, dropout and adapted modules."""

    rank: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: list[str] = Field(min_length=1)


class WatchParams(Section):
    """Watching a run: every so many steps the loss over so many dev rows, and a checkpoint to resume from; at the
    end so many sample replies."""

    every: Count
    dev_rows: Count
    samples: Annotated[int, Field(ge=0)]


class SftParams(Section):
    """What all checkpoints share; a step is ``batch_size x gradient_accumulation x processes`` examples."""

    context: Annotated[int, Field(ge=16)]
    batch_size: Count
    gradient_accumulation: Count
    gradient_checkpointing: bool
    processes: Count
    batches: Literal["packed", "padded"]
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    quantisation: Literal["nf4", "none"]
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    seed: Seed
    watch: WatchParams
    lora: LoraParams


class CheckpointParams(Section):
    """One checkpoint: its own steps, its learning rate, and what it goes on from."""

    steps: Count
    learning_rate: Rate
    parent: str = Field(min_length=1)
