"""The human ratings that the judge rests on: a manifest of the shipped head, a user's folder, or the download."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from curation.errors import HeartwoodError
from pipelines.evaluation.ratings import FILES, read_ratings
from pipelines.layout import main_checkout
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute
from pipelines.settings.evaluation import JudgeParams

RATINGS = Path("data/ratings")
SHIPPED, DOWNLOAD = "shipped", "download"
ADDRESS = (
    "https://raw.githubusercontent.com/behavioral-data/Empathy-Mental-Health/"
    "741a8df4d3bc5301f0426e0c72e1d8e354c42fd3/dataset"
)
OFFICIAL_ROWS = 3084


def main(run: Run) -> None:
    """Write ``data/ratings/``: with ``shipped``, a manifest alone."""
    choice = run.section("judge", JudgeParams).ratings
    RATINGS.mkdir(parents=True, exist_ok=True)
    if choice == SHIPPED:
        write_json(RATINGS / "manifest.json", {"ratings": SHIPPED})
        return
    for name in FILES.values():
        (RATINGS / name).write_bytes(_download(name) if choice == DOWNLOAD else _read(choice, name))
    ratings = read_ratings(RATINGS)
    if choice == DOWNLOAD and set(ratings.rows.values()) != {OFFICIAL_ROWS}:
        raise HeartwoodError(
            f"{ADDRESS}: the files have {sorted(set(ratings.rows.values()))} rows; the official ones {OFFICIAL_ROWS}",
            hint="download again, or give judge.ratings a folder with the official files",
        )
    write_json(RATINGS / "manifest.json", {"ratings": "epitome", "rows": ratings.rows, "sha256": ratings.sha256})


def _read(location: str, name: str) -> bytes:
    base = main_checkout(Path.cwd())
    path = base / Path(location).expanduser() / name
    if not path.is_file():
        raise HeartwoodError(
            f"judge.ratings: {path} is missing; allowed: {SHIPPED}, {DOWNLOAD}, or a folder with"
            f" {', '.join(FILES.values())}",
            hint="correct judge.ratings in params.yaml or -S",
        )
    return path.read_bytes()


def _download(name: str) -> bytes:
    try:
        with urllib.request.urlopen(f"{ADDRESS}/{name}", timeout=60) as response:
            data: bytes = response.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise HeartwoodError(
            f"{ADDRESS}/{name}: cannot be downloaded ({error})",
            hint="check the network, or give judge.ratings a folder with EPITOME's files",
        ) from None
    if not data.strip():
        raise HeartwoodError(f"{ADDRESS}/{name}: empty ({hashlib.sha256(data).hexdigest()})", hint="try again")
    return data


if __name__ == "__main__":
    execute(main)
