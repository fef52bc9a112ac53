"""Where and in which precision a model runs, decided once and recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Hardware:
    """``device`` is "cpu" or "cuda", ``dtype`` the name of the compute type, ``reason`` why, in words.

    ``threads`` is the number of CPU threads that torch will use.
    """

    device: str
    dtype: str
    reason: str
    threads: int

    @property
    def torch_dtype(self) -> Any:
        """``dtype`` as a ``torch.dtype``."""
        import torch

        return getattr(torch, self.dtype)


def choose(device: str = "auto", threads: int | None = None) -> Hardware:
    """Choose device and compute type.

    CUDA with compute capability 8 or more computes in bfloat16; older CUDA in float16, since bfloat16 is only
    emulated there (pytorch#148322); a CPU in float32. ``threads`` None keeps torch's own number.

    Raises HeartwoodError for another device name, threads below 1, and "cuda" where there is none.
    """
    import torch

    if device not in DEVICES:
        raise HeartwoodError(f"device is {device!r}, allowed: {', '.join(DEVICES)}", hint="correct the device key")
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
        reason = "asked for" if device == "cpu" else "auto: no CUDA device"
        return Hardware(device="cpu", dtype="float32", reason=f"CPU ({reason})", threads=count)
    major, minor = torch.cuda.get_device_capability(0)
    name = torch.cuda.get_device_name(0)
    if major >= 8:
        return Hardware("cuda", "bfloat16", f"{name}: capability {major}.{minor} has bfloat16", count)
    return Hardware("cuda", "float16", f"{name}: capability {major}.{minor} has no bfloat16", count)
