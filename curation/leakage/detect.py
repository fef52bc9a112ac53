"""Turns of train that also stand, whole or in part or in other words, in dev or test.

Every user turn, assistant turn and situation text of dev and test is compared with those of train, across
sources and whoever speaks. Three tests: folded equality (any length), containment of word n-grams (longer
texts), and cosine of sentence vectors (longer texts). Texts of at most ``generic_words`` folded words are stock
phrases: only equality speaks of them, and they are counted apart.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from curation.ledger import Removal
from curation.neighbours import Vectors, pairs_above
from curation.records import Conversation, by_uid
from curation.text import FOLD, fold, is_generic, shingles

EXACT, CONTAINED, SEMANTIC = "leakage-exact-v1", "leakage-contained-v1", "leakage-semantic-v1"
_RANK = {EXACT: 0, CONTAINED: 1, SEMANTIC: 2}
SIDE = {"user": "prompt", "assistant": "response", "situation": "situation"}
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class LeakageSettings:
    """Thresholds of the three tests and the length up to which a text is a stock phrase."""

    contained_share: float
    shingle_words: int
    semantic_cosine: float
    generic_words: int

    def parameters(self, rule: str) -> dict[str, float | int | str]:
        """What the ledger records for a rule."""
        if rule == EXACT:
            return {"fold": FOLD}
        if rule == CONTAINED:
            return {"share": self.contained_share, "shingle_words": self.shingle_words}
        return {"cosine": self.semantic_cosine}


@dataclass(frozen=True, slots=True)
class Piece:
    """One turn (or situation) of an evaluation record."""

    uid: str
    side: str
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A train text and the evaluation text that it repeats; sides are prompt, response or situation."""

    rule: str
    score: float
    generic: bool
    train_text: str
    train_side: str
    held_out: Piece


def pieces(conversation: Conversation) -> list[Piece]:
    """The texts of a record that leakage compares."""
    found = [Piece(conversation.uid, SIDE[t.role], t.text) for t in conversation.turns]
    if conversation.situation:
        found.append(Piece(conversation.uid, SIDE["situation"], conversation.situation))
    return found


@dataclass
class Detector:
    """Held-out texts, indexed once, that any number of train texts can be checked against.

    What is found for a train text never depends on other train texts.
    """

    held_out: Iterable[Conversation]
    settings: LeakageSettings
    encode: Encode
    _by_fold: dict[str, Piece] = field(default_factory=dict, init=False)
    _by_shingle: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False)
    _long: list[Piece] = field(default_factory=list, init=False)
    _sizes: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Index the distinct folded texts; of equal ones the piece with the smallest uid stands for all."""
        for conversation in by_uid(self.held_out):
            for piece in pieces(conversation):
                key = fold(piece.text)
                if not key or key in self._by_fold:
                    continue
                self._by_fold[key] = piece
                if self.is_generic(piece.text):
                    continue
                grams = shingles(key.split(), self.settings.shingle_words)
                for gram in sorted(grams):
                    self._by_shingle[gram].append(len(self._long))
                self._long.append(piece)
                self._sizes.append(len(grams))
        self._vectors = self.encode([p.text for p in self._long])

    def is_generic(self, text: str) -> bool:
        """Whether a text is a stock phrase under this detector's settings."""
        return is_generic(text, self.settings.generic_words)

    def find(self, texts: Sequence[str]) -> dict[str, tuple[str, float, Piece]]:
        """The strongest hit of each train text that has one: rule, exact score, held-out piece."""
        hits: dict[str, tuple[str, float, Piece]] = {}
        rest = []
        for text in sorted(set(texts)):
            key = fold(text)
            if key in self._by_fold:
                hits[text] = (EXACT, 1.0, self._by_fold[key])
            elif key and not self.is_generic(text):
                if contained := self._contained(key):
                    hits[text] = contained
                else:
                    rest.append(text)
        if rest and self._long:
            best: dict[int, tuple[float, int]] = {}
            for i, j, score in pairs_above(self.encode(rest), self._vectors, self.settings.semantic_cosine):
                if i not in best or score > best[i][0]:
                    best[i] = (score, j)
            for i, (score, j) in best.items():
                hits[rest[i]] = (SEMANTIC, score, self._long[j])
        return hits

    def _contained(self, key: str) -> tuple[str, float, Piece] | None:
        grams = shingles(key.split(), self.settings.shingle_words)
        shared: Counter[int] = Counter(j for gram in grams for j in self._by_shingle.get(gram, ()))
        best: tuple[float, int] | None = None
        for j in sorted(shared):
            score = shared[j] / min(len(grams), self._sizes[j])
            if score >= self.settings.contained_share and (best is None or score > best[0]):
                best = (score, j)
        return (CONTAINED, best[0], self._long[best[1]]) if best else None

    def leaks_of(self, conversations: Sequence[Conversation]) -> dict[str, list[Leak]]:
        """The leaks of each train record that has any, by uid, strongest first."""
        hits = self.find([p.text for c in conversations for p in pieces(c)])
        leaks: dict[str, list[Leak]] = {}
        for conversation in conversations:
            found = [
                Leak(rule, score, self.is_generic(p.text), p.text, p.side, piece)
                for p in pieces(conversation)
                if p.text in hits
                for rule, score, piece in [hits[p.text]]
            ]
            if found:
                found.sort(key=lambda x: (x.generic, _RANK[x.rule], -x.score, x.train_text, x.train_side))
                leaks[conversation.uid] = found
        return leaks


def remove_leaks(
    train: Iterable[Conversation], detector: Detector, *, remove_generic: bool
) -> tuple[list[Conversation], list[Removal], dict[str, list[Leak]]]:
    """Train without its leaking records, the removals, and every leak found (removed or not) by uid."""
    conversations = by_uid(train)
    leaks = detector.leaks_of(conversations)
    kept, removals = [], []
    for conversation in conversations:
        found = leaks.get(conversation.uid, [])
        decisive = found if remove_generic else [x for x in found if not x.generic]
        if not decisive:
            kept.append(conversation)
            continue
        top = decisive[0]
        removals.append(
            Removal(
                conversation,
                top.rule,
                detector.settings.parameters(top.rule),
                top.held_out.uid,
                top.score,
                f"{'generic' if top.generic else 'substantive'}: {top.train_side} repeats {top.held_out.side}",
            )
        )
    return kept, removals, leaks
