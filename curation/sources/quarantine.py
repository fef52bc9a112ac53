"""What a parser yields: a parsed record, or raw rows set aside with a reason."""

from dataclasses import dataclass
from pathlib import Path

from curation.errors import HeartwoodError
from curation.records import Conversation, Origin

MAX_TURN_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Parsed:
    """One record and the number of raw rows (in the corpus' own unit) that it holds."""

    conversation: Conversation
    origin: Origin
    rows: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Raw rows that cannot be used: where they stood, a reason code, what was wrong, and the raw text."""

    file: str
    first_row: int
    rows: int
    reason: str
    detail: str
    raw: str


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        HeartwoodError: the file is empty or not UTF-8; the byte offset is named.
    """
    data = path.read_bytes()
    if not data.strip():
        raise HeartwoodError(f"{path}: the file is empty", hint="restore the corpus file and run `dvc repro`")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HeartwoodError(
            f"{path}: not UTF-8 (byte {error.start}: 0x{data[error.start]:02x})",
            hint="convert the file to UTF-8, or restore the official one",
        ) from None


def text_problem(text: str) -> str | None:
    """The reason code for a text that no record may hold, or None."""
    if not text.strip():
        return "empty_text"
    if "\x00" in text:
        return "nul_byte"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        return "lone_surrogate"
    if len(text) > MAX_TURN_CHARACTERS:
        return "too_long"
    return None
