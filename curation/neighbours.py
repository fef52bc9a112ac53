"""Exact nearest neighbours by cosine (recall 1; an index would cost determinism).

A fast product of matrices proposes pairs: of fp32 numbers, or of bfloat16 ones where the CPU has AMX, which is some
five times as fast. How far its scores may be off is known, so it proposes every pair that can reach the threshold. The
cosine that decides and is reported is the fp64 dot product of two vectors, rounded to fp32, whichever product proposed
the pair, beside whatever other vectors.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curation.hardware import Product, cpu_has_amx, from_bfloat16, load_product, to_bfloat16, usable_cores

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]
Encode = Callable[[Sequence[str]], Vectors]
# From so many pairs on, loading the bfloat16 product (0.2 s) pays.
MANY_PAIRS = 2**26
# Pairs scored exactly at once: some 10 MB.
EXACT_ROWS = 2048


def pairs_above(queries: Vectors, base: Vectors, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (query row, base row, cosine) for every pair at or above the threshold, in row order.

    Args:
        queries: shape (n, d), rows of unit length.
        base: shape (m, d), rows of unit length.
        threshold: smallest cosine that counts.
    """
    return _search(queries, base, threshold, nearest=False)


def nearest_above(queries: Vectors, base: Vectors, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (query row, nearest base row, cosine) for every query with one at or above the threshold, ties to the first.

    Args:
        queries: shape (n, d), rows of unit length.
        base: shape (m, d), rows of unit length.
        threshold: smallest cosine that counts.
    """
    return _search(queries, base, threshold, nearest=True)


def may_have_neighbours(vectors: Vectors, threshold: float) -> NDArray[np.bool_]:
    """Which rows may have another row at or above the threshold, shape (n,); a row that may not has none.

    Every row may where the CPU has no AMX: there, this takes as long as the comparison that it spares.

    Args:
        vectors: shape (n, d), rows of unit length or of zeros.
        threshold: smallest cosine that counts.
    """
    if len(vectors) ** 2 < MANY_PAIRS or (product := _hardware_product()) is None:
        return np.ones(len(vectors), dtype=bool)
    proposals = _Bfloat16(vectors, product)

    def find(start: int) -> NDArray[np.bool_]:
        queries = vectors[start : start + proposals.rows]
        error, blocks = proposals.blocks(queries)
        best = np.full(len(queries), -np.inf, dtype=np.float32)
        for offset, scores in blocks:
            own = np.arange(max(start, offset), min(start + len(queries), offset + scores.shape[1]))
            scores[own - start, own - offset] = -np.inf
            np.maximum(best, scores.max(axis=1), out=best)
        near: NDArray[np.bool_] = best >= threshold - error - 1e-6
        return near

    with ThreadPoolExecutor(proposals.workers, initializer=proposals.start_thread) as pool:
        return np.concatenate(list(pool.map(find, range(0, len(vectors), proposals.rows))))


class _Proposals(Protocol):
    """Approximate cosines of blocks of queries with blocks of the base.

    Attributes:
        rows: queries in a block.
        columns: vectors of the base in a block.
        workers: how many blocks are made at once.
    """

    rows: int
    columns: int
    workers: int

    def start_thread(self) -> None:
        """Called in each thread that makes blocks."""

    def blocks(self, queries: Vectors) -> tuple[float, Iterator[tuple[int, Vectors]]]:
        """How far a score may be off at most; and each block of scores with where in the base it starts."""


def _lengths(vectors: Vectors) -> float:
    """The length of the longest row, rounded up."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).max(initial=0.0)) * (1 + 1e-4)


def _summing_error(inner: int) -> float:
    """The error of adding up so many products in fp32, in any order, relative to the two lengths; and of the result."""
    return (inner + 2) * 2.0**-23


class _Fp32:
    """Blocks by NumPy, whose product uses every core itself."""

    rows, columns, workers = 1024, 4096, 1

    def __init__(self, base: Vectors) -> None:
        self._base = base
        self._error = _lengths(base) * _summing_error(base.shape[1])

    def start_thread(self) -> None:
        """Nothing to do."""

    def blocks(self, queries: Vectors) -> tuple[float, Iterator[tuple[int, Vectors]]]:
        def made() -> Iterator[tuple[int, Vectors]]:
            for offset in range(0, len(self._base), self.columns):
                yield offset, queries @ self._base[offset : offset + self.columns].T

        return self._error * _lengths(queries), made()


class _Bfloat16:
    """Blocks by the bfloat16 product, small enough to stay in a core's own cache until they have been looked through."""

    rows, columns = 256, 1024

    def __init__(self, base: Vectors, product: Product) -> None:
        self.workers = usable_cores()
        self._product = product
        self._base = np.empty(base.shape, dtype=np.uint16)
        self._length = _lengths(base)
        self._rounding = 0.0
        for start in range(0, len(base), self.columns):
            part = base[start : start + self.columns]
            self._base[start : start + self.columns] = rounded = to_bfloat16(part)
            self._rounding = max(self._rounding, _lengths(part - from_bfloat16(rounded)))

    def start_thread(self) -> None:
        self._product.use_one_thread()

    def blocks(self, queries: Vectors) -> tuple[float, Iterator[tuple[int, Vectors]]]:
        rounded = to_bfloat16(queries)
        near = from_bfloat16(rounded)
        length, base_length, inner = _lengths(near), self._length + self._rounding, queries.shape[1]
        # q.b - q'.b' = (q - q').b + q'.(b - b'), and a product is at most the two lengths (Cauchy-Schwarz).
        error = _lengths(queries - near) * self._length + length * self._rounding
        error += length * base_length * _summing_error(inner)

        def made() -> Iterator[tuple[int, Vectors]]:
            scores = np.empty((len(queries), self.columns), dtype=np.float32)
            for offset in range(0, len(self._base), self.columns):
                part = self._base[offset : offset + self.columns]
                shape = len(queries), len(part), inner
                self._product(rounded.ctypes.data, part.ctypes.data, scores.ctypes.data, shape, self.columns, add=False)
                yield offset, scores[:, : len(part)]

        return error, made()


@cache
def _hardware_product() -> Product | None:
    return load_product() if cpu_has_amx() else None


def _proposals(queries: Vectors, base: Vectors) -> _Proposals:
    """The faster of the two."""
    if len(queries) * len(base) >= MANY_PAIRS and (product := _hardware_product()):
        return _Bfloat16(base, product)
    return _Fp32(base)


def _search(queries: Vectors, base: Vectors, threshold: float, *, nearest: bool) -> Iterator[tuple[int, int, float]]:
    if not len(queries) or not len(base):
        return
    proposals = _proposals(queries, base)

    def find(start: int) -> tuple[Rows, Rows, Vectors]:
        return _find(queries[start : start + proposals.rows], base, threshold, proposals, nearest=nearest)

    starts = range(0, len(queries), proposals.rows)
    pool = ThreadPoolExecutor(proposals.workers, initializer=proposals.start_thread)
    try:
        for start, found in zip(starts, pool.map(find, starts), strict=True):
            rows, columns, scores = found
            yield from zip((rows + start).tolist(), columns.tolist(), scores.tolist(), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _find(
    queries: Vectors, base: Vectors, threshold: float, proposals: _Proposals, *, nearest: bool
) -> tuple[Rows, Rows, Vectors]:
    """The rows, columns and cosines at or above the threshold in row order; of each row the nearest alone, if asked."""
    error, blocks = proposals.blocks(queries)
    # A score under the floor is of a pair that cannot count. What fp32 rounds off here is far less than the 1e-6.
    floor = np.full(len(queries), threshold - error - 1e-6, dtype=np.float32)
    hits: list[tuple[Rows, Rows, Vectors]] = []
    for offset, scores in blocks:
        # Few rows have a neighbour: the maximum of a row is found much faster than its every place.
        best = scores.max(axis=1)
        near = np.flatnonzero(best >= floor)
        if nearest:
            floor[near] = np.maximum(floor[near], best[near] - np.float32(2 * error + 2e-6))
        found = scores[near]
        rows, columns = np.nonzero(found >= floor[near, None])
        hits.append((near[rows], columns + offset, found[rows, columns]))
    rows, columns, values = (np.concatenate(part) for part in zip(*hits, strict=True))
    # The floor of a row has risen with the best of its scores.
    may_count = values >= floor[rows]
    rows, columns = rows[may_count], columns[may_count]
    exact = _cosines(queries, base, rows, columns)
    counts = exact >= threshold
    rows, columns, exact = rows[counts], columns[counts], exact[counts]
    order = np.lexsort((columns, -exact, rows) if nearest else (columns, rows))
    rows, columns, exact = rows[order], columns[order], exact[order]
    if nearest:
        rows, first = np.unique(rows, return_index=True)
        columns, exact = columns[first], exact[first]
    return rows, columns, exact


def _cosines(queries: Vectors, base: Vectors, rows: Rows, columns: Rows) -> Vectors:
    """The cosine of each pair: products and sums in fp64, a pair's never in another order, then rounded to fp32."""
    cosines = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), EXACT_ROWS):
        part = slice(start, start + EXACT_ROWS)
        cosines[part] = (queries[rows[part]].astype(np.float64) * base[columns[part]]).sum(axis=1)
    return cosines
