"""Features of a (seeker text, reply) pair for the lexical judge: hashed n-grams of the reply and a few surface counts.

N-grams are hashed by CRC-32, which is the same on every platform, so no vocabulary and no text is ever stored.
A change of anything here is a new `FEATURES`, and needs a new fit.
"""

import math
import re
import zlib
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FEATURES = "epitome-features-v1"
"""Name of the scheme, recorded in the card of a head and checked when it is loaded."""

BLOCKS = ("words", "characters")
"""Blocks of hashed n-grams: words 1-2, and characters 2-5 inside space-padded words."""

BUCKETS = 2**15
"""Hash buckets a block."""

CUES = {
    "cue_sorry": r"\bsorry\b",
    "cue_hope": r"\bhop(?:e|ing)\b",
    "cue_love": r"\blove\b|<3|♥|❤|\bhugs?\b|\bxo",
    "cue_praise": r"\b(?:glad|happy|proud|congrat\w*|awesome|amazing|great job|good for you|well done)\b",
    "cue_comfort": (
        r"\bfeel for you|\bfeel you\b|heart (?:goes|breaks)|sending|thinking of you|\bwish you\b|best of luck"
        r"|good luck|take care|stay strong|hang in there|here for you|you got this|not alone"
    ),
    "cue_concern": r"\b(?:sad|sucks|awful|horrible|terrible|heartbreaking|scary|worr\w+|concerned)\b",
    "cue_understanding": (
        r"\b(?:understand|relate|i know (?:how|that|what|the)|been there|been through|same (?:here|boat|thing|way)|me too"
        r"|i feel the same|happened to me|sounds like|seems like|must (?:be|feel|have)|i get (?:it|that|this)|i feel this"
        r"|likewise)\b"
    ),
    "cue_own_story": r"\b(?:i'm|i am|i was|i've|i have|i feel|i felt|i had|my)\b",
    "cue_invitation": r"\b(?:pm|dm|message me|talk about it|want to talk|wanna talk|vent|share)\b",
    "cue_advice": r"\b(?:should|try|need to|don't|have to|make sure|could)\b",
}
"""Phrases typical of a mechanism, or of none, in lower-case text; each is counted up to `MOST_CUES`."""

MOST_CUES = 2

SURFACE = (
    "log_words",
    "question_marks",
    "has_question",
    "ends_in_question",
    "exclamation_marks",
    "first_person_share",
    "second_person_share",
    "has_first_person",
    "has_second_person",
    "overlap_with_seeker",
    "log_sentences",
    "log_seeker_words",
    "question_to_you",
    *CUES,
)
"""Names of the surface features, in order."""

_TOKEN = re.compile(r"\w+(?:'\w+)*|[?!]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_CUES = [re.compile(pattern) for pattern in CUES.values()]
_FIRST_PERSON = frozenset("i i'm i've i'd i'll me my mine myself".split())
_SECOND_PERSON = frozenset("you you're you've you'd you'll your yours yourself u ur".split())
_SHORTEST_GRAM, _LONGEST_GRAM = 2, 5
_MOST_MARKS = 3


def tokens(text: str) -> list[str]:
    """Lower-case words, apostrophes kept, and runs of question or exclamation marks."""
    return _TOKEN.findall(text.lower().replace("’", "'"))


def hashed(reply: str) -> tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]], ...]:
    """For each of `BLOCKS`: the distinct buckets of a reply, ascending, and ``1 + ln(count)`` of each."""
    words = tokens(reply)
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    by_word = Counter(_bucket(gram) for gram in (*words, *pairs))
    by_character: Counter[int] = Counter()
    for word in reply.lower().split():
        by_character.update(_character_buckets(word))
    return _sorted(by_word), _sorted(by_character)


def surface(seeker: str, reply: str) -> npt.NDArray[np.float64]:
    """The `SURFACE` features of a pair, unscaled; shape (23,)."""
    text = reply.lower().replace("’", "'")
    words = tokens(reply)
    counts = Counter(words)
    n = max(1, len(words))
    first = sum(counts[word] for word in _FIRST_PERSON)
    second = sum(counts[word] for word in _SECOND_PERSON)
    heard = tokens(seeker)
    sentences = [part for part in _SENTENCE_END.split(reply.strip()) if part]
    to_you = any(s.endswith("?") and not _SECOND_PERSON.isdisjoint(tokens(s)) for s in sentences)
    return np.array(
        [
            math.log1p(len(words)),
            min(reply.count("?"), _MOST_MARKS),
            "?" in reply,
            reply.rstrip().endswith("?"),
            min(reply.count("!"), _MOST_MARKS),
            first / n,
            second / n,
            first > 0,
            second > 0,
            len(set(heard) & counts.keys()) / max(1, len(counts)),
            math.log1p(len(sentences)),
            math.log1p(len(heard)),
            to_you,
            *(min(MOST_CUES, len(cue.findall(text))) for cue in _CUES),
        ],
        dtype=np.float64,
    )


def _bucket(gram: str) -> int:
    return zlib.crc32(gram.encode("utf-8", "surrogatepass")) % BUCKETS


@lru_cache(maxsize=2**16)
def _character_buckets(word: str) -> tuple[int, ...]:
    padded = f" {word} "
    return tuple(
        _bucket(padded[start : start + size])
        for size in range(_SHORTEST_GRAM, _LONGEST_GRAM + 1)
        for start in range(len(padded) - size + 1)
    )


def _sorted(counts: Counter[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    buckets = sorted(counts)
    return (
        np.array(buckets, dtype=np.int64),
        1.0 + np.log(np.array([counts[b] for b in buckets], dtype=np.float64)),
    )
