"""Train, dev and test: official splits kept, unassigned records divided by group, no group in two splits."""

import hashlib
from collections import defaultdict
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

    holders: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for conversation in placed:
        for group in groups_of(conversation):
            holders[group].setdefault(conversation.split, conversation.uid)

    # A record leaves when one of its groups stands in a later split, in the order train < dev < test.
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    removals = []
    kinds: dict[tuple[str, str], None] = {}
    for conversation in placed:
        later = SPLITS[SPLITS.index(conversation.split) + 1 :]
        reason = next(
            ((group, name) for name in reversed(later) for group in groups_of(conversation) if name in holders[group]),
            None,
        )
        if reason is None:
            splits[conversation.split].append(conversation)
            continue
        group, name = reason
        kinds[group] = None
        removals.append(
            Removal(conversation, RULE, {"fold": FOLD}, holders[group][name], 1.0, f"{group[0]} also stands in {name}")
        )
    counts: dict[str, int] = {"conversation": 0, "situation": 0}
    for kind, _ in kinds:
        counts[kind] += 1
    return SplitResult(splits, removals, counts, assigned)
