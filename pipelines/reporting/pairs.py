"""Duplicates and leaks of anybody's files, row by row: what the rules of curation find, as pairs of rows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from curation.dedup import DedupSettings, deduplicate
from curation.leakage.detect import (
    CONTAINED,
    EXACT,
    SEMANTIC,
    Detector,
    Hit,
    LeakageSettings,
    is_stock_match,
    pieces,
)
from curation.neighbours import Encode
from curation.records import Conversation, Origin, identify
from curation.review import MARGIN, count_by_rule
from curation.tabular import BAD_QUOTING, RowFile

KIND = {EXACT: "exact", CONTAINED: "contained", SEMANTIC: "semantic"}
DUPLICATE_COLUMNS = pa.schema(
    [
        ("removed_file", pa.string()),
        ("removed_row", pa.int64()),
        ("surviving_file", pa.string()),
        ("surviving_row", pa.int64()),
        ("rule", pa.string()),
        ("score", pa.float64()),
        ("removed_text", pa.string()),
        ("surviving_text", pa.string()),
    ]
)
LEAK_COLUMNS = pa.schema(
    [
        ("dev_file", pa.string()),
        ("dev_row", pa.int64()),
        ("train_file", pa.string()),
        ("train_row", pa.int64()),
        ("kind", pa.string()),
        ("score", pa.float64()),
        ("generic", pa.bool_()),
        ("dev_side", pa.string()),
        ("train_side", pa.string()),
        ("dev_text", pa.string()),
        ("train_text", pa.string()),
    ]
)


@dataclass(frozen=True)
class Duplicates:
    """What deduplication finds in files: the counts, and a pair (``DUPLICATE_COLUMNS``) for each removed row."""

    files: Sequence[RowFile]
    settings: dict[str, Any]
    counts: dict[str, Any]
    pairs: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; rows = compared + unusable, compared = kept + removed."""
        return {**self.counts, **_files(self.files), "settings": self.settings, "pairs": self.pairs}

    def removed_rows(self) -> dict[str, set[int]]:
        """The numbers of the removed rows, by file."""
        rows: dict[str, set[int]] = {f.file: set() for f in self.files}
        for pair in self.pairs:
            rows[pair["removed_file"]].add(pair["removed_row"])
        return rows


@dataclass(frozen=True)
class Leaks:
    """What leak detection finds between files: counts of dev rows, and pairs (``LEAK_COLUMNS``).

    Every dev row is judged on its own. A row counts under each kind of which it has a pair; it is ``generic`` if
    stock phrases are all that it shares with train. ``pairs_left_out`` pairs are counted and not listed: those
    beyond the strongest few of a dev row.
    """

    train: Sequence[RowFile]
    dev: Sequence[RowFile]
    settings: dict[str, Any]
    leaked: dict[str, int]
    pairs: list[dict[str, Any]]
    pairs_left_out: int

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "train_rows": sum(f.rows for f in self.train),
            "dev_rows": sum(f.rows for f in self.dev),
            "leaked_dev_rows": self.leaked,
            "train": _files(self.train),
            "dev": _files(self.dev),
            "settings": self.settings,
            "pairs_left_out": self.pairs_left_out,
            "pairs": self.pairs,
        }


def _files(files: Sequence[RowFile]) -> dict[str, Any]:
    unusable = [asdict(u) for f in files for u in f.unusable]
    return {
        "files": [{"file": f.file, "rows": f.rows, "compared": len(f.usable), "read": f.reading} for f in files],
        "unusable_by_reason": dict(sorted(Counter(u["reason"] for u in unusable).items())),
        "unusable": unusable,
    }


def _numbered(files: Sequence[RowFile]) -> tuple[list[Conversation], dict[str, tuple[int, Origin]]]:
    """The usable rows with their ids, and for each uid the file's place in the order given and the row."""
    place = {f.file: n for n, f in enumerate(files)}
    found = identify(row for f in files for row in f.usable)
    return [c for c, _ in found], {c.uid: (place[o.file], o) for c, o in found}


def whole_text(conversation: Conversation) -> str:
    """A row's text; of a chat, its turns with their speakers, a line each."""
    if [t.role for t in conversation.turns] == ["user"]:
        return conversation.turns[0].text
    return "\n".join(f"{t.role}: {t.text}" for t in conversation.turns)


def find_duplicates(files: Sequence[RowFile], settings: DedupSettings, encode: Encode | None) -> Duplicates:
    """Deduplicate the rows of all files together.

    Args:
        encode: texts to unit vectors of shape (n, d); None leaves the semantic rule out.
    """
    rows, where = _numbered(files)
    result = deduplicate(rows, settings, encode)
    by_uid = {c.uid: c for c in rows}
    pairs = []
    for removal in sorted(result.removals, key=lambda r: (where[r.record.uid][0], where[r.record.uid][1].first_row)):
        removed, surviving = where[removal.record.uid][1], where[removal.survivor][1]
        pairs.append(
            {
                "removed_file": removed.file,
                "removed_row": removed.first_row,
                "surviving_file": surviving.file,
                "surviving_row": surviving.first_row,
                "rule": removal.rule,
                "score": round(removal.score, 6),
                "removed_text": whole_text(by_uid[removal.record.uid]),
                "surviving_text": whole_text(by_uid[removal.survivor]),
            }
        )
    counts = {
        "rows": sum(f.rows for f in files),
        "compared": len(rows),
        "kept": len(result.kept),
        "removed": len(result.removals),
        "removed_by_rule": dict(sorted(Counter(r.rule for r in result.removals).items())),
        "stock_phrases_kept": result.stock_phrases,
        "label_conflict_groups": result.label_conflict_groups,
        f"decisions_within_{MARGIN:g}_of_threshold": count_by_rule(result.close_calls),
    }
    return Duplicates(files, {**asdict(settings), "semantic": encode is not None}, counts, pairs)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one text of a dev row repeats, strongest first, each train text of a row once."""

    side: str
    text: str
    generic: bool
    hits: list[Hit]


def find_leaks(
    train: Sequence[RowFile],
    dev: Sequence[RowFile],
    settings: LeakageSettings,
    encode: Encode | None,
    max_pairs: int,
) -> Leaks:
    """Find the rows of dev that repeat rows of train.

    Args:
        encode: texts to unit vectors of shape (n, d); None leaves the semantic rule out.
        max_pairs: about how many pairs to list; of each leaked row the strongest is listed in any case.
    """
    train_rows, where = _numbered(train)
    detector = Detector(train_rows, settings, encode)
    texts = {p.text for f in dev for c, _ in f.usable for p in pieces(c)}
    hits = {text: _distinct(found, where) for text, found in detector.search(texts).hits.items()}
    leaked: list[tuple[Origin, list[_Found]]] = []
    for conversation, origin in (row for f in dev for row in f.usable):
        found = [
            _Found(side, text, is_stock_match(text, hits[text], detector.settings), hits[text])
            for side, text in sorted({(p.side, p.text) for p in pieces(conversation)})
            if text in hits
        ]
        if found:
            found.sort(key=lambda x: (x.generic, list(KIND).index(x.hits[0].rule), -x.hits[0].score))
            leaked.append((origin, found))
    sizes = [sum(len(f.hits) for f in found) for _, found in leaked]
    each = _per_row(sizes, max_pairs)
    pairs = [pair for origin, found in leaked for pair in islice(_pairs(origin, found, where), each)]
    kinds = [{KIND[f.hits[0].rule] for f in found} for _, found in leaked]
    counts = {kind: sum(kind in k for k in kinds) for kind in KIND.values()}
    counts["any"] = len(leaked)
    counts["generic"] = sum(all(f.generic for f in found) for _, found in leaked)
    asked = {**asdict(settings), "semantic": encode is not None}
    return Leaks(train, dev, asked, counts, pairs, sum(sizes) - len(pairs))


def _distinct(hits: Sequence[Hit], where: Mapping[str, tuple[int, Origin]]) -> list[Hit]:
    distinct = {(h.piece.uid, h.piece.side, h.piece.text): h for h in hits}.values()
    return sorted(
        distinct,
        key=lambda h: (-h.score, where[h.piece.uid][0], where[h.piece.uid][1].first_row, h.piece.side, h.piece.text),
    )


def _per_row(sizes: Sequence[int], limit: int) -> int:
    """The most pairs a row that keep all rows together within the limit; at least 1."""
    low, high = 1, max(sizes, default=1)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(s, middle) for s in sizes) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _pairs(dev: Origin, found: Sequence[_Found], where: Mapping[str, tuple[int, Origin]]) -> Iterator[dict[str, Any]]:
    for text in found:
        for hit in text.hits:
            train = where[hit.piece.uid][1]
            yield {
                "dev_file": dev.file,
                "dev_row": dev.first_row,
                "train_file": train.file,
                "train_row": train.first_row,
                "kind": KIND[hit.rule],
                "score": round(hit.score, 6),
                "generic": text.generic,
                "dev_side": text.side,
                "train_side": hit.piece.side,
                "dev_text": text.text,
                "train_text": hit.piece.text,
            }


def print_duplicates(console: Console, found: Duplicates, show: int) -> None:
    """Print the counts and the first ``show`` pairs."""
    counts = found.counts
    _print_files(console, "", found.files)
    console.print(f"{counts['rows']:,} rows = {counts['compared']:,} compared + {_unusable(found.files)}")
    by_rule = ", ".join(f"{rule} {n:,}" for rule, n in counts["removed_by_rule"].items())
    console.print(
        f"{counts['compared']:,} compared = {counts['kept']:,} kept + {counts['removed']:,} removed"
        + (f" ({by_rule})" if by_rule else "")
    )
    console.print(
        f"stock phrases left alone {counts['stock_phrases_kept']:,},"
        f" texts whose copies carry different labels {counts['label_conflict_groups']:,}"
    )
    for pair in found.pairs[:show]:
        console.print()
        removed, surviving = (_place(pair, side, found.files) for side in ("removed", "surviving"))
        console.print(f"{removed} repeats {surviving} ({pair['rule']}, {pair['score']:.3f})")
        _print_text(console, "removed  ", pair["removed_text"])
        _print_text(console, "survivor ", pair["surviving_text"])
    _print_rest(console, len(found.pairs) - show)


def print_leaks(console: Console, found: Leaks, show: int) -> None:
    """Print the counts and the strongest pair of the first ``show`` leaked rows."""
    _print_files(console, "train ", found.train)
    _print_files(console, "dev   ", found.dev)
    for name, files in (("train", found.train), ("dev", found.dev)):
        compared = sum(len(f.usable) for f in files)
        console.print(f"{name}: {sum(f.rows for f in files):,} rows = {compared:,} compared + {_unusable(files)}")
    leaked = found.leaked
    by_kind = ", ".join(
        f"{kind} {leaked[kind]:,}" if kind != "semantic" or found.settings["semantic"] else "semantic not looked for"
        for kind in KIND.values()
    )
    console.print(
        f"dev rows that repeat train: {leaked['any']:,} ({by_kind});"
        f" {leaked['generic']:,} of them share only stock phrases"
    )
    strongest: dict[tuple[str, int], dict[str, Any]] = {}
    for pair in found.pairs:
        strongest.setdefault((pair["dev_file"], pair["dev_row"]), pair)
    # Stock phrases are the least worth a look: rows with more than that come first.
    ordered = sorted(strongest.values(), key=lambda p: bool(p["generic"]))
    for pair in ordered[:show]:
        console.print()
        dev, train = _place(pair, "dev", found.dev), _place(pair, "train", found.train)
        generic = ", stock phrase" if pair["generic"] else ""
        console.print(f"dev {dev} repeats train {train} ({pair['kind']}, {pair['score']:.3f}{generic})")
        _print_text(console, "dev   ", pair["dev_text"])
        _print_text(console, "train ", pair["train_text"])
    _print_rest(console, len(ordered) - show)


def _place(pair: Mapping[str, Any], side: str, files: Sequence[RowFile]) -> str:
    row = f"row {pair[f'{side}_row']}"
    return row if len(files) == 1 else f"{pair[f'{side}_file']} {row}"


def _unusable(files: Sequence[RowFile]) -> str:
    reasons = Counter(u.reason for f in files for u in f.unusable)
    listed = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
    first = next((u for f in files for u in f.unusable), None)
    if first is None:
        return "0 unusable"
    quoting = "; if quotation marks are plain text there, say --no-quoting" if BAD_QUOTING in reasons else ""
    return f"{sum(reasons.values()):,} unusable ({listed}; the first: {first.file} row {first.row}{quoting})"


def _print_files(console: Console, label: str, files: Sequence[RowFile]) -> None:
    for f in files:
        console.print(f"{label}{f.file}: {f.rows:,} rows, text from {f.reading}")


def _print_text(console: Console, label: str, text: str) -> None:
    console.print(one_line(f"  {label}{text}", console.width), soft_wrap=True)


def _print_rest(console: Console, left: int) -> None:
    if left > 0:
        console.print()
        console.print(f"{left:,} more: --show N, --json or --output FILE")


def one_line(text: str, width: int) -> Text:
    """A text of anybody's as one line of at most ``width`` columns, without anything that steers a terminal."""
    shown = Text("".join(c if c.isprintable() else " " for c in text[: 4 * width]))
    shown.truncate(width, overflow="ellipsis")
    return shown
