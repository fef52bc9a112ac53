"""``heartwood preview``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from heartwood.options import Json, page


def preview(
    model: Annotated[
        Path, typer.Argument(help="What training goes on from: models/base.json or an adapter folder.")
    ] = Path("models/base.json"),
    rows: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 3,
    as_json: Json = False,
) -> None:
    """Show the next training rows with the loss mask made visible.

    Rows stand as the model reads them, special tokens included. What is between [[ and ]] is in the loss; everything
    else is not. Reads data/mixture/train.jsonl and params.yaml of the workspace.

    Exit code 0: shown. 1: no data, or a row that training would refuse. 2: usage.
    """
    from rich.text import Text

    from curation.jsonl import read_jsonl
    from pipelines.layout import MIXTURE
    from pipelines.provenance.stage import PARAMS
    from pipelines.settings.strict import parse_section, read_params
    from pipelines.settings.training import SftParams
    from pipelines.sft.preview import preview as preview_rows

    context = parse_section(SftParams, read_params(PARAMS).get("sft"), "sft").context
    found = preview_rows(read_jsonl(MIXTURE), model, rows, context)
    if as_json:
        print(json.dumps([row.as_dict() for row in found], indent=2, ensure_ascii=False))
        return
    console = page()
    for row in found:
        console.print(f"row {row.row}  {row.source}  uid {row.uid}")
        if not row.parts:
            console.print(f"  passed over: it does not fit sft.context {context}\n")
            continue
        left_out = f", {row.truncated_turns} oldest turns left out" if row.truncated_turns else ""
        console.print(f"{row.tokens} tokens, {row.supervised_tokens} in the loss{left_out}")
        text = Text()
        for part in row.parts:
            text.append(f"[[{part.text}]]" if part.supervised else part.text, "bold green" if part.supervised else "")
        console.print(text)
        console.print()
