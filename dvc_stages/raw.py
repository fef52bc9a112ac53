"""Raw corpus files with their digests: embedded, from a local folder, downloaded, or from a source's own path."""

from pathlib import Path
from typing import Any

from curation.cache import cache_folder
from curation.sources.official import fetch_local, fetch_official, fetch_path, write_files
from pipelines.layout import RAW, main_checkout
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import RawParams, parse_sources

DOWNLOAD = "download"


def main(run: Run) -> None:
    """Write ``data/raw/<source>/`` and a manifest with name, size and sha256 of every file, and the path if given."""
    location = run.section("raw", RawParams).location
    base = main_checkout(Path.cwd())
    manifest: dict[str, dict[str, Any]] = {}
    for name, source in parse_sources(run.value("sources")).items():
        manifest[name] = {"format": source.format}
        if source.path is not None:
            manifest[name]["path"] = source.path
            files = fetch_path(source.format, base / Path(source.path).expanduser(), f"sources.{name}.path")
        elif location == DOWNLOAD:
            files = fetch_official(source.format, cache_folder())
        else:
            files = fetch_local(source.format, base / Path(location).expanduser())
        manifest[name]["files"] = write_files(files, RAW / name)
    write_json(RAW / "manifest.json", manifest)


if __name__ == "__main__":
    execute(main)
