"""Mixtures: exact shares, stable draws, and a receipt of what was asked for and what came out."""

import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Literal

from curation.errors import HeartwoodError
from curation.examples import content_digest
from curation.records import Conversation

REST = "rest"
OTHER = "(other)"
# Labels of people's own data can be any text, and a receipt is to hold none.
_LONGEST_NAME = 40
_MOST_NAMES = 100
_DIGITS = Context(prec=40)
WhenShort = Literal["error", "repeat", "shrink"]


@dataclass(frozen=True)
class Request:
    """The shares asked for: numbers by source, and the sources that divide what the numbers leave.

    Without ``temperature`` the rest is divided equally; with it, in proportion to size^(1/temperature). At 1, with
    every source in the rest, that is stratified (proportional) mixing; the higher, the more equal.
    """

    fixed: dict[str, Fraction]
    rest: tuple[str, ...]
    temperature: float | None = None

    def shares(self, sizes: Mapping[str, int]) -> dict[str, Fraction]:
        """Each source's share of the finished mixture, exact fractions that sum to 1, by name.

        Args:
            sizes: what each source has after curation, in the unit of the mixture; only a temperature needs it.

        Raises:
            HeartwoodError: a temperature, and a source of the rest has nothing left.
        """
        left = 1 - sum(self.fixed.values(), Fraction(0))
        if self.temperature is None:
            weights = dict.fromkeys(self.rest, Fraction(1))
        else:
            if gone := [name for name in self.rest if not sizes[name]]:
                raise _nothing_left(gone)
            weights = {name: _root(sizes[name], self.temperature) for name in self.rest}
        total = sum(weights.values(), Fraction(0))
        shares = {**self.fixed, **{name: left * weight / total for name, weight in weights.items()}}
        return dict(sorted(shares.items()))


@dataclass(frozen=True)
class Mixture:
    """The drawn examples in training order, and the rows by source: available, requested and drawn.

    Where shares are shares of supervised tokens, ``available_tokens`` are those by source, and ``largest`` those of
    the largest available example; where they are shares of the examples, None and 0.
    """

    examples: list[dict[str, Any]]
    available: dict[str, int]
    requested: dict[str, Fraction]
    rows: dict[str, int]
    repeats: dict[str, int]
    available_tokens: dict[str, int] | None = None
    largest: int = 0


def read_request(asked: Mapping[str, float | str], temperature: float | None = None) -> Request:
    """The shares asked for, checked as far as that is possible without data.

    ``rest`` is a part of what the numbers leave. Decimal notation is taken at its word: 0.1 is 1/10.

    Raises:
        HeartwoodError: a share is not a number in 0..1 or ``rest``, the sum is not 1, or a temperature has fewer
            than two sources to weigh.
    """
    fixed: dict[str, Fraction] = {}
    for name, value in sorted(asked.items()):
        if value == REST:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise HeartwoodError(
                f"mix.{name}: {value!r}; allowed: a number from 0 to 1, or 'rest'", hint="correct params.yaml or -S"
            )
        fixed[name] = Fraction(str(value))
    rest = tuple(sorted(name for name, value in asked.items() if value == REST))
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
    if temperature is not None and len(rest) < 2:
        raise HeartwoodError(
            f"mix.temperature: {temperature:g} weighs the sources that are 'rest', and here are {len(rest)} of those"
            f" ({listed or 'no shares'})",
            hint="set at least two sources to rest (-S mix.<source>=rest), or mix.temperature to none",
        )
    return Request(fixed, rest, temperature)


def resolve_shares(
    asked: Mapping[str, float | str], temperature: float | None = None, sizes: Mapping[str, int] | None = None
) -> dict[str, Fraction]:
    """``read_request`` and its ``shares`` in one; without a temperature there is no need for ``sizes``."""
    return read_request(asked, temperature).shares(sizes or {})


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


def merge_by_weight(weights: Mapping[str, Sequence[int]], shares: Mapping[str, Fraction]) -> Iterator[str]:
    """Source names, without end, in an order in which every prefix keeps the shares of the weight.

    A row's turn comes when its source's share of the weight reaches the row's middle: the divisor method of Webster
    and Sainte-Lague, with rows that weigh something. It is monotone: a longer prefix only adds rows, and so does a
    larger share to its source. Each source's weight is within half a row of its share of one common total. A source
    without further rows starts again from its first; ties go by name.

    Args:
        weights: of each source's rows in drawing order, 1 or more; a source with a share has at least one.
    """
    queue = []
    for name, share in sorted(shares.items()):
        if share:
            rows = _turns(weights[name], share)
            queue.append((next(rows), name, rows))
    heapq.heapify(queue)
    while True:
        _, name, rows = queue[0]
        heapq.heapreplace(queue, (next(rows), name, rows))
        yield name


def _turns(weights: Sequence[int], share: Fraction) -> Iterator[Fraction]:
    total = 0
    while True:
        for weight in weights:
            yield Fraction(2 * total + weight, 2) / share
            total += weight


def draw_order(examples: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Examples in order of sha256(seed, uid): a larger share only adds rows to a smaller one's."""
    return sorted(examples, key=lambda e: (hashlib.sha256(f"{seed}/{e['uid']}".encode()).digest(), e["uid"]))


def mix(
    examples: Sequence[dict[str, Any]],
    request: Request,
    *,
    size: int,
    seed: int,
    when_short: WhenShort,
    weights: Mapping[str, int] | None = None,
) -> Mixture:
    """Draw a mixture of ``size`` examples.

    Args:
        when_short: ``error``; ``repeat`` (a source starts again from its first row, counted); or ``shrink``
            (the largest size at which every source has enough rows; the shares stay).
        weights: supervised tokens by uid, 1 or more: shares are then shares of them, not of the examples.

    Raises:
        HeartwoodError: a source has too few examples under ``error``, or none at all; nothing would be left.
    """
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example in examples:
        by_source[example["source"]].append(example)
    names = sorted({*request.fixed, *request.rest})
    available = {name: len(by_source[name]) for name in names}
    weight = available if weights is None else {n: sum(weights[e["uid"]] for e in by_source[n]) for n in names}
    shares = request.shares(weight)
    if gone := [name for name, share in shares.items() if share and not available[name]]:
        raise _nothing_left(gone)
    drawn = {name: draw_order(by_source[name], seed) for name in names}
    order = (
        _order_by_rows(shares, available, size, when_short)
        if weights is None
        else _order_by_weight({n: [weights[e["uid"]] for e in drawn[n]] for n in names}, shares, size, when_short)
    )
    if not order:
        raise HeartwoodError(
            "mix: no size is small enough for the examples that are left", hint="lower the share of the smallest source"
        )
    taken = dict.fromkeys(names, 0)
    mixed = []
    for name in order:
        mixed.append(drawn[name][taken[name] % available[name]])
        taken[name] += 1
    repeats = {name: max(0, taken[name] - available[name]) for name in names}
    if weights is None:
        return Mixture(mixed, available, shares, taken, repeats)
    largest = max(weights[e["uid"]] for name in names for e in drawn[name])
    return Mixture(mixed, available, shares, taken, repeats, weight, largest)


def _order_by_rows(
    shares: Mapping[str, Fraction], available: Mapping[str, int], size: int, when_short: WhenShort
) -> list[str]:
    rows = allocate(shares, size)
    short = [name for name in rows if rows[name] > available[name]]
    if short and when_short == "error":
        name = short[0]
        raise HeartwoodError(
            f"mix.{name}: a share of {float(shares[name]):g} of {size} rows needs {rows[name]} examples,"
            f" {available[name]} are left after curation",
            hint="lower mix.size or the share, or set mix.when_short to repeat or shrink",
        )
    if short and when_short == "shrink":
        # No source gets less than its share rounded down, so no larger size can fit.
        size = min([size, *(math.ceil((available[n] + 1) / share) for n, share in shares.items() if share)])
        while any(rows[name] > available[name] for name in rows):
            size -= 1
            rows = allocate(shares, size)
    return interleave(rows)


def _order_by_weight(
    weights: Mapping[str, Sequence[int]], shares: Mapping[str, Fraction], size: int, when_short: WhenShort
) -> list[str]:
    taken: Counter[str] = Counter()
    order: list[str] = []
    for name in merge_by_weight(weights, shares):
        if len(order) == size:
            break
        if taken[name] == len(weights[name]) and when_short != "repeat":
            if when_short == "shrink":
                break
            raise HeartwoodError(
                f"mix.{name}: a share of {float(shares[name]):g} of the supervised tokens of {size} rows needs more"
                f" than the {len(weights[name])} examples that are left after curation",
                hint="lower mix.size or the share, or set mix.when_short to repeat or shrink",
            )
        taken[name] += 1
        order.append(name)
    return order


def require_token_shares(
    tokens: Mapping[str, int], shares: Mapping[str, Fraction], *, sources: int, largest: int
) -> None:
    """Raise unless each source's supervised tokens are its share of their sum, as near as whole rows allow.

    Each of the ``sources`` drawn from is within half a row of its share of a common total (`merge_by_weight`), and
    that total within half a row for each of them of the sum.

    Args:
        largest: the supervised tokens of the largest example that could have been drawn.
    """
    total = sum(tokens.values())
    slack = Fraction(largest * (1 + sources), 2)
    for name, share in shares.items():
        if abs(tokens.get(name, 0) - share * total) > slack:
            raise HeartwoodError(
                f"mix.{name}: {tokens.get(name, 0)} of {total} supervised tokens are"
                f" {tokens.get(name, 0) / total:.4f}; asked for {float(share):.4f}",
                hint="run `dvc repro -f mix`; if that does not help, this is a fault of heartwood",
            )


def receipt(mixture: Mixture, records: Iterable[Conversation], tokens: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """What was asked for and what came out, as plain JSON: counts, shares and digests, no text.

    ``requested`` and ``realised`` are shares in the unit of the mixture, ``shares`` the realised ones in both.
    ``labels`` counts the emotion labels of a row's record, ``strategies`` those of its completion; names longer than
    40 characters and those beyond the 100 most common of a source are counted together.

    Args:
        records: at least those that the mixture's examples come from.
        tokens: all and supervised tokens of each drawn example, by uid.
    """
    known = {c.uid: c for c in records}
    size = len(mixture.examples)
    counts = {name: {"all": 0, "supervised": 0} for name in mixture.rows}
    labels: dict[str, Counter[str]] = {name: Counter() for name in mixture.rows}
    strategies: dict[str, Counter[str]] = {name: Counter() for name in mixture.rows}
    for example in mixture.examples:
        source, record = example["source"], known[example["conversation"]]
        everything, supervised = tokens[example["uid"]]
        counts[source]["all"] += everything
        counts[source]["supervised"] += supervised
        labels[source].update(record.emotions)
        strategies[source].update(record.turns[int(example["uid"].rpartition("-")[2])].strategies)
    supervised_sum = sum(n["supervised"] for n in counts.values())
    shares = {
        "examples": {name: round(rows / size, 6) for name, rows in mixture.rows.items()},
        "supervised_tokens": {name: round(n["supervised"] / supervised_sum, 6) for name, n in counts.items()},
    }
    by_tokens = mixture.available_tokens is not None
    return {
        "size": size,
        "unit": "tokens" if by_tokens else "examples",
        "requested": {name: round(float(share), 6) for name, share in mixture.requested.items()},
        "realised": shares["supervised_tokens" if by_tokens else "examples"],
        "shares": shares,
        "rows": mixture.rows,
        "available": mixture.available,
        "repeats": mixture.repeats,
        "tokens": counts,
        **(
            {"available_tokens": mixture.available_tokens, "largest_example_tokens": mixture.largest}
            if by_tokens
            else {}
        ),
        "labels": {name: _as_names(found) for name, found in labels.items()},
        "strategies": {name: _as_names(found) for name, found in strategies.items()},
        "examples_sha256": content_digest(mixture.examples),
    }


def _root(size: int, temperature: float) -> Fraction:
    """size^(1/temperature), the same on every machine: decimal logarithms are correctly rounded, libm's are not."""
    if temperature == 1:
        return Fraction(size)
    exponent = _DIGITS.divide(_DIGITS.ln(Decimal(size)), Decimal(str(temperature)))
    return Fraction(_DIGITS.exp(exponent))


def _as_names(counts: Counter[str]) -> dict[str, int]:
    """The counts by name; what is too long for a name, or too rare among very many, is counted together."""
    names = [name for name in counts if len(name) <= _LONGEST_NAME]
    named = sorted(names, key=lambda name: (-counts[name], name))[:_MOST_NAMES]
    found = {name: counts[name] for name in sorted(named)}
    rest = counts.total() - sum(found.values())
    return {**found, OTHER: rest} if rest else found


def _nothing_left(names: Sequence[str]) -> HeartwoodError:
    return HeartwoodError(
        f"mix: no examples are left after curation for {', '.join(names)}",
        hint="give that source a share of 0, or loosen curation",
    )
