"""``heartwood merge``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, working


def merge(
    model: Annotated[Path, typer.Argument(help="An adapter folder, such as models/sft-100.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    quantisation: Annotated[
        str, typer.Option(help="What to merge into. Only full precision (none) is possible.")
    ] = "none",
    as_json: Json = False,
) -> None:
    """Write an adapter merged into its base, as a model folder for plain transformers.

    Merges in float32 on the CPU, reads the result back and checks its logits against those of base and adapter.
    Needs memory for two copies of the base in float32. The folder can be named as base.name.

    Exit code 0: written. 1: refused or failed, and why. 2: usage.
    """
    from pipelines.sft.merge import merge as merge_adapter
    from pipelines.sft.merge import trained_quantisation

    with working(f"merging {model}"):
        merged = merge_adapter(model, out, quantisation=quantisation, trained_on=trained_quantisation(model))
    if as_json:
        print(json.dumps({**vars(merged), "folder": str(merged.folder)}, indent=2))
        return
    print(f"{merged.folder}: {merged.parameters:,} parameters in float32, digest {merged.digest[:12]}")
    print(f"largest difference of a logit to base and adapter apart: {merged.difference:.1e}")
    if merged.against_nf4 is not None:
        print(f"to base and adapter in 4 bits, as trained and scored here: {merged.against_nf4:.1e}")
        print("replies can therefore differ from those that were scored: score what you publish")
