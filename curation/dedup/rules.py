"""Exact, near and semantic duplicates; greedy canonical survivors, never transitive closure.

Conversations of one source and task are compared, all turns joined. Records are visited in uid order; one that
matches an already kept record is removed in its favour, so every removed record names a surviving record that
it matches directly (semhash 0.5's rule; transitive closure deletes distinct templated chats, marin#6854).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rensa import RMinHash, RMinHashLSH

from curation.ledger import Removal
from curation.neighbours import Vectors, pairs_above
from curation.records import Conversation, by_uid
from curation.text import FOLD, fold, is_generic, jaccard, shingles

EXACT, NEAR, SEMANTIC = "dedup-exact-v1", "dedup-near-v1", "dedup-semantic-v1"
_STRENGTH = {NEAR: 1, SEMANTIC: 0}
_SEED = 1
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class DedupSettings:
    """Thresholds: Jaccard of word shingles, cosine of each side, and what counts as a stock phrase."""

    near_jaccard: float = 0.8
    shingle_words: int = 3
    permutations: int = 128
    bands: int = 32
    semantic_cosine: float = 0.95
    generic_words: int = 3

    def parameters(self, rule: str) -> dict[str, float | int | str]:
        """What the ledger records for a rule."""
        if rule == EXACT:
            return {"fold": FOLD}
        if rule == SEMANTIC:
            return {"cosine": self.semantic_cosine}
        return {
            "jaccard": self.near_jaccard,
            "shingle_words": self.shingle_words,
            "permutations": self.permutations,
            "bands": self.bands,
        }


@dataclass(frozen=True)
class DedupResult:
    """What stays, what goes and what was left alone: stock phrases and copies whose labels disagree."""

    kept: list[Conversation]
    removals: list[Removal]
    label_conflict_groups: int
    generic_records: int
    near_threshold: dict[str, int]


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of rows (smaller uid first) with the rule that joins them and its exact score."""

    first: int
    second: int
    rule: str
    score: float


def joined(conversation: Conversation) -> str:
    """All turns of a conversation, folded, as one text."""
    return fold(" ".join(t.text for t in conversation.turns))


def side_vectors(conversations: Sequence[Conversation], role: str, encode: Encode) -> Vectors:
    """The unit mean of one speaker's turn vectors, shape (n, d); a zero row where the speaker says nothing."""
    texts = [t.text for c in conversations for t in c.turns if t.role == role]
    vectors = encode(texts)
    result = np.zeros((len(conversations), vectors.shape[1]), dtype=np.float32)
    owners = np.repeat(np.arange(len(conversations)), [sum(t.role == role for t in c.turns) for c in conversations])
    np.add.at(result, owners, vectors)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    np.divide(result, lengths, out=result, where=lengths > 0)
    return result


def first_copies(conversations: Sequence[Conversation], texts: Sequence[str]) -> list[int]:
    """For each row, the first row with the same folded text and the same labels (itself, where it is the first)."""
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    return [first.setdefault((t, c.emotions), i) for i, (c, t) in enumerate(zip(conversations, texts, strict=True))]


def near_matches(texts: Sequence[str], settings: DedupSettings) -> list[Match]:
    """Pairs whose shingle sets have Jaccard at or above the threshold; MinHash proposes, the exact value decides.

    Texts shorter than one shingle have no shingles and match by folded equality only.
    """
    sets = [shingles(text.split(), settings.shingle_words) for text in texts]
    rows = [i for i, s in enumerate(sets) if s]
    if not rows:
        return []
    hashes = RMinHash.from_token_sets([sorted(sets[i]) for i in rows], settings.permutations, _SEED)
    lsh = RMinHashLSH(settings.near_jaccard, settings.permutations, settings.bands)
    matches: list[Match] = []
    for i, minhash in zip(rows, hashes, strict=True):
        for j in sorted(lsh.query(minhash)):
            score = jaccard(sets[i], sets[j])
            if score >= settings.near_jaccard:
                matches.append(Match(j, i, NEAR, score))
        lsh.insert(i, minhash)
    return matches


def semantic_matches(conversations: Sequence[Conversation], settings: DedupSettings, encode: Encode) -> list[Match]:
    """Pairs whose user side and assistant side (where there is one) both reach the cosine threshold."""
    user = side_vectors(conversations, "user", encode)
    has_assistant = np.array([any(t.role == "assistant" for t in c.turns) for c in conversations])
    assistant = side_vectors(conversations, "assistant", encode)
    matches = []
    for i, j, score in pairs_above(user, user, settings.semantic_cosine):
        if j >= i or has_assistant[i] != has_assistant[j]:
            continue
        if has_assistant[i]:
            score = min(score, float(assistant[i] @ assistant[j]))
            if score < settings.semantic_cosine:
                continue
        matches.append(Match(j, i, SEMANTIC, score))
    return matches


def deduplicate(conversations: Iterable[Conversation], settings: DedupSettings, encode: Encode | None) -> DedupResult:
    """Remove duplicates among conversations of one split.

    Copies whose emotion labels differ are both kept and counted; conversations that are one stock phrase
    (at most ``generic_words`` folded words) are counted and kept.

    Args:
        encode: texts to unit vectors of shape (n, d); None leaves the semantic rule out.
    """
    by_kind: dict[tuple[str, str], list[Conversation]] = defaultdict(list)
    for conversation in by_uid(conversations):
        by_kind[conversation.source, conversation.task].append(conversation)
    kept: list[Conversation] = []
    removals: list[Removal] = []
    conflicts = generic = 0
    near_threshold: Counter[str] = Counter()
    for rows in by_kind.values():
        texts = [joined(c) for c in rows]
        stock = [is_generic(text, settings.generic_words) for text in texts]
        generic += sum(stock)
        conflicts += _label_conflicts(rows, texts)
        first = first_copies(rows, texts)
        # Near and semantic rules look at one copy of each folded text, so 10^5 equal rows make no 10^10 pairs.
        distinct = [i for i, f in enumerate(first) if f == i and not stock[i]]
        matches = near_matches([texts[i] for i in distinct], settings)
        if encode:
            matches += semantic_matches([rows[i] for i in distinct], settings, encode)
        matches = [replace(m, first=distinct[m.first], second=distinct[m.second]) for m in matches]
        matches = [m for m in matches if rows[m.first].emotions == rows[m.second].emotions]
        for m in matches:
            threshold = settings.near_jaccard if m.rule == NEAR else settings.semantic_cosine
            if m.score < threshold + 0.02:
                near_threshold[m.rule] += 1
        group_kept, group_removed = _choose(rows, stock, first, matches, settings, encode)
        kept += group_kept
        removals += group_removed
    return DedupResult(by_uid(kept), removals, conflicts, generic, dict(sorted(near_threshold.items())))


def _label_conflicts(rows: Sequence[Conversation], texts: Sequence[str]) -> int:
    labels: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for row, text in zip(rows, texts, strict=True):
        labels[text].add(row.emotions)
    return sum(len(v) > 1 for v in labels.values())


def _choose(
    rows: Sequence[Conversation],
    stock: Sequence[bool],
    first: Sequence[int],
    matches: Iterable[Match],
    settings: DedupSettings,
    encode: Encode | None,
) -> tuple[list[Conversation], list[Removal]]:
    of_row: dict[int, list[Match]] = defaultdict(list)
    for match in matches:
        of_row[match.second].append(match)
    kept: list[Conversation] = []
    decided: dict[int, Match | None] = {}
    kept_copy: dict[int, int] = {}
    removals = []
    for i, row in enumerate(rows):
        best: Match | None = None
        if first[i] in kept_copy:
            best = Match(kept_copy[first[i]], i, EXACT, 1.0)
        elif first[i] != i:
            best = _as_first_copy(rows, i, decided[first[i]], settings, encode)
        elif not stock[i]:
            candidates = [m for m in of_row[i] if decided[m.first] is None]
            best = min(candidates, key=lambda m: (-_STRENGTH[m.rule], -m.score, m.first), default=None)
        if best is None and not stock[i]:
            kept_copy[first[i]] = i
        decided[i] = best
        if best is None:
            kept.append(row)
        else:
            removals.append(Removal(row, best.rule, settings.parameters(best.rule), rows[best.first].uid, best.score))
    return kept, removals


def _as_first_copy(
    rows: Sequence[Conversation],
    i: int,
    decision: Match | None,
    settings: DedupSettings,
    encode: Encode | None,
) -> Match | None:
    """What became of the first copy of row i's folded text, with row i's own score: its wording has other vectors."""
    if decision is None or decision.rule != SEMANTIC or encode is None:
        return decision
    pair = [rows[decision.first], rows[i]]
    sides = [side_vectors(pair, role, encode) for role in ("user", "assistant")]
    score = min(float(v[0] @ v[1]) for v in sides if v.any())
    return Match(decision.first, i, SEMANTIC, score) if score >= settings.semantic_cosine else None
