"""What a stage ran on: versions of the packages that matter, hardware, and what differs from the library locks."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

AS_LOCKED = "as locked"
_SHOWN = 3

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "training": (
        "accelerate",
        "bitsandbytes",
        "datasets",
        "numpy",
        "peft",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
        "trl",
    ),
    "evaluation": ("numpy", "safetensors", "scikit-learn", "scipy"),
}
"""The packages whose version can change a result, by library group."""


def describe(group: str, locks: Iterable[str], *, device: str, dtype: str, threads: int) -> dict[str, Any]:
    """Packages, Python, hardware and differences from the locks, for a lineage.

    Args:
        group: whose packages are named.
        locks: the library locks among the stage's dependencies.
    """
    return {
        "packages": installed(group),
        "python": platform.python_version(),
        "hardware": {
            "device": device,
            "dtype": dtype,
            "threads": threads,
            "processor": processor(),
            "cores": os.cpu_count() or 0,
            "accelerator": accelerator(device),
        },
        "differs_from_lock": differences(map(Path, locks)),
    }


def installed(group: str) -> dict[str, str]:
    """The installed version of every package of a group that matters."""
    found = {name: _version(name) for name in PACKAGES[group]}
    return {name: version for name, version in found.items() if version is not None}


def differences(locks: Iterable[Path]) -> dict[str, str]:
    """Every package whose installed version is not the locked one: ``{name: "installed (locked: ...)"}``.

    A local label (``2.13.0+cpu``) is the same version. A locked package that is not installed is none that differs:
    a lock holds packages of other platforms and builds, and one that is needed fails its import.
    """
    from packaging.markers import Marker
    from packaging.version import Version

    found = {}
    for lock in locks:
        for line in lock.read_text(encoding="utf-8").splitlines():
            pinned, _, marker = line.partition(";")
            name, exact, wanted = pinned.strip().partition("==")
            if not exact or line.startswith("#") or (marker.strip() and not Marker(marker.strip()).evaluate()):
                continue
            here = _version(name)
            if here is None:
                continue
            locked, actual = Version(wanted), Version(here)
            if (actual if locked.local else Version(actual.public)) != locked:
                found[name] = f"{here} (locked: {wanted})"
    return dict(sorted(found.items()))


def in_words(found: Mapping[str, str]) -> str:
    """The differences in one short line, or ``as locked``."""
    if not found:
        return AS_LOCKED
    named = [f"{name} {what}" for name, what in sorted(found.items())]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more


def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def accelerator(device: str) -> str:
    """The name of the GPU that ``device`` stands for, or ``none``."""
    if device != "cuda":
        return "none"
    import torch

    return str(torch.cuda.get_device_name(0))


def differences_here(lineage: Mapping[str, Any]) -> list[str]:
    """In words, what of a lineage's packages and hardware is other than here; empty where results can be compared."""
    found = []
    for name, there in sorted(lineage["packages"].items()):
        if (here := _version(name)) != there:
            found.append(f"{name} {there} there, {here or 'none'} here")
    if lineage["hardware"]["processor"] != processor():
        found.append(f"{lineage['hardware']['processor']} there, {processor()} here")
    if lineage["hardware"]["device"] == "cuda" or lineage["hardware"]["dtype"] != "float32":
        found.append(f"{lineage['hardware']['device']} in {lineage['hardware']['dtype']}, which is not bit-stable")
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
