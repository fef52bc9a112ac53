"""Where and in which precision a model runs, decided once and recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Hardware:
    """``device`` is "cpu" or "cuda", ``dtype`` the name of the compute type, ``reason`` why, in words.

    ``threads`` is the number of CPU threads that torch will use; ``index`` the CUDA device of this process.
    """

    device: str
    dtype: str
    reason: str
    threads: int
    index: int = 0

    @property
    def torch_dtype(self) -> Any:
        """``dtype`` as a ``torch.dtype``."""
        import torch

        return getattr(torch, self.dtype)

    @property
    def torch_device(self) -> Any:
        """The device of this process as a ``torch.device``."""
        import torch

        return torch.device("cuda", self.index) if self.device == "cuda" else torch.device("cpu")

    def free_memory(self) -> int:
        """Bytes that this process could still take on its device."""
        if self.device == "cuda":
            import torch

            free, _ = torch.cuda.mem_get_info(self.index)
            return int(free)
        import psutil

        return int(psutil.virtual_memory().available)

    def total_memory(self) -> int:
        """Bytes that its device has."""
        if self.device == "cuda":
            import torch

            return int(torch.cuda.get_device_properties(self.index).total_memory)
        import psutil

        return int(psutil.virtual_memory().total)


def choose(device: str = "auto", threads: int | None = None, precision: str = "auto") -> Hardware:
    """Choose device and compute type.

    With ``precision`` "auto", CUDA with compute capability 8 or more computes in bfloat16; older CUDA in float16,
    since bfloat16 is only emulated there (pytorch#148322); a CPU in float32. "fp32", "fp16" and "bf16" overrule
    that. ``threads`` None keeps torch's own number. Under a launcher of several processes, the process takes the
    CUDA device of its LOCAL_RANK.

    Raises HeartwoodError for another device or precision name, threads below 1, "cuda" where there is none, "bf16"
    on a GPU without it, and "fp16" on a CPU.
    """
    import torch

    if device not in DEVICES:
        raise HeartwoodError(f"device is {device!r}, allowed: {', '.join(DEVICES)}", hint="correct the device key")
    if precision not in ("auto", *PRECISIONS):
        raise HeartwoodError(
            f"precision is {precision!r}, allowed: auto, {', '.join(PRECISIONS)}", hint="correct the precision key"
        )
    if threads is not None and threads < 1:
        raise HeartwoodError(f"threads is {threads}, allowed: 1 or more", hint="correct the threads key")
    count = threads if threads is not None else torch.get_num_threads()
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise HeartwoodError(
            "device is 'cuda' but torch finds no CUDA device here",
            hint="set device to 'auto' or 'cpu', or install a CUDA build of torch and a driver",
        )
    if device == "cpu" or not available:
        return _on_cpu("asked for" if device == "cpu" else "auto: no CUDA device", count, precision)
    return _on_cuda(count, precision)


def _on_cpu(why: str, threads: int, precision: str) -> Hardware:
    if precision == "fp16":
        raise HeartwoodError(
            "precision is 'fp16' on a CPU, allowed there: auto, fp32, bf16",
            hint="float16 training needs a GPU: set the precision key to 'auto'",
        )
    if precision == "bf16":
        return Hardware("cpu", "bfloat16", f"CPU ({why}): bfloat16 asked for", threads)
    return Hardware("cpu", "float32", f"CPU ({why}): float32", threads)


def _on_cuda(threads: int, precision: str) -> Hardware:
    import torch

    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise HeartwoodError(
            f"process {index} of this launch has no GPU of its own: torch finds {torch.cuda.device_count()}",
            hint="set sft.processes to the number of GPUs",
        )
    major, minor = torch.cuda.get_device_capability(index)
    name = f"{torch.cuda.get_device_name(index)}: capability {major}.{minor}"
    if precision == "bf16" and major < 8:
        raise HeartwoodError(
            f"precision is 'bf16' but {name} has no bfloat16 (its emulation is slow and does not count)",
            hint="set the precision key to 'auto' or 'fp16'",
        )
    if precision != "auto":
        return Hardware("cuda", PRECISIONS[precision], f"{name}, {PRECISIONS[precision]} asked for", threads, index)
    if major >= 8:
        return Hardware("cuda", "bfloat16", f"{name} has bfloat16", threads, index)
    return Hardware("cuda", "float16", f"{name} has no bfloat16: float16", threads, index)


@contextmanager
def reproducible(hardware: Hardware, *, strict: bool = False) -> Iterator[None]:
    """Deterministic kernels and the thread count of ``hardware``, put back at the end.

    ``strict`` makes an operation that has no deterministic kernel an error instead of a warning. Only then do torch's
    attention kernels go backward deterministically on a GPU.

    Raises HeartwoodError for such an operation.
    """
    import torch

    filling: Any = torch.utils.deterministic
    attention: Any = torch.backends.cuda
    threads = torch.get_num_threads()
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = filling.fill_uninitialized_memory
    cudnn = attention.cudnn_sdp_enabled()
    if hardware.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # cuDNN's attention gave other greedy text from run to run (18 of 200 replies; torch 2.11, H100), and planning for a
        # batch of another length took a third of a step.
        attention.enable_cudnn_sdp(False)
    torch.set_num_threads(hardware.threads)
    torch.use_deterministic_algorithms(True, warn_only=not (strict and hardware.device == "cuda"))
    # Filling every new tensor with NaN is for debugging, and takes a quarter of a step on a CPU.
    filling.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        raise HeartwoodError(
            f"this base model needs an operation that gives other results from run to run on a GPU: {error}",
            hint="train it on a CPU (sft.device: cpu), or choose another base model",
        ) from error
    finally:
        filling.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        attention.enable_cudnn_sdp(cudnn)
        torch.set_num_threads(threads)
