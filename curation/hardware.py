"""What the CPU offers: its usable cores, and bfloat16 matrix products where it has AMX."""

import ctypes
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CPU_INFO = Path("/proc/cpuinfo")
NEEDED = {"amx_tile", "amx_bf16"}
# oneMKL's names for the layout of its matrices.
ROW_MAJOR, AS_IS, TRANSPOSED = 101, 111, 112


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_has_amx(info: Path = CPU_INFO) -> bool:
    """Whether Linux says that the CPU multiplies bfloat16 matrices in hardware."""
    if not info.exists():
        return False
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return set(flags.split()) >= NEEDED


@dataclass(frozen=True)
class Product:
    """oneMKL's ``cblas_gemm_bf16bf16f32``, and what makes it use one thread when called from the calling thread."""

    gemm: Callable[..., None]
    use_one_thread: Callable[[], None]

    def __call__(
        self, left: int, right: int, total: int, shape: tuple[int, int, int], stride: int, *, add: bool
    ) -> None:
        """Make ``total = left @ right.T``, or add that to ``total``.

        Args:
            left: address of a bfloat16 matrix, rows by inner.
            right: address of a bfloat16 matrix, columns by inner.
            total: address of a float32 matrix, rows by columns.
            shape: rows, columns, inner.
            stride: how many numbers lie between the starts of two rows of ``total``.
            add: whether to keep what ``total`` holds.
        """
        inner = shape[2]
        self.gemm(
            *(ROW_MAJOR, AS_IS, TRANSPOSED, *shape),
            *(1.0, left, inner, right, inner, float(add), total, stride),
        )


def load_product() -> Product | None:
    """The product of bfloat16 matrices in fp32, without importing PyTorch; None where PyTorch does not carry it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libtorch_cpu.so"))
        gemm, set_threads = library.cblas_gemm_bf16bf16f32, library.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return None
    size, number, matrix = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    gemm.restype = None
    gemm.argtypes = [size] * 6 + [number, matrix, size, matrix, size, number, matrix, size]
    set_threads.argtypes = [size]
    return Product(gemm, lambda: set_threads(1))


def to_bfloat16(matrix: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 number of each finite fp32 number, as its 16 bits."""
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    nearest: NDArray[np.uint16] = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return nearest


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The fp32 numbers that these are."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
