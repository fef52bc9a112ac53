"""GoEmotions (Demszky et al. 2020, https://arxiv.org/abs/2005.00547), the official simplified TSV files.

A raw row is ``text <tab> comma-separated label ids <tab> comment id``, without header and without quoting.
"""

from collections.abc import Iterator
from pathlib import Path

from curation.records import Conversation, Origin, Turn, clean_text
from curation.sources.quarantine import Parsed, Quarantined, read_text, text_problem

FILES = ("train.tsv", "dev.tsv", "test.tsv")
SPLIT_OF = {"train.tsv": "train", "dev.tsv": "dev", "test.tsv": "test"}
LABELS = tuple(
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
    "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
    "remorse sadness surprise neutral".split()
)


def _parse_row(line: str, source: str, split: str) -> Conversation | tuple[str, str]:
    fields = line.split("\t")
    if len(fields) != 3:
        return "field_count", f"{len(fields)} tab-separated fields; allowed: 3"
    text, ids, comment = fields
    if not comment:
        return "missing_id", "comment id is empty"
    if reason := text_problem(clean_text(text)):
        return reason, "text"
    labels = ids.split(",")
    if bad := [i for i in labels if not i.isdecimal() or len(i) > 2 or int(i) >= len(LABELS)]:
        return "unknown_label", f"label id {bad[0][:20]!r}; allowed: 0 to {len(LABELS) - 1}"
    return Conversation(
        source=source,
        task="emotion",
        group=comment,
        split=split,
        turns=(Turn("user", clean_text(text)),),
        emotions=tuple(sorted({LABELS[int(i)] for i in labels})),
    )


def parse(folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Yield one record a row, in file order.

    Raises:
        HeartwoodError: a file is empty or not UTF-8.
    """
    for name in FILES:
        lines = read_text(folder / name).split("\n")
        if lines[-1] == "":
            lines.pop()
        for number, raw in enumerate(lines, start=1):
            line = raw.removesuffix("\r")
            parsed = _parse_row(line, source, SPLIT_OF[name])
            if isinstance(parsed, Conversation):
                yield Parsed(parsed, Origin(name, number, number), 1, line)
            else:
                yield Quarantined(name, number, 1, *parsed, line)
