"""Contact details in text: links, e-mail addresses and telephone numbers."""

import re
from dataclasses import replace

from curation.records import Conversation

PATTERNS = {
    "URL": re.compile(r"\b(?:https?://|www\.)[^\s<>()\[\]]+[^\s<>()\[\].,;:!?'\"]", re.IGNORECASE),
    "EMAIL": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "PHONE": re.compile(r"(?<![\w+.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"),
}


def find_contacts(text: str) -> dict[str, int]:
    """How many contact details of each kind stand in the text (kinds without any are left out)."""
    return mask_contacts(text)[1]


def mask_contacts(text: str) -> tuple[str, dict[str, int]]:
    """The text with each contact detail replaced by ``[URL]``, ``[EMAIL]`` or ``[PHONE]``, and the counts."""
    counts = {}
    for kind, pattern in PATTERNS.items():
        text, n = pattern.subn(f"[{kind}]", text)
        if n:
            counts[kind] = n
    return text, counts


def mask_conversation(conversation: Conversation) -> tuple[Conversation, dict[str, int]]:
    """The conversation with contact details masked in its turns and situation, and the counts by kind."""
    total: dict[str, int] = {}

    def mask(text: str) -> str:
        masked, counts = mask_contacts(text)
        for kind, n in counts.items():
            total[kind] = total.get(kind, 0) + n
        return masked

    turns = tuple(replace(t, text=mask(t.text)) for t in conversation.turns)
    situation = mask(conversation.situation)
    return (replace(conversation, turns=turns, situation=situation) if total else conversation), total
