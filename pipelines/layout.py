"""Where the tables between stages stand, and small readers and writers that several stages share."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from curation.records import SPLITS, Conversation

RAW = Path("data/raw")
RECORDS = Path("data/records")
QUARANTINE = Path("data/quarantine")
ORIGINS = Path("data/origins.parquet")
SPLIT = {name: Path(f"data/split/{name}.parquet") for name in SPLITS}
REVIEW = {name: Path(f"data/review/{name}.jsonl") for name in ("dedup", "leakage")}
LEDGER = {name: Path(f"data/ledger/{name}.parquet") for name in ("split", "dedup", "leakage")}
VECTORS = Path("data/embeddings/vectors.parquet")
DEDUPLICATED = Path("data/dedup/train.parquet")
CLEAN = Path("data/clean/train.parquet")
DEV_EXAMPLES = Path("data/dev.jsonl")
MIXTURE = Path("data/mixture/train.jsonl")
PROMPTS = Path("data/prompts.jsonl")
BASE = Path("models/base.json")
REPORTS = Path("reports")


def main_checkout(root: Path) -> Path:
    """The user's checkout, also when DVC runs a stage in a copy under ``.dvc/tmp/exps``."""
    parts = root.resolve().parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root


def by_source(conversations: Iterable[Conversation]) -> dict[str, int]:
    """How many records each source has."""
    return dict(sorted(Counter(c.source for c in conversations).items()))
