"""Exact, near and semantic duplicates; greedy canonical survivors, never transitive closure.

Conversations of one source and task are compared, all turns joined. Records are visited in uid order; one that
matches an already kept record is removed in its favour, so every removed record names a surviving record that
it matches directly (semhash 0.5's rule; transitive closure deletes distinct templated chats, marin#6854).
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from curation.ledger import Removal
from curation.neighbours import Encode, Vectors, may_have_neighbours
from curation.records import Conversation, by_uid, content_id
from curation.review import MARGIN, Decision
from curation.text import FOLD, equality_key, is_generic, jaccard, shingles

EXACT, NEAR, SEMANTIC = "dedup-exact-v1", "dedup-near-v1", "dedup-semantic-v1"
MERGED, ABSORBED, CONFLICT = "dedup-label-merge-v1", "dedup-label-absorb-v1", "dedup-label-conflict-v1"
LABEL_POLICIES = ("keep", "merge", "drop")
_SEED = 1
_BLOCK = 1024
_CHUNK = 8192


@dataclass(frozen=True)
class DedupSettings:
    """Thresholds: Jaccard of word shingles, cosine of each side; what a stock phrase is; what label conflicts do."""

    near_jaccard: float = 0.8
    shingle_words: int = 3
    permutations: int = 128
    bands: int = 32
    semantic_cosine: float = 0.95
    generic_words: int = 3
    label_conflicts: str = "keep"

    def parameters(self, rule: str) -> dict[str, float | int | str]:
        """What the ledger records for a rule."""
        if rule == NEAR:
            return {
                "jaccard": self.near_jaccard,
                "shingle_words": self.shingle_words,
                "permutations": self.permutations,
                "bands": self.bands,
            }
        return {"cosine": self.semantic_cosine} if rule == SEMANTIC else {"fold": FOLD}


@dataclass(frozen=True)
class DedupResult:
    """What stays, what goes, what was left alone, and the decisions that another threshold would turn.

    ``label_conflict_groups`` counts the groups of equal folded text whose copies disagree in their labels;
    ``stock_label_conflict_groups`` those among them that are stock phrases, which no policy touches. Close calls
    are decisions within ``MARGIN`` of their rule's threshold.
    """

    kept: list[Conversation]
    removals: list[Removal]
    label_conflict_groups: int
    stock_label_conflict_groups: int
    stock_phrases: int
    close_calls: list[Decision]


@dataclass(frozen=True, slots=True)
class Match:
    """A kept row that a row matches, with the rule that joins them and its exact score."""

    other: int
    rule: str
    score: float


def joined(conversation: Conversation) -> str:
    """All turns of a conversation as one text, folded."""
    return equality_key(" ".join(t.text for t in conversation.turns))


def spoken(conversation: Conversation) -> str:
    """The turns as a person reads them, one a line."""
    return "\n".join(f"{t.role}: {t.text}" for t in conversation.turns)


def side_vectors(conversations: Sequence[Conversation], role: str, encode: Encode) -> Vectors:
    """The unit mean of one speaker's turn vectors, shape (n, d); a zero row where the speaker says nothing."""
    texts = [t.text for c in conversations for t in c.turns if t.role == role]
    row_of = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    vectors = encode(list(row_of))
    result = np.zeros((len(conversations), vectors.shape[1]), dtype=np.float32)
    owners = np.repeat(np.arange(len(conversations)), [sum(t.role == role for t in c.turns) for c in conversations])
    np.add.at(result, owners, vectors[[row_of[text] for text in texts]])
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    np.divide(result, lengths, out=result, where=lengths > 0)
    return result


class _Near:
    """Kept rows by MinHash: candidates are proposed by LSH, the exact Jaccard of shingle sets decides.

    Texts shorter than one shingle have no shingles and match by folded equality only.
    """

    def __init__(self, texts: Sequence[str], settings: DedupSettings) -> None:
        self._sets = [shingles(text.split(), settings.shingle_words) for text in texts]
        rows = [i for i, s in enumerate(self._sets) if s]
        hashes = RMinHash.from_token_sets([sorted(self._sets[i]) for i in rows], settings.permutations, _SEED)
        self._hashes = dict(zip(rows, hashes, strict=True))
        self._lsh = RMinHashLSH(settings.near_jaccard, settings.permutations, settings.bands)

    def keep(self, row: int) -> None:
        if row in self._hashes:
            self._lsh.insert(row, self._hashes[row])

    def best(self, row: int, classes: NDArray[np.int64]) -> Match | None:
        """The most similar kept row of the same class among the candidates, ties to the first."""
        if row not in self._hashes:
            return None
        candidates = sorted(j for j in self._lsh.query(self._hashes[row]) if classes[j] == classes[row])
        scored = [(jaccard(self._sets[row], self._sets[j]), j) for j in candidates]
        if not scored:
            return None
        score, other = min(scored, key=lambda s: (-s[0], s[1]))
        return Match(other, NEAR, score)


class _Semantic:
    """Cosine of the user side and of the assistant side (where there is one), the smaller of the two.

    Scores under ``floor`` are not told apart: they stand as -1.
    """

    def __init__(self, rows: Sequence[Conversation], encode: Encode, classes: NDArray[np.int64], floor: float) -> None:
        self._user = side_vectors(rows, "user", encode)
        self._assistant = side_vectors(rows, "assistant", encode)
        self._two_sided = np.array([any(t.role == "assistant" for t in c.turns) for c in rows])
        self._classes = classes
        self._floor = floor
        # A row with no other near its user side need not be compared again, and no other with it.
        copies = Counter(c.turns for c in rows)
        single = np.array([copies[c.turns] == 1 for c in rows], dtype=bool)
        first = np.unique([i for i, c in enumerate(rows) if copies.pop(c.turns, 0)]).astype(np.intp)
        self._near = ~single
        self._near[first] |= may_have_neighbours(self._user[first], floor)

    def _scores(self, rows: NDArray[np.intp], others: NDArray[np.intp]) -> tuple[NDArray[np.intp], Vectors]:
        """Positions of the rows whose user side comes near another's, and the scores of these against the others."""
        scores: Vectors = self._user[rows] @ self._user[others].T
        if rows is others:
            np.fill_diagonal(scores, -1.0)
        near = np.flatnonzero(scores.max(axis=1, initial=-1.0) >= self._floor)
        scores, rows = scores[near], rows[near]
        two_sided, others_two_sided = self._two_sided[rows][:, None], self._two_sided[others][None, :]
        if two_sided.any():
            replies = self._assistant[rows] @ self._assistant[others].T
            np.minimum(scores, replies, out=scores, where=two_sided & others_two_sided)
        same_class = self._classes[rows][:, None] == self._classes[others][None, :]
        scores[~same_class | (two_sided != others_two_sided) | (scores < self._floor)] = -1.0
        return near, scores

    def best(self, rows: NDArray[np.intp], kept: Sequence[int]) -> tuple[list[Match | None], dict[int, Vectors]]:
        """The most similar kept row for each row, ties to the first; and by position the scores among the rows."""
        best: list[Match | None] = [None] * len(rows)
        all_kept = np.asarray(kept, dtype=np.intp)
        all_kept = all_kept[self._near[all_kept]]
        queries = np.flatnonzero(self._near[rows])
        for offset in range(0, len(all_kept), _CHUNK):
            part = all_kept[offset : offset + _CHUNK]
            for index, scores in zip(*self._scores(rows[queries], part), strict=True):
                position = int(queries[index])
                column = int(scores.argmax())
                score, before = float(scores[column]), best[position]
                if score > (before.score if before else -1.0):
                    best[position] = Match(int(part[column]), SEMANTIC, score)
        return best, {int(position): scores for position, scores in zip(*self._scores(rows, rows), strict=True)}


def deduplicate(conversations: Iterable[Conversation], settings: DedupSettings, encode: Encode | None) -> DedupResult:
    """Remove duplicates among conversations of one split.

    Conversations that are one stock phrase (at most ``generic_words`` folded words) are counted and kept, whatever
    the rules. Copies of other texts whose emotion labels differ are all kept (``label_conflicts: keep``), become
    one record with all of the labels (``merge``), or all leave (``drop``).

    Args:
        encode: texts to unit vectors of shape (n, d); None leaves the semantic rule out.
    """
    by_kind: dict[tuple[str, str], list[Conversation]] = defaultdict(list)
    for conversation in by_uid(conversations):
        by_kind[conversation.source, conversation.task].append(conversation)
    result = DedupResult([], [], 0, 0, 0, [])
    for kind in sorted(by_kind):
        part = _deduplicate_kind(by_kind[kind], settings, encode)
        result = DedupResult(
            result.kept + part.kept,
            result.removals + part.removals,
            result.label_conflict_groups + part.label_conflict_groups,
            result.stock_label_conflict_groups + part.stock_label_conflict_groups,
            result.stock_phrases + part.stock_phrases,
            result.close_calls + part.close_calls,
        )
    return replace(result, kept=by_uid(result.kept))


def _deduplicate_kind(rows: list[Conversation], settings: DedupSettings, encode: Encode | None) -> DedupResult:
    stock_rows: list[Conversation] = []
    others: list[Conversation] = []
    texts = {row.uid: joined(row) for row in rows}
    for row in rows:
        (stock_rows if is_generic(texts[row.uid], settings.generic_words) else others).append(row)
    conflicts = _conflicts(others, texts)
    resolved = _resolve_conflicts(others, conflicts, settings)
    compared = [texts.get(row.uid) or joined(row) for row in resolved.rows]
    decisions = _decide(resolved.rows, compared, settings, encode, resolved.survivors)
    kept, removals, close = [], [], []
    for row, match in zip(resolved.rows, decisions.matches, strict=True):
        if match is None:
            kept.append(row)
        else:
            parameters = settings.parameters(match.rule)
            removals.append(Removal(row, match.rule, parameters, resolved.rows[match.other].uid, match.score))
    for i, match, removed in decisions.close:
        row, other = resolved.rows[i], resolved.rows[match.other]
        close.append(Decision(match.rule, match.score, removed, row.uid, spoken(row), other.uid, spoken(other)))
    stock_conflicts = len(_conflicts(stock_rows, texts))
    return DedupResult(
        kept + stock_rows,
        resolved.removals + removals,
        len(conflicts) + stock_conflicts,
        stock_conflicts,
        len(stock_rows),
        close,
    )


def _conflicts(rows: Iterable[Conversation], texts: Mapping[str, str]) -> list[list[Conversation]]:
    """The groups of equal folded text (``texts``, by uid) whose copies disagree in their labels, each in uid order."""
    groups: dict[str, list[Conversation]] = defaultdict(list)
    for row in rows:
        groups[texts[row.uid]].append(row)
    return [group for group in groups.values() if len({c.emotions for c in group}) > 1]


@dataclass
class _Resolved:
    rows: list[Conversation]
    removals: list[Removal] = field(default_factory=list)
    survivors: set[str] = field(default_factory=set)


def _resolve_conflicts(
    rows: list[Conversation], conflicts: list[list[Conversation]], settings: DedupSettings
) -> _Resolved:
    if settings.label_conflicts == "keep":
        return _Resolved(rows)
    resolved = _Resolved([])
    for group in conflicts:
        union = tuple(sorted({label for c in group for label in c.emotions}))
        detail = "labels: " + " | ".join(sorted({", ".join(c.emotions) for c in group}))
        if settings.label_conflicts == "drop":
            rule, survivor = CONFLICT, None
        elif (complete := next((c for c in group if c.emotions == union), None)) is not None:
            rule, survivor = ABSORBED, complete
        else:
            merged = replace(group[0], emotions=union, copy=0)
            rule, survivor = MERGED, replace(merged, id=content_id(merged))
        uid = survivor.uid if survivor else ""
        resolved.removals += [
            Removal(c, rule, settings.parameters(rule), uid, 1.0, detail) for c in group if c.uid != uid
        ]
        if survivor:
            resolved.survivors.add(uid)
            resolved.rows.append(survivor)
    conflicting = {c.uid for group in conflicts for c in group}
    resolved.rows = by_uid(resolved.rows + [c for c in rows if c.uid not in conflicting])
    return resolved


@dataclass
class _Decisions:
    """For each row the kept row in whose favour it leaves, or None; and the decisions near a threshold."""

    matches: list[Match | None] = field(default_factory=list)
    close: list[tuple[int, Match, bool]] = field(default_factory=list)


def _decide(
    rows: Sequence[Conversation],
    texts: Sequence[str],
    settings: DedupSettings,
    encode: Encode | None,
    protected: set[str],
) -> _Decisions:
    """Visit rows in uid order; protected rows (survivors of a label merge) come first and always stay."""
    codes: dict[Hashable, int] = {}
    classes = np.array([codes.setdefault(c.emotions, len(codes)) for c in rows], dtype=np.int64)
    near = _Near(texts, settings)
    floor = settings.semantic_cosine - MARGIN
    semantic = _Semantic(rows, encode, classes, floor) if encode else None
    thresholds = {NEAR: settings.near_jaccard, SEMANTIC: settings.semantic_cosine}
    kept: list[int] = []
    kept_text: dict[tuple[str, int], int] = {}
    decisions: dict[int, Match | None] = {}
    close: list[tuple[int, Match, bool]] = []
    order = sorted(range(len(rows)), key=lambda i: (rows[i].uid not in protected, i))
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        before: list[Match | None] = [None] * len(block)
        inside: dict[int, Vectors] = {}
        if semantic:
            before, inside = semantic.best(np.asarray(block, dtype=np.intp), kept)
        fresh: list[int] = []
        for position, i in enumerate(block):
            key = (texts[i], int(classes[i]))
            found: list[Match] = []
            if rows[i].uid in protected:
                pass
            elif key in kept_text:
                found = [Match(kept_text[key], EXACT, 1.0)]
            else:
                nearest = _nearest(before[position], inside.get(position), fresh, block)
                found = [m for m in (near.best(i, classes), nearest) if m]
            hits = [m for m in found if m.score >= thresholds.get(m.rule, 0.0)]
            decisions[i] = hits[0] if hits else None
            decisive = hits[:1] or [m for m in found if m.score >= thresholds[m.rule] - MARGIN]
            close += [
                (i, m, bool(hits)) for m in decisive if m.rule != EXACT and abs(m.score - thresholds[m.rule]) <= MARGIN
            ]
            if not hits:
                kept.append(i)
                fresh.append(position)
                kept_text[key] = i
                near.keep(i)
    return _Decisions([decisions[i] for i in range(len(rows))], close)


def _nearest(before: Match | None, scores: Vectors | None, fresh: Sequence[int], block: Sequence[int]) -> Match | None:
    """The best of the kept rows before this block and those kept within it (``fresh``), ties to the earlier."""
    if scores is None or not fresh:
        return before
    best = int(scores[fresh].argmax())
    score = float(scores[fresh[best]])
    if score <= -1 or (before and before.score >= score):
        return before
    return Match(block[fresh[best]], SEMANTIC, score)


def restore(output: Iterable[Conversation], removals: Iterable[Removal]) -> list[Conversation]:
    """The input of a deduplication, from its output and its ledger, in uid order."""
    removals = list(removals)
    made = {r.survivor for r in removals if r.rule == MERGED}
    return by_uid([*(c for c in output if c.uid not in made), *(r.record for r in removals)])
