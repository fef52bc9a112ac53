"""Loading the base model in 4 bits or in full, with or without an adapter."""

from __future__ import annotations

import logging as stdlib_logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.adapter import check_adapter
from pipelines.sft.base import BasePointer, load_tokenizer, locate, pointer_path, read_pointer
from pipelines.sft.hardware import Hardware
from pipelines.sft.memory import keeps_dequantised

QUANTISATIONS = ("nf4", "none")
TINYLLAMA_PARAMETERS = 1_100_048_384
TINYLLAMA_SHARE = (0.002, 0.004)


def load_base(
    pointer: BasePointer,
    hardware: Hardware,
    quantisation: str = "nf4",
    *,
    root: Path = Path(),
    dequantise: bool | None = None,
) -> tuple[Any, Any]:
    """The base model in evaluation mode and its tokenizer, every file re-hashed first.

    ``quantisation`` "nf4" loads linear layers as 4-bit NormalFloat with double quantisation (QLoRA,
    arXiv 2305.14314), computing in ``hardware.dtype``; "none" loads them in that type. ``dequantise`` True turns
    the 4-bit weights once into the numbers that each use would turn them into, False does it at each use, None
    decides by the device's memory. The pad token is the pointer's. Raises HeartwoodError for a changed base file or
    another quantisation.
    """
    import transformers

    library: Any = transformers
    check_quantisation(quantisation)
    folder = locate(pointer, root=root)
    tokenizer = load_tokenizer(folder, pointer.pad_token)
    options: dict[str, Any] = {}
    if quantisation == "nf4":
        options["quantization_config"] = library.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=hardware.torch_dtype,
        )
    with quiet_libraries():
        model = library.AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=hardware.torch_dtype,
            device_map={"": hardware.torch_device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    if hardware.device == "cpu":
        _forbid_bfloat16_kernel(model)
    if dequantise is None:
        dequantise = keeps_dequantised(pointer.parameters, hardware.dtype, hardware.total_memory())
    if quantisation == "nf4" and dequantise:
        with quiet_libraries():
            model = model.dequantize()
        model.requires_grad_(False)
    return model.eval(), tokenizer


def check_quantisation(quantisation: str) -> None:
    """Raises HeartwoodError for a quantisation that is not known."""
    if quantisation not in QUANTISATIONS:
        raise HeartwoodError(
            f"quantisation is {quantisation!r}, allowed: {', '.join(QUANTISATIONS)}",
            hint="correct the quantisation key",
        )


def _forbid_bfloat16_kernel(model: Any) -> None:
    """Keep 4-bit layers in the compute type that was chosen, on every CPU.

    In evaluation mode ``bitsandbytes.nn.Linear4bit`` (0.50) takes a bfloat16 kernel where the CPU has
    AVX512-BF16, whatever its compute type: replies would differ between CPUs, and from training.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def load_model(
    path: Path,
    hardware: Hardware,
    quantisation: str = "nf4",
    *,
    base: BasePointer | None = None,
    is_trainable: bool = False,
    root: Path = Path(),
    dequantise: bool | None = None,
) -> tuple[Any, Any, BasePointer]:
    """Model, tokenizer and base pointer of a model reference: ``models/base.json`` or an adapter folder.

    An adapter stays unmerged, in float32 (merging into 4-bit weights changes what they say: peft#2321).
    ``base``, when given, is the base that the caller works with. ``is_trainable`` leaves the adapter's weights
    trainable, for continued training.

    Raises HeartwoodError when the reference is incomplete, when a base file changed, and when the adapter was
    trained on another base than its ``base.json`` or ``base`` says.
    """
    pointer = read_pointer(path)
    if base is not None and base.digest != pointer.digest:
        raise HeartwoodError(
            f"model {path} belongs to another base: its {pointer_path(path).name} has digest {pointer.digest} "
            f"({pointer.name}), this run uses {base.digest} ({base.name})",
            hint=f"train it again on this base: dvc repro sft@{path.name}",
        )
    if not path.is_dir():
        if is_trainable:
            raise HeartwoodError(f"model {path} has no adapter to continue", hint="name an adapter folder")
        model, tokenizer = load_base(pointer, hardware, quantisation, root=root, dequantise=dequantise)
        return model, tokenizer, pointer
    check_adapter(path, pointer)
    with quiet_libraries():
        from peft import PeftModel

    model, tokenizer = load_base(pointer, hardware, quantisation, root=root, dequantise=dequantise)
    with quiet_libraries():
        adapted = PeftModel.from_pretrained(model, str(path), is_trainable=is_trainable)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return (adapted if is_trainable else adapted.eval()), tokenizer, pointer


def count_parameters(model: Any, pointer: BasePointer) -> tuple[int, int]:
    """(trainable, total) parameters by logical shape.

    The base part of the total comes from the pointer: a 4-bit layer's own ``numel`` counts packed bytes, half
    of its weights. Adapter weights count in the total, as in PEFT's report.
    """
    sizes = {name: (p.numel(), p.requires_grad) for name, p in model.named_parameters() if "lora_" in name}
    trainable = sum(size for size, requires_grad in sizes.values() if requires_grad)
    return trainable, pointer.parameters + sum(size for size, _ in sizes.values())


def check_share(trainable: int, total: int, pointer: BasePointer) -> float:
    """The share of trained parameters.

    Raises HeartwoodError when the base has TinyLlama-1.1B's weights and the share is outside 0.2 to 0.4 %.
    """
    share = trainable / total
    low, high = TINYLLAMA_SHARE
    if pointer.parameters == TINYLLAMA_PARAMETERS and not low <= share <= high:
        raise HeartwoodError(
            f"{trainable:,} of {total:,} parameters would be trained ({share:.4%}), allowed for TinyLlama-1.1B: "
            f"{low:.1%} to {high:.1%}",
            hint="use sft.lora.rank 8 to 15 with the targets q_proj, k_proj, v_proj and o_proj (rank 8: 0.2044 %)",
        )
    return share


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars, notices below error level and deprecations of the training libraries, then restore."""
    from transformers.utils import logging as library_logging

    logging: Any = library_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    quantiser = stdlib_logging.getLogger("bitsandbytes")
    quantiser_level = quantiser.level
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    quantiser.setLevel(stdlib_logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        quantiser.setLevel(quantiser_level)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
