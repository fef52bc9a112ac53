"""Conversations to SFT examples: prompt messages and one assistant completion."""

from collections.abc import Iterable
from typing import Any

from curation.records import Conversation, digest

SCHEME = "example-v1"
EMOTION_INSTRUCTION = "Name the emotions in this comment."


def message(role: str, content: str) -> dict[str, str]:
    """One chat message."""
    return {"role": role, "content": content}


def examples_of(conversation: Conversation, system: str) -> list[dict[str, Any]]:
    """The SFT examples of one conversation, in turn order.

    Each assistant turn with something before it gives one: the system message, all earlier turns, and the turn
    as completion. A comment with emotion labels gives one: a fixed instruction and the comment, and its label
    names, sorted. An example's ``uid`` is the conversation's uid and the completion's turn number.
    """
    if conversation.task == "emotion":
        comment = conversation.turns[0].text
        prompt = [message("user", f"{EMOTION_INSTRUCTION}\n{comment}")]
        return [_example(conversation, prompt, ", ".join(sorted(conversation.emotions)), 0)]
    found = []
    history = [message("system", system)] if system else []
    for number, turn in enumerate(conversation.turns):
        if turn.role == "assistant" and number > 0:
            found.append(_example(conversation, list(history), turn.text, number))
        history.append(message(turn.role, turn.text))
    return found


def _example(conversation: Conversation, prompt: list[dict[str, str]], completion: str, number: int) -> dict[str, Any]:
    return {
        "uid": f"{conversation.uid}-{number}",
        "source": conversation.source,
        "task": conversation.task,
        "conversation": conversation.uid,
        "prompt": prompt,
        "completion": [message("assistant", completion)],
    }


def make_examples(conversations: Iterable[Conversation], system: str) -> list[dict[str, Any]]:
    """The examples of all conversations, in the order given."""
    return [example for c in conversations for example in examples_of(c, system)]


def content_digest(examples: Iterable[dict[str, Any]]) -> str:
    """Hex sha256 over the examples in order: what a model trained on this file has seen, whatever its name."""
    return digest({"scheme": SCHEME, "examples": [[e["uid"], e["prompt"], e["completion"]] for e in examples]})
