"""Token counts of examples, by the tokenizer and chat template that training uses."""

from collections.abc import Iterable, Mapping
from typing import Any

_AT_ONCE = 1000


def count_tokens(tokenizer: Any, examples: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """All and supervised tokens of each example, by uid, as ``encode_example`` gives them in an endless context.

    Supervised are the completion's tokens and its eos; what the template writes after that eos does not count.
    """
    rows = list({str(example["uid"]): example for example in examples}.items())
    counts: dict[str, tuple[int, int]] = {}
    for start in range(0, len(rows), _AT_ONCE):
        batch = rows[start : start + _AT_ONCE]
        prompts = _template_ids(tokenizer, [e["prompt"] for _, e in batch], generation=True)
        chats = _template_ids(tokenizer, [[*e["prompt"], *e["completion"]] for _, e in batch], generation=False)
        for (uid, _), prompt, chat in zip(batch, prompts, chats, strict=True):
            reply = chat[len(prompt) :]
            # A chat without eos behind the reply is refused before training; here it counts as it stands.
            end = reply.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in reply else max(1, len(reply))
            counts[uid] = (len(prompt) + end, end)
    return counts


def _template_ids(tokenizer: Any, chats: list[Any], *, generation: bool) -> list[list[int]]:
    ids: list[list[int]] = tokenizer.apply_chat_template(
        chats, tokenize=True, add_generation_prompt=generation, return_dict=False
    )
    return ids
