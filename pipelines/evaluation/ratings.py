"""Reading EPITOME, the human empathy ratings that the offline judge learns from.

Source: Sharma, Miner, Atkins and Althoff (2020), "A Computational Approach to Understanding Empathy Expressed in
Text-Based Mental Health Support"; the Reddit part of ``behavioral-data/Empathy-Mental-Health``. Three CSV files, one a
mechanism, hold the same (seeker post, response post) pairs. Their whitespace differs, so the files are joined on ids.
"""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from curation.errors import HeartwoodError

MECHANISMS = ("emotional_reactions", "interpretations", "explorations")
"""The three mechanisms of empathy that EPITOME rates, each 0 (none), 1 (weak) or 2 (strong)."""

FILES: Mapping[str, str] = {
    "emotional_reactions": "emotional-reactions-reddit.csv",
    "interpretations": "interpretations-reddit.csv",
    "explorations": "explorations-reddit.csv",
}
"""The file of each mechanism, as its authors name it."""

COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")
LEVELS = (0, 1, 2)

_HINT = (
    "take the three *-reddit.csv files of behavioral-data/Empathy-Mental-Health unchanged "
    "(dvc exp run -S judge.ratings=download), or name a folder that holds them"
)


@dataclass(frozen=True)
class RatedPair:
    """One seeker post and one response, with every human level that each mechanism was given.

    ``levels[mechanism]`` holds one level for most pairs, and two or three for the few that were rated again.
    ``rationales[mechanism]`` holds the parts of the response that the raters marked as reasons for a level above 0.
    """

    seeker_id: str
    response_id: str
    seeker: str
    response: str
    levels: Mapping[str, tuple[int, ...]]
    rationales: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratings:
    """EPITOME as read: pairs in order of their ids, and the sha256 and row count of each file by name."""

    pairs: tuple[RatedPair, ...]
    sha256: Mapping[str, str]
    rows: Mapping[str, int]


def read_ratings(folder: Path | str) -> Ratings:
    """Reads and joins the three CSV files in ``folder``.

    Raises `HeartwoodError`, naming file and row, for a missing file or column, an empty text or id, a level other than
    0, 1 or 2, text that is not UTF-8, and a pair that one file has and another has not.
    """
    folder = Path(folder)
    tables: dict[str, dict[tuple[str, str], list[int]]] = {}
    reasons: dict[str, dict[tuple[str, str], list[str]]] = {mechanism: {} for mechanism in MECHANISMS}
    texts: dict[tuple[str, str], tuple[str, str]] = {}
    sha256: dict[str, str] = {}
    rows: dict[str, int] = {}
    for mechanism in MECHANISMS:
        path = folder / FILES[mechanism]
        levels: dict[tuple[str, str], list[int]] = {}
        count = 0
        for pair, text, level, spans in _read_file(path):
            levels.setdefault(pair, []).append(level)
            reasons[mechanism].setdefault(pair, []).extend(spans)
            texts.setdefault(pair, text)
            count += 1
        if not count:
            raise HeartwoodError(f"{path}: no rating in it", hint=_HINT)
        tables[mechanism] = levels
        sha256[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        rows[path.name] = count
    for mechanism in MECHANISMS:
        for pair in texts:
            if pair not in tables[mechanism]:
                raise HeartwoodError(
                    f"{folder / FILES[mechanism]}: no rating of the pair sp_id={pair[0]} rp_id={pair[1]}, "
                    "which another of the three files rates",
                    hint=_HINT,
                )
    pairs = tuple(
        RatedPair(
            *pair,
            *texts[pair],
            {mechanism: tuple(tables[mechanism][pair]) for mechanism in MECHANISMS},
            {mechanism: tuple(reasons[mechanism][pair]) for mechanism in MECHANISMS},
        )
        for pair in sorted(texts)
    )
    return Ratings(pairs, sha256, rows)


def _read_file(path: Path) -> list[tuple[tuple[str, str], tuple[str, str], int, list[str]]]:
    """The rows of one file: (ids, texts, level, rationales)."""
    if not path.is_file():
        raise HeartwoodError(f"{path}: no such file; the judge needs {', '.join(FILES.values())}", hint=_HINT)
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise HeartwoodError(
                    f"{path}: no column {', '.join(missing)}; the columns are {', '.join(COLUMNS)}", hint=_HINT
                )
            for number, row in enumerate(reader, start=1):
                where = f"{path}: row {number} (line {reader.line_num})"
                for name in ("sp_id", "rp_id", "seeker_post", "response_post"):
                    if not (row[name] or "").strip():
                        raise HeartwoodError(f"{where}: {name} is empty", hint=_HINT)
                level = (row["level"] or "").strip()
                if level not in {str(allowed) for allowed in LEVELS}:
                    raise HeartwoodError(f"{where}: level is {level!r}; allowed are 0, 1 and 2", hint=_HINT)
                found.append(
                    (
                        (row["sp_id"].strip(), row["rp_id"].strip()),
                        (row["seeker_post"], row["response_post"]),
                        int(level),
                        [span.strip() for span in (row["rationales"] or "").split("|") if span.strip()],
                    )
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise HeartwoodError(f"{path}: not a CSV file in UTF-8: {error}", hint=_HINT) from error
    return found
