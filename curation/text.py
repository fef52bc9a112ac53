"""Folding and shingles: the two ways in which texts are compared letter by letter."""

import re
from functools import lru_cache

FOLD = "fold-v1"
_PUNCTUATION = re.compile(r"[^\w\s]")


# Most texts are folded two or three times in a row: for equality, for length, for shingles.
@lru_cache(maxsize=64)
def fold(text: str) -> str:
    """Scheme ``fold-v1``: lower case, every ``[^\\w\\s]`` a space, whitespace collapsed."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split())


def equality_key(text: str) -> str:
    """What equal texts have in common: the folded text, or the text itself where folding leaves nothing (emoji)."""
    return fold(text) or text


def words(text: str) -> list[str]:
    """The folded text's words."""
    return fold(text).split()


def shingles(tokens: list[str], size: int) -> frozenset[str]:
    """The distinct word n-grams of length ``size``; empty for a text shorter than one shingle.

    Callers compare such short texts by folded equality alone, so that short texts are neither merged with
    each other nor dropped (data-juicer#1051).
    """
    return frozenset(map(" ".join, zip(*(tokens[start:] for start in range(size)), strict=False)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over size of the union; 0 if both are empty."""
    union = len(a | b)
    return len(a & b) / union if union else 0.0


def is_generic(text: str, max_words: int) -> bool:
    """Whether a text is a stock phrase, by length: at most ``max_words`` folded words ("thank you so much")."""
    return len(words(text)) <= max_words
