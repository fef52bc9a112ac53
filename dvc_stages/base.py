"""The base model's pointer: its name, revision and the digest of every file that is loaded."""

import sys

from pipelines.layout import BASE
from pipelines.progress import progress
from pipelines.provenance.stage import Run, execute
from pipelines.settings.training import BaseParams
from pipelines.sft.base import pad_note, resolve_base


@progress("hashing the base model")
def main(run: Run) -> None:
    """Write ``models/base.json``."""
    params = run.section("base", BaseParams)
    pointer = resolve_base(params.name, params.revision or None)
    BASE.parent.mkdir(parents=True, exist_ok=True)
    BASE.write_text(pointer.to_json(), encoding="utf-8", newline="\n")
    print(f"{pointer.name}: {pointer.parameters:,} parameters, padded with {pointer.pad_token}", file=sys.stderr)
    if note := pad_note(pointer):
        print(note, file=sys.stderr)


if __name__ == "__main__":
    execute(main)
