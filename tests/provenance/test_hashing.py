import hashlib
import json
from pathlib import Path

import pytest

from pipelines.provenance import hashing
from pipelines.provenance.hashing import Digest, hash_file, hash_path


def dvc_hash(path: Path) -> str:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs import LocalFileSystem, MemoryFileSystem

    _, _, built = build(HashFileDB(MemoryFileSystem(), "/odb"), str(path), LocalFileSystem(), "md5", dry_run=True)
    value = built.hash_info.value
    assert value is not None
    return value


def test_a_folder_hashes_as_dvc_hashes_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "sub" / "ünï").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)))
    (folder / "sub" / "ünï" / "c d.txt").write_text("é", encoding="utf-8")
    assert hash_path(folder).md5 == dvc_hash(folder)
    assert hash_path(folder / "a.txt").md5 == dvc_hash(folder / "a.txt")


def test_caches_of_the_interpreter_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    before = hash_path(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "code.cpython-311.pyc").write_bytes(b"x")
    assert hash_path(tmp_path) == before


def test_sha256_is_taken_over_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_path(tmp_path / "a").sha256 == hashlib.sha256(b"abc").hexdigest()
    listing = json.dumps([{"sha256": hashlib.sha256(b"abc").hexdigest(), "relpath": "a"}])
    assert hash_path(tmp_path).sha256 == hashlib.sha256(listing.encode()).hexdigest() + ".dir"


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 13, 14, 15, 1000])
def test_a_large_file_hashes_as_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    wanted = Digest(hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(hashing, "_CHUNK", 7)
    for large in (0, 14, size + 1):
        monkeypatch.setattr(hashing, "_LARGE", large)
        assert hash_file(tmp_path / "a") == wanted


def test_a_file_of_many_chunks_hashes_as_dvc_hashes_it(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * (hashing._LARGE // 256) + b"end")
    assert hash_path(tmp_path / "big").md5 == dvc_hash(tmp_path / "big")
