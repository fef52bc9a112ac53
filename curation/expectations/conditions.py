"""What records must meet, as plain functions; the expectations apply them to the columns of a table."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import pairwise

from curation.records import ROLES
from curation.text import fold

# Control, format, surrogate and separator characters; private-use and unassigned ones may be the newest emoji.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def has_visible_text(text: str) -> bool:
    """Whether anything but whitespace, control and format characters stands in the text."""
    # The first character decides nearly every text of a corpus, and no letter or digit is invisible.
    return text[:1].isalnum() or any(unicodedata.category(character) not in _INVISIBLE for character in text)


def roles_alternate(roles: Sequence[str], last_role: str | None = None) -> bool:
    """Whether every speaker is ``user`` or ``assistant``, none speaks twice in a row, and the last is ``last_role``."""
    known = all(role in ROLES for role in roles)
    taking_turns = all(one != next_one for one, next_one in pairwise(roles))
    return known and taking_turns and (last_role is None or tuple(roles[-1:]) == (last_role,))


def unknown_labels(
    source: str, labels: Collection[str], label_sets: Mapping[str, Collection[str] | None]
) -> frozenset[str]:
    """The labels outside the source's set; a set of None allows any, a source without an entry none."""
    allowed = label_sets.get(source, ())
    return frozenset() if allowed is None else frozenset(labels).difference(allowed)


def straddling(groups: Sequence[Hashable], splits: Sequence[str]) -> list[bool]:
    """For each row, whether its group stands in more than one split."""
    held = Counter(group for group, _ in set(zip(groups, splits, strict=True)))
    return [held[group] > 1 for group in groups]


def repeated_texts(
    kinds: Sequence[Hashable],
    turns: Sequence[Sequence[str]],
    labels: Sequence[Hashable],
    *,
    stock_words: int,
    label_conflicts: str,
) -> list[bool]:
    """For each row, whether another row of its kind has the same turns, joined and folded.

    Stock phrases, texts of at most ``stock_words`` folded words, may repeat; so may, where ``label_conflicts`` is
    ``keep``, texts whose labels differ. These are the exact duplicates that ``curation.dedup`` removes, found
    without its code.
    """
    keys: list[Hashable] = []
    for kind, spoken, row_labels in zip(kinds, turns, labels, strict=True):
        text = fold(" ".join(spoken))
        stock = len(text.split()) <= stock_words
        keys.append(None if stock else (kind, text, row_labels if label_conflicts == "keep" else None))
    rows = Counter(keys)
    return [key is not None and rows[key] > 1 for key in keys]


def missed_shares(rows: Mapping[str, int], shares: Mapping[str, float]) -> list[str]:
    """The sources whose rows are one row or more away from their share of all rows, sorted.

    A share of 0 allows no row, and a source without a share has share 0.
    """
    size = sum(rows.values())
    # Shares arrive as floats: a whole row stays a whole row within this much.
    whole_row = 1 - 1e-9
    missed = []
    for name in sorted({*rows, *shares}):
        share, count = shares.get(name, 0.0), rows.get(name, 0)
        if (count > 0) if share == 0 else abs(count - share * size) >= whole_row:
            missed.append(name)
    return missed
