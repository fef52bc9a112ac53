"""Raw files outside the pipeline's dependencies: DVC does not see when they change."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from curation.errors import HeartwoodError
from curation.sources.official import fetch_local, fetch_path
from pipelines.layout import RAW, main_checkout

DOWNLOAD = "download"


def require_raw_as_recorded() -> None:
    """Raise if a file that ``raw`` read from ``raw.location`` or a source's ``path`` is another now.

    Nothing is compared where DVC sees a change itself (a dependency of ``raw``, other params than it ran with), where
    the address pins the bytes (``download``), where this checkout holds no raw files, or where the place is gone.

    Raises:
        HeartwoodError: a file has changed, is missing, or cannot be read.
    """
    manifest, lock = RAW / "manifest.json", _yaml(Path("dvc.lock")).get("stages", {}).get("raw")
    if not manifest.exists() or not lock:
        return
    ran_with, params = lock["params"]["params.yaml"], _yaml(Path("params.yaml"))
    if any(params.get(key) != value for key, value in ran_with.items()):
        return
    base = main_checkout(Path.cwd())
    location = str(ran_with["raw"]["location"])
    seen = {dep["path"] for dep in lock["deps"]}
    for name, entry in json.loads(manifest.read_text(encoding="utf-8")).items():
        own = entry.get("path")
        place = base / Path(own or location).expanduser()
        if (own or location) in seen | {DOWNLOAD} or not place.exists():
            continue
        form = entry["format"]
        files = fetch_path(form, place, f"sources.{name}.path") if own else fetch_local(form, place)
        found = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
        recorded = {file["name"]: file["sha256"] for file in entry["files"]}
        for file in sorted(found.keys() | recorded.keys()):
            if found.get(file) != recorded.get(file):
                raise HeartwoodError(
                    f"{place}: {file} of {name} has sha256 {found.get(file, 'none (it is gone)')}; the data here was"
                    f" made from {recorded.get(file, 'a folder without it')}",
                    hint="restore the file; or run `dvc repro -f raw`, then `dvc repro`, and commit dvc.lock",
                )


def _yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}
