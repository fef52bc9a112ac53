"""Mixtures: exact shares, stable draws, and a receipt of what was asked for and what came out."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from curation.errors import HeartwoodError

REST = "rest"


@dataclass(frozen=True)
class Mixture:
    """The drawn examples in training order, and the rows by source: available, requested and drawn."""

    examples: list[dict[str, Any]]
    available: dict[str, int]
    requested: dict[str, Fraction]
    rows: dict[str, int]
    repeats: dict[str, int]


def resolve_shares(asked: Mapping[str, float | str]) -> dict[str, Fraction]:
    """Each source's share of the finished mixture, as exact fractions that sum to 1.

    ``rest`` is an equal part of what the numbers leave. Decimal notation is taken at its word: 0.1 is 1/10.

    Raises:
        HeartwoodError: a share is not a number in 0..1 or ``rest``, or the sum is not 1.
    """
    fixed: dict[str, Fraction] = {}
    for name, value in sorted(asked.items()):
        if value == REST:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise HeartwoodError(
                f"mix.{name}: {value!r}; allowed: a number from 0 to 1, or 'rest'", hint="correct params.yaml or -S"
            )
        if not 0 <= value <= 1:
            raise HeartwoodError(
                f"mix.{name}: {value}; allowed: a number from 0 to 1, or 'rest'", hint="correct params.yaml or -S"
            )
        fixed[name] = Fraction(str(value))
    rest = sorted(name for name, value in asked.items() if value == REST)
    total = sum(fixed.values(), Fraction(0))
    listed = ", ".join(f"{n}={float(v):g}" for n, v in fixed.items())
    if total > 1:
        raise HeartwoodError(
            f"mix: the shares sum to {float(total):g} ({listed}); allowed: at most 1", hint="lower a share"
        )
    if rest and total == 1:
        raise HeartwoodError(
            f"mix.{rest[0]}: 'rest' is empty, the other shares already sum to 1 ({listed})",
            hint="lower a share, or give this source a share of 0",
        )
    if not rest and total != 1:
        raise HeartwoodError(
            f"mix: the shares sum to {float(total):g} ({listed}) and no source is 'rest'",
            hint="make the shares sum to 1, or give one source 'rest'",
        )
    shares = {**fixed, **{name: (1 - total) / len(rest) for name in rest}}
    return dict(sorted(shares.items()))


def allocate(shares: Mapping[str, Fraction], size: int) -> dict[str, int]:
    """Whole rows by the largest-remainder method (Hamilton), ties by name; the sum is exactly ``size``."""
    exact = {name: share * size for name, share in sorted(shares.items())}
    rows = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (rows[name] - exact[name], name))
    for name in by_remainder[: size - sum(rows.values())]:
        rows[name] += 1
    return rows


def interleave(rows: Mapping[str, int]) -> list[str]:
    """Source names in an order in which every prefix keeps the shares within one row.

    The quota method of apportionment (Balinski and Young 1975): each place goes to the source furthest behind
    its share among those that would not pass their upper quota, ties by name.
    """
    size = sum(rows.values())
    given = dict.fromkeys(sorted(rows), 0)
    order = []
    for place in range(1, size + 1):
        # A source may take the place if that keeps it under its upper quota; the least given a row goes first.
        eligible = [n for n in given if given[n] < rows[n] and given[n] * size < rows[n] * place]
        name = max(eligible, key=lambda n: (Fraction(rows[n], given[n] + 1), [-ord(c) for c in n]))
        given[name] += 1
        order.append(name)
    return order


def draw_order(examples: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Examples in order of sha256(seed, uid): a larger share only adds rows to a smaller one's."""
    return sorted(examples, key=lambda e: (hashlib.sha256(f"{seed}/{e['uid']}".encode()).digest(), e["uid"]))


def mix(
    examples: Sequence[dict[str, Any]],
    shares: Mapping[str, Fraction],
    *,
    size: int,
    seed: int,
    when_short: str,
) -> Mixture:
    """Draw a mixture of ``size`` examples.

    Args:
        when_short: ``error``; ``repeat`` (a source starts again from its first row, counted); or ``shrink``
            (the largest size at which every source has enough rows; the shares stay).

    Raises:
        HeartwoodError: a source has too few examples under ``error``, or none at all; nothing would be left.
    """
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example in examples:
        by_source[example["source"]].append(example)
    available = {name: len(by_source[name]) for name in shares}
    rows = allocate(shares, size)
    gone = [name for name, share in shares.items() if share and not available[name]]
    if gone and when_short != "error":
        raise HeartwoodError(
            f"mix: no examples are left after curation for {', '.join(gone)}",
            hint="give that source a share of 0, or loosen curation",
        )
    short = [name for name in rows if rows[name] > available[name]]
    if short and when_short == "error":
        name = short[0]
        raise HeartwoodError(
            f"mix.{name}: a share of {float(shares[name]):g} of {size} rows needs {rows[name]} examples,"
            f" {available[name]} are left after curation",
            hint="lower mix.size or the share, or set mix.when_short to repeat or shrink",
        )
    if short and when_short == "shrink":
        while any(rows[name] > available[name] for name in rows):
            size -= 1
            rows = allocate(shares, size)
    if size <= 0:
        raise HeartwoodError(
            "mix: no size is small enough for the examples that are left", hint="lower the share of the smallest source"
        )
    drawn = {name: draw_order(by_source[name], seed) for name in rows}
    taken: Counter[str] = Counter()
    mixed = []
    for name in interleave(rows):
        mixed.append(drawn[name][taken[name] % available[name]])
        taken[name] += 1
    repeats = {name: max(0, rows[name] - available[name]) for name in rows}
    return Mixture(mixed, available, dict(shares), rows, repeats)
