"""Replies of a model, base or tuned, to a fixed list of prompts, always by the same path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import HeartwoodError
from pipelines.sft.formatting import EncodedPrompt, encode_prompt
from pipelines.sft.hardware import choose, reproducible
from pipelines.sft.model import load_model, quiet_libraries

if TYPE_CHECKING:
    from pipelines.sft.base import BasePointer

DECODINGS = ("greedy", "sample")


@dataclass(frozen=True)
class RespondSettings:
    """How replies are generated; the names are the keys of the ``respond`` section.

    ``batch_size`` is part of the result: padding changes rounding, so greedy text can change with it
    (transformers#25921). ``context`` bounds prompt and reply together, in tokens. ``temperature``, ``top_p``
    and ``seed`` count only for ``decoding`` "sample".
    """

    batch_size: int = 25
    context: int = 512
    max_new_tokens: int = 64
    decoding: str = "greedy"
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0
    quantisation: str = "nf4"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        allowed = [
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("context", self.context > self.max_new_tokens, f"more than max_new_tokens ({self.max_new_tokens})"),
            ("decoding", self.decoding in DECODINGS, " or ".join(DECODINGS)),
            ("temperature", self.temperature > 0, "more than 0"),
            ("top_p", 0 < self.top_p <= 1, "more than 0, at most 1"),
        ]
        for key, good, what in allowed:
            if not good:
                raise HeartwoodError(
                    f"respond.{key} is {getattr(self, key)!r}, allowed: {what}",
                    hint=f"correct respond.{key} in params.yaml",
                )


def respond(
    model_path: Path,
    prompts: Sequence[Mapping[str, Any]],
    settings: RespondSettings,
    *,
    base: BasePointer | None = None,
    root: Path = Path(),
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Reply to every prompt ``{"id", "messages"}`` (messages complete, the system message included).

    ``model_path`` is ``models/base.json`` or an adapter folder. Prompts go in file order in fixed batches,
    padded on the left. Each result row holds ``prompt_id``; ``text``, decoded without special tokens, only
    trailing white space removed; ``new_tokens``, those generated, eos included; ``finished``, whether eos was
    reached; ``special_tokens``, how many special tokens other than that eos were generated (decoding hides
    them); ``prompt_tokens``; ``prompt_truncated_turns``. ``progress`` is told after each batch how many prompts are
    answered, and of how many.

    Raises HeartwoodError for a prompt without id or messages, one whose last turn does not fit, a context
    longer than the model's, and everything that ``load_model`` refuses.
    """
    hardware = choose(settings.device, settings.threads)
    with reproducible(hardware):
        model, tokenizer, _ = load_model(model_path, hardware, settings.quantisation, base=base, root=root)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and settings.context > longest:
            raise HeartwoodError(
                f"respond.context is {settings.context}, the model takes at most {longest} tokens",
                hint=f"set respond.context to {longest} or less",
            )
        with quiet_libraries():
            encoded = [_encode(tokenizer, prompt, number, settings) for number, prompt in enumerate(prompts)]
        return generate(model, tokenizer, encoded, settings, progress)


def generate(
    model: Any,
    tokenizer: Any,
    encoded: Sequence[tuple[str, EncodedPrompt]],
    settings: RespondSettings,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Result rows of ``respond`` for prompts ``(id, encoded)``, with a loaded model."""
    import torch
    import transformers

    library: Any = transformers
    config = library.GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        do_sample=settings.decoding == "sample",
        num_beams=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **(
            {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
            if settings.decoding == "sample"
            else {}
        ),
    )
    model.generation_config = config
    device = next(model.parameters()).device
    results: list[dict[str, Any]] = []
    torch.manual_seed(settings.seed)
    for start in range(0, len(encoded), settings.batch_size):
        batch = encoded[start : start + settings.batch_size]
        ids, attention = _left_padded([prompt.input_ids for _, prompt in batch], tokenizer.pad_token_id)
        with torch.inference_mode(), quiet_libraries():
            output = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(attention, device=device),
                generation_config=config,
            )
        for (prompt_id, prompt), row in zip(batch, output[:, len(ids[0]) :].tolist(), strict=True):
            results.append(_result(tokenizer, prompt_id, prompt, row))
        if progress:
            progress(len(results), len(encoded))
    return results


def _encode(
    tokenizer: Any, prompt: Mapping[str, Any], number: int, settings: RespondSettings
) -> tuple[str, EncodedPrompt]:
    if not isinstance(prompt.get("id"), str) or "messages" not in prompt:
        raise HeartwoodError(
            f"prompt {number} (0-based) has no text 'id' or no 'messages': {dict(prompt)!r:.100}",
            hint="write the prompts again with: dvc repro prompts",
        )
    encoded = encode_prompt(
        tokenizer,
        prompt["messages"],
        settings.context,
        settings.max_new_tokens,
        where=f"prompt {prompt['id']}",
    )
    return prompt["id"], encoded


def _left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[list[list[int]], list[list[int]]]:
    """(ids, attention mask), each rows x longest."""
    longest = max(len(row) for row in rows)
    ids = [[pad] * (longest - len(row)) + list(row) for row in rows]
    attention = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return ids, attention


def _result(tokenizer: Any, prompt_id: str, prompt: EncodedPrompt, row: Sequence[int]) -> dict[str, Any]:
    finished = tokenizer.eos_token_id in row
    reply = list(row[: row.index(tokenizer.eos_token_id)]) if finished else list(row)
    text = tokenizer.decode(reply, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    special = set(tokenizer.all_special_ids) | {
        token for token, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    return {
        "prompt_id": prompt_id,
        "text": text.rstrip(),
        "new_tokens": len(reply) + finished,
        "finished": finished,
        "special_tokens": sum(token in special for token in reply),
        "prompt_tokens": len(prompt.input_ids),
        "prompt_truncated_turns": prompt.truncated_turns,
    }
