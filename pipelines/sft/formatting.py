"""Chat rows to token ids and loss masks, the same way for training and for generation.

Everything goes through the tokenizer's own chat template. The ids that ``encode_prompt`` gives a model are
exactly the unsupervised prefix that ``encode_example`` trains it on, so train and inference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import HeartwoodError

ROLES = ("system", "user", "assistant")
Message = Mapping[str, str]


@dataclass(frozen=True)
class Encoded:
    """One training example: ``input_ids`` and ``completion_mask`` (1 = in the loss) have equal length.

    ``truncated_turns`` counts the oldest prompt turns that were left out to fit the context.
    """

    input_ids: tuple[int, ...]
    completion_mask: tuple[int, ...]
    truncated_turns: int


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt for generation, ending in the generation prompt; ``truncated_turns`` as in ``Encoded``."""

    input_ids: tuple[int, ...]
    truncated_turns: int


class TooLongError(HeartwoodError):
    """Not even the last prompt turn (with the system message, and the completion if any) fits the context."""


def encode_example(tokenizer: Any, row: Mapping[str, Any], context: int) -> Encoded:
    """Encode ``{"prompt": [...], "completion": [one assistant message], "uid": ...}`` within ``context`` tokens.

    The loss covers the completion's tokens and its eos, nothing else; what the template writes after that eos
    is dropped. A prompt that does not fit loses its oldest turns, whole, never its leading system message.

    Raises TooLongError when the last turn and the completion do not fit, HeartwoodError for a row of another
    shape or one that the template does not write as prompt, reply, eos.
    """
    uid = str(row.get("uid", "without uid"))
    where = f"row {uid}"
    for key in ("prompt", "completion"):
        if key not in row:
            raise HeartwoodError(f"{where}: no {key!r}", hint="write the mixture again with: dvc repro mix")
    prompt = _checked_messages(row["prompt"], where)
    completion = _checked_messages(row["completion"], where)
    if [message["role"] for message in completion] != ["assistant"] or not completion[0]["content"].strip():
        raise HeartwoodError(
            f"{where}: completion must be one assistant message with text, found {list(completion)!r:.200}",
            hint="write the mixture again with: dvc repro mix",
        )
    shortest = 0
    for truncated, messages in _shorter_prompts(prompt):
        prefix = _template_ids(tokenizer, messages, generation=True)
        full = _template_ids(tokenizer, [*messages, *completion], generation=False)
        ids = _up_to_eos(tokenizer, prefix, full, where)
        if len(ids) <= context:
            _check_single_bos(tokenizer, ids, where)
            mask = (0,) * len(prefix) + (1,) * (len(ids) - len(prefix))
            return Encoded(input_ids=tuple(ids), completion_mask=mask, truncated_turns=truncated)
        shortest = len(ids)
    raise TooLongError(
        f"{where}: its last turn and completion take {shortest} tokens, sft.context is {context}",
        hint=f"raise sft.context to {shortest} or more, or drop the row from the mixture",
    )


def encode_prompt(
    tokenizer: Any, messages: Sequence[Message], context: int, new_tokens: int, *, where: str = "prompt"
) -> EncodedPrompt:
    """Encode a prompt for generating ``new_tokens`` tokens within ``context``; ``where`` names it in errors.

    The same template and the same truncation as ``encode_example``, ending in the generation prompt.
    Raises TooLongError when the last turn does not fit into ``context - new_tokens``.
    """
    checked = _checked_messages(messages, where)
    room = context - new_tokens
    shortest = 0
    for truncated, kept in _shorter_prompts(checked):
        ids = _template_ids(tokenizer, kept, generation=True)
        if len(ids) <= room:
            _check_single_bos(tokenizer, ids, where)
            return EncodedPrompt(input_ids=tuple(ids), truncated_turns=truncated)
        shortest = len(ids)
    raise TooLongError(
        f"{where}: its last turn takes {shortest} tokens; context {context} less {new_tokens} new tokens leaves {room}",
        hint=f"raise the context to {shortest + new_tokens} or more, or shorten the prompt",
    )


def check_masks(encoded: Sequence[Encoded], eos_token_id: int) -> None:
    """Check that every row has supervised and unsupervised tokens and that its last token is a supervised eos.

    Raises HeartwoodError with the number of the first row (0-based) that does not.
    """
    for number, row in enumerate(encoded):
        supervised = sum(row.completion_mask)
        problem = None
        if len(row.input_ids) != len(row.completion_mask):
            problem = f"{len(row.input_ids)} tokens but {len(row.completion_mask)} mask entries"
        elif supervised == 0:
            problem = "no token is in the loss"
        elif supervised == len(row.completion_mask):
            problem = "every token is in the loss, the prompt too"
        elif row.input_ids[-1] != eos_token_id or not row.completion_mask[-1]:
            problem = "the last token is not a supervised eos"
        if problem:
            raise HeartwoodError(
                f"loss mask of training row {number} is wrong: {problem}",
                hint="check the base model's chat template: each assistant turn must end with its eos token",
            )


def _checked_messages(messages: Any, where: str) -> list[dict[str, str]]:
    hint = "messages are a list of {'role': 'system' | 'user' | 'assistant', 'content': text}, system first only"
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise HeartwoodError(f"{where}: no messages, found {messages!r:.100}", hint=hint)
    checked = []
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in ROLES or not isinstance(content, str):
            raise HeartwoodError(f"{where}: message {number} is {message!r:.100}", hint=hint)
        if role == "system" and number > 0:
            raise HeartwoodError(f"{where}: message {number} has role 'system' but is not first", hint=hint)
        checked.append({"role": role, "content": content})
    return checked


def _shorter_prompts(messages: list[dict[str, str]]) -> list[tuple[int, list[dict[str, str]]]]:
    """(turns left out, messages kept), longest first.

    The system message and the last turn always stay. A shortened prompt starts with a user turn where it can:
    a dialogue that opens with a reply would be a shape that the base model seldom saw.
    """
    first = 1 if messages[0]["role"] == "system" else 0
    system, turns = messages[:first], messages[first:]
    if not turns:
        return [(0, messages)]
    return [
        (left_out, [*system, *turns[left_out:]])
        for left_out in range(len(turns))
        if left_out == 0 or left_out == len(turns) - 1 or turns[left_out]["role"] == "user"
    ]


def _template_ids(tokenizer: Any, messages: Sequence[Message], *, generation: bool) -> list[int]:
    ids = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=True,
        add_generation_prompt=generation,
        return_dict=False,
    )
    return list(ids)


def _up_to_eos(tokenizer: Any, prefix: list[int], full: list[int], where: str) -> list[int]:
    """``full`` up to the completion's eos, after checking that it is ``prefix``, the reply, one eos."""
    reply = full[len(prefix) :]
    if full[: len(prefix)] != prefix:
        raise HeartwoodError(
            f"{where}: the chat template gives the prompt other tokens before a reply than for generation",
            hint="a completion must not begin with white space; else the base model's template does not fit",
        )
    if reply.count(tokenizer.eos_token_id) != 1:
        raise HeartwoodError(
            f"{where}: its completion holds {reply.count(tokenizer.eos_token_id)} eos tokens "
            f"({tokenizer.eos_token!r}), allowed: 1, at its end",
            hint="remove the end token from the text of that row",
        )
    return full[: len(prefix) + reply.index(tokenizer.eos_token_id) + 1]


def _check_single_bos(tokenizer: Any, ids: Sequence[int], where: str) -> None:
    bos = tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        raise HeartwoodError(
            f"{where}: starts with two {tokenizer.bos_token!r}",
            hint="remove bos_token from the chat template, or add_bos_token from tokenizer_config.json",
        )
