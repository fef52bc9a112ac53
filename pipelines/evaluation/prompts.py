"""The fixed evaluation prompts: disclosures from dev, one a conversation, stratified by emotion."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from curation.errors import HeartwoodError
from curation.examples import message
from curation.records import Conversation, digest
from curation.text import fold, words

SCHEME = "prompt-v1"


def disclosure(conversation: Conversation, min_words: int) -> str | None:
    """The first user turn of a dialogue with at least ``min_words`` words before any reply to it, or None."""
    if conversation.task != "dialogue":
        return None
    return next((t.text for t in conversation.turns if t.role == "user" and len(words(t.text)) >= min_words), None)


def draw_prompts(
    dev: Iterable[Conversation], *, count: int, seed: int, min_words: int, system: str
) -> list[dict[str, Any]]:
    """Draw prompts from dev conversations; fewer than ``count`` if dev holds no more.

    Emotions take turns, in name order; within an emotion, conversations come in sha256(seed, uid) order. Texts
    are distinct after folding.

    Raises:
        HeartwoodError: dev holds no disclosure at all.
    """
    strata: dict[str, list[tuple[bytes, Conversation, str]]] = defaultdict(list)
    for conversation in dev:
        text = disclosure(conversation, min_words)
        if text is not None:
            key = hashlib.sha256(f"{seed}/{conversation.uid}".encode()).digest()
            strata[conversation.emotions[0] if conversation.emotions else ""].append((key, conversation, text))
    queues = {emotion: sorted(rows, key=lambda r: r[0], reverse=True) for emotion, rows in sorted(strata.items())}
    prompts: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(prompts) < count and any(queues.values()):
        for emotion, queue in queues.items():
            while queue and len(prompts) < count:
                _, conversation, text = queue.pop()
                if fold(text) not in seen:
                    seen.add(fold(text))
                    prompts.append(_prompt(conversation, emotion, text, system))
                    break
    if not prompts:
        raise HeartwoodError(
            f"dev holds no user turn of at least {min_words} words",
            hint="lower prompts.min_words, or give a source with a dev split",
        )
    return prompts


def _prompt(conversation: Conversation, emotion: str, text: str, system: str) -> dict[str, Any]:
    messages = [message("system", system)] if system else []
    messages.append(message("user", text))
    return {
        "id": digest({"scheme": SCHEME, "conversation": conversation.uid, "messages": messages})[:24],
        "conversation": conversation.uid,
        "source": conversation.source,
        "emotion": emotion,
        "messages": messages,
    }
