"""Exact nearest neighbours by cosine, in fp32 blocks (recall 1; an index would cost determinism)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]
BLOCK = 1024


def pairs_above(queries: Vectors, base: Vectors, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (query row, base row, cosine) for every pair at or above the threshold, in row order.

    Args:
        queries: shape (n, d), rows of unit length.
        base: shape (m, d), rows of unit length.
        threshold: smallest cosine that counts.
    """
    for start in range(0, len(queries), BLOCK):
        hits: list[tuple[NDArray[np.intp], NDArray[np.intp], Vectors]] = []
        for offset, scores in _blocks(queries[start : start + BLOCK], base):
            # Few rows have a neighbour: the maximum of a row is found much faster than its every place.
            near = np.flatnonzero(scores.max(axis=1) >= threshold)
            found = scores[near]
            rows, columns = np.nonzero(found >= threshold)
            hits.append((near[rows] + start, columns + offset, found[rows, columns]))
        if not hits:
            continue
        rows, columns, values = (np.concatenate(part) for part in zip(*hits, strict=True))
        for i in np.lexsort((columns, rows)):
            yield int(rows[i]), int(columns[i]), float(values[i])


def nearest_above(queries: Vectors, base: Vectors, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (query row, nearest base row, cosine) for every query with one at or above the threshold, ties to the first.

    Args:
        queries: shape (n, d), rows of unit length.
        base: shape (m, d), rows of unit length.
        threshold: smallest cosine that counts.
    """
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        rows = np.arange(len(block))
        best = np.full(len(block), -np.inf, dtype=np.float32)
        nearest = np.zeros(len(block), dtype=np.intp)
        for offset, scores in _blocks(block, base):
            columns = scores.argmax(axis=1)
            values = scores[rows, columns]
            better = values > best
            best[better], nearest[better] = values[better], columns[better] + offset
        for i in np.flatnonzero(best >= threshold):
            yield int(i) + start, int(nearest[i]), float(best[i])


def _blocks(queries: Vectors, base: Vectors) -> Iterator[tuple[int, Vectors]]:
    """The cosines of one block of queries with each block of the base, and where in the base that starts."""
    for offset in range(0, len(base), 4 * BLOCK):
        yield offset, queries @ base[offset : offset + 4 * BLOCK].T
