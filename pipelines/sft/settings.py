"""What one training run does."""

from __future__ import annotations

from dataclasses import dataclass

from curation.errors import HeartwoodError

BATCHES = ("packed", "padded")


@dataclass(frozen=True)
class TrainSettings:
    """What one training run does; the names are the keys of the ``sft`` section.

    ``steps`` counts optimizer steps; each takes ``batch_size * gradient_accumulation * processes`` rows. ``schedule``
    "linear" rises over ``warmup_ratio`` of the steps, then falls to 0. ``context`` is in tokens. ``threads`` None
    keeps torch's own number. ``batches`` "packed" lays the rows of a batch end to end, "padded" side by side: the
    same rows and, to rounding, the same loss. Every ``watch_every`` steps the dev loss is taken over ``dev_rows``
    rows, and the run can be resumed from there; ``samples`` replies are generated at the end.
    """

    steps: int
    learning_rate: float
    batch_size: int = 8
    gradient_accumulation: int = 1
    processes: int = 1
    context: int = 512
    schedule: str = "linear"
    warmup_ratio: float = 0.1
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    quantisation: str = "nf4"
    precision: str = "auto"
    batches: str = "packed"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    gradient_checkpointing: bool = False
    watch_every: int = 25
    dev_rows: int = 24
    samples: int = 4

    def __post_init__(self) -> None:
        counts = (
            "steps batch_size gradient_accumulation processes context lora_rank lora_alpha watch_every dev_rows".split()
        )
        allowed: list[tuple[str, bool, str]] = [(key, getattr(self, key) >= 1, "1 or more") for key in counts]
        allowed += [
            ("learning_rate", 0 < self.learning_rate < 1, "more than 0, less than 1"),
            ("warmup_ratio", 0 <= self.warmup_ratio < 1, "0 or more, less than 1"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more, less than 1"),
            ("schedule", self.schedule == "linear", "'linear'"),
            ("batches", self.batches in BATCHES, " or ".join(BATCHES)),
            ("samples", self.samples >= 0, "0 or more"),
            ("lora_targets", len(self.lora_targets) > 0, "at least one module name"),
        ]
        for key, good, what in allowed:
            if not good:
                raise HeartwoodError(
                    f"sft.{key} is {getattr(self, key)!r}, allowed: {what}", hint=f"correct sft.{key} in params.yaml"
                )

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, over all processes."""
        return self.batch_size * self.gradient_accumulation * self.processes

    @property
    def rows(self) -> int:
        """Number of rows that the run trains on."""
        return self.steps * self.rows_per_step
