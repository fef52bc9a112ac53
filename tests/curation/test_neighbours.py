import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import neighbours
from curation.hardware import cpu_has_amx, from_bfloat16, load_product, to_bfloat16
from curation.neighbours import may_have_neighbours, nearest_above, pairs_above

BLOCK = 1024


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


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sentence_like(seed, rows, near, spread):
    """Vectors as wide as a sentence's: a few first ones, then others whose cosine with one of them is close to ``near``."""
    generator = np.random.default_rng(seed)
    first = unit(generator.normal(size=(5, 384)))[np.arange(rows) % 5]
    other = generator.normal(size=(rows, 384))
    other = unit(other - (other * first).sum(axis=1, keepdims=True) * first)
    cosines = np.clip(near + generator.normal(scale=spread, size=(rows, 1)), -1, 1)
    return np.concatenate([first[:5], cosines * first + np.sqrt(1 - cosines**2) * other]).astype(np.float32)


class InNumPy:
    """The bfloat16 product by NumPy; its scores are off by ``error``, up and down in turn."""

    def __init__(self, error=0.0):
        self._error = error

    def use_one_thread(self):
        pass

    def __call__(self, left, right, total, shape, stride, *, add):
        rows, columns, inner = shape

        def matrix(address, count):
            bits = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint16))
            return from_bfloat16(np.ctypeslib.as_array(bits, (count, inner)))

        scores = matrix(left, rows) @ matrix(right, columns).T
        scores += self._error * (1 - 2 * (np.indices(scores.shape).sum(axis=0) % 2))
        out = np.ctypeslib.as_array(ctypes.cast(total, ctypes.POINTER(ctypes.c_float)), (rows, stride))
        out[:, :columns] = scores


def hardware():
    product = load_product() if cpu_has_amx() else None
    if product is None:
        pytest.skip("this CPU has no AMX, or its PyTorch no bfloat16 product")
    return product


def both(queries, base, threshold, proposals):
    """What the two searches find by these proposals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_proposals", lambda queries, base: proposals(base))
        return [list(search(queries, base, threshold)) for search in (pairs_above, nearest_above)]


def expected(queries, base, threshold):
    """The same by definition: every cosine in fp64, rounded to fp32."""
    pairs = [
        (i, j, float(score))
        for i, query in enumerate(queries)
        for j, score in enumerate((query.astype(np.float64) * base).sum(axis=1).astype(np.float32))
        if score >= threshold
    ]
    nearest = {}
    for i, j, score in pairs:
        if i not in nearest or score > nearest[i][2]:
            nearest[i] = (i, j, score)
    return [pairs, list(nearest.values())]


@pytest.mark.parametrize("make", [lambda: InNumPy(), lambda: InNumPy(2e-5), hardware], ids=["exact", "off", "amx"])
@given(
    seed=st.integers(0, 2**32 - 1), near=st.floats(0.5, 0.99), spread=st.sampled_from([0.0, 1e-7, 1e-4, 0.004, 0.02])
)
@settings(max_examples=8, deadline=None)
def test_both_products_find_what_the_definition_says_near_the_threshold_too(make, seed, near, spread):
    product = make()
    queries, base = sentence_like(seed, 100, near, spread), sentence_like(seed, 400, near, spread)
    base = np.concatenate([base, base[:40]])
    wanted = expected(queries, base, near)
    assert both(queries, base, near, neighbours._Fp32) == wanted
    assert both(queries, base, near, lambda base: neighbours._Bfloat16(base, product)) == wanted


@pytest.mark.parametrize("make", [lambda: InNumPy(), hardware], ids=["numpy", "amx"])
def test_no_score_is_further_off_than_its_bound(make):
    product = make()
    queries, base = sentence_like(1, 200, 0.8, 0.1), sentence_like(2, 1500, 0.8, 0.1)
    cosines = queries.astype(np.float64) @ base.T.astype(np.float64)
    for proposals in (neighbours._Fp32(base), neighbours._Bfloat16(base, product)):
        error, blocks = proposals.blocks(queries)
        scores = np.concatenate([block.copy() for _, block in blocks], axis=1)
        assert np.abs(scores - cosines).max() <= error <= 0.008


def test_without_its_margin_the_bfloat16_product_would_miss_pairs():
    queries, base = sentence_like(3, 300, 0.85, 0.004), sentence_like(3, 1100, 0.85, 0.004)

    class Blind(neighbours._Bfloat16):
        def blocks(self, queries):
            return 0.0, super().blocks(queries)[1]

    wanted = expected(queries, base, 0.85)
    assert both(queries, base, 0.85, lambda base: neighbours._Bfloat16(base, InNumPy())) == wanted
    assert both(queries, base, 0.85, lambda base: Blind(base, InNumPy())) != wanted


@pytest.mark.parametrize("size", [7, 64])
def test_what_is_found_does_not_depend_on_blocks_or_workers(size, monkeypatch):
    queries, base = sentence_like(4, 90, 0.85, 0.01), sentence_like(4, 200, 0.85, 0.01)
    wanted = expected(queries, base, 0.85)
    for kind in (neighbours._Fp32, neighbours._Bfloat16):
        monkeypatch.setattr(kind, "rows", size)
        monkeypatch.setattr(kind, "columns", size)
    monkeypatch.setattr(neighbours, "usable_cores", lambda: size)
    assert both(queries, base, 0.85, neighbours._Fp32) == wanted
    assert both(queries, base, 0.85, lambda base: neighbours._Bfloat16(base, InNumPy())) == wanted


def test_the_bfloat16_product_is_used_for_many_pairs_where_there_is_one(monkeypatch):
    vectors = sentence_like(5, 20, 0.85, 0.01)
    assert isinstance(neighbours._proposals(vectors, vectors), neighbours._Fp32)
    monkeypatch.setattr(neighbours, "MANY_PAIRS", 100)
    monkeypatch.setattr(neighbours, "_hardware_product", InNumPy)
    assert isinstance(neighbours._proposals(vectors, vectors), neighbours._Bfloat16)
    monkeypatch.setattr(neighbours, "_hardware_product", lambda: None)
    assert isinstance(neighbours._proposals(vectors, vectors), neighbours._Fp32)


@pytest.mark.parametrize("near", [0.3, 0.849, 0.852])
def test_rows_that_may_have_neighbours_are_all_that_have_and_few_others(near, monkeypatch):
    vectors = sentence_like(6, 90, near, 0.01)
    whole = may_have_neighbours(vectors, 0.85)
    assert whole.all(), "so few rows are not worth a look"
    monkeypatch.setattr(neighbours, "MANY_PAIRS", 100)
    monkeypatch.setattr(neighbours, "_hardware_product", InNumPy)
    monkeypatch.setattr(neighbours._Bfloat16, "rows", 7)
    monkeypatch.setattr(neighbours._Bfloat16, "columns", 13)
    scores = vectors.astype(np.float64) @ vectors.T
    np.fill_diagonal(scores, -1)
    may = may_have_neighbours(vectors, 0.85)
    assert may[scores.max(axis=1) >= 0.85].all()
    assert not may[scores.max(axis=1) < 0.84].any()
    monkeypatch.setattr(neighbours, "_hardware_product", lambda: None)
    assert may_have_neighbours(vectors, 0.85).all()


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=50))
def test_bfloat16_rounding_is_pytorchs(values):
    import torch

    numbers = np.array(values, dtype=np.float32)
    rounded = from_bfloat16(to_bfloat16(numbers))
    np.testing.assert_array_equal(rounded, torch.from_numpy(numbers).bfloat16().float().numpy())
