"""The hand-written parts: plain text that a person can read and edit.

``@ situation``, then one line a turn; ``~`` is the line above in other words. Comments stand one a line.
"""

from dataclasses import dataclass
from pathlib import Path

from curation.errors import HeartwoodError

PARTS = Path(__file__).parent / "parts"


@dataclass(frozen=True)
class Line:
    """One turn: who (``S``/``L`` or ``U``/``A``), what, and the support strategy of an ``A`` line."""

    speaker: str
    text: str
    strategy: str = ""


@dataclass(frozen=True)
class Dialogue:
    """One written conversation; ``paraphrase`` says its first line in other words, where one was written."""

    topic: str
    situation: str
    emotion: str
    lines: tuple[Line, ...]
    paraphrase: str = ""


@dataclass(frozen=True)
class Comment:
    """One written comment with its labels, and the same in other words, where that was written."""

    text: str
    labels: tuple[str, ...]
    paraphrase: str = ""


def read_dialogues(folder: str) -> list[Dialogue]:
    """All dialogues of ``parts/<folder>``, files in name order.

    Raises:
        HeartwoodError: a line starts with none of the known marks; file and row are named.
    """
    found = []
    for path in sorted((PARTS / folder).glob("*.txt")):
        blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
        row = 1
        for block in blocks:
            found.append(_dialogue(block.split("\n"), path, row))
            row += block.count("\n") + 2
    return found


def _dialogue(rows: list[str], path: Path, first_row: int) -> Dialogue:
    situation, _, emotion = rows[0].removeprefix("@ ").partition(" | ")
    lines: list[Line] = []
    paraphrase = ""
    for number, row in enumerate(rows[1:], start=first_row + 1):
        mark, _, text = row.partition(" " if row.startswith("~ ") else ": ")
        if mark == "~":
            paraphrase = text
        elif mark in ("S", "L", "U"):
            lines.append(Line(mark, text))
        elif mark.startswith("A [") and mark.endswith("]"):
            lines.append(Line("A", text, mark[3:-1]))
        else:
            raise HeartwoodError(
                f"{path}, row {number}: {row[:40]!r} starts with none of S:, L:, U:, A [strategy]:, ~",
                hint="correct the part file",
            )
    return Dialogue(path.stem, situation, emotion or path.stem, tuple(lines), paraphrase)


def read_comments() -> list[Comment]:
    """All comments of ``parts/goemotions``, files in name order, stock phrases left out."""
    found: list[Comment] = []
    for path in sorted((PARTS / "goemotions").glob("*.txt")):
        if path.stem == "stock":
            continue
        for row in path.read_text(encoding="utf-8").strip().split("\n"):
            if row.startswith("~ "):
                last = found.pop()
                found.append(Comment(last.text, last.labels, row[2:]))
                continue
            extra, plus, text = row.partition("+ ")
            two = plus and extra.isalpha() and extra.islower()
            found.append(Comment(text if two else row, (path.stem, extra) if two else (path.stem,)))
    return found


def read_stock_phrases() -> list[Comment]:
    """Short phrases that many people write, each with its label."""
    rows = (PARTS / "goemotions" / "stock.txt").read_text(encoding="utf-8").strip().split("\n")
    pairs = (row.partition(" ") for row in rows)
    return [Comment(text, (label,)) for label, _, text in pairs]
