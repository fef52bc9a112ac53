"""Raw corpus files: copied from a local place, or downloaded from the official addresses with pinned digests."""

import gzip
import hashlib
import http.client
import io
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import HeartwoodError
from curation.sources import FILES, chat, esconv, find_files
from curation.sources.quarantine import is_empty

ED_ARCHIVE = "empatheticdialogues.tar.gz"
LAYOUT = {"empathetic_dialogues": "empatheticdialogues", "goemotions": "goemotions", "esconv": "esconv"}
CHECKSUMS = "SHA256SUMS"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Address:
    """An official file: where it is, and the digest that its bytes must have (``sha256:`` or ``git-blob-sha1:``)."""

    name: str
    url: str
    digest: str


_GOEMOTIONS = "https://raw.githubusercontent.com/google-research/google-research/master/goemotions/data"
OFFICIAL: dict[str, tuple[Address, ...]] = {
    "empathetic_dialogues": (
        Address(
            ED_ARCHIVE,
            "https://dl.fbaipublicfiles.com/parlai/empatheticdialogues/empatheticdialogues.tar.gz",
            "sha256:56f234d77b7dd1f005fd365bb17769cfe346c3c84295b69bc069c8ccb83be03d",
        ),
    ),
    "goemotions": (
        Address(
            "train.tsv",
            f"{_GOEMOTIONS}/train.tsv",
            "sha256:1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
        ),
        Address(
            "dev.tsv",
            f"{_GOEMOTIONS}/dev.tsv",
            "sha256:575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
        ),
        Address(
            "test.tsv",
            f"{_GOEMOTIONS}/test.tsv",
            "sha256:0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
        ),
    ),
    "esconv": (
        Address(
            "ESConv.json",
            "https://raw.githubusercontent.com/thu-coai/Emotional-Support-Conversation/main/ESConv.json",
            "git-blob-sha1:2f7a69eeda505053eac68f9ab26fd728d0f6db31",
        ),
    ),
}


def digest_of(data: bytes, algorithm: str) -> str:
    """The digest of bytes, with its algorithm in front.

    ``git-blob-sha1`` is git's object id: sha1 over ``blob <size>``, a NUL byte and the bytes.
    """
    if algorithm == "git-blob-sha1":
        blob = b"blob %d\0" % len(data) + data
        return f"{algorithm}:{hashlib.sha1(blob, usedforsecurity=False).hexdigest()}"
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def download(address: Address, cache: Path) -> bytes:
    """The official file's bytes, from the cache folder if they are there, else from its address.

    Raises:
        HeartwoodError: the address cannot be reached, or the bytes do not have the pinned digest.
    """
    algorithm, _, value = address.digest.partition(":")
    kept = cache / "downloads" / value
    if kept.exists() and digest_of(kept.read_bytes(), algorithm) == address.digest:
        return kept.read_bytes()
    try:
        with urllib.request.urlopen(address.url, timeout=_TIMEOUT_SECONDS) as response:
            data: bytes = response.read()
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise HeartwoodError(
            f"{address.url}: cannot be downloaded ({error})",
            hint="check the network, or set raw.location to a folder that holds the corpora",
        ) from None
    found = digest_of(data, algorithm)
    if found != address.digest:
        raise HeartwoodError(
            f"{address.url}: {len(data)} bytes with {found}; expected {address.digest}",
            hint="download again; if the publisher changed the file, pin its new digest only after looking at it",
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_bytes(data)
    part.replace(kept)
    return data


def unpack_archive(data: bytes, names: Sequence[str], label: str) -> dict[str, bytes]:
    """The named files of a gzipped tar archive, wherever they stand in it.

    Raises:
        HeartwoodError: the archive is cut off or lacks a file.
    """
    found = {}
    try:
        # Unpacked whole first: only then are the length and checksum at the end of the stream checked.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
            for member in archive:
                name = Path(member.name).name
                handle = archive.extractfile(member) if name in names else None
                if handle is not None:
                    found[name] = handle.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise HeartwoodError(
            f"{label}: not a whole gzipped archive ({error}); half a download?", hint="restore the official archive"
        ) from None
    if missing := [n for n in names if n not in found]:
        raise HeartwoodError(f"{label}: {missing[0]} is not in the archive", hint="restore the official archive")
    return found


def fetch_official(format_name: str, cache: Path) -> dict[str, bytes]:
    """The raw files of one corpus from its official addresses, by file name."""
    files = {a.name: download(a, cache) for a in OFFICIAL[format_name]}
    if ED_ARCHIVE in files:
        return unpack_archive(files[ED_ARCHIVE], FILES[format_name], ED_ARCHIVE)
    return files


def fetch_local(format_name: str, location: Path) -> dict[str, bytes]:
    """The raw files of one corpus from a local folder in the official layout, by file name.

    ESConv stands in the folder itself or in ``esconv/`` below it.

    Raises:
        HeartwoodError: the folder or a file is missing, or differs from the folder's ``SHA256SUMS``.
    """
    if not location.is_dir():
        raise HeartwoodError(f"raw.location: {location} is not a folder", hint="correct raw.location in params.yaml")
    folder = location / LAYOUT[format_name]
    archive = location / ED_ARCHIVE
    if format_name == "empathetic_dialogues" and not folder.is_dir() and archive.exists():
        data = _read_checked(archive, location, _read_checksums(location))
        return unpack_archive(data, FILES[format_name], str(archive))
    if format_name == "esconv" and not esconv.holds(folder):
        folder = location
    elif format_name == "esconv" and esconv.holds(location):
        raise HeartwoodError(
            f"raw.location: {location} and {folder} both hold ESConv", hint="leave one of the two in the folder"
        )
    hint = "put the file there, or set raw.location to `download`"
    return _read_folder(find_files(format_name, folder, hint), folder, location)


def fetch_path(format_name: str, path: Path, key: str) -> dict[str, bytes]:
    """The raw files that one source names itself, by the file name under which its parser reads them.

    A folder's files keep their names; a single file gets the name that says that it is one.

    Args:
        key: the key in params.yaml that holds the path, for messages.

    Raises:
        HeartwoodError: there is nothing at the path, or nothing that the format can be read from.
    """
    if path.is_dir():
        return _read_folder(find_files(format_name, path, f"correct {key} in params.yaml"), path, path)
    if not path.is_file():
        raise HeartwoodError(f"{key}: {path} does not exist", hint=f"correct {key} in params.yaml")
    single = {".json": esconv.FILES[0]} if format_name == "esconv" else {s: chat.SINGLE + s for s in chat.SUFFIXES}
    name = single.get(path.suffix.lower())
    if name is None:
        raise HeartwoodError(
            f"{key}: {path} is not named as a {format_name} file; allowed: {', '.join(single)}, or a folder",
            hint=f"rename the file, or correct {key} in params.yaml",
        )
    return {name: _read_checked(path, path.parent, _read_checksums(path.parent))}


def _read_folder(names: Sequence[str], folder: Path, location: Path) -> dict[str, bytes]:
    sums = _read_checksums(location)
    return {name: _read_checked(folder / name, location, sums) for name in names}


def _read_checksums(location: Path) -> Mapping[str, str]:
    path = location / CHECKSUMS
    if not path.exists():
        return {}
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        value, _, name = line.strip().partition(" ")
        if value and not name.strip():
            raise HeartwoodError(f"{path}, row {number}: {line!r} names no file", hint="restore the file of checksums")
        sums[name.strip().lstrip("*")] = value
    return sums


def _read_checked(path: Path, location: Path, sums: Mapping[str, str]) -> bytes:
    data = path.read_bytes()
    expected = sums.get(path.relative_to(location).as_posix())
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and found != expected:
        raise HeartwoodError(
            f"{path}: sha256 is {found}; {location / CHECKSUMS} has {expected}",
            hint="restore the file, or write its new sum into SHA256SUMS if the change is wanted",
        )
    if is_empty(data):
        raise HeartwoodError(f"{path}: the file is empty", hint="restore the corpus file")
    return data


def write_files(files: Mapping[str, bytes], folder: Path) -> list[dict[str, str | int]]:
    """Write raw files into a folder; returns name, size in bytes and sha256 of each, by name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest: list[dict[str, str | int]] = []
    for name, data in sorted(files.items()):
        (folder / name).write_bytes(data)
        manifest.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return manifest
