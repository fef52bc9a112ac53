"""The same training on one process and on several, one a GPU, with random weights of TinyLlama's exact shape.

Both take the same rows at each step, so both should have the same losses. The launch is the one of the sft stage
(``accelerate launch``).

    python -m benchmarks.training_processes --mixture data/mixture/train.jsonl --dev data/dev.jsonl --processes 2
    python -m benchmarks.training_processes --shape tiny --steps 4 --rows 8 --device cpu   # shows that it runs
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training import ROOT, SHAPES, TARGETS, build_base, lines, say
from pipelines.sft.launch import launch_processes, rank

MODULE = "benchmarks.training_processes"
TASK = "HEARTWOOD_BENCHMARK_TASK"


def work(task: dict[str, Any]) -> None:
    """One training, in a process of its own or as one of several; the first writes what it measured."""
    from pipelines.sft.settings import TrainSettings
    from pipelines.sft.train import train

    settings = TrainSettings(
        steps=task["steps"],
        learning_rate=2e-4,
        batch_size=task["rows"] // task["processes"],
        processes=task["processes"],
        context=512,
        lora_rank=8,
        lora_alpha=16,
        lora_dropout=0.0,
        lora_targets=TARGETS,
        device=task["device"],
        threads=1 if task["device"] == "cpu" else None,
        watch_every=task["steps"],
        samples=0,
    )
    rows, dev = lines(Path(task["mixture"])), lines(Path(task["dev"]))
    result = train(rows, Path(task["base"]), Path(task["out"]), settings, skip=0, dev=dev)
    if rank() == 0:
        measured = {
            "reason": result.hardware.reason,
            "tokens_per_second": result.outcome.trained_tokens / result.outcome.seconds,
            "losses": [step.loss for step in result.losses],
        }
        Path(task["result"]).write_text(json.dumps(measured), encoding="utf-8")


def main() -> None:
    """Train with one process, then with several, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models/base", help="a folder with a chat tokenizer")
    parser.add_argument("--mixture", type=Path, default=ROOT / "data/mixture/train.jsonl")
    parser.add_argument("--dev", type=Path, default=ROOT / "data/dev.jsonl")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=128, help="rows a step, over all processes")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    if arguments.rows % arguments.processes:
        parser.error(f"--rows {arguments.rows} cannot be shared by --processes {arguments.processes}")
    folder = Path(tempfile.mkdtemp(prefix="heartwood-processes-"))
    try:
        base = build_base(folder / "base", arguments.shape, arguments.tokenizer)
        found = []
        for processes in (1, arguments.processes):
            task = {
                "steps": arguments.steps,
                "rows": arguments.rows,
                "processes": processes,
                "device": arguments.device,
                "mixture": str(arguments.mixture),
                "dev": str(arguments.dev),
                "base": str(base),
                "out": str(folder / f"out-{processes}"),
                "result": str(folder / f"result-{processes}.json"),
            }
            os.environ[TASK] = json.dumps(task)
            if processes == 1:
                subprocess.run([sys.executable, "-m", MODULE], check=True)
            else:
                launch_processes(MODULE, processes)
            found.append(json.loads(Path(task["result"]).read_text(encoding="utf-8")))
            say(
                f"{processes} process(es), {arguments.rows} rows a step, {arguments.steps} steps: "
                f"{found[-1]['tokens_per_second']:,.0f} real tokens/s; {found[-1]['reason']}"
            )
        ratio = found[1]["tokens_per_second"] / found[0]["tokens_per_second"]
        apart = max(abs(a - b) for a, b in zip(found[0]["losses"], found[1]["losses"], strict=True))
        say(
            f"{arguments.processes} processes against one: {ratio:.2f} times; greatest difference of a step's loss {apart:.1e}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if TASK in os.environ:
        work(json.loads(os.environ[TASK]))
    else:
        main()
