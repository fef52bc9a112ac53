import numpy as np
import pytest

from curation.neighbours import BLOCK, nearest_above, pairs_above


@pytest.mark.parametrize("sizes", [(3, 5), (BLOCK + 3, 7), (5, 4 * BLOCK + 9), (0, 4), (4, 0)])
def test_pairs_above_are_all_pairs_in_row_order_across_blocks(sizes):
    generator = np.random.default_rng(0)
    queries, base = (generator.normal(size=(n, 6)).astype(np.float32) for n in sizes)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    found = list(pairs_above(queries, base, 0.8))
    scores = queries @ base.T
    expected = list(zip(*np.nonzero(scores >= 0.8), strict=True))
    assert [(i, j) for i, j, _ in found] == expected
    np.testing.assert_allclose([s for _, _, s in found], [scores[i, j] for i, j in expected], atol=1e-6)


@pytest.mark.parametrize("sizes", [(3, 5), (BLOCK + 3, 7), (5, 4 * BLOCK + 9), (0, 4), (4, 0)])
def test_the_nearest_above_is_the_best_of_all_pairs_above_ties_to_the_first(sizes):
    generator = np.random.default_rng(1)
    queries, base = (generator.normal(size=(n, 4)).astype(np.float32) for n in sizes)
    base = np.concatenate([base, base[::-1]])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    scores = queries @ base.T
    expected = [(i, int(row.argmax())) for i, row in enumerate(scores) if len(row) and row.max() >= 0.8]
    found = list(nearest_above(queries, base, 0.8))
    assert [(i, j) for i, j, _ in found] == expected
    np.testing.assert_allclose([s for _, _, s in found], [scores[i, j] for i, j in expected], atol=1e-6)
