"""The language of a short text, offline, and only where it is sure enough to act on.

The identifier is py3langid (BSD-3; 4.5 MB, numpy alone), a naive Bayes classifier over byte n-grams whose probabilities
take the length of the text into account.
"""

from functools import cache
from typing import Any

ENGLISH = "en"

CONFIDENCE = 0.5
"""A language is named from this probability on."""

RULED_OUT = 0.05
"""Another language is ruled out up to this probability: close relatives (Indonesian, Malay) leave each other more."""

FEWEST_WORDS = 4
"""Texts of fewer words, in Latin script, are never told apart: "oh no", "haha nice" could be anything."""

_SAME = {"pcm": ENGLISH}


def identify(text: str) -> dict[str, float] | None:
    """Probability of each language, or None for a text too short to tell.

    Nigerian Pidgin counts as English: colloquial English is often taken for it.
    """
    letters = [c for c in text if c.isalpha()]
    other_script = sum(ord(c) > 0x24F for c in letters)
    if len(text.split()) < FEWEST_WORDS and 2 * other_script <= len(letters):
        return None
    found: dict[str, float] = {}
    for language, probability in _identifier().rank(text):
        name = _SAME.get(language, language)
        found[name] = found.get(name, 0.0) + float(probability)
    return found


def named(text: str) -> str | None:
    """The language of a text, or None where the identifier is not sure."""
    found = identify(text)
    if not found:
        return None
    best = max(sorted(found), key=found.__getitem__)
    return best if found[best] >= CONFIDENCE else None


def is_other_language(reply: str, messages: str) -> bool:
    """Whether a reply is surely in another language than the messages that it answers.

    The messages count as English where their own language is not sure.
    """
    found = identify(reply)
    if not found or max(found.values()) < CONFIDENCE:
        return False
    best = max(sorted(found), key=found.__getitem__)
    # Asked only now: nearly every reply is English, and so is what it answers.
    expected = named(messages) or ENGLISH
    return best != expected and found.get(expected, 0.0) <= RULED_OUT


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
