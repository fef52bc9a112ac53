"""Texts of anybody, made fit for a page: what steers a reader's display is shown, and two texts are compared."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

# Controls, marks and overrides of direction, invisible characters; a joiner inside an emoji (U+200D) stays.
_STEERING = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_SHORTENED = "…"
LONGEST = 700


def visible(text: str, longest: int = LONGEST) -> str:
    """The text with every steering character as ``⟦U+202E⟧``, cut to ``longest`` characters."""
    cut = text if len(text) <= longest else text[:longest].rstrip() + _SHORTENED
    return _STEERING.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", cut)


def differences(a: str, b: str) -> tuple[list[str], list[str]]:
    """Both texts as parts that in turn are alike and differ: even places are alike, odd ones stand on one side only.

    Words and punctuation are compared without regard to case; joined again, the parts are the texts.
    """
    left, right = _TOKEN.findall(a), _TOKEN.findall(b)
    matcher = SequenceMatcher(None, [t.casefold() for t in left], [t.casefold() for t in right], autojunk=False)
    blocks = matcher.get_matching_blocks()
    return _parts(left, [(m.a, m.size) for m in blocks]), _parts(right, [(m.b, m.size) for m in blocks])


def _parts(tokens: Sequence[str], alike: Sequence[tuple[int, int]]) -> list[str]:
    parts = [""]
    at = 0
    for start, size in alike:
        if start > at:
            parts += ["".join(tokens[at:start]), ""]
        parts[-1] += "".join(tokens[start : start + size])
        at = start + size
    return parts[:-1] if len(parts) > 1 and not parts[-1] else parts


def closest(left: Sequence[str], right: Sequence[str]) -> tuple[int, int]:
    """The places of the two texts, one of each side, that share most of the shorter one's words; longer ones first."""
    words = [[frozenset(re.findall(r"\w+", text.casefold())) for text in side] for side in (left, right)]
    return max(
        ((i, j) for i in range(len(left)) for j in range(len(right))),
        key=lambda ij: _shared(words[0][ij[0]], words[1][ij[1]]),
    )


def _shared(a: frozenset[str], b: frozenset[str]) -> tuple[float, int]:
    shared = len(a & b)
    return shared / max(1, min(len(a), len(b))), shared
