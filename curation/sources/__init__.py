"""Parsers: raw files of one corpus in, conversations and quarantined rows out."""

from collections.abc import Callable, Iterator
from pathlib import Path

from curation.errors import HeartwoodError
from curation.sources import empathetic_dialogues, esconv, goemotions
from curation.sources.quarantine import Parsed, Quarantined

PARSERS: dict[str, Callable[[Path, str], Iterator[Parsed | Quarantined]]] = {
    "empathetic_dialogues": empathetic_dialogues.parse,
    "goemotions": goemotions.parse,
    "esconv": esconv.parse,
}
FILES: dict[str, tuple[str, ...]] = {
    "empathetic_dialogues": empathetic_dialogues.FILES,
    "goemotions": goemotions.FILES,
    "esconv": esconv.FILES,
}
OPTIONAL_FILES: dict[str, tuple[str, ...]] = {"esconv": esconv.OPTIONAL_FILES}


def parse(format_name: str, folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Parse one source's raw folder in a named official format.

    Raises:
        HeartwoodError: a file is missing, empty or not UTF-8, or the format is unknown.
    """
    if format_name not in PARSERS:
        raise HeartwoodError(
            f"sources.{source}.format: {format_name!r} is not a format; allowed: {', '.join(sorted(PARSERS))}",
            hint="correct params.yaml",
        )
    for name in FILES[format_name]:
        if not (folder / name).is_file():
            raise HeartwoodError(f"{folder / name}: missing", hint="run `dvc repro -f raw`")
    return PARSERS[format_name](folder, source)


LABELS: dict[str, frozenset[str] | None] = {
    "empathetic_dialogues": empathetic_dialogues.EMOTIONS,
    "goemotions": frozenset(goemotions.LABELS),
    "esconv": None,
}
