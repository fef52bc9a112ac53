"""How long `heartwood explain data/mixture/train.jsonl:N` takes on tables of the size that a folder of corpora gives.

The stages from records to mix run for real, but without the sentence encoder: dedup and leakage compare words only, so
that the tables are made in minutes. Then lines spread over the mixture are asked about, each in a process of its own,
as a user asks; CPU time is the measure, wall time beside it.

    python -m benchmarks.explain --raw /path/to/corpora
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from curation.dedup import DedupSettings, deduplicate
from curation.leakage import Detector, LeakageSettings, remove_leaks
from curation.ledger import write_ledger
from curation.records import read_records, write_records
from pipelines import layout
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.stage import Definition, Inputs, Run
from pipelines.settings.strict import read_params

ROOT = Path(__file__).resolve().parents[1]


def stage(name: str, params: dict[str, Any]) -> None:
    """Run one stage's body in the current folder, without DVC around it."""
    module = __import__(f"dvc_stages.{name}", fromlist=["main"])
    module.main(Run(Definition(name, (), (), ()), Inputs({}, params)))


def build(raw: Path, size: int) -> None:
    """Make the tables in the current folder."""
    params = read_params(ROOT / "params.yaml")
    params["raw"]["location"] = str(raw)
    params["mix"] |= {"size": size, "when_short": "shrink"}
    for name in ("raw", "records", "split"):
        stage(name, params)
    train = read_records(layout.SPLIT["train"])
    found = deduplicate(train, DedupSettings(**params["dedup"]), None)
    write_records(found.kept, layout.DEDUPLICATED)
    write_ledger(found.removals, layout.LEDGER["dedup"])
    held_out = read_records(layout.SPLIT["dev"]) + read_records(layout.SPLIT["test"])
    detector = Detector(held_out, LeakageSettings(**params["leakage"]["detector"]), None)
    clean = remove_leaks(found.kept, detector, generic=params["leakage"]["generic"])
    write_records(clean.kept, layout.CLEAN)
    write_ledger(clean.removals, layout.LEDGER["leakage"])
    Path("models").mkdir()
    Path("models/base").symlink_to(ROOT / "models/base")
    for name in ("base", "mix", "dev", "prompts"):
        stage(name, params)
    shutil.copy(ROOT / "reports/validation.json", layout.REPORTS / "validation.json")
    shutil.copy(ROOT / "dvc.lock", "dvc.lock")
    write_json(Path("size.json"), {"mixture": read_json(layout.REPORTS / "mixture.json")["size"]})


def main() -> None:
    """Print the setup, then seconds by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", required=True, type=Path, help="a folder of corpora in the official layout")
    parser.add_argument("--size", default=20000, type=int, help="rows of the mixture, at most")
    parser.add_argument("--lines", default=9, type=int, help="how many lines are asked about")
    arguments = parser.parse_args()
    raw = arguments.raw.resolve()
    with tempfile.TemporaryDirectory(prefix="heartwood-explain-") as folder, contextlib.chdir(folder):
        start = time.perf_counter()
        build(raw, arguments.size)
        rows = read_json(Path("size.json"))["mixture"]
        records = {p.stem: len(read_records(p)) for p in sorted(layout.RECORDS.glob("*.parquet"))}
        print(f"{json.dumps(records)} records, {rows} rows of mixture, {os.cpu_count()} cores")
        print(f"tables made in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        seconds = []
        for number in range(arguments.lines):
            line = 1 + number * (rows - 1) // max(1, arguments.lines - 1)
            asked = f"{layout.MIXTURE}:{line}"
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "heartwood.cli", "explain", asked, "--json"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds.append(cpu)
            print(f"line {line:6}: {cpu:.2f} s CPU, {time.perf_counter() - start:.2f} s wall")
        print(f"most: {max(seconds):.2f} s CPU")


if __name__ == "__main__":
    main()
