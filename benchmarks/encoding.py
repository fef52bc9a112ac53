"""Texts per second of Heartwood's CPU encoder beside sentence-transformers, on the same texts, by turns in one run.

    python -m benchmarks.encoding --texts 3000 --repeats 5

The texts are a fixed sample of the distinct utterances and situations of the real corpora in HEARTWOOD_REAL_DATA, or
else of the embedded ones. sentence-transformers runs with its default batch size and thread count.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from curation.embedding.minilm import MAX_TOKENS, MiniLM, OnnxModel, cpu_model, packaged_folder
from curation.hardware import usable_cores
from curation.neighbours import Vectors
from curation.records import text_digest
from curation.sources import FILES, parse
from curation.sources.official import fetch_local, write_files
from curation.sources.quarantine import Parsed

EMBEDDED = Path(__file__).resolve().parents[1] / "data" / "embedded"


@dataclass
class Timed:
    """One encoder, and its wall and CPU texts per second in each repeat."""

    encode: Callable[[list[str]], Vectors]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, texts: list[str]) -> Vectors:
        """Encode the texts once, timed."""
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = self.encode(texts)
        self.cpu.append(len(texts) / (time.process_time() - cpu))
        self.wall.append(len(texts) / (time.perf_counter() - wall))
        return vectors


def sample(folder: Path, count: int) -> list[str]:
    """``count`` distinct texts of the corpora in a folder (all, where there are fewer), the same at every call."""
    texts: set[str] = set()
    with tempfile.TemporaryDirectory() as made:
        for name in FILES:
            raw = Path(made, name)
            write_files(fetch_local(name, folder), raw)
            for item in parse(name, raw, name):
                if isinstance(item, Parsed):
                    texts.update(turn.text for turn in item.conversation.turns)
                    texts.add(item.conversation.situation)
    return sorted(texts - {""}, key=text_digest)[:count]


def spread(values: list[float]) -> str:
    """Median, and least to most."""
    return f"{statistics.median(values):7.2f}  ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Print the setup, both speeds, their ratio and how far the vectors differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="sentence-transformers' (its own default is 32)")
    parser.add_argument("--onnx", action="store_true", help="measure ONNX Runtime on a CPU with AMX too")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("HEARTWOOD_REAL_DATA") or EMBEDDED)
    texts = sample(folder, arguments.texts)

    import onnxruntime
    import sentence_transformers
    import torch

    reference = sentence_transformers.SentenceTransformer(str(packaged_folder()), device="cpu")
    model = OnnxModel() if arguments.onnx else cpu_model()
    ours = Timed(MiniLM(model=model).encode)
    theirs = Timed(
        lambda part: np.asarray(
            reference.encode(part, batch_size=arguments.batch_size, normalize_embeddings=True, show_progress_bar=False)
        )
    )
    lengths = [len(ids) for ids in reference.tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]]
    print(f"{len(texts)} distinct texts of {folder}, {statistics.mean(lengths):.1f} tokens on average")
    print(
        f"{usable_cores()} cores, torch {torch.__version__} ({torch.get_num_threads()} threads,"
        f" {torch.backends.cpu.get_cpu_capability()}), sentence-transformers {sentence_transformers.__version__},"
        f" onnxruntime {onnxruntime.__version__}; Heartwood's {type(model).__name__}; load average {os.getloadavg()[0]:.1f}"
    )
    for encoder in (ours, theirs):
        encoder.encode(texts[:64])
    for repeat in range(arguments.repeats):
        turn = (ours, theirs) if repeat % 2 else (theirs, ours)
        made = {id(encoder): encoder.run(texts) for encoder in turn}
    mine, other = made[id(ours)], made[id(theirs)]

    for name, encoder in (("sentence-transformers", theirs), ("heartwood", ours)):
        print(f"{name:22} texts per second       {spread(encoder.wall)}")
        print(f"{'':22} texts per CPU second   {spread(encoder.cpu)}")
    for what in ("wall", "cpu"):
        ratios = [a / b for a, b in zip(getattr(ours, what), getattr(theirs, what), strict=True)]
        print(f"ratio, {what:4}                                    {spread(ratios)}")
    print(
        f"least cosine {np.einsum('ij,ij->i', mine, other, dtype=np.float64).min():.7f},"
        f" largest difference {np.abs(mine - other).max():.1e}"
    )


if __name__ == "__main__":
    main()
