"""Turns of train that also stand, whole or in part or in other words, in dev or test.

Every user turn, assistant turn and situation text of dev and test is compared with those of train, across
sources and whoever speaks. Three tests: folded equality, containment of word n-grams, and cosine of sentence
vectors. Texts of at most ``generic_words`` folded words may be stock phrases ("how can I help you today?"). They are
found by the same tests, contained only where they make up half of the longer text, and with the nearest held-out
vector alone; what such a text says of another stock phrase, or by its vector, is a class of its own (generic).
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from curation.ledger import Removal
from curation.neighbours import Encode, Vectors, nearest_above, pairs_above
from curation.records import Conversation, by_uid
from curation.review import MARGIN, Decision
from curation.text import FOLD, equality_key, is_generic, shingles

EXACT, CONTAINED, SEMANTIC = "leakage-exact-v1", "leakage-contained-v1", "leakage-semantic-v1"
_RANK = {EXACT: 0, CONTAINED: 1, SEMANTIC: 2}
SIDE = {"user": "prompt", "assistant": "response", "situation": "situation"}
STOCK_COVERAGE = 0.5
_Found = TypeVar("_Found")
GENERIC_POLICIES = ("remove", "strict", "keep")


@dataclass(frozen=True)
class LeakageSettings:
    """Thresholds of the three tests and the length up to which a text is a stock phrase."""

    contained_share: float = 0.8
    shingle_words: int = 4
    semantic_cosine: float = 0.85
    generic_words: int = 8

    def parameters(self, rule: str) -> dict[str, float | int | str]:
        """What the ledger records for a rule."""
        if rule == EXACT:
            return {"fold": FOLD}
        if rule == CONTAINED:
            return {
                "share": self.contained_share,
                "shingle_words": self.shingle_words,
                "generic_words": self.generic_words,
                "stock_coverage": STOCK_COVERAGE,
            }
        return {"cosine": self.semantic_cosine, "generic_words": self.generic_words}


@dataclass(frozen=True, slots=True)
class Piece:
    """One turn (or situation) of a record; the side is prompt, response or situation."""

    uid: str
    side: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A held-out piece that a text repeats: the rule that says so and its exact score."""

    rule: str
    score: float
    piece: Piece


@dataclass(frozen=True)
class Search:
    """What the texts repeat, and what they nearly repeat.

    ``hits`` holds, for each text that has any, every held-out piece that the first applicable rule (exact,
    contained, semantic) finds, strongest first; of stock phrases by their vectors the nearest alone. ``misses``
    holds, for each longer text without a hit, the best piece of a rule whose score is less than ``MARGIN`` under its
    threshold.
    """

    hits: dict[str, list[Hit]]
    misses: dict[str, Hit]


@dataclass(frozen=True, slots=True)
class Leak:
    """A piece of a train record and what it repeats, strongest first; generic if both are one stock phrase."""

    piece: Piece
    generic: bool
    hits: list[Hit]

    @property
    def order(self) -> tuple[bool, int, float, str, str]:
        """Substantive before generic, then by rule and score."""
        top = self.hits[0]
        return self.generic, _RANK[top.rule], -top.score, self.piece.text, self.piece.side


@dataclass(frozen=True, slots=True)
class LeakedPair:
    """A train record and the held-out record that it repeats most plainly.

    ``sides`` says what of the train record stands in that held-out record: its ``prompt`` side (a situation text
    belongs to it), its ``response`` side, or ``both``.
    """

    rule: str
    score: float
    generic: bool
    sides: str
    train: Piece
    held_out: Piece


def texts_of(conversation: Conversation) -> list[str]:
    """The texts of a record's pieces."""
    texts = [t.text for t in conversation.turns]
    return [*texts, conversation.situation] if conversation.situation else texts


def pieces(conversation: Conversation) -> list[Piece]:
    """The texts of a record that leakage compares."""
    found = [Piece(conversation.uid, SIDE[t.role], t.text) for t in conversation.turns]
    if conversation.situation:
        found.append(Piece(conversation.uid, SIDE["situation"], conversation.situation))
    return found


@dataclass
class Detector:
    """Held-out texts, indexed once, that any number of texts can be checked against.

    What is found for a text never depends on the other texts that are checked.

    Args:
        encode: texts to unit vectors of shape (n, d); None leaves the semantic test out.
    """

    held_out: Iterable[Conversation]
    settings: LeakageSettings
    encode: Encode | None
    _by_fold: dict[str, list[Hit]] = field(default_factory=lambda: defaultdict(list), init=False)
    _by_shingle: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False)
    _by_rare: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False)
    _keys: list[str] = field(default_factory=list, init=False)
    _grams: list[frozenset[str]] = field(default_factory=list, init=False)
    _stock: list[bool] = field(default_factory=list, init=False)
    _vectors: Vectors = field(init=False)

    def __post_init__(self) -> None:
        self._index(by_uid(self.held_out))

    def extended(self, held_out: Iterable[Conversation]) -> "Detector":
        """A detector of these held-out records too, behind those of this one, which stays as it is."""
        more = by_uid(held_out)
        keys = {equality_key(text) for c in more for text in texts_of(c)}
        grams = {gram for key in keys for gram in self._shingles(key)}
        other = copy(self)
        other.held_out = [*self.held_out, *more]
        other._by_fold = _with_own_lists(self._by_fold, keys)
        other._by_shingle = _with_own_lists(self._by_shingle, grams)
        other._by_rare = _with_own_lists(self._by_rare, grams)
        other._keys, other._grams, other._stock = [*self._keys], [*self._grams], [*self._stock]
        other._index(more)
        return other

    def _index(self, conversations: Iterable[Conversation]) -> None:
        """Add the distinct folded texts; pieces with one folded text are found together."""
        first = len(self._keys)
        for conversation in conversations:
            for piece in pieces(conversation):
                key = equality_key(piece.text)
                if key not in self._by_fold:
                    self._add(key)
                self._by_fold[key].append(Hit(EXACT, 1.0, piece))
        for row in range(first, len(self._grams)):
            grams = self._grams[row]
            for gram in self._rarest(grams, len(grams) - self._needed(len(grams)) + 1):
                self._by_rare[gram].append(row)
        if self.encode:
            vectors = self.encode([self._by_fold[key][0].piece.text for key in self._keys[first:]])
            self._vectors = np.concatenate([self._vectors, vectors]) if first else vectors
            self._longer = np.flatnonzero(~np.array(self._stock, dtype=bool))

    def _add(self, key: str) -> None:
        row = len(self._keys)
        grams = self._shingles(key)
        for gram in grams:
            self._by_shingle[gram].append(row)
        self._keys.append(key)
        self._grams.append(grams)
        self._stock.append(self.is_generic(key))

    def _shingles(self, key: str) -> frozenset[str]:
        return shingles(key.split(), self.settings.shingle_words)

    def is_generic(self, text: str) -> bool:
        """Whether a text is a stock phrase under this detector's settings."""
        return is_generic(text, self.settings.generic_words)

    def search(self, texts: Iterable[str]) -> Search:
        """What each distinct text repeats, and what it nearly repeats."""
        found = Search({}, {})
        rest: list[str] = []
        short: list[str] = []
        for text in sorted(set(texts)):
            key = equality_key(text)
            if key in self._by_fold:
                found.hits[text] = self._by_fold[key]
                continue
            stock = self.is_generic(text)
            scored = self._contained(key, stock)
            if scored and scored[0][0] >= self.settings.contained_share:
                found.hits[text] = self._hits(CONTAINED, [s for s in scored if s[0] >= self.settings.contained_share])
                continue
            if scored and not stock:
                found.misses[text] = self._hits(CONTAINED, scored[:1])[0]
            (short if stock else rest).append(text)
        if self.encode and self._keys:
            self._search_vectors(rest, found)
            vectors = self.encode(short)
            for i, j, score in nearest_above(vectors, self._vectors, self.settings.semantic_cosine):
                found.hits[short[i]] = self._hits(SEMANTIC, [(score, j)])
        return found

    def _search_vectors(self, texts: Sequence[str], found: Search) -> None:
        assert self.encode
        threshold = self.settings.semantic_cosine
        scored: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for i, j, score in pairs_above(self.encode(texts), self._vectors[self._longer], threshold - MARGIN):
            scored[i].append((score, int(self._longer[j])))
        for i, candidates in scored.items():
            candidates.sort(key=lambda c: (-c[0], c[1]))
            if candidates[0][0] >= threshold:
                found.hits[texts[i]] = self._hits(SEMANTIC, [c for c in candidates if c[0] >= threshold])
                found.misses.pop(texts[i], None)
            else:
                found.misses.setdefault(texts[i], self._hits(SEMANTIC, candidates[:1])[0])

    def _hits(self, rule: str, scored: Iterable[tuple[float, int]]) -> list[Hit]:
        return [Hit(rule, score, hit.piece) for score, j in scored for hit in self._by_fold[self._keys[j]]]

    def _contained(self, key: str, stock: bool) -> list[tuple[float, int]]:
        """Indexed texts by share of the shorter text's n-grams, best first, down to the margin."""
        grams = self._shingles(key)
        known = [gram for gram in grams if gram in self._by_shingle]
        # The shorter text shares one of its rare n-grams, whichever of the two it is. Without that, texts of one
        # template are all compared with each other. The rarest of all are those that no held-out text has.
        rare = self._rarest(known, len(known) - self._needed(len(grams)) + 1)
        candidates = {j for gram in rare for j in self._by_shingle[gram] if len(self._grams[j]) >= len(grams)}
        candidates.update(j for gram in known for j in self._by_rare.get(gram, ()))
        scored = []
        for j in candidates:
            n = len(grams & self._grams[j])
            shorter, longer = sorted((len(grams), len(self._grams[j])))
            if n / shorter < self._floor:
                continue
            if (stock or self._stock[j]) and n / longer < STOCK_COVERAGE:
                continue
            scored.append((n / shorter, j))
        return sorted(scored, key=lambda s: (-s[0], s[1]))

    @property
    def _floor(self) -> float:
        return self.settings.contained_share - MARGIN

    def _needed(self, count: int) -> int:
        """How many of so many n-grams of the shorter text must stand in the longer one, and at least one.

        A text that has none of so many less one of them, whichever these are, has too few.
        """
        # A product that floating point puts above a whole number must not ask for one more.
        return max(1, math.ceil(self._floor * count - 1e-9))

    def _rarest(self, grams: Collection[str], count: int) -> Collection[str]:
        """So many of these n-grams of held-out texts, those that stand in the fewest; none if the number is not above 0."""
        if count >= len(grams):
            return grams
        return sorted(grams, key=lambda gram: len(self._by_shingle[gram]))[: max(0, count)]

    def leaks_of(self, conversations: Sequence[Conversation]) -> dict[str, list[Leak]]:
        """The leaks of each record that has any, by uid, strongest first."""
        return gather(conversations, self.search(text for c in conversations for text in texts_of(c)), self)


def _with_own_lists(index: Mapping[str, list[_Found]], keys: Iterable[str]) -> dict[str, list[_Found]]:
    """A copy of the index in which the lists under these keys may grow."""
    own = defaultdict(list, index)
    own.update({key: [*index[key]] for key in keys if key in index})
    return own


def is_stock_match(text: str, hits: Sequence[Hit], settings: LeakageSettings) -> bool:
    """Whether a text's hits say no more than that two records use much the same stock phrase."""
    if not is_generic(text, settings.generic_words):
        return False
    return hits[0].rule != CONTAINED or all(is_generic(h.piece.text, settings.generic_words) for h in hits)


def gather(conversations: Iterable[Conversation], search: Search, detector: Detector) -> dict[str, list[Leak]]:
    """What a search found, by record uid, strongest first."""
    leaks: dict[str, list[Leak]] = {}
    for conversation in conversations:
        if not any(text in search.hits for text in texts_of(conversation)):
            continue
        found = [
            Leak(p, is_stock_match(p.text, search.hits[p.text], detector.settings), search.hits[p.text])
            for p in pieces(conversation)
            if p.text in search.hits
        ]
        leaks[conversation.uid] = sorted(found, key=lambda x: x.order)
    return leaks


def leaked_pair(leaks: Sequence[Leak]) -> LeakedPair:
    """The pair that speaks for a record: of the strongest leak's held-out records, the one that shares most sides."""
    top = leaks[0]
    sides: dict[str, set[str]] = {hit.piece.uid: set() for hit in top.hits if hit.score == top.hits[0].score}
    for leak in leaks:
        for hit in leak.hits:
            if hit.piece.uid in sides:
                sides[hit.piece.uid].add("response" if leak.piece.side == "response" else "prompt")
    uid = min(sides, key=lambda u: (-len(sides[u]), u))
    held_out = next(hit.piece for hit in top.hits if hit.piece.uid == uid)
    both = len(sides[uid]) == 2
    return LeakedPair(
        top.hits[0].rule,
        top.hits[0].score,
        top.generic,
        "both" if both else next(iter(sides[uid])),
        top.piece,
        held_out,
    )


def is_removed(conversation: Conversation, leaks: Sequence[Leak], generic: str) -> bool:
    """Whether a record with these leaks leaves train.

    A substantive leak always removes its record. Stock phrases remove a record that says nothing else, word for word
    (``remove``), every record that holds one or nearly one (``strict``: "hello" alone takes most support dialogues),
    or none (``keep``).
    """
    if not leaks:
        return False
    if not leaks[0].generic or generic == "strict":
        return True
    found = {leak.piece.text for leak in leaks if leak.hits[0].rule == EXACT}
    return generic == "remove" and all(t.text in found for t in conversation.turns)


def close_calls(conversations: Iterable[Conversation], search: Search, settings: LeakageSettings) -> list[Decision]:
    """The decisions about texts within ``MARGIN`` of their rule's threshold, each under the first record with it."""
    thresholds = {CONTAINED: settings.contained_share, SEMANTIC: settings.semantic_cosine}
    owner: dict[str, str] = {}
    for conversation in by_uid(conversations):
        uid = conversation.uid
        for text in texts_of(conversation):
            owner.setdefault(text, uid)
    found = [(text, hits[0], True) for text, hits in search.hits.items() if hits[0].rule != EXACT]
    found += [(text, miss, False) for text, miss in search.misses.items()]
    return [
        Decision(hit.rule, hit.score, flagged, owner[text], text, hit.piece.uid, hit.piece.text)
        for text, hit, flagged in sorted(found, key=lambda f: f[0])
        if abs(hit.score - thresholds[hit.rule]) <= MARGIN and not is_generic(text, settings.generic_words)
    ]


@dataclass(frozen=True)
class LeakageResult:
    """Train without its leaking records, the removals, and everything found (removed or not)."""

    kept: list[Conversation]
    removals: list[Removal]
    pairs: dict[str, LeakedPair]
    close_calls: list[Decision]


def remove_leaks(train: Iterable[Conversation], detector: Detector, *, generic: str) -> LeakageResult:
    """Remove from train what leaks; dev and test are never touched.

    Args:
        generic: what stock phrases do, one of ``GENERIC_POLICIES``.
    """
    conversations = by_uid(train)
    search = detector.search(text for c in conversations for text in texts_of(c))
    leaks = gather(conversations, search, detector)
    pairs = {uid: leaked_pair(found) for uid, found in leaks.items()}
    kept, removals = [], []
    for conversation in conversations:
        if not is_removed(conversation, leaks.get(conversation.uid, []), generic):
            kept.append(conversation)
            continue
        pair = pairs[conversation.uid]
        detail = (
            f"{'generic' if pair.generic else 'substantive'}, {pair.sides}: {pair.train.side} repeats"
            f" {pair.held_out.side}"
        )
        removals.append(
            Removal(
                conversation, pair.rule, detector.settings.parameters(pair.rule), pair.held_out.uid, pair.score, detail
            )
        )
    return LeakageResult(kept, removals, pairs, close_calls(conversations, search, detector.settings))
