"""EmpatheticDialogues (Rashkin et al. 2019, https://arxiv.org/abs/1811.00207), the official CSV files.

Fields are joined by commas without quoting (commas inside text are ``_comma_``), and stray quotation marks
are real text: a CSV reader with default quoting merges 7,500 of the train rows. Lines are split on commas.
The raw row is one utterance; a conversation is the run of rows with one ``conv_id``, wherever they stand.
"""

from collections.abc import Iterator
from pathlib import Path

from curation.errors import HeartwoodError
from curation.records import Conversation, Origin, Turn, clean_text
from curation.sources.quarantine import Parsed, Quarantined, optional_text, read_text, text_problem

FILES = ("train.csv", "valid.csv", "test.csv")
SPLIT_OF = {"train.csv": "train", "valid.csv": "dev", "test.csv": "test"}
HEADER = ["conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance", "selfeval", "tags"]
EMOTIONS = frozenset(
    "afraid angry annoyed anticipating anxious apprehensive ashamed caring confident content devastated "
    "disappointed disgusted embarrassed excited faithful furious grateful guilty hopeful impressed jealous "
    "joyful lonely nostalgic prepared proud sad sentimental surprised terrified trusting".split()
)
MIN_FIELDS = 6
MAX_INDEX_DIGITS = 4


def _restore(field: str) -> str:
    return clean_text(field.replace("_comma_", ","))


def _row_problem(fields: list[str]) -> tuple[str, str] | None:
    if not MIN_FIELDS <= len(fields) <= len(HEADER):
        return "field_count", f"{len(fields)} fields; allowed: {MIN_FIELDS} to {len(HEADER)}"
    if not fields[0]:
        return "missing_id", "conv_id is empty"
    if not fields[1].isdecimal() or len(fields[1]) > MAX_INDEX_DIGITS:
        return "bad_index", f"utterance_idx is {fields[1][:20]!r}; allowed: a whole number"
    if fields[2] not in EMOTIONS:
        return "unknown_label", f"context is {fields[2]!r}; allowed: one of the 32 emotions"
    if reason := text_problem(_restore(fields[5])):
        return reason, "utterance"
    if (reason := text_problem(_restore(fields[3]))) and reason != "empty_text":
        return reason, "prompt"
    return None


def _assemble(rows: list[tuple[int, list[str]]], source: str, split: str) -> Conversation | tuple[str, str]:
    rows = sorted(rows, key=lambda r: int(r[1][1]))
    indices = [int(fields[1]) for _, fields in rows]
    if indices != list(range(1, len(rows) + 1)):
        return "utterance_gap", f"utterance_idx runs {indices}; allowed: 1, 2, 3, ..."
    first = rows[0][1]
    if len({(fields[2], fields[3]) for _, fields in rows}) > 1:
        return "mixed_conversation", "rows of one conv_id differ in context or prompt"
    turns = tuple(
        Turn("user" if i % 2 == 0 else "assistant", _restore(fields[5])) for i, (_, fields) in enumerate(rows)
    )
    return Conversation(
        source=source,
        task="dialogue",
        group=first[0],
        split=split,
        turns=turns,
        situation=optional_text(_restore(first[3]), "prompt"),
        emotions=(first[2],),
    )


def parse(folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Yield one record a conversation, in file order of its first row.

    A bad row takes its whole conversation to quarantine (the turns would no longer alternate): the row with
    its own reason, the others with ``broken_conversation``.

    Raises:
        HeartwoodError: a file has another header, is empty or not UTF-8.
    """
    for name in FILES:
        lines = read_text(folder / name).split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        lines = [line.removesuffix("\r") for line in lines]
        if lines[0].split(",") != HEADER:
            raise HeartwoodError(
                f"{folder / name}, row 1: header is {lines[0][:120]!r}; expected {','.join(HEADER)!r}",
                hint="restore the official EmpatheticDialogues file",
            )
        yield from _parse_file(name, lines, source)


def _parse_file(name: str, lines: list[str], source: str) -> Iterator[Parsed | Quarantined]:
    conversations: dict[str, list[tuple[int, list[str]]]] = {}
    problems: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split(",")
        if problem := _row_problem(fields):
            problems[number] = problem
        conversations.setdefault(fields[0] or f"row {number}", []).append((number, fields))

    for rows in conversations.values():
        broken = [number for number, _ in rows if number in problems]
        assembled = ("", "") if broken else _assemble(rows, source, SPLIT_OF[name])
        if isinstance(assembled, Conversation):
            raw = "\n".join(lines[number - 1] for number, _ in rows)
            yield Parsed(assembled, Origin(name, rows[0][0], rows[-1][0]), len(rows), raw)
            continue
        for number, _ in rows:
            reason, detail = problems.get(number) or (
                ("broken_conversation", f"row {broken[0]} of this conversation is unusable") if broken else assembled
            )
            yield Quarantined(name, number, 1, reason, detail, lines[number - 1])
