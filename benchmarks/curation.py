"""Time and peak memory of curation, raw to checked mixture, with vectors cold and then warm.

Each run is `dvc repro check` in a fresh clone of this repository's last commit. Cold starts with an empty cache
folder, so every distinct text is encoded; its total is compared with the bare encoding time that the embed stage
measured in that run. Warm is a second clone beside the vectors that the first one kept.

    python -m benchmarks.curation --raw ../shared/data
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run(raw: str, base: Path, name: str) -> tuple[float, dict[str, dict[str, Any]]]:
    """Wall seconds of one `dvc repro check`, and what each stage recorded of itself."""
    folder = base / name
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("location: data/embedded", f"location: {raw}"), encoding="utf-8")
    environment = {
        **os.environ,
        "HEARTWOOD_CACHE": str(base / "cache"),
        "DVC_SITE_CACHE_DIR": str(base / "site"),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONPATH": str(folder),
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "check"], cwd=folder, env=environment, check=True, stdout=sys.stderr
    )
    seconds = time.perf_counter() - start
    runs = sorted((folder / ".heartwood/runs").glob("*.json"))
    return seconds, {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in runs}


def main() -> None:
    """Print both runs, stage by stage, and the ratio to bare encoding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", default="data/embedded", help="raw.location: a folder in the official layout")
    arguments = parser.parse_args()
    raw = arguments.raw if arguments.raw == "data/embedded" else str(Path(arguments.raw).resolve())
    base = Path(tempfile.mkdtemp(prefix="heartwood-curation-"))
    try:
        for name in ("cold", "warm"):
            seconds, stages = run(raw, base, name)
            print(f"{name}: {seconds:.1f} s wall, {os.cpu_count()} cores")
            for stage, record in sorted(stages.items(), key=lambda s: s[1]["started"]):
                print(f"  {stage:10} {record['seconds']:8.1f} s {record['peak_memory_mib']:6} MiB")
            encode = stages["embed"].get("encode_seconds")
            if encode:
                print(f"  bare encoding {encode:.1f} s; the whole took {seconds / encode:.2f} times that")
            peak = max(record["peak_memory_mib"] for record in stages.values())
            print(f"  peak memory of a stage {peak} MiB")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
