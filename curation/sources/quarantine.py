"""What a parser yields: a parsed record, or raw rows set aside with a reason; and what no record may hold."""

import codecs
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import HeartwoodError
from curation.records import Conversation, Origin, clean_text

MAX_TURN_CHARACTERS = 20_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One record, the number of raw rows (in the corpus' own unit) that it holds, and their raw text.

    ``system_messages`` counts the messages that are no turns and were left out.
    """

    conversation: Conversation
    origin: Origin
    rows: int
    raw: str
    system_messages: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Raw rows that cannot be used: where they stood, a reason code, what was wrong, and the raw text."""

    file: str
    first_row: int
    rows: int
    reason: str
    detail: str
    raw: str


class UnusableError(Exception):
    """A raw row that cannot be used: raised and caught inside a parser, which sets the row aside."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def require_files(names: Sequence[str], folder: Path, hint: str) -> tuple[str, ...]:
    """The names, if the folder holds all of them.

    Raises:
        HeartwoodError: the first that is missing.
    """
    for name in names:
        if not (folder / name).is_file():
            raise HeartwoodError(f"{folder / name}: missing; needed: {', '.join(names)}", hint=hint)
    return tuple(names)


def is_empty(data: bytes) -> bool:
    """Whether a file holds white space at most, a byte order mark aside."""
    return not data.removeprefix(codecs.BOM_UTF8).strip()


def read_text(path: Path) -> str:
    """The file's text, without a byte order mark.

    Raises:
        HeartwoodError: the file is empty or not UTF-8; the byte offset and the row are named.
    """
    data = path.read_bytes()
    if is_empty(data):
        raise HeartwoodError(f"{path}: the file is empty", hint="restore the corpus file and run `dvc repro`")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind a byte order mark.
        offset = error.start + len(data) - len(error.object)
        row = data.count(b"\n", 0, offset) + 1
        raise HeartwoodError(
            f"{path}: not UTF-8 (byte {offset}: 0x{data[offset]:02x}) in row {row}",
            hint="convert the file to UTF-8, or restore the official one",
        ) from None


def _invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def has_format_characters(text: str) -> bool:
    """Whether control or format characters stand in the text (joiners, directional marks, zero-width spaces, ...).

    They are text and are kept. Two texts that differ in them alone have different ids; ``fold-v1`` reads each as
    a space, so that it finds them equal at the edges of words and different inside a word. Counting the
    records that hold any keeps that from being silent.
    """
    return not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cf") for c in text)


def text_problem(text: str) -> str | None:
    """The reason code for a text that no record may hold, or None.

    A text without one visible character (white space, control and format characters alone) is empty.
    """
    if "\x00" in text:
        return "nul_byte"
    if not text.isascii() and _SURROGATE.search(text):
        return "lone_surrogate"
    # The first character decides nearly every text, and no letter or digit is invisible.
    if not text[:1].isalnum() and all(map(_invisible, text)):
        return "empty_text"
    if len(text) > MAX_TURN_CHARACTERS:
        return "too_long"
    return None


def checked_text(text: str, where: str) -> str:
    """The text, cleaned.

    Raises:
        UnusableError: no record may hold it.
    """
    cleaned = clean_text(text)
    if reason := text_problem(cleaned):
        raise UnusableError(reason, where)
    return cleaned


def optional_text(text: str, where: str) -> str:
    """As ``checked_text``, for a field that may be empty."""
    cleaned = clean_text(text)
    return "" if text_problem(cleaned) == "empty_text" else checked_text(cleaned, where)
