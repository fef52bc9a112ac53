"""An adapter merged into its base, in full precision, as a model folder that plain transformers loads."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.sft.base import locate, resolve_base
from pipelines.sft.hardware import choose
from pipelines.sft.model import load_model, quiet_libraries

TOLERANCE = 1e-3
_BESIDE_WEIGHTS = ("tokenizer*", "*.jinja", "*.model", "vocab.txt", "merges.txt", "special_tokens_map.json")
_PROBES = (
    "I lost my job today and I do not know what to do.",
    "We are moving away from the town where I grew up.",
    "My sister finally called after four long years.",
)


@dataclass(frozen=True)
class Merged:
    """What was written: the folder, its base digest, parameters, and the largest difference of a logit on the probes.

    ``against_nf4`` compares the merged model with the adapter on 4-bit weights, as it was trained; None for an adapter
    trained without quantisation.
    """

    folder: Path
    digest: str
    parameters: int
    difference: float
    against_nf4: float | None


def merge(
    model: Path, out: Path, *, quantisation: str = "none", trained_on: str = "nf4", root: Path = Path()
) -> Merged:
    """Merge the adapter folder ``model`` into its base in float32 and write the result to ``out``.

    What is written is read back and its logits on three fixed messages are compared with those of base and adapter
    apart. ``trained_on`` is the quantisation that the adapter was trained with.

    Raises HeartwoodError for a base without adapter, a folder that exists, a merge into 4-bit weights (their rounding
    would change what the adapter says: peft#2321), and logits that differ by more than ``TOLERANCE``.
    """
    if quantisation != "none":
        raise HeartwoodError(
            f"merging into {quantisation} weights is refused: rounding them again changes the replies (peft#2321)",
            hint="merge in full precision (quantisation none) and quantise the merged model when you load it",
        )
    if not model.is_dir():
        raise HeartwoodError(f"{model} is no adapter folder, nothing to merge", hint="name one, such as models/sft-100")
    if out.exists():
        raise HeartwoodError(f"{out} exists", hint="name a folder that does not exist yet")
    hardware = choose("cpu")
    adapted, tokenizer, pointer = load_model(model, hardware, "none", root=root)
    probes = _probes(tokenizer)
    expected = _logits(adapted, probes)
    with quiet_libraries():
        whole = adapted.merge_and_unload(safe_merge=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        with quiet_libraries():
            whole.save_pretrained(str(scratch))
        base = locate(pointer, root=root)
        for pattern in _BESIDE_WEIGHTS:
            for path in base.glob(pattern):
                shutil.copyfile(path, scratch / path.name)
        difference = _largest_difference(expected, _logits(_read_back(scratch), probes))
        if not difference <= TOLERANCE:
            raise HeartwoodError(
                f"the merged model's logits differ from base and adapter by {difference:.2e}, allowed {TOLERANCE:.0e}",
                hint="report this with the versions of torch, transformers and peft",
            )
        written = resolve_base(str(scratch))
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    against = None
    if trained_on == "nf4":
        quantised, _, _ = load_model(model, hardware, "nf4", root=root)
        against = _largest_difference(_logits(quantised, probes), expected)
    return Merged(out, written.digest, written.parameters, difference, against)


def trained_quantisation(model: Path) -> str:
    """The quantisation that an adapter was trained with, by its lineage; ``nf4`` where it has none."""
    try:
        lineage = json.loads((model / "lineage.json").read_text(encoding="utf-8"))
        return str(lineage["params"]["sft"]["quantisation"])
    except (OSError, ValueError, KeyError, TypeError):
        return "nf4"


def _read_back(folder: Path) -> Any:
    import torch
    import transformers

    library: Any = transformers
    with quiet_libraries():
        return library.AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()


def _probes(tokenizer: Any) -> list[list[int]]:
    return [
        list(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=True, add_generation_prompt=True, return_dict=False
            )
        )
        for text in _PROBES
    ]


def _logits(model: Any, probes: list[list[int]]) -> list[Any]:
    import torch

    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits.float() for ids in probes]


def _largest_difference(left: list[Any], right: list[Any]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))
