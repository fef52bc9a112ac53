"""Parsers: raw files of one corpus in, conversations and quarantined rows out."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from curation.errors import HeartwoodError
from curation.sources import chat, empathetic_dialogues, esconv, goemotions
from curation.sources.quarantine import Parsed, Quarantined, require_files

PARSERS: dict[str, Callable[[Path, str], Iterator[Parsed | Quarantined]]] = {
    "empathetic_dialogues": empathetic_dialogues.parse,
    "goemotions": goemotions.parse,
    "esconv": esconv.parse,
    "chat": partial(chat.parse, "chat"),
    "prompt_completion": partial(chat.parse, "prompt_completion"),
}
FILES: dict[str, tuple[str, ...]] = {
    "empathetic_dialogues": empathetic_dialogues.FILES,
    "goemotions": goemotions.FILES,
    "esconv": esconv.FILES,
}
_FIND: dict[str, Callable[[Path, str], tuple[str, ...]]] = {
    "empathetic_dialogues": partial(require_files, empathetic_dialogues.FILES),
    "goemotions": partial(require_files, goemotions.FILES),
    "esconv": esconv.find,
    "chat": chat.find,
    "prompt_completion": chat.find,
}


def find_files(format_name: str, folder: Path, hint: str) -> tuple[str, ...]:
    """The names of the files that a parser reads in a folder.

    Raises:
        HeartwoodError: one is missing, or the folder holds more than one corpus; it carries the hint.
    """
    return _FIND[format_name](folder, hint)


def parse(format_name: str, folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Parse one source's raw folder in a named format.

    Raises:
        HeartwoodError: a file is missing, empty or not UTF-8, or the format is unknown.
    """
    if format_name not in PARSERS:
        raise HeartwoodError(
            f"sources.{source}.format: {format_name!r} is not a format; allowed: {', '.join(sorted(PARSERS))}",
            hint="correct params.yaml",
        )
    find_files(format_name, folder, "run `dvc repro -f raw`")
    return PARSERS[format_name](folder, source)


LABELS: dict[str, frozenset[str] | None] = {
    "empathetic_dialogues": empathetic_dialogues.EMOTIONS,
    "goemotions": frozenset(goemotions.LABELS),
    "esconv": None,
    "chat": None,
    "prompt_completion": None,
}
"""The emotion labels that each format allows; None where any label is allowed."""
