"""The same corpora in another row order, encoded anew on one thread, beside the run of the committed lock."""

import hashlib
import json
import random
import sys
from pathlib import Path

import pytest

from tests.pipeline.clone import CURATED, Clone, make_clone, outs, read_lock
from tests.project import ROOT

pytestmark = pytest.mark.pipeline
ON_ONE_CORE = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""


def shuffle_lines(path: Path, *, header: bool, rng: random.Random) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    top, rest = (lines[:1], lines[1:]) if header else ([], lines)
    rng.shuffle(rest)
    path.write_text("".join(top + rest), encoding="utf-8", newline="")


def shuffle_dialogues(folder: Path, rng: random.Random) -> None:
    dialogues = json.loads((folder / "ESConv.json").read_text(encoding="utf-8"))
    splits = json.loads((folder / "ESConv.hub_splits.json").read_text(encoding="utf-8"))
    order = list(range(len(dialogues)))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    (folder / "ESConv.json").write_text(json.dumps([dialogues[i] for i in order]), encoding="utf-8")
    moved = {name: [place[i] for i in indices] for name, indices in splits.items()}
    (folder / "ESConv.hub_splits.json").write_text(json.dumps(moved), encoding="utf-8")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = make_clone(tmp_path_factory.mktemp("shuffled"))
    rng = random.Random(7)
    folder = made.folder / "data/embedded"
    for path in sorted((folder / "empatheticdialogues").glob("*.csv")):
        shuffle_lines(path, header=True, rng=rng)
    for path in sorted((folder / "goemotions").glob("*.tsv")):
        shuffle_lines(path, header=False, rng=rng)
    shuffle_dialogues(folder, rng)
    (folder / "SHA256SUMS").unlink()
    made.env |= {"HEARTWOOD_CACHE": str(tmp_path_factory.mktemp("cold")), "OPENBLAS_NUM_THREADS": "1"}
    made.commit("shuffled")
    made.run(sys.executable, "-c", ON_ONE_CORE, sys.executable, "-m", "dvc", "repro", "check", "prompts", "dev")
    return made


def test_the_raw_bytes_are_really_others(other: Clone) -> None:
    for name in ("empatheticdialogues/train.csv", "goemotions/dev.tsv", "ESConv.json"):
        assert (other.folder / "data/embedded" / name).read_bytes() != (ROOT / "data/embedded" / name).read_bytes()


def test_the_same_records_splits_and_mixture_come_out(other: Clone) -> None:
    committed, found = outs(read_lock(ROOT / "dvc.lock")), outs(other.lock())
    # Quarantined rows carry their row numbers, which a shuffle moves.
    same = [path for path in CURATED if path != "data/quarantine"]
    assert {p: found[p] for p in same} == {p: committed[p] for p in same}


def test_the_same_decisions_and_counts_come_out(other: Clone, clone: Clone) -> None:
    import pyarrow.parquet as pq

    def decisions(run: Clone, stage: str) -> list[tuple]:
        rows = pq.read_table(run.folder / f"data/ledger/{stage}.parquet").to_pylist()
        return [(r["uid"], r["rule"], r["parameters"], r["survivor"], r["detail"]) for r in rows]

    for stage in ("split", "dedup", "leakage"):
        assert decisions(other, stage) == decisions(clone, stage)
    for report in ("records", "split", "dedup", "leakage", "validation", "mixture", "check"):
        assert other.json(f"reports/{report}.json") == clone.json(f"reports/{report}.json"), report


def test_quarantined_rows_are_the_same_rows(other: Clone, clone: Clone) -> None:
    def rows(run: Clone, name: str) -> list[tuple]:
        text = (run.folder / f"data/quarantine/{name}.jsonl").read_text(encoding="utf-8")
        found = [json.loads(line) for line in text.splitlines()]
        return sorted((q["reason"], hashlib.sha256(q["raw"].encode()).hexdigest()) for q in found)

    for name in ("empathetic_dialogues", "esconv", "goemotions"):
        assert rows(other, name) == rows(clone, name)
