import functools
import hashlib
import http.server
import io
import random
import tarfile
import threading
from contextlib import contextmanager

import pytest

from curation.errors import HeartwoodError
from curation.sources import FILES, official
from curation.sources.official import (
    CHECKSUMS,
    ED_ARCHIVE,
    OFFICIAL,
    Address,
    digest_of,
    download,
    fetch_local,
    fetch_official,
    fetch_path,
    unpack_archive,
    write_files,
)

ED_FILES = {"train.csv": b"train rows", "valid.csv": b"valid rows", "test.csv": b"test rows"}


HUB_FILES = dict.fromkeys(("train.jsonl", "valid.jsonl", "test.jsonl"), b"{}")


def archive(files=ED_FILES, folder="empatheticdialogues/") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def location(tmp_path):
    """All three corpora in the official layout."""
    folder = tmp_path / "corpora"
    for name, data in {
        **{f"empatheticdialogues/{n}": d for n, d in ED_FILES.items()},
        **{f"goemotions/{n}": n.encode() for n in FILES["goemotions"]},
        "ESConv.json": b"[1]",
        "ESConv.hub_splits.json": b"{}",
        "README.md": b"notes",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


class TestLocal:
    def test_each_corpus_is_read_from_its_place(self, location):
        assert fetch_local("empathetic_dialogues", location) == ED_FILES
        assert fetch_local("goemotions", location) == {n: n.encode() for n in FILES["goemotions"]}
        assert fetch_local("esconv", location) == {"ESConv.json": b"[1]", "ESConv.hub_splits.json": b"{}"}

    def test_the_split_file_is_optional(self, location):
        (location / "ESConv.hub_splits.json").unlink()
        assert fetch_local("esconv", location) == {"ESConv.json": b"[1]"}

    def test_esconv_may_stand_in_a_folder_of_its_own_in_either_form(self, location):
        (location / "esconv").mkdir()
        for name in HUB_FILES:
            (location / "esconv" / name).write_bytes(b"{}")
        with pytest.raises(HeartwoodError, match=r"raw\.location: .* both hold ESConv"):
            fetch_local("esconv", location)
        (location / "ESConv.json").unlink()
        assert fetch_local("esconv", location) == HUB_FILES

    def test_the_files_of_the_hub_may_be_the_location(self, tmp_path):
        for name, data in HUB_FILES.items():
            (tmp_path / name).write_bytes(data)
        assert fetch_local("esconv", tmp_path) == HUB_FILES

    def test_the_archive_stands_in_for_the_folder_of_csv(self, tmp_path):
        (tmp_path / ED_ARCHIVE).write_bytes(archive({**ED_FILES, "extra.txt": b"x"}))
        assert fetch_local("empathetic_dialogues", tmp_path) == ED_FILES

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_archive_is_named(self, tmp_path, kept):
        data = archive(dict.fromkeys(ED_FILES, random.Random(0).randbytes(20_000)))
        (tmp_path / ED_ARCHIVE).write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(HeartwoodError, match=rf"{ED_ARCHIVE}: not a whole gzipped archive"):
            fetch_local("empathetic_dialogues", tmp_path)

    @pytest.mark.parametrize("at", [0.2, 0.4, 0.6, 0.8])
    def test_a_damaged_archive_is_named(self, tmp_path, at):
        words = random.Random(0)
        text = " ".join(words.choice("sad glad mad bad".split()) for _ in range(40_000)).encode()
        data = bytearray(archive(dict.fromkeys(ED_FILES, text)))
        start = int(len(data) * at)
        data[start : start + 8] = words.randbytes(8)
        (tmp_path / ED_ARCHIVE).write_bytes(data)
        with pytest.raises(HeartwoodError, match=ED_ARCHIVE):
            fetch_local("empathetic_dialogues", tmp_path)

    def test_an_archive_without_a_file_says_which(self):
        with pytest.raises(HeartwoodError, match=r"corpus: test\.csv is not in the archive"):
            unpack_archive(archive({"train.csv": b"x", "valid.csv": b"y"}), FILES["empathetic_dialogues"], "corpus")

    def test_a_folder_in_the_archive_with_a_files_name_is_no_file(self):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            info = tarfile.TarInfo("train.csv")
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        with pytest.raises(HeartwoodError, match=r"train\.csv is not in the archive"):
            unpack_archive(buffer.getvalue(), ["train.csv"], "corpus")

    def test_a_location_that_is_no_folder_is_named(self, tmp_path):
        with pytest.raises(HeartwoodError, match=r"raw\.location: .*nowhere is not a folder"):
            fetch_local("esconv", tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("fmt", "path"),
        [
            ("empathetic_dialogues", "empatheticdialogues/valid.csv"),
            ("goemotions", "goemotions/test.tsv"),
            ("esconv", "ESConv.json"),
        ],
    )
    def test_a_missing_or_empty_file_is_named(self, location, fmt, path):
        (location / path).write_bytes(b" \n")
        with pytest.raises(HeartwoodError, match=f"{path}: the file is empty"):
            fetch_local(fmt, location)
        (location / path).unlink()
        with pytest.raises(HeartwoodError, match=f"{path}: missing") as error:
            fetch_local(fmt, location)
        assert "download" in error.value.hint

    def test_checksums_are_compared_where_the_folder_has_them(self, location):
        right = hashlib.sha256(b"[1]").hexdigest()
        (location / CHECKSUMS).write_text(f"{right}  ESConv.json\n{'0' * 64} *goemotions/dev.tsv\n")
        assert fetch_local("esconv", location)
        assert fetch_local("empathetic_dialogues", location), "files without a sum are taken"
        with pytest.raises(HeartwoodError, match=rf"dev\.tsv: sha256 is [0-9a-f]{{64}}; .*{CHECKSUMS} has 0{{64}}"):
            fetch_local("goemotions", location)

    def test_the_archive_is_checked_too(self, tmp_path):
        (tmp_path / ED_ARCHIVE).write_bytes(archive())
        (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  {ED_ARCHIVE}\n")
        with pytest.raises(HeartwoodError, match=f"{ED_ARCHIVE}: sha256 is"):
            fetch_local("empathetic_dialogues", tmp_path)

    def test_a_half_written_checksum_line_is_an_error_that_names_the_file(self, location):
        (location / CHECKSUMS).write_text("0" * 64 + "\n")
        with pytest.raises(HeartwoodError, match=CHECKSUMS):
            fetch_local("esconv", location)


class TestPath:
    KEY = "sources.mine.path"

    @pytest.mark.parametrize("fmt", ["chat", "prompt_completion"])
    @pytest.mark.parametrize(
        ("name", "kept"),
        [("my chats.jsonl", "rows.jsonl"), ("train.jsonl", "rows.jsonl"), ("x.PARQUET", "rows.parquet")],
    )
    def test_a_single_file_gets_the_name_that_says_so(self, tmp_path, fmt, name, kept):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / "other.jsonl").write_bytes(b"y")
        assert fetch_path(fmt, tmp_path / name, self.KEY) == {kept: b"x"}

    def test_a_folder_keeps_its_names(self, tmp_path):
        for name in ("train.jsonl", "dev.parquet", "README.md"):
            (tmp_path / name).write_bytes(name.encode())
        assert fetch_path("chat", tmp_path, self.KEY) == {
            "train.jsonl": b"train.jsonl",
            "dev.parquet": b"dev.parquet",
        }

    def test_esconv_is_one_file_in_its_form_or_a_folder(self, tmp_path):
        (tmp_path / "FailedESConv.json").write_bytes(b"[1]")
        assert fetch_path("esconv", tmp_path / "FailedESConv.json", self.KEY) == {"ESConv.json": b"[1]"}
        for name, data in HUB_FILES.items():
            (tmp_path / name).write_bytes(data)
        assert fetch_path("esconv", tmp_path, self.KEY) == HUB_FILES

    @pytest.mark.parametrize(
        ("fmt", "name"), [("chat", "x.csv"), ("chat", "x"), ("chat", "x.json"), ("esconv", "x.jsonl")]
    )
    def test_a_file_of_another_kind_is_named_with_what_is_allowed(self, tmp_path, fmt, name):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(
            HeartwoodError, match=rf"^sources\.mine\.path: .*{name} is not named as a {fmt} file; allowed"
        ):
            fetch_path(fmt, tmp_path / name, self.KEY)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(HeartwoodError, match=r"^sources\.mine\.path: .*nowhere does not exist$") as error:
            fetch_path("chat", tmp_path / "nowhere", self.KEY)
        assert "sources.mine.path" in error.value.hint
        with pytest.raises(HeartwoodError, match="no rows") as error:
            fetch_path("chat", tmp_path, self.KEY)
        assert "sources.mine.path" in error.value.hint

    @pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf\n"])
    def test_an_empty_file_is_named(self, tmp_path, data):
        (tmp_path / "x.jsonl").write_bytes(data)
        with pytest.raises(HeartwoodError, match=r"x\.jsonl: the file is empty"):
            fetch_path("chat", tmp_path / "x.jsonl", self.KEY)

    def test_checksums_beside_the_file_are_compared(self, tmp_path):
        (tmp_path / "x.jsonl").write_bytes(b"x")
        (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  x.jsonl\n")
        for path in (tmp_path / "x.jsonl", tmp_path):
            (tmp_path / "train.jsonl").unlink(missing_ok=True)
            if path == tmp_path:
                (tmp_path / "x.jsonl").rename(tmp_path / "train.jsonl")
                (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  train.jsonl\n")
            with pytest.raises(HeartwoodError, match=r"sha256 is"):
                fetch_path("chat", path, self.KEY)


def test_written_files_replace_the_folder_and_give_name_size_and_sha256(tmp_path):
    folder = tmp_path / "raw"
    write_files({"old.csv": b"old"}, folder)
    manifest = write_files({"b.csv": b"bb", "a.csv": b"a"}, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["a.csv", "b.csv"]
    assert manifest == [
        {"name": n, "bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()}
        for n, d in [("a.csv", b"a"), ("b.csv", b"bb")]
    ]


def test_digests_of_known_bytes():
    assert digest_of(b"hello\n", "git-blob-sha1") == "git-blob-sha1:ce013625030ba8dba906f756967f9e9ca394464a"
    assert digest_of(b"", "sha256") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_official_address_is_https_and_pinned():
    for addresses in OFFICIAL.values():
        for address in addresses:
            algorithm, _, value = address.digest.partition(":")
            assert address.url.startswith("https://")
            assert len(value) == {"sha256": 64, "git-blob-sha1": 40}[algorithm]
            int(value, 16)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder in silence; ``/short`` promises more bytes than it sends."""

    def do_GET(self):
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            return
        super().do_GET()

    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "corpus.json").write_bytes(b"[1, 2, 3]")
    return folder


class TestDownload:
    @pytest.mark.parametrize("algorithm", ["sha256", "git-blob-sha1"])
    def test_a_second_call_needs_no_server(self, served, tmp_path, algorithm):
        with serving(served) as url:
            address = Address("corpus.json", f"{url}/corpus.json", digest_of(b"[1, 2, 3]", algorithm))
            assert download(address, tmp_path / "cache") == b"[1, 2, 3]"
        assert download(address, tmp_path / "cache") == b"[1, 2, 3]"
        assert [p.suffix for p in (tmp_path / "cache" / "downloads").iterdir()] == [""], "no half-written file is left"

    def test_a_damaged_cache_is_downloaded_again(self, served, tmp_path):
        with serving(served) as url:
            address = Address("corpus.json", f"{url}/corpus.json", sha256(b"[1, 2, 3]"))
            download(address, tmp_path)
            (kept,) = (tmp_path / "downloads").iterdir()
            kept.write_bytes(b"[1, 2")
            assert download(address, tmp_path) == b"[1, 2, 3]"
            assert kept.read_bytes() == b"[1, 2, 3]"

    def test_bytes_with_another_digest_are_refused_and_not_kept(self, served, tmp_path):
        with serving(served) as url:
            address = Address("corpus.json", f"{url}/corpus.json", sha256(b"[1]"))
            with pytest.raises(HeartwoodError, match=rf"{url}/corpus\.json: 9 bytes with sha256:.*expected sha256:"):
                download(address, tmp_path / "cache")
        assert not list((tmp_path / "cache").rglob("*"))

    def test_a_page_not_found_is_named(self, served, tmp_path):
        with (
            serving(served) as url,
            pytest.raises(HeartwoodError, match=rf"{url}/gone: cannot be downloaded .*404") as e,
        ):
            download(Address("gone", f"{url}/gone", sha256(b"")), tmp_path)
        assert "raw.location" in e.value.hint

    def test_no_server_is_named(self, tmp_path, served):
        with serving(served) as url:
            pass
        with pytest.raises(HeartwoodError, match=rf"{url}/x: cannot be downloaded"):
            download(Address("x", f"{url}/x", sha256(b"")), tmp_path)

    def test_a_connection_that_breaks_off_is_named(self, served, tmp_path):
        with serving(served) as url, pytest.raises(HeartwoodError, match=rf"{url}/short: "):
            download(Address("short", f"{url}/short", sha256(b"half")), tmp_path)

    def test_an_official_archive_is_unpacked_and_files_are_named(self, served, tmp_path, monkeypatch):
        (served / "ed.tar.gz").write_bytes(data := archive())
        with serving(served) as url:
            monkeypatch.setitem(
                official.OFFICIAL, "empathetic_dialogues", (Address(ED_ARCHIVE, f"{url}/ed.tar.gz", sha256(data)),)
            )
            monkeypatch.setitem(
                official.OFFICIAL, "esconv", (Address("ESConv.json", f"{url}/corpus.json", sha256(b"[1, 2, 3]")),)
            )
            assert fetch_official("empathetic_dialogues", tmp_path / "cache") == ED_FILES
            assert fetch_official("esconv", tmp_path / "cache") == {"ESConv.json": b"[1, 2, 3]"}
