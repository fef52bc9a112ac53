"""Contact details in text: links, e-mail addresses and telephone numbers, and what becomes of records with any."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from curation.records import Conversation
from curation.sources.quarantine import Parsed, Quarantined

MASK, QUARANTINE, KEEP = "mask", "quarantine", "keep"
_TOP_LEVEL = "com|org|net|edu|gov|info|io|ly|gg|uk|ca|de|fr|eu"
PATTERNS = {
    # A bare domain is the name of a site; with a path behind it, it is a link.
    "URL": re.compile(
        rf"\b(?:https?://|www\.|(?:[\w-]{{1,63}}\.){{1,8}}(?:{_TOP_LEVEL})/)[^\s<>()\[\]]*[^\s<>()\[\].,;:!?'\"]",
        re.IGNORECASE,
    ),
    "EMAIL": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    # North American numbers, also with 1 or +1 in front, and international ones of 8 digits and more behind a plus.
    # Ten digits in a row without any sign between them are as often an order number.
    "PHONE": re.compile(
        r"(?<![\w+.-])(?:"
        r"(?:\+\d{1,3}[ .-]?|1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
        r"|\+(?=(?:[ ().-]{0,2}\d){8})\d{1,3}(?:[ .-]?\(?\d{2,4}\)?){2,5}"
        r")(?![\w-])"
    ),
}
_SIGN = re.compile(r"[@/\d]")


def may_hold_contacts(text: str) -> bool:
    """Whether the text has a sign that each of the patterns needs; most texts have none and need no second look."""
    return _SIGN.search(text) is not None or "www." in text.lower()


def any_contacts(texts: Sequence[str]) -> bool:
    """Whether a contact detail stands in one of the texts."""
    return may_hold_contacts("\n".join(texts)) and any(map(find_contacts, texts))


def find_contacts(text: str) -> dict[str, int]:
    """How many contact details of each kind stand in the text (kinds without any are left out)."""
    return mask_contacts(text)[1]


def mask_contacts(text: str) -> tuple[str, dict[str, int]]:
    """The text with each contact detail replaced by ``[URL]``, ``[EMAIL]`` or ``[PHONE]``, and the counts."""
    counts: dict[str, int] = {}
    if not may_hold_contacts(text):
        return text, counts
    # A detail that stands right behind another is seen as one only when that is masked.
    found = True
    while found:
        found = False
        for kind, pattern in PATTERNS.items():
            text, n = pattern.subn(f"[{kind}]", text)
            if n:
                found = True
                counts[kind] = counts.get(kind, 0) + n
    return text, counts


def mask_conversation(conversation: Conversation) -> tuple[Conversation, dict[str, int]]:
    """The conversation with contact details masked in its turns and situation, and the counts by kind."""
    texts = [conversation.situation, *(t.text for t in conversation.turns)]
    # One look at all texts: no sign crosses the line between two.
    if not may_hold_contacts("\n".join(texts)):
        return conversation, {}
    masked = [mask_contacts(text) for text in texts]
    total: Counter[str] = Counter()
    for _, counts in masked:
        total.update(counts)
    if not total:
        return conversation, {}
    (situation, _), *spoken = masked
    turns = tuple(replace(t, text=text) for t, (text, _) in zip(conversation.turns, spoken, strict=True))
    return replace(conversation, turns=turns, situation=situation), dict(total)


def treat_contacts(parsed: Parsed, policy: str) -> tuple[Parsed | Quarantined, dict[str, int]]:
    """A record with its contact details masked, set aside for them (reason ``contact``), or as it is.

    Args:
        policy: ``mask``, ``quarantine`` or ``keep``.

    Returns:
        What becomes of the record, and how many contact details of each kind it held in turns and situation.
    """
    masked, counts = mask_conversation(parsed.conversation)
    if not counts or policy == KEEP:
        return parsed, counts
    if policy == MASK:
        return replace(parsed, conversation=masked), counts
    origin = parsed.origin
    detail = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items()))
    return Quarantined(origin.file, origin.first_row, parsed.rows, "contact", detail, parsed.raw), counts
