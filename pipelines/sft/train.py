"""QLoRA training on the mixture, in file order, from the base or from an earlier checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.base import POINTER_FILE, BasePointer, pointer_path, read_pointer
from pipelines.sft.formatting import Encoded, TooLongError, check_masks, encode_example
from pipelines.sft.hardware import Hardware, choose
from pipelines.sft.model import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE_DIGEST_KEY,
    count_parameters,
    load_base,
    load_model,
    quiet_libraries,
    read_adapter_config,
)

CONSUMED_FILE = "consumed.json"
MAX_TOO_LONG = 0.05
_IGNORED_LABEL = -100
_LOG_EVERY = 10
_DETERMINISTIC_CUBLAS = ":4096:8"


@dataclass(frozen=True)
class TrainSettings:
    """What one training run does; the names are the keys of the ``sft`` section.

    ``steps`` counts optimizer steps; each takes ``batch_size * gradient_accumulation`` rows. ``schedule``
    "linear" rises over ``warmup_ratio`` of the steps, then falls to 0. ``context`` is in tokens.
    ``threads`` None keeps torch's own number.
    """

    steps: int
    learning_rate: float
    batch_size: int = 8
    gradient_accumulation: int = 1
    context: int = 512
    schedule: str = "linear"
    warmup_ratio: float = 0.1
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    quantisation: str = "nf4"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        allowed: list[tuple[str, bool, str]] = [
            (key, getattr(self, key) >= 1, "1 or more")
            for key in ("steps", "batch_size", "gradient_accumulation", "context", "lora_rank", "lora_alpha")
        ]
        allowed += [
            ("learning_rate", 0 < self.learning_rate < 1, "more than 0, less than 1"),
            ("warmup_ratio", 0 <= self.warmup_ratio < 1, "0 or more, less than 1"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more, less than 1"),
            ("schedule", self.schedule == "linear", "'linear'"),
            ("lora_targets", len(self.lora_targets) > 0, "at least one module name"),
        ]
        for key, good, what in allowed:
            if not good:
                raise HeartwoodError(
                    f"sft.{key} is {getattr(self, key)!r}, allowed: {what}", hint=f"correct sft.{key} in params.yaml"
                )

    @property
    def rows(self) -> int:
        """Number of rows that the run trains on."""
        return self.steps * self.batch_size * self.gradient_accumulation


@dataclass(frozen=True)
class Consumed:
    """Which rows of the mixture a run consumed; the content of ``consumed.json``.

    ``first_row`` and ``next_row`` count from the start of the first pass over the mixture and go on past its
    end (row ``next_row % mixture_rows`` is next). ``rows`` were trained on, ``too_long`` were passed over,
    ``truncated`` lost their oldest turns. ``rows_by_source`` and ``supervised_tokens_by_source`` count what was
    trained on, ``epochs_by_source`` is rows trained on by rows in the mixture.
    ``uids_sha256`` is over the newline-joined uids trained on, in order.
    """

    first_row: int
    next_row: int
    rows: int
    mixture_rows: int
    rows_by_source: dict[str, int]
    supervised_tokens_by_source: dict[str, int]
    epochs_by_source: dict[str, float]
    uids_sha256: str
    too_long: int
    truncated: int

    def to_json(self) -> str:
        """As JSON: sorted keys, LF, one newline at the end."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class StepLoss:
    """One optimizer step: mean loss (nats) over its supervised tokens, and the learning rate it used."""

    step: int
    loss: float
    learning_rate: float
    supervised_tokens: int


@dataclass(frozen=True)
class TrainResult:
    """What a run did: its losses, the rows it consumed, parameter counts by logical shape, and where it ran."""

    losses: tuple[StepLoss, ...]
    consumed: Consumed
    trainable_parameters: int
    total_parameters: int
    hardware: Hardware


@dataclass(frozen=True)
class Selection:
    """The rows of one run, encoded, in order, and the record of them."""

    encoded: tuple[Encoded, ...]
    uids: tuple[str, ...]
    consumed: Consumed


def next_row(parent: Path) -> int:
    """Where training from ``parent`` begins: 0 for a base, the adapter's ``next_row`` otherwise.

    Raises HeartwoodError when an adapter folder has no readable ``consumed.json``.
    """
    if not parent.is_dir():
        pointer_path(parent)
        return 0
    path = parent / CONSUMED_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["next_row"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeartwoodError(
            f"cannot read next_row from {path}: {error!r}", hint=f"make it again with: dvc repro sft@{parent.name}"
        ) from error
    if not isinstance(value, int) or value < 0:
        raise HeartwoodError(
            f"{path}: next_row is {value!r}, allowed: 0 or more", hint=f"make it again: dvc repro sft@{parent.name}"
        )
    return value


def select_rows(tokenizer: Any, rows: Sequence[Mapping[str, Any]], skip: int, count: int, context: int) -> Selection:
    """Encode ``count`` rows of the mixture in file order from row ``skip`` on, going round at its end.

    Rows whose last turn and completion do not fit ``context`` are passed over and counted; the next row takes
    their place. Raises HeartwoodError when the mixture is empty or more than 5 % of ``count`` are passed over.
    """
    if not rows:
        raise HeartwoodError("the mixture has no rows", hint="write it again with: dvc repro mix")
    if skip < 0:
        raise HeartwoodError(f"first row is {skip}, allowed: 0 or more", hint="use the parent's next_row")
    encoded: list[Encoded] = []
    uids: list[str] = []
    sources: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    position, too_long = skip, 0
    while len(encoded) < count:
        row = rows[position % len(rows)]
        position += 1
        try:
            encoded.append(encode_example(tokenizer, row, context))
        except TooLongError as error:
            too_long += 1
            if too_long > MAX_TOO_LONG * count:
                raise HeartwoodError(
                    f"more than {MAX_TOO_LONG:.0%} of the {count} rows to train on do not fit: {error}",
                    hint=f"raise sft.context (now {context})",
                ) from error
            continue
        uids.append(str(row["uid"]))
        sources[str(row["source"])] += 1
        tokens[str(row["source"])] += sum(encoded[-1].completion_mask)
    in_mixture = Counter(str(row["source"]) for row in rows)
    consumed = Consumed(
        first_row=skip,
        next_row=position,
        rows=count,
        mixture_rows=len(rows),
        rows_by_source={name: sources[name] for name in sorted(in_mixture)},
        supervised_tokens_by_source={name: tokens[name] for name in sorted(in_mixture)},
        epochs_by_source={name: round(sources[name] / size, 6) for name, size in sorted(in_mixture.items())},
        uids_sha256=hashlib.sha256("\n".join(uids).encode()).hexdigest(),
        too_long=too_long,
        truncated=sum(example.truncated_turns > 0 for example in encoded),
    )
    return Selection(encoded=tuple(encoded), uids=tuple(uids), consumed=consumed)


def train(
    rows: Sequence[Mapping[str, Any]],
    parent: Path,
    out: Path,
    settings: TrainSettings,
    *,
    skip: int,
    root: Path = Path(),
) -> TrainResult:
    """Train a LoRA adapter on rows ``skip``, ``skip + 1``, ... of the mixture and write it to ``out``.

    ``parent`` ``models/base.json`` starts a new adapter; an adapter folder is continued with a fresh optimizer
    and this run's learning rate. ``rows`` hold ``prompt``, ``completion``, ``source`` and ``uid``. ``out`` gets
    the adapter's weights and config, the base pointer and ``consumed.json``, nothing that depends on time or
    machine but the weights themselves. A base's relative folder is looked up under ``root``.

    Raises HeartwoodError when ``out`` is not empty, a row cannot be encoded, the adapter to continue has other
    LoRA settings, the trainer would train on other tokens than ours, or the loss is not finite.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HeartwoodError(f"{out} exists and is not empty", hint=f"remove it (dvc does before a stage): {out}")
    pointer = read_pointer(parent)
    hardware = choose(settings.device, settings.threads)
    with _deterministic(hardware, settings.seed):
        model, tokenizer = _trainable_model(parent, pointer, hardware, settings, root)
        _check_context(model, settings.context)
        with quiet_libraries():
            selection = select_rows(tokenizer, rows, skip, settings.rows, settings.context)
        check_masks(selection.encoded, tokenizer.eos_token_id)
        trainable, total = count_parameters(model, pointer)
        with tempfile.TemporaryDirectory(prefix="heartwood-sft-") as scratch, quiet_libraries(), _quiet_datasets():
            losses = _run_trainer(model, tokenizer, selection.encoded, hardware, settings, Path(scratch))
        _write_adapter(model, pointer, pointer_path(parent), selection.consumed, out)
    return TrainResult(
        losses=losses,
        consumed=selection.consumed,
        trainable_parameters=trainable,
        total_parameters=total,
        hardware=hardware,
    )


def adapter_weights(model: Any) -> dict[str, Any]:
    """The adapter's tensors on the CPU in float32, by their name in ``adapter_model.safetensors``."""
    import torch
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {
        name: state[name].detach().to(device="cpu", dtype=torch.float32).contiguous().clone() for name in sorted(state)
    }


@contextmanager
def _deterministic(hardware: Hardware, seed: int) -> Iterator[None]:
    """Seeds, thread count and deterministic kernels (a warning where one has none); restores what it can."""
    import torch

    with quiet_libraries():
        from transformers import set_seed

    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if hardware.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _DETERMINISTIC_CUBLAS)
    torch.set_num_threads(hardware.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(seed)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.set_num_threads(threads)


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
    parent: Path, pointer: BasePointer, hardware: Hardware, settings: TrainSettings, root: Path
) -> tuple[Any, Any]:
    if parent.is_dir():
        _check_same_lora(parent, settings)
        model, tokenizer, _ = load_model(parent, hardware, settings.quantisation, is_trainable=True, root=root)
        return model, tokenizer
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

    base, tokenizer = load_base(pointer, hardware, settings.quantisation, root=root)
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


def _check_context(model: Any, context: int) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and context > longest:
        raise HeartwoodError(
            f"sft.context is {context}, the base model takes at most {longest} tokens",
            hint=f"set sft.context to {longest} or less",
        )


def _run_trainer(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[Encoded],
    hardware: Hardware,
    settings: TrainSettings,
    scratch: Path,
) -> tuple[StepLoss, ...]:
    """Train in place with ``trl.SFTTrainer``; every batch is compared with ``encoded`` before it is used."""
    import trl
    from datasets import Dataset
    from transformers import PrinterCallback

    library: Any = trl
    start = adapter_weights(model)
    config = library.SFTConfig(
        output_dir=str(scratch),
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
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        dataloader_num_workers=0,
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=hardware.device == "cpu",
        bf16=hardware.dtype == "bfloat16",
        fp16=hardware.dtype == "float16",
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    dataset = Dataset.from_list(
        [{"input_ids": list(row.input_ids), "completion_mask": list(row.completion_mask)} for row in encoded]
    )
    trainer = library.SFTTrainer(model=model, args=config, train_dataset=dataset, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    _restore_float32(model, start)
    _check_batches(trainer.get_train_dataloader(), encoded, settings.batch_size)
    recorder = _Recorder(trainer, encoded, settings)
    trainer.training_step = recorder.training_step
    trainer.train()
    return recorder.losses()


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


def _check_batches(batches: Any, encoded: Sequence[Encoded], batch_size: int) -> None:
    """Compare the trainer's own batches with our rows and masks, all of them, before step 0."""
    seen = 0
    for batch in batches:
        _check_batch(batch, encoded[seen : seen + batch_size], seen)
        seen += batch_size
    if seen < len(encoded):
        raise HeartwoodError(
            f"the trainer would see {seen} of {len(encoded)} rows", hint="this trl version is not supported"
        )


def _check_batch(batch: Mapping[str, Any], expected: Sequence[Encoded], first: int) -> None:
    found_ids, found_labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    attention = batch["attention_mask"].tolist()
    good = len(found_ids) == len(expected)
    for ids, labels, attended, row in zip(found_ids, found_labels, attention, expected, strict=False):
        length = len(row.input_ids)
        good = good and tuple(ids[:length]) == row.input_ids
        good = good and labels == [
            token if mask else _IGNORED_LABEL for token, mask in zip(row.input_ids, row.completion_mask, strict=True)
        ] + [_IGNORED_LABEL] * (len(ids) - length)
        good = good and attended == [1] * length + [0] * (len(ids) - length)
    if not good:
        raise HeartwoodError(
            f"the trainer's batch at training row {first} is not the rows and masks that were selected",
            hint="this trl version prepares data in another way: install the pinned one (trl==1.16.0)",
        )


class _Recorder:
    """Stands in for ``Trainer.training_step``: checks each micro-batch, keeps the losses, stops at a bad one."""

    def __init__(self, trainer: Any, encoded: Sequence[Encoded], settings: TrainSettings) -> None:
        self._trainer = trainer
        self._inner = trainer.training_step
        self._encoded = encoded
        self._settings = settings
        self._calls = 0
        self._steps: list[StepLoss] = []

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One micro-batch, as ``Trainer.training_step``; its loss is this micro-batch's share of the step's."""
        settings = self._settings
        first = self._calls * settings.batch_size
        expected = self._encoded[first : first + settings.batch_size]
        _check_batch(inputs, expected, first)
        step, part = divmod(self._calls, settings.gradient_accumulation)
        self._calls += 1
        rate = float(self._trainer.optimizer.param_groups[0]["lr"])
        loss = self._inner(model, inputs, num_items_in_batch)
        value = float(loss)
        if not math.isfinite(value):
            raise HeartwoodError(
                f"the loss is {value} at step {step + 1} of {settings.steps}",
                hint=f"lower the learning rate (now {settings.learning_rate}), or look for broken base weights",
            )
        tokens = sum(sum(row.completion_mask) for row in expected)
        if part == 0:
            self._steps.append(StepLoss(step + 1, value, rate, tokens))
        else:
            last = self._steps[-1]
            self._steps[-1] = StepLoss(last.step, last.loss + value, rate, last.supervised_tokens + tokens)
        if part == settings.gradient_accumulation - 1:
            self._log()
        return loss

    def losses(self) -> tuple[StepLoss, ...]:
        """The losses of all steps. Raises HeartwoodError when the trainer made fewer steps than asked for."""
        if self._calls != self._settings.steps * self._settings.gradient_accumulation:
            raise HeartwoodError(
                f"the trainer made {self._calls} of {self._settings.steps * self._settings.gradient_accumulation} "
                "forward passes",
                hint="this trl version is not supported: install the pinned one (trl==1.16.0)",
            )
        return tuple(self._steps)

    def _log(self) -> None:
        last = self._steps[-1]
        if sys.stderr.isatty() and (last.step % _LOG_EVERY == 0 or last.step == self._settings.steps):
            print(
                f"step {last.step}/{self._settings.steps}  loss {last.loss:.4f}  lr {last.learning_rate:.2e}",
                file=sys.stderr,
            )


def _write_adapter(model: Any, pointer: BasePointer, pointer_file: Path, consumed: Consumed, out: Path) -> None:
    """Write the adapter folder whole: into a neighbour first, then in place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pointer_bytes = pointer_file.read_bytes()
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        (scratch / ADAPTER_WEIGHTS).write_bytes(_safetensors_bytes(adapter_weights(model), pointer))
        (scratch / ADAPTER_CONFIG).write_text(_adapter_config(model, pointer), encoding="utf-8", newline="\n")
        (scratch / POINTER_FILE).write_bytes(pointer_bytes)
        (scratch / CONSUMED_FILE).write_text(consumed.to_json(), encoding="utf-8", newline="\n")
        if out.exists():
            out.rmdir()
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _safetensors_bytes(weights: Mapping[str, Any], pointer: BasePointer) -> bytes:
    """The tensors as a safetensors file whose bytes depend on nothing else.

    The library writes the header's metadata in the order of a randomly seeded hash map, so the header is
    written again with sorted keys, padded with spaces to 8 bytes as the format asks.
    """
    from safetensors.torch import save

    content = save(dict(weights), metadata={"format": "pt", BASE_DIGEST_KEY: pointer.digest})
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _adapter_config(model: Any, pointer: BasePointer) -> str:
    """PEFT's config as it reads it back, with the base's name for its path, sorted, for inference."""
    content = model.peft_config[model.active_adapter].to_dict()
    content["base_model_name_or_path"] = pointer.name
    content["revision"] = pointer.revision
    content["inference_mode"] = True
    for key, value in content.items():
        if isinstance(value, set):
            content[key] = sorted(value)
    content["target_modules"] = sorted(content["target_modules"])
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
