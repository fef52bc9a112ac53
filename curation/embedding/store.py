"""Vectors by text digest in Parquet files that are read a row group at a time: one run's table, and the store."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.cache import cache_folder
from curation.embedding.minilm import DIGESTS, DIMENSIONS, SCHEME
from curation.errors import HeartwoodError
from curation.neighbours import Vectors
from curation.records import column, text_digest

Keys = NDArray[np.bytes_]
Rows = NDArray[np.intp]

KEY_BYTES = 64
VECTOR_BYTES = 4 * DIMENSIONS
# A vector is its float32 values, little-endian: a list column takes thrice the memory and time to read.
SCHEMA = pa.schema([("text", pa.string()), ("vector", pa.binary(VECTOR_BYTES))])
ROW_GROUP = 4096
# What reading a file may raise that another process has just removed or damaged; the next look at it finds out which.
UNREADABLE = (OSError, pa.ArrowException)
# More than so many files under so many bytes are merged.
SMALL_FILES = 16
SMALL_BYTES = 16 * 2**20
# A file that was being written when its process died is removed after a day.
ABANDONED_SECONDS = 86_400


def text_keys(texts: Sequence[str]) -> Keys:
    """The hex sha256 of every text, shape (n,), as fixed-width bytes.

    Raises:
        HeartwoodError: a text holds half of a surrogate pair, which has no UTF-8 form.
    """
    try:
        return np.array([text_digest(text) for text in texts], dtype=f"S{KEY_BYTES}")
    except UnicodeEncodeError as error:
        raise HeartwoodError(
            f"a text is not valid Unicode: {error.object[error.start]!a} at character {error.start}"
            f" of {error.object[:60]!a}",
            hint="remove the half surrogate pairs from the text",
        ) from None


def write_vectors(keys: Keys, vectors: Vectors, path: Path) -> None:
    """Write what ``VectorFile`` reads.

    Args:
        keys: text digests, shape (n,), sorted and distinct.
        vectors: shape (n, 384), float32.
        path: the file to write; its folder is made if missing.
    """
    values = np.ascontiguousarray(vectors, dtype="<f4")
    vector = pa.FixedSizeBinaryArray.from_buffers(SCHEMA.field("vector").type, len(keys), [None, pa.py_buffer(values)])
    text = column(pa.string(), keys.astype(str).tolist())
    table = pa.Table.from_arrays([text, vector], schema=SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP,
        # fp32 values hardly compress.
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    )


class VectorFile:
    """Vectors by text digest in one Parquet file. Its keys are in memory, its vectors are read when asked for.

    Raises:
        ValueError: the file does not hold what ``write_vectors`` writes.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise ValueError(f"columns are {file.schema_arrow.names}")
            texts = file.read(columns=["text"]).column("text").to_pylist()
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if any(key is None or len(key) != KEY_BYTES for key in texts):
            raise ValueError("a key is not a sha256")
        self.keys: Keys = np.array(texts, dtype=f"S{KEY_BYTES}")
        if (self.keys[:-1] >= self.keys[1:]).any():
            raise ValueError("keys are not sorted")
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.intp)])

    def rows(self, keys: Keys) -> Rows:
        """The row of each key, shape (len(keys),); -1 where the file does not hold it."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[rows] == keys, rows, -1)

    def read(self, rows: Rows) -> Iterator[tuple[Rows, Vectors]]:
        """Yield positions in ``rows`` and the vectors of those rows, a row group at a time."""
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[order], self._starts)
        with pq.ParquetFile(self._path) as file:
            for group in np.flatnonzero(np.diff(bounds)):
                positions = order[bounds[group] : bounds[group + 1]]
                stored = file.read_row_group(int(group), columns=["vector"]).column("vector").combine_chunks()
                block = np.frombuffer(stored.buffers()[1], dtype="<f4").reshape(-1, DIMENSIONS)
                yield positions, block[rows[positions] - self._starts[group]]

    def take(self, rows: Rows) -> Vectors:
        """The vectors of the rows, shape (len(rows), 384)."""
        vectors = np.empty((len(rows), DIMENSIONS), dtype=np.float32)
        for positions, block in self.read(rows):
            vectors[positions] = block
        return vectors


class VectorTable:
    """A run's vectors by text, as the embed stage wrote them.

    Raises:
        HeartwoodError: the file is missing or is no such table.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = VectorFile(path)
        except (OSError, ValueError) as error:
            raise HeartwoodError(f"{path}: not a table of vectors: {error}", hint="run `dvc repro -f embed`") from None

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), in the order of ``texts``.

        Raises:
            HeartwoodError: a text is not in the table.
        """
        keys = text_keys(texts)
        rows = self._file.rows(keys)
        if (rows < 0).any():
            raise HeartwoodError(
                f"data/embeddings holds no vector for the text with sha256 {keys[rows < 0][0].decode()}",
                hint="run `dvc repro embed`",
            )
        return self._file.take(rows)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A file whose bytes had the sha256 of its name when they had this size, time and inode."""

    state: tuple[int, int, int]
    file: VectorFile


class VectorStore:
    """Vectors by text digest, under the encoder's digest and scheme, in Parquet files that are never changed.

    Each file is named by the sha256 of its bytes and checked when a process first reads it; one that does not match
    is removed. Files are written beside and renamed, and small ones are merged into a new one before they are
    removed, so any number of processes may share the store. Deleting it, or any file of it, changes only time.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "vectors" / f"{SCHEME}-{DIGESTS['model.safetensors'][:16]}"
        self._verified: dict[str, _Verified] = {}

    def find(self, keys: Keys) -> Iterator[tuple[Rows, Vectors]]:
        """Yield positions in ``keys`` and their vectors, each position once; the keys that are missing never come.

        Args:
            keys: text digests, shape (n,).
        """
        missing = np.ones(len(keys), dtype=bool)
        # A second look: between listing and reading, another process may have merged files into a new one.
        for _ in range(2):
            for path in self._paths():
                wanted = np.flatnonzero(missing)
                if not len(wanted):
                    return
                if (file := self._open(path)) is None:
                    continue
                rows = file.rows(keys[wanted])
                held = np.flatnonzero(rows >= 0)
                with suppress(*UNREADABLE):
                    for positions, vectors in file.read(rows[held]):
                        found = wanted[held[positions]]
                        missing[found] = False
                        yield found, vectors

    def add(self, keys: Keys, vectors: Vectors) -> None:
        """Keep the vectors, shape (n, 384), of distinct keys, shape (n,), for every later run.

        Raises:
            HeartwoodError: the folder cannot be written.
        """
        order = np.argsort(keys)
        try:
            self._write(keys[order], vectors[order])
            self._merge_small_files()
            self._remove_abandoned()
        except OSError as error:
            raise HeartwoodError(
                f"{self.folder}: vectors cannot be kept here: {error.strerror or error}",
                hint="make room there, or set HEARTWOOD_CACHE to a folder that can be written",
            ) from error

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _open(self, path: Path) -> VectorFile | None:
        """The file, checked; None if it is gone or unreadable, or damaged and now removed."""
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._verified.get(path.name)
            if known is None or known.state != state:
                with path.open("rb") as handle:
                    if hashlib.file_digest(handle, "sha256").hexdigest() != path.stem:
                        raise ValueError("its bytes do not have the sha256 of its name")
                known = _Verified(state, VectorFile(path))
                self._verified[path.name] = known
            return known.file
        except ValueError:
            with suppress(OSError):
                path.unlink()
            return None
        except OSError:
            return None

    def _write(self, keys: Keys, vectors: Vectors) -> Path:
        part = self.folder / f"{uuid.uuid4().hex}.part"
        try:
            write_vectors(keys, vectors, part)
            with part.open("rb") as handle:
                path = self.folder / f"{hashlib.file_digest(handle, 'sha256').hexdigest()}.parquet"
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return path

    def _merge_small_files(self) -> None:
        """Merge the smallest files while there are too many small ones, so that many short runs stay fast to read."""
        while len(small := self._small_files()) > SMALL_FILES:
            total = np.cumsum([size for size, _ in small])
            # Any two small files fit.
            chosen = [path for _, path in small[: int(np.searchsorted(total, 2 * SMALL_BYTES, side="right"))]]
            read: list[tuple[Path, Keys, Vectors]] = []
            for path in chosen:
                if file := self._open(path):
                    with suppress(*UNREADABLE):
                        read.append((path, file.keys, file.take(np.arange(len(file.keys)))))
            if len(read) < 2:
                return
            keys, first = np.unique(np.concatenate([keys for _, keys, _ in read]), return_index=True)
            merged = self._write(keys, np.concatenate([vectors for _, _, vectors in read])[first])
            for path, _, _ in read:
                if path != merged:
                    path.unlink(missing_ok=True)

    def _small_files(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._paths():
            with suppress(FileNotFoundError):
                if (size := path.stat().st_size) < SMALL_BYTES:
                    found.append((size, path))
        return sorted(found)

    def _remove_abandoned(self) -> None:
        for part in self.folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    part.unlink()
