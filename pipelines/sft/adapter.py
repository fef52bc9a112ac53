"""Adapter folders: written whole, in bytes that depend on the weights alone, and checked before they are loaded."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.base import POINTER_FILE, BasePointer

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BASE_DIGEST_KEY = "base_digest"


def check_adapter(path: Path, pointer: BasePointer) -> None:
    """Check that an adapter folder is complete and that its weights carry the digest of ``pointer``.

    Raises HeartwoodError naming the file, what was expected and what was found.
    """
    from safetensors import SafetensorError, safe_open

    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        if not (path / name).is_file():
            raise HeartwoodError(f"adapter {path} has no {name}", hint=f"make it again with: dvc repro sft@{path.name}")
    weights = path / ADAPTER_WEIGHTS
    try:
        with safe_open(str(weights), framework="pt") as file:
            found = (file.metadata() or {}).get(BASE_DIGEST_KEY)
    except SafetensorError as error:
        raise HeartwoodError(
            f"{weights} is no safetensors file: {error}", hint=f"make it again with: dvc repro sft@{path.name}"
        ) from error
    if found != pointer.digest:
        raise HeartwoodError(
            f"{weights} was trained on another base: expected digest {pointer.digest} ({pointer.name}), "
            f"found {found or 'none'}",
            hint=f"train it again on this base: dvc repro sft@{path.name}",
        )


def read_adapter_config(path: Path) -> dict[str, Any]:
    """The ``adapter_config.json`` of an adapter folder."""
    content: dict[str, Any] = json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return content


def adapter_weights(model: Any) -> dict[str, Any]:
    """The adapter's tensors on the CPU in float32, by their name in ``adapter_model.safetensors``."""
    import torch
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {
        name: state[name].detach().to(device="cpu", dtype=torch.float32).contiguous().clone() for name in sorted(state)
    }


def write_adapter(model: Any, pointer: BasePointer, out: Path, texts: Mapping[str, str]) -> None:
    """Write the adapter folder whole: into a neighbour first, then in place.

    ``texts`` are further files of the folder, by name; the base pointer is among them under ``base.json``.
    """
    if POINTER_FILE not in texts:
        raise ValueError(f"an adapter folder needs {POINTER_FILE}")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        (scratch / ADAPTER_WEIGHTS).write_bytes(safetensors_bytes(adapter_weights(model), pointer))
        (scratch / ADAPTER_CONFIG).write_text(_adapter_config(model, pointer), encoding="utf-8", newline="\n")
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8", newline="\n")
        if out.exists():
            out.rmdir()
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def safetensors_bytes(weights: Mapping[str, Any], pointer: BasePointer) -> bytes:
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
