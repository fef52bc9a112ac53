"""Raw corpus files with their digests: from the embedded corpora, a local folder or the official downloads."""

from pathlib import Path

from curation.embedding import cache_folder
from curation.sources.official import fetch_local, fetch_official, write_files
from pipelines.layout import RAW
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.curation import RawParams, SourceParams

DOWNLOAD = "download"


def main_checkout(root: Path) -> Path:
    """The user's checkout, also when DVC runs a stage in a copy under ``.dvc/tmp/exps``."""
    parts = root.resolve().parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root


def main(run: Run) -> None:
    """Write ``data/raw/<source>/`` and a manifest with name, size and sha256 of every file."""
    location = run.section("raw", RawParams).location
    sources = run.entries("sources", SourceParams)
    base = main_checkout(Path.cwd())
    manifest = {}
    for name, source in sorted(sources.items()):
        if location == DOWNLOAD:
            files = fetch_official(source.format, cache_folder())
        else:
            files = fetch_local(source.format, base / Path(location).expanduser())
        manifest[name] = {"format": source.format, "files": write_files(files, RAW / name)}
    write_json(RAW / "manifest.json", manifest)


if __name__ == "__main__":
    execute(main)
