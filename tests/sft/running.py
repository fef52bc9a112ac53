"""A training in a process of its own, for the tests that kill it or launch several: ``python -m tests.sft.running``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.tiny_model import chat_row


def main() -> None:
    """Train with the settings in the JSON file that is named; print the losses."""
    import torch

    torch.set_num_threads(1)
    from pipelines.sft.parent import end_with_parent
    from pipelines.sft.scratch import held
    from pipelines.sft.train import TrainSettings, train

    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if asked.get("watch_parent"):
        end_with_parent()
    folder = Path(asked["folder"])
    rows = [chat_row(number, turns=1 + number % 3) for number in range(40)]
    with held(folder, "tiny", asked["key"], here=folder) as scratch:
        result = train(
            rows,
            Path(asked["parent"]),
            Path(asked["out"]),
            TrainSettings(**asked["settings"]),
            skip=0,
            dev=rows[:8],
            scratch=scratch if asked["resumable"] else None,
        )
    if scratch.first:
        print(
            json.dumps(
                {
                    "losses": [s.loss for s in result.losses],
                    "rates": [s.learning_rate for s in result.losses],
                    "tokens": [s.supervised_tokens for s in result.losses],
                    "dev": [d.loss for d in result.dev_losses],
                    "resumed_at": result.outcome.resumed_at,
                    "group_left": torch.distributed.is_initialized(),
                }
            )
        )


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
