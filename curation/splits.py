"""Train, dev and test: official splits kept, unassigned records divided by group, no group in two splits."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from curation.ledger import Removal
from curation.records import SPLITS, UNASSIGNED, Conversation, by_uid
from curation.text import FOLD, fold

RULE = "split-group-v1"


@dataclass(frozen=True)
class SplitResult:
    """The three splits, the records that left because their group stands in a later split, and how many groups."""

    splits: dict[str, list[Conversation]]
    removals: list[Removal]
    straddling_groups: dict[str, int]
    assigned: dict[str, int]

    def removed_by_source_and_split(self) -> dict[str, dict[str, int]]:
        """How many records left which split of each source."""
        counts = Counter((r.record.source, r.record.split) for r in self.removals)
        sources = sorted({source for source, _ in counts})
        return {s: {split: n for (of, split), n in sorted(counts.items()) if of == s} for s in sources}


def groups_of(conversation: Conversation) -> list[tuple[str, str]]:
    """The structural groups of a record: (kind, key). A situation text is a group of its own, folded."""
    groups = [("conversation", f"{conversation.source}/{conversation.group}")]
    if situation := fold(conversation.situation):
        groups.append(("situation", f"{conversation.source}/{situation}"))
    return groups


def assign(conversation: Conversation, seed: int, dev_share: float, test_share: float) -> str:
    """The split of a record without an official one: by sha256 of seed and situation (or group), never by order."""
    source = conversation.source
    key = f"{seed}/{source}/{fold(conversation.situation) or conversation.group}"
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    if position < test_share:
        return "test"
    return "dev" if position < test_share + dev_share else "train"


def split_records(
    conversations: Iterable[Conversation], *, seed: int, dev_share: float, test_share: float
) -> SplitResult:
    """Divide records into train, dev and test.

    A group that stands in two splits leaves train, then dev; nothing moves into dev or test. Equality of text
    alone is leakage's business, not this function's.
    """
    assigned = dict.fromkeys(SPLITS, 0)
    placed: list[Conversation] = []
    for conversation in by_uid(conversations):
        if conversation.split == UNASSIGNED:
            conversation = replace(conversation, split=assign(conversation, seed, dev_share, test_share))
            assigned[conversation.split] += 1
        placed.append(conversation)

    # Test is settled first, then dev, then train: a record leaves when one of its groups stands in a later split,
    # and one that has left takes nothing out of an earlier split.
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    removals = []
    holders: dict[tuple[str, str], tuple[str, str]] = {}
    kinds: dict[tuple[str, str], None] = {}
    for name in reversed(SPLITS):
        for conversation in placed:
            if conversation.split != name:
                continue
            group = next((g for g in groups_of(conversation) if g in holders), None)
            if group is None:
                splits[name].append(conversation)
                continue
            later, survivor = holders[group]
            kinds[group] = None
            detail = f"{group[0]} also stands in {later}"
            removals.append(Removal(conversation, RULE, {"fold": FOLD}, survivor, 1.0, detail))
        for conversation in splits[name]:
            for group in groups_of(conversation):
                holders.setdefault(group, (name, conversation.uid))
    counts: dict[str, int] = {"conversation": 0, "situation": 0}
    for kind, _ in kinds:
        counts[kind] += 1
    return SplitResult(splits, removals, counts, assigned)
