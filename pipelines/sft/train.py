"""QLoRA training on the mixture, in file order, from the base or from an earlier checkpoint."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.adapter import check_adapter, read_adapter_config, write_adapter
from pipelines.sft.base import POINTER_FILE, BasePointer, base_config, pointer_path, read_pointer, tokenizer_of
from pipelines.sft.formatting import check_masks
from pipelines.sft.hardware import Hardware, choose, reproducible
from pipelines.sft.launch import rank
from pipelines.sft.memory import Load, check_memory, keeps_dequantised, shape_of
from pipelines.sft.model import (
    check_quantisation,
    check_share,
    count_parameters,
    load_base,
    load_model,
    quiet_libraries,
)
from pipelines.sft.rows import CONSUMED_FILE, Consumed, Selection, dev_sample, next_row, select_rows
from pipelines.sft.scratch import Scratch
from pipelines.sft.settings import TrainSettings
from pipelines.sft.trainer import Outcome, run_trainer
from pipelines.sft.watch import DevLoss, StepLoss, Verdict, judge, sample_replies

__all__ = ["TrainResult", "TrainSettings", "next_row", "select_rows", "train"]

SAMPLES_FILE = "samples.jsonl"


@dataclass(frozen=True)
class TrainResult:
    """What a run did: its losses, the rows it consumed, parameter counts by logical shape, and where it ran.

    ``verdict`` is None without dev rows. ``estimated_memory`` is in bytes.
    """

    outcome: Outcome
    verdict: Verdict | None
    consumed: Consumed
    trainable_parameters: int
    total_parameters: int
    hardware: Hardware
    dequantised: bool
    estimated_memory: int

    @property
    def losses(self) -> tuple[StepLoss, ...]:
        """The loss of every step."""
        return self.outcome.losses

    def describe(self) -> str:
        """One line for people: where and how it ran, what it trained, how fast, and the verdict."""
        share = self.trainable_parameters / self.total_parameters
        weights = ", 4-bit weights dequantised once" if self.dequantised else ""
        rate = self.outcome.trained_tokens / max(1e-9, self.outcome.seconds)
        resumed = f"; went on from step {self.outcome.resumed_at}" if self.outcome.resumed_at else ""
        verdict = f"; {self.verdict.verdict}: {self.verdict.evidence}" if self.verdict else ""
        return (
            f"{self.hardware.reason}{weights}; {self.trainable_parameters:,} of {self.total_parameters:,} parameters"
            f" trained ({share:.4%}); {rate:,.0f} tokens/s{resumed}{verdict}"
        )

    @property
    def dev_losses(self) -> tuple[DevLoss, ...]:
        """The dev losses, at step 0, every ``watch_every`` steps and at the end."""
        return self.outcome.dev_losses


def train(
    rows: Sequence[Mapping[str, Any]],
    parent: Path,
    out: Path,
    settings: TrainSettings,
    *,
    skip: int,
    dev: Sequence[Mapping[str, Any]] = (),
    scratch: Scratch | None = None,
    root: Path = Path(),
) -> TrainResult:
    """Train a LoRA adapter on rows ``skip``, ``skip + 1``, ... of the mixture and write it to ``out``.

    ``parent`` ``models/base.json`` starts a new adapter; an adapter folder is continued with a fresh optimizer
    and this run's learning rate. ``rows`` and ``dev`` hold ``prompt``, ``completion``, ``source`` and ``uid``. ``out``
    gets the adapter's weights and config, the base pointer, ``consumed.json`` and, with ``dev``, sample replies;
    nothing that depends on time or machine but weights and texts themselves. With ``scratch`` an interrupted run goes
    on from its newest checkpoint, to the same result. A base's relative folder is looked up under ``root``.

    Under a launcher of several processes all of them call this; the first one writes.

    Raises HeartwoodError, all but the last two before the weights are loaded or a step is made, when ``out`` is not
    empty, a row cannot be encoded, the adapter to continue has other LoRA settings or another base, the memory does not
    suffice, the trainer would train on other tokens than ours, the loss is not finite, or memory runs out.
    """
    number = check_processes(settings)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HeartwoodError(f"{out} exists and is not empty", hint=f"remove it (dvc does before a stage): {out}")
    check_quantisation(settings.quantisation)
    pointer = read_pointer(parent)
    if parent.is_dir():
        check_adapter(parent, pointer)
        _check_same_lora(parent, settings)
    hardware = choose(settings.device, settings.threads, settings.precision)
    with reproducible(hardware, strict=True):
        _set_seed(settings.seed)
        with quiet_libraries():
            tokenizer = tokenizer_of(pointer, root=root)
            config = base_config(pointer, root=root)
            _check_context(config, settings.context)
            selection = select_rows(tokenizer, rows, skip, settings.rows, settings.context)
            sample = dev_sample(tokenizer, dev, settings.dev_rows, settings.context)
        check_masks(selection.encoded, tokenizer.eos_token_id)
        check_masks([row for _, row in sample], tokenizer.eos_token_id)
        shape = shape_of(config, pointer.parameters)
        dequantised = settings.quantisation == "nf4" and keeps_dequantised(
            pointer.parameters, hardware.dtype, hardware.total_memory()
        )
        load = Load(
            tokens=_most_tokens(selection, settings),
            dtype=hardware.dtype,
            nf4=settings.quantisation == "nf4",
            dequantised=dequantised,
            checkpointing=settings.gradient_checkpointing,
            trainable=shape.adapter(settings.lora_rank, len(settings.lora_targets)),
        )
        needed = check_memory(shape, load, settings.batch_size, settings.gradient_accumulation, hardware.free_memory())
        model, tokenizer = _trainable_model(parent, pointer, hardware, settings, root, dequantised)
        trainable, total = count_parameters(model, pointer)
        check_share(trainable, total, pointer)
        with _folder(scratch) as folder, quiet_libraries(), _quiet_datasets():
            outcome = run_trainer(
                model,
                tokenizer,
                selection.encoded,
                [row for _, row in sample],
                hardware,
                settings,
                folder,
                scratch,
            )
        if number == 0:
            texts = {
                POINTER_FILE: pointer_path(parent).read_text(encoding="utf-8"),
                CONSUMED_FILE: selection.consumed.to_json(),
            }
            if sample and settings.samples:
                with quiet_libraries():
                    replies = sample_replies(model.eval(), tokenizer, sample[: settings.samples])
                texts[SAMPLES_FILE] = "".join(json.dumps(r, ensure_ascii=False, sort_keys=True) + "\n" for r in replies)
            write_adapter(model, pointer, out, texts)
    return TrainResult(
        outcome=outcome,
        verdict=judge(outcome.losses, outcome.dev_losses, settings.watch_every),
        consumed=selection.consumed,
        trainable_parameters=trainable,
        total_parameters=total,
        hardware=hardware,
        dequantised=dequantised,
        estimated_memory=needed,
    )


def check_processes(settings: TrainSettings) -> int:
    """The number of this process among those of the launch, 0 without a launcher.

    Raises HeartwoodError when there are more or fewer processes than ``settings.processes``: they would train on other
    rows at each step than the params say.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != settings.processes:
        raise HeartwoodError(
            f"{launched} processes were launched, sft.processes is {settings.processes}",
            hint=f"set sft.processes to {launched}, or launch as many processes as it says",
        )
    return rank()


def _most_tokens(selection: Selection, settings: TrainSettings) -> int:
    """Tokens of the largest micro-batch, as it is laid out."""
    size = settings.batch_size
    lengths = [len(row.input_ids) for row in selection.encoded]
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    if settings.batches == "packed":
        return max(map(sum, batches))
    return max(max(batch) * len(batch) for batch in batches)


def _set_seed(seed: int) -> None:
    with quiet_libraries():
        from transformers import set_seed

    set_seed(seed)


@contextmanager
def _folder(scratch: Scratch | None) -> Iterator[Path]:
    if scratch is not None:
        yield scratch.folder
        return
    with tempfile.TemporaryDirectory(prefix="heartwood-sft-") as folder:
        yield Path(folder)


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _trainable_model(
    parent: Path, pointer: BasePointer, hardware: Hardware, settings: TrainSettings, root: Path, dequantise: bool
) -> tuple[Any, Any]:
    if parent.is_dir():
        model, tokenizer, _ = load_model(
            parent, hardware, settings.quantisation, is_trainable=True, root=root, dequantise=dequantise
        )
        return model, tokenizer
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

    base, tokenizer = load_base(pointer, hardware, settings.quantisation, root=root, dequantise=dequantise)
    _check_targets(base, settings.lora_targets)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=sorted(settings.lora_targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with quiet_libraries():
        return get_peft_model(base, config), tokenizer


def _check_targets(model: Any, targets: Sequence[str]) -> None:
    head = model.get_output_embeddings()
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if "Linear" in type(module).__name__ and module is not head
    }
    missing = sorted(set(targets) - linear)
    if missing:
        raise HeartwoodError(
            f"sft.lora_targets: the base model has no linear layer {missing}, allowed: {sorted(linear)}",
            hint="correct sft.lora_targets",
        )


def _check_same_lora(parent: Path, settings: TrainSettings) -> None:
    config = read_adapter_config(parent)
    wanted = {
        "lora_rank": (settings.lora_rank, config.get("r")),
        "lora_alpha": (settings.lora_alpha, config.get("lora_alpha")),
        "lora_dropout": (settings.lora_dropout, config.get("lora_dropout")),
        "lora_targets": (sorted(settings.lora_targets), sorted(config.get("target_modules") or [])),
    }
    for key, (here, there) in wanted.items():
        if here != there:
            raise HeartwoodError(
                f"sft.{key} is {here!r}, but the adapter to continue, {parent}, has {there!r}",
                hint=f"use the same sft.{key} for the whole chain, or train {parent} again",
            )


def _check_context(config: Mapping[str, Any], context: int) -> None:
    longest = config.get("max_position_embeddings")
    if longest is not None and context > longest:
        raise HeartwoodError(
            f"sft.context is {context}, the base model takes at most {longest} tokens",
            hint=f"set sft.context to {longest} or less",
        )
