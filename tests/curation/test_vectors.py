from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.embedding import VectorStore, VectorTable, store, text_keys, write_vectors
from curation.embedding.store import VectorFile
from curation.errors import HeartwoodError
from curation.neighbours import Vectors
from curation.records import write_table
from tests.curation.test_embedding import vectors_of


def held(where: VectorStore, texts: list[str]) -> dict[str, Vectors]:
    """The texts whose vectors the store has, and those vectors."""
    return {
        texts[position]: vector
        for positions, vectors in where.find(text_keys(texts))
        for position, vector in zip(positions, vectors, strict=True)
    }


def add(where: VectorStore, *texts: str) -> None:
    where.add(text_keys(texts), vectors_of(texts))


def files(where: VectorStore) -> list[Path]:
    return sorted(where.folder.glob("*.parquet"))


def write(path: Path, texts: list[str]) -> None:
    ordered = sorted(texts, key=lambda text: text_keys([text])[0])
    write_vectors(text_keys(ordered), vectors_of(ordered), path)


def test_two_stores_on_one_folder_see_each_others_vectors(tmp_path):
    one, other = VectorStore(tmp_path), VectorStore(tmp_path)
    add(one, "x")
    assert set(held(other, ["x", "y"])) == {"x"}
    add(other, "y")
    assert set(held(one, ["x", "y"])) == set(held(other, ["x", "y"])) == {"x", "y"}


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-9] + b"x" + data[-8:]]
)
def test_a_damaged_file_is_removed_and_its_vectors_are_missing(tmp_path, damage):
    where = VectorStore(tmp_path)
    add(where, "a")
    add(where, "b")
    (broken,) = [path for path in files(where) if len(VectorFile(path).rows(text_keys(["a"])).nonzero()[0]) == 0]
    broken.write_bytes(damage(broken.read_bytes()))
    assert set(held(where, ["a", "b"])) == {"b"}
    assert not broken.exists()
    add(where, "a")
    assert set(held(VectorStore(tmp_path), ["a", "b"])) == {"a", "b"}


def test_a_file_damaged_after_it_was_checked_is_checked_again(tmp_path):
    where = VectorStore(tmp_path)
    add(where, "a")
    assert set(held(where, ["a"])) == {"a"}
    (path,) = files(where)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert held(where, ["a"]) == {}


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"text": ["a"], "vector": [[1.0]]}),
        pa.table({"other": [1]}),
        pa.table({"text": ["short"], "vector": [b"\0" * store.VECTOR_BYTES]}, schema=store.SCHEMA),
        pa.table({"text": ["b" * 64, "a" * 64], "vector": [b"\0" * store.VECTOR_BYTES] * 2}, schema=store.SCHEMA),
        pa.table({"text": [None], "vector": [b"\0" * store.VECTOR_BYTES]}, schema=store.SCHEMA),
    ],
    ids=["lists", "other columns", "no digest", "unsorted", "null"],
)
def test_a_file_with_its_right_name_and_other_content_is_removed(tmp_path, table):
    where = VectorStore(tmp_path)
    where.folder.mkdir(parents=True)
    write_table(table, tmp_path / "made")
    foreign = where.folder / f"{hashlib.sha256((tmp_path / 'made').read_bytes()).hexdigest()}.parquet"
    (tmp_path / "made").rename(foreign)
    assert held(where, ["a"]) == {}
    assert not foreign.exists()


def test_many_short_runs_leave_few_files_and_every_vector(tmp_path):
    texts = [f"text {n}" for n in range(3 * store.SMALL_FILES)]
    for text in texts:
        add(VectorStore(tmp_path), text)
    where = VectorStore(tmp_path)
    assert len(files(where)) <= store.SMALL_FILES
    found = held(where, texts)
    assert set(found) == set(texts)
    np.testing.assert_array_equal(np.stack([found[text] for text in texts]), vectors_of(texts))
    for path in files(where):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem


def test_large_files_are_not_merged_again(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SMALL_BYTES", 1)
    for n in range(store.SMALL_FILES + 2):
        add(VectorStore(tmp_path), f"text {n}")
    assert len(files(VectorStore(tmp_path))) == store.SMALL_FILES + 2


def test_a_merge_by_another_process_hides_no_vector(tmp_path, monkeypatch):
    where = VectorStore(tmp_path)
    texts = [f"text {n}" for n in range(4)]
    for text in texts:
        add(where, text)
    assert set(held(where, texts)) == set(texts)
    list_files = where._paths

    def merged_just_after_the_listing() -> list[Path]:
        paths = list_files()
        monkeypatch.undo()
        monkeypatch.setattr(store, "SMALL_FILES", 0)
        VectorStore(tmp_path)._merge_small_files()
        return paths

    monkeypatch.setattr(where, "_paths", merged_just_after_the_listing)
    assert set(held(where, texts)) == set(texts)
    assert len(files(where)) == 1


def test_a_damaged_file_is_not_merged(tmp_path, monkeypatch):
    where = VectorStore(tmp_path)
    for n in range(store.SMALL_FILES):
        add(where, f"text {n}")
    broken = files(where)[0]
    broken.write_bytes(broken.read_bytes()[:-1])
    add(VectorStore(tmp_path), "one more")
    texts = [*(f"text {n}" for n in range(store.SMALL_FILES)), "one more"]
    assert len(held(VectorStore(tmp_path), texts)) == store.SMALL_FILES
    assert not broken.exists()


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    where = VectorStore(tmp_path)
    where.folder.mkdir(parents=True)
    old, new = where.folder / "old.part", where.folder / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - store.ABANDONED_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    add(where, "a")
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "vectors").write_text("a file")
    with pytest.raises(HeartwoodError, match="vectors cannot be kept here") as error:
        add(VectorStore(tmp_path), "a")
    assert "HEARTWOOD_CACHE" in error.value.hint


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 7))
def test_the_store_holds_exactly_what_was_added(tmp_path_factory, first, second, asked, group):
    where = VectorStore(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROW_GROUP", group)
        for texts in (first, second):
            if texts:
                add(where, *map(str, texts))
    found = held(where, [str(n) for n in sorted(asked)])
    assert set(found) == {str(n) for n in asked & (first | second)}
    for text, vector in found.items():
        np.testing.assert_array_equal(vector, vectors_of([text])[0])


def test_a_file_depends_on_its_rows_alone(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, ["a", "b", "c"])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_every_bit_of_a_vector_is_kept(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 384)).astype(np.float32)
    vectors[0, :4] = [np.nan, -0.0, np.inf, 1e-45]
    write_vectors(np.sort(text_keys(list("abcde"))), vectors, tmp_path / "v")
    assert VectorFile(tmp_path / "v").take(np.arange(5)).tobytes() == vectors.tobytes()


def test_a_table_answers_by_text_and_names_what_it_lacks(tmp_path):
    write(tmp_path / "v.parquet", ["one", "two"])
    table = VectorTable(tmp_path / "v.parquet")
    np.testing.assert_array_equal(table.encode(["two", "one", "two"]), vectors_of(["two", "one", "two"]))
    assert table.encode([]).shape == (0, 384)
    with pytest.raises(HeartwoodError, match=text_keys(["three"])[0].decode()) as error:
        table.encode(["one", "three"])
    assert "dvc repro embed" in error.value.hint


def test_a_table_of_no_texts(tmp_path):
    write(tmp_path / "v.parquet", [])
    table = VectorTable(tmp_path / "v.parquet")
    assert table.encode([]).shape == (0, 384)
    with pytest.raises(HeartwoodError, match="holds no vector"):
        table.encode(["a"])


def test_a_table_is_read_a_row_group_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROW_GROUP", 2)
    texts = [f"text {n}" for n in range(9)]
    write(tmp_path / "v.parquet", texts)
    assert pq.ParquetFile(tmp_path / "v.parquet").num_row_groups == 5
    np.testing.assert_array_equal(VectorTable(tmp_path / "v.parquet").encode(texts), vectors_of(texts))


@pytest.mark.parametrize("content", [None, b"", b"no Parquet"])
def test_a_table_that_is_none_is_named_with_the_next_step(tmp_path, content):
    if content is not None:
        (tmp_path / "v.parquet").write_bytes(content)
    with pytest.raises(HeartwoodError, match="not a table of vectors") as error:
        VectorTable(tmp_path / "v.parquet")
    assert "dvc repro" in error.value.hint
