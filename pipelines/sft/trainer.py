"""The run itself: ``trl.SFTTrainer`` over our rows and masks, watched, checked batch by batch, and resumable."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.adapter import adapter_weights
from pipelines.sft.formatting import Encoded
from pipelines.sft.hardware import Hardware
from pipelines.sft.scratch import Scratch
from pipelines.sft.settings import TrainSettings
from pipelines.sft.watch import DevLoss, StepLoss, row_losses, training_bar

_IGNORED_LABEL = -100


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    ``skipped_steps`` are steps whose float16 gradients overflowed (the optimizer leaves them out); ``resumed_at`` the
    step that an interrupted run went on from, 0 otherwise. ``seconds`` and ``trained_tokens`` are of this process's
    own steps.
    """

    losses: tuple[StepLoss, ...]
    dev_losses: tuple[DevLoss, ...]
    skipped_steps: int
    resumed_at: int
    seconds: float
    trained_tokens: int


def run_trainer(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[Encoded],
    dev: Sequence[Encoded],
    hardware: Hardware,
    settings: TrainSettings,
    folder: Path,
    scratch: Scratch | None,
) -> Outcome:
    """Train in place; every batch is compared with ``encoded`` before it is used.

    ``folder`` takes what the trainer writes. With ``scratch``, which is then that folder, the run writes a checkpoint
    every ``settings.watch_every`` steps and goes on from the newest one. Under a launcher (``accelerate launch``) each
    process calls this with the same rows and takes its part of every step.
    """
    from datasets import Dataset

    packed = _set_attention(model, settings)
    start = adapter_weights(model)
    dataset = Dataset.from_list(
        [{"input_ids": list(row.input_ids), "completion_mask": list(row.completion_mask)} for row in encoded]
    )
    trainer = _trainer(model, tokenizer, dataset, _config(hardware, settings, folder, packed, scratch is not None))
    _restore_float32(model, start)
    place = _Place(trainer.args.process_index, settings.processes, settings.batch_size)
    _check_batches(trainer.get_train_dataloader(), encoded, place)
    with training_bar(settings.steps, shown=place.rank == 0) as show:
        recorder = _Recorder(trainer, encoded, dev, settings, place, scratch, show)
        trainer.training_step = recorder.training_step
        trainer.add_callback(recorder.callback())
        started = time.monotonic()
        with _plain_memory_errors(hardware):
            trainer.train(resume_from_checkpoint=recorder.resume())
        seconds = time.monotonic() - started
    trainer.accelerator.end_training()
    return recorder.outcome(seconds)


def _set_attention(model: Any, settings: TrainSettings) -> bool:
    """Set the attention of the run; whether rows are laid end to end."""
    from pipelines.sft import attention

    base = model.get_base_model()
    if not attention.fits(base):
        return False
    base.set_attn_implementation(attention.register())
    return settings.batches == "packed"


def _config(hardware: Hardware, settings: TrainSettings, folder: Path, packed: bool, resumable: bool) -> Any:
    import trl

    library: Any = trl
    config = library.SFTConfig(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(settings.warmup_ratio * settings.steps),
        optim="adamw_torch",
        weight_decay=0.0,
        max_length=None,
        packing=False,
        padding_free=packed,
        completion_only_loss=True,
        dataloader_num_workers=0,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        use_cpu=hardware.device == "cpu",
        bf16=hardware.dtype == "bfloat16",
        fp16=hardware.dtype == "float16",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="steps" if resumable else "no",
        save_steps=settings.watch_every,
        save_total_limit=2,
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **_only_fields(library.SFTConfig, train_sampling_strategy="sequential"),
        **({"ddp_backend": "gloo"} if hardware.device == "cpu" and settings.processes > 1 else {}),
        **({"ddp_find_unused_parameters": False} if settings.processes > 1 else {}),
    )
    if settings.processes == 1 and config.n_gpu > 1:
        # One process uses one GPU; Trainer would wrap the model in DataParallel on a machine with several.
        config._n_gpu = 1
    return config


def _only_fields(config: Any, **options: Any) -> dict[str, Any]:
    """Those options that this version of the library has."""
    known = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in options.items() if name in known}


def _trainer(model: Any, tokenizer: Any, dataset: Any, config: Any) -> Any:
    import trl
    from transformers import PrinterCallback

    library: Any = trl
    trainer = library.SFTTrainer(model=model, args=config, train_dataset=dataset, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.create_model_card = lambda *arguments, **options: None
    if not hasattr(config, "train_sampling_strategy"):
        from torch.utils.data import SequentialSampler

        trainer._get_train_sampler = lambda rows=None: SequentialSampler(dataset if rows is None else rows)
    return trainer


@contextmanager
def _plain_memory_errors(hardware: Hardware) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise HeartwoodError(
            f"out of memory on {hardware.device}: {str(error).splitlines()[0]}",
            hint="halve sft.batch_size and double sft.gradient_accumulation (the same rows a step), or set"
            " sft.gradient_checkpointing to true",
        ) from error


def _restore_float32(model: Any, start: Mapping[str, Any]) -> None:
    """Undo TRL's cast of the adapter to bfloat16: float32 parameters with the exact starting values.

    ``SFTTrainer.__init__`` rounds the adapter of a quantised model to bfloat16, which would kill float16
    training (trl#4901), is slow on a CPU, and would move a continued adapter away from its parent.
    """
    from peft import set_peft_model_state_dict

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(model, dict(start))


@dataclass(frozen=True)
class _Place:
    """Which rows of each micro-batch are this process's: batch ``number * processes + rank`` of the file's."""

    rank: int
    processes: int
    batch_size: int

    def first_row(self, number: int) -> int:
        return (number * self.processes + self.rank) * self.batch_size


def _check_batches(batches: Any, encoded: Sequence[Encoded], place: _Place) -> None:
    """Compare the trainer's own batches with our rows and masks, all of them, before step 0."""
    seen = 0
    for number, batch in enumerate(batches):
        first = place.first_row(number)
        _check_batch(batch, encoded[first : first + place.batch_size], first)
        seen += place.batch_size
    if seen * place.processes < len(encoded):
        raise HeartwoodError(
            f"the trainer would see {seen * place.processes} of {len(encoded)} rows",
            hint="this trl version is not supported: install the pinned one (trl==1.16.0)",
        )


def _check_batch(batch: Mapping[str, Any], expected: Sequence[Encoded], first: int) -> None:
    labels = [
        [token if mask else _IGNORED_LABEL for token, mask in zip(row.input_ids, row.completion_mask, strict=True)]
        for row in expected
    ]
    same = _same_padded if "attention_mask" in batch else _same_packed
    if not same(batch, expected, labels):
        raise HeartwoodError(
            f"the trainer's batch at training row {first} is not the rows and masks that were selected",
            hint="this trl version prepares data in another way: install the pinned one (trl==1.16.0)",
        )


def _same_padded(batch: Mapping[str, Any], expected: Sequence[Encoded], labels: Sequence[list[int]]) -> bool:
    found_ids, found_labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    good = len(found_ids) == len(expected)
    for ids, found, attended, row, wanted in zip(
        found_ids, found_labels, batch["attention_mask"].tolist(), expected, labels, strict=False
    ):
        padding = len(ids) - len(row.input_ids)
        good = good and tuple(ids[: len(row.input_ids)]) == row.input_ids
        good = good and found == wanted + [_IGNORED_LABEL] * padding
        good = good and attended == [1] * len(row.input_ids) + [0] * padding
    return good


def _same_packed(batch: Mapping[str, Any], expected: Sequence[Encoded], labels: Sequence[list[int]]) -> bool:
    wanted = {
        "input_ids": [token for row in expected for token in row.input_ids],
        "labels": [label for row in labels for label in row],
        "position_ids": [place for row in expected for place in range(len(row.input_ids))],
    }
    ends = [0]
    for row in expected:
        ends.append(ends[-1] + len(row.input_ids))
    return all(batch[name].tolist() == [values] for name, values in wanted.items()) and (
        batch["cu_seq_lens_q"].tolist() == ends
        and int(batch["max_length_q"]) == max(len(row.input_ids) for row in expected)
    )


class _Recorder:
    """Stands in for ``Trainer.training_step``: checks each micro-batch, keeps the losses, stops at a bad one.

    Also takes the dev losses, keeps its own state with every checkpoint, and goes on from it.
    """

    def __init__(
        self,
        trainer: Any,
        encoded: Sequence[Encoded],
        dev: Sequence[Encoded],
        settings: TrainSettings,
        place: _Place,
        scratch: Scratch | None,
        show: Callable[[StepLoss, DevLoss | None], None],
    ) -> None:
        self._trainer = trainer
        self._inner = trainer.training_step
        self._encoded = encoded
        self._dev = dev
        self._settings = settings
        self._place = place
        self._scratch = scratch
        self._show = show
        self._calls = 0
        self._resumed_at = 0
        self._skipped = 0
        self._steps: list[StepLoss] = []
        self._dev_losses: list[DevLoss] = []

    def resume(self) -> str | None:
        """The checkpoint to go on from, after taking up what was kept with it."""
        found = self._scratch.latest() if self._scratch else None
        if found is None:
            return None
        path, state = found
        self._steps = [StepLoss(**step) for step in state["steps"]]
        self._dev_losses = [DevLoss(d["step"], tuple(d["sums"]), tuple(d["tokens"])) for d in state["dev"]]
        self._skipped = state["skipped"]
        self._resumed_at = len(self._steps)
        self._calls = self._resumed_at * self._settings.gradient_accumulation
        return str(path)

    def callback(self) -> Any:
        """What the trainer calls at the start, after a step and after a checkpoint."""
        from transformers import TrainerCallback

        recorder = self

        class Watch(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 0:
                    recorder.take_dev_loss(0)

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                recorder.step_ended(state.global_step)

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                recorder.checkpoint_written(state.global_step)

        return Watch()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One micro-batch, as ``Trainer.training_step``; its loss is this micro-batch's share of the step's."""
        settings, place = self._settings, self._place
        number = self._calls
        first = place.first_row(number)
        _check_batch(inputs, self._encoded[first : first + settings.batch_size], first)
        step, part = divmod(number, settings.gradient_accumulation)
        self._calls += 1
        rate = float(self._trainer.optimizer.param_groups[0]["lr"])
        loss = self._inner(model, inputs, num_items_in_batch)
        value = float(loss if place.processes == 1 else self._trainer.accelerator.reduce(loss, "mean"))
        if not math.isfinite(value):
            raise HeartwoodError(
                f"the loss is {value} at step {step + 1} of {settings.steps}",
                hint=f"lower the learning rate (now {settings.learning_rate}), or look for broken base weights",
            )
        together = settings.batch_size * place.processes
        rows = self._encoded[number * together : (number + 1) * together]
        supervised, tokens = sum(sum(row.completion_mask) for row in rows), sum(len(row.input_ids) for row in rows)
        if part == 0:
            self._steps.append(StepLoss(step + 1, value, rate, supervised, tokens))
        else:
            last = self._steps[-1]
            self._steps[-1] = StepLoss(
                step + 1, last.loss + value, rate, last.supervised_tokens + supervised, last.tokens + tokens
            )
        return loss

    def take_dev_loss(self, step: int) -> None:
        """Take the dev loss, each process over its part of the rows."""
        if not self._dev:
            return
        trainer, place = self._trainer, self._place
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        was_training = model.training
        model.eval()
        with trainer.compute_loss_context_manager():
            mine = row_losses(
                model,
                trainer.data_collator,
                self._dev[place.rank :: place.processes],
                self._settings.batch_size,
                trainer.args.device,
            )
        model.train(was_training)
        sums = mine
        if place.processes > 1:
            from accelerate.utils import gather_object

            parts = dict(
                gather_object(list(zip(range(place.rank, len(self._dev), place.processes), mine, strict=True)))
            )
            sums = [parts[row] for row in range(len(self._dev))]
        self._dev_losses.append(DevLoss(step, tuple(sums), tuple(sum(row.completion_mask) for row in self._dev)))

    def step_ended(self, step: int) -> None:
        """After an optimizer step: the dev loss where it is due, and the bar."""
        self._skipped += bool(self._trainer.accelerator.optimizer_step_was_skipped)
        if step % self._settings.watch_every == 0 or step == self._settings.steps:
            self.take_dev_loss(step)
        self._show(self._steps[-1], self._dev_losses[-1] if self._dev_losses else None)

    def checkpoint_written(self, step: int) -> None:
        """Keep our own state with the checkpoint, which makes it whole."""
        if self._scratch is None:
            return
        self._trainer.accelerator.wait_for_everyone()
        if self._place.rank == 0:
            state = {
                "steps": [asdict(s) for s in self._steps],
                "dev": [asdict(d) for d in self._dev_losses],
                "skipped": self._skipped,
            }
            self._scratch.complete(step, state)

    def outcome(self, seconds: float) -> Outcome:
        """What was done. Raises HeartwoodError when the trainer made fewer steps than asked for."""
        if self._calls != self._settings.steps * self._settings.gradient_accumulation:
            raise HeartwoodError(
                f"the trainer made {self._calls} of {self._settings.steps * self._settings.gradient_accumulation} "
                "forward passes",
                hint="this trl version is not supported: install the pinned one (trl==1.16.0)",
            )
        return Outcome(
            losses=tuple(self._steps),
            dev_losses=tuple(self._dev_losses),
            skipped_steps=self._skipped,
            resumed_at=self._resumed_at,
            seconds=seconds,
            trained_tokens=sum(s.tokens for s in self._steps[self._resumed_at :]),
        )
