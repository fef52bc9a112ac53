"""Sections of params.yaml for the base model and for SFT."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.settings.strict import Count, Section, Seed

Rate = Annotated[float, Field(gt=0, lt=1)]


class BaseParams(Section):
    """The base model: a folder of the repository, or a hub name with a pinned revision (40 hex digits)."""

    name: str = Field(min_length=1)
    """A folder of the repository, or a name on the Hugging Face hub."""
    revision: str
    """With a hub name: the commit, 40 hex digits. With a folder: empty."""


class LoraParams(Section):
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685): rank, alpha, dropout and adapted modules."""

    rank: Count
    """Rank of the adapter's matrices."""
    alpha: Count
    """Scale of the adapter: its product is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the adapter's inputs that is dropped while training."""
    targets: list[str] = Field(min_length=1)
    """Names of the layers that get an adapter."""


class WatchParams(Section):
    """Watching a run: every so many steps the loss over so many dev rows, and a checkpoint to resume from; at the
    end so many sample replies."""

    every: Count
    """Steps between two looks at the dev loss, and between two checkpoints to resume from."""
    dev_rows: Count
    """Dev examples that the dev loss is taken over."""
    samples: Annotated[int, Field(ge=0)]
    """Sample replies at the end."""


class SftParams(Section):
    """What all checkpoints share; a step is ``batch_size x gradient_accumulation x processes`` examples."""

    context: Annotated[int, Field(ge=16)]
    """Tokens of an example; longer ones lose their oldest turns."""
    batch_size: Count
    """Examples a forward pass."""
    gradient_accumulation: Count
    """Forward passes a step."""
    gradient_checkpointing: bool
    """Compute activations again in the backward pass: less memory, more time."""
    processes: Count
    """Processes that share a step, one a GPU."""
    batches: Literal["packed", "padded"]
    """Rows of a batch end to end without padding (`packed`), or side by side (`padded`); the losses are the same."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps in which the learning rate rises from 0."""
    quantisation: Literal["nf4", "none"]
    """How the base's weights are held: `nf4` (4 bits, QLoRA) or `none`."""
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    """Number format of the computation; `auto`: bf16 on Ampere and later, fp16 on older GPUs, fp32 on a CPU."""
    device: Literal["auto", "cpu", "cuda"]
    """`auto` takes a GPU if there is one."""
    threads: Count
    """CPU threads."""
    seed: Seed
    """Of the adapter's first weights and of dropout."""
    watch: WatchParams
    """Watching a run."""
    lora: LoraParams
    """The adapter."""


class CheckpointParams(Section):
    """One checkpoint: its own steps, its learning rate, and what it goes on from."""

    steps: Count
    """Optimizer steps of this checkpoint alone."""
    learning_rate: Rate
    """The highest learning rate, after warm-up."""
    parent: str = Field(min_length=1)
    """What training goes on from: `models/base.json` or the folder of an earlier checkpoint."""
