"""What a release folder holds, read from its own files: the one source of its cards, its metadata and its statement.

The folder keeps the repository's paths (``data/mixture/train.jsonl``, ``models/<name>/``, ``reports/``, ``dvc.lock``,
``params.yaml``), so that both the writer and whoever checks the release away from the repository read it alike.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from pipelines.layout import BASE, DEV_EXAMPLES, MIXTURE, PROMPTS
from pipelines.provenance.export.licences import UNSTATED, RollUp, Work, base_model, corpus, roll_up
from pipelines.provenance.hashing import Digest, hash_file, tree_digest
from pipelines.provenance.lineage import chain, input_md5
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import Lock, read_lock, read_yaml

CARD, CROISSANT = "README.md", "croissant.json"
LOCK, PARAMS, PIPELINE = "dvc.lock", "params.yaml", "dvc.yaml"
WEIGHTS = "adapter_model.safetensors"
DATA = (MIXTURE.as_posix(), DEV_EXAMPLES.as_posix(), PROMPTS.as_posix())
REPORTS = ("records", "split", "dedup", "leakage", "validation", "mixture", "check", "judge", "comparison")
VERIFIED = "verified"
_AGAIN = "take the release from its publisher again"
# What the hub and git add to a folder that is pushed or cloned.
_NOT_OURS = (".git", ".gitattributes", ".cache")


@dataclass(frozen=True)
class About:
    """What a release says of itself that no file of the repository knows."""

    name: str
    creator: str
    url: str


@dataclass(frozen=True)
class Origin:
    """The revision that a release was made from: as it was named, its commit and the commit's date (ISO 8601).

    ``edited`` says that it was the working tree on top of that commit, changes included.
    """

    name: str
    commit: str
    date: str
    edited: bool


@dataclass(frozen=True)
class Checked:
    """What ``heartwood verify`` said of one score when the release was made."""

    verdict: str
    links: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """One JSON Lines file: its rows, by source too."""

    rows: int
    by_source: dict[str, int]


@dataclass(frozen=True)
class Adapter:
    """One model of the release: its folder, lineage, consumed rows and what applies to it."""

    path: str
    base: str
    base_revision: str
    lineage: dict[str, Any]
    consumed: dict[str, Any]
    licence: RollUp


@dataclass(frozen=True)
class Facts:
    """Everything that a release's cards, metadata and statement are made of."""

    folder: Path
    about: About
    origin: Origin
    checked: dict[str, Checked]
    params: dict[str, Any]
    lock: Lock
    digests: dict[str, Digest]
    sizes: dict[str, int]
    data: dict[str, DataFile]
    sources: dict[str, Work]
    licence: RollUp
    adapters: dict[str, Adapter]
    scores: dict[str, dict[str, Any]]
    details: dict[str, dict[str, Any]]
    reports: dict[str, Any]

    @property
    def verified(self) -> bool:
        """Whether every score was verified when the release was made."""
        return all(c.verdict == VERIFIED for c in self.checked.values())

    def digest(self, path: str) -> Digest | None:
        """The digests of a file or folder of the release as DVC would take them (model cards left out), or None."""
        if path in self.digests:
            return self.digests[path]
        inside = {
            p.removeprefix(f"{path}/"): d
            for p, d in self.digests.items()
            if p.startswith(f"{path}/") and p != f"{path}/{CARD}"
        }
        return tree_digest(inside) if inside else None


@dataclass(frozen=True)
class ReleaseFiles(Revision):
    """A release folder read as a revision is."""

    folder: Path = Path()

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None."""
        target = self.folder / path
        return target.read_bytes() if target.is_file() else None


def files_of(folder: Path) -> list[str]:
    """The paths of a release's files, sorted; without what git and the hub keep for themselves."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(p.as_posix() for p in found if p.parts[0] not in _NOT_OURS)


def read_facts(folder: Path, about: About, origin: Origin, checked: Mapping[str, Checked]) -> Facts:
    """Read a release folder; its cards, metadata and statement need not be there yet.

    Raises:
        HeartwoodError: a file is missing or is not what its name says.
    """
    files = ReleaseFiles(folder.name, "", folder=folder)
    lock = read_lock(files)
    params = read_yaml(files, PARAMS)
    paths = files_of(folder)
    digests = {p: hash_file(folder / p) for p in paths}
    data = {p: _data_file(folder, p) for p in DATA}
    raw = (lock.stages.get("raw", {}).get("params") or {}).get(PARAMS, {})
    names = sorted({s for f in data.values() for s in f.by_source})
    location = str(look_up(raw, "raw.location")) if "raw" in raw else ""
    sources = {n: corpus(n, (raw.get("sources") or {}).get(n), location) for n in names}
    models = look_up(params, "models")
    return Facts(
        folder=folder,
        about=about,
        origin=origin,
        checked=dict(checked),
        params=params,
        lock=lock,
        digests=digests,
        sizes={p: (folder / p).stat().st_size for p in paths},
        data=data,
        sources=sources,
        licence=roll_up(sources.values()),
        adapters={
            name: _adapter(folder, str(path), sources, digests[MIXTURE.as_posix()].md5)
            for name, path in models.items()
            if not str(path).endswith(".json")
        },
        scores={name: _json(folder, f"reports/eq/{name}.json") for name in models},
        details={name: _json(folder, f"reports/eq/{name}.detail.json") for name in models},
        reports={n: _json(folder, f"reports/{n}.json") for n in REPORTS if (folder / f"reports/{n}.json").is_file()},
    )


def _json(folder: Path, path: str) -> Any:
    try:
        return json.loads((folder / path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HeartwoodError(
            f"{path}: missing in {folder}", hint="run `dvc repro`, or take the release again"
        ) from None
    except ValueError as error:
        raise HeartwoodError(f"{folder / path}: not JSON ({error})", hint=_AGAIN) from None


def _data_file(folder: Path, path: str) -> DataFile:
    rows = read_jsonl(folder / path)
    counts = Counter(str(row.get("source")) for row in rows)
    return DataFile(len(rows), dict(sorted(counts.items())))


def _adapter(folder: Path, path: str, sources: Mapping[str, Work], mixture_md5: str) -> Adapter:
    if not is_inside(path):
        raise HeartwoodError(f"{PARAMS}: the model {path!r} is outside the release", hint=_AGAIN)
    lineage = _json(folder, f"{path}/lineage.json")
    own = f"{path}/base.json"
    base = _json(folder, own if (folder / own).is_file() else BASE.as_posix())
    trained = [link.get("consumed_rows") or {} for link in chain(lineage)]
    names = {s for rows in trained for s, n in (rows.get("rows_by_source") or {}).items() if n}
    works = [sources.get(n) or Work(n, UNSTATED, "no row of this release is of it") for n in sorted(names)]
    if input_md5(lineage, MIXTURE.as_posix()) != mixture_md5:
        works.append(
            Work("another mixture", UNSTATED, "the adapter was trained on a mixture that is not in this release")
        )
    name, revision = str(base["name"]), str(base.get("revision") or "")
    works.append(base_model(name, revision))
    return Adapter(path, name, revision, lineage, trained[0], roll_up(works))


def is_inside(path: str) -> bool:
    """Whether a path of a statement stays inside the release folder."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts
