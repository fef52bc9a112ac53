"""Attention of a training batch without a mask: rows laid end to end, or whole rows padded on the right.

Everything outside attention (nine tenths of the work) then runs over real tokens only. Inside attention the rows
are laid side by side, padded on the right, under a causal mask: no real token can see the padding, so no mask
tensor is needed and torch is free to take its fastest kernel for the hardware.

Imports torch: import it where a model is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

NAME = "heartwood_rows"
_KEPT_AS = "_heartwood_layout"
_OF_THE_BATCH = ("cu_seq_lens_k", "max_length_k", "seq_idx", "position_ids")


def register() -> str:
    """Make the attention known to transformers under the name that is returned; calling it again is harmless."""
    AttentionInterface.register(NAME, rows_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask)
    return NAME


def fits(model: Any) -> bool:
    """Whether every layer of a model attends to all earlier tokens, as ``rows_attention`` computes it.

    Sliding windows, chunks and layers without attention need their own kernels: such models train on padded batches.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return bool(getattr(model, "_supports_sdpa", False)) and layers == {"full_attention"} and not any(windows)


def _mask(
    *, q_length: int, kv_length: int, attention_mask: Any = None, allow_is_causal_skip: bool = True, **options: Any
) -> Any:
    """The mask of ``sdpa``; none where the causal order alone keeps real tokens from seeing what is not theirs.

    That is so for rows laid end to end (a mask would take tokens x tokens entries and is not used; transformers forbids
    to skip it where positions start again at 0), and for whole rows padded on the right. Both kinds of batches thus take
    the same kernel: with a mask, torch takes another one, and in bfloat16 a row's loss was up to 0.02 away (H100).
    """
    if attention_mask is None and not allow_is_causal_skip:
        return None
    whole = allow_is_causal_skip and q_length == kv_length and attention_mask is not None
    if whole and attention_mask.shape == (options["batch_size"], kv_length) and bool(attention_mask[:, 0].all()):
        return None
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip,
        **options,
    )


@dataclass(frozen=True)
class _Layout:
    """``token``: for each place in rows x longest the token that stands there; ``place``: the way back.

    Places behind the end of a row repeat its last token, ``real`` is 0 there and 1 elsewhere.
    """

    rows: int
    longest: int
    token: torch.Tensor
    place: torch.Tensor
    real: torch.Tensor


def _layout(starts: torch.Tensor, longest: int, tokens: int) -> _Layout:
    kept: _Layout | None = getattr(starts, _KEPT_AS, None)
    if kept is not None:
        return kept
    first = starts[:-1].long()
    lengths = starts.diff().long()
    rows = lengths.numel()
    column = torch.arange(longest, device=starts.device)
    real = column < lengths[:, None]
    token = first[:, None] + torch.minimum(column, lengths[:, None] - 1)
    row = torch.repeat_interleave(torch.arange(rows, device=starts.device), lengths, output_size=tokens)
    place = row * longest + torch.arange(tokens, device=starts.device) - first[row]
    layout = _Layout(rows, longest, token.flatten(), place, real.flatten())
    setattr(starts, _KEPT_AS, layout)
    return layout


class _SideBySide(torch.autograd.Function):
    """tokens x heads x width to (rows x longest) x heads x width.

    Gathers both ways: the library's backward of a gather adds up by index, which is slow where it has to be
    deterministic on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layout: _Layout) -> torch.Tensor:
        ctx.layout = layout
        return states.index_select(0, layout.token)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.index_select(0, ctx.layout.place), None


class _EndToEnd(torch.autograd.Function):
    """The way back, dropping what stands behind the end of a row."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layout: _Layout) -> torch.Tensor:
        ctx.layout = layout
        return states.index_select(0, layout.place)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        spread = gradient.index_select(0, ctx.layout.token)
        return spread.masked_fill_(~ctx.layout.real[:, None, None], 0), None


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention; with ``cu_seq_lens_q``, over rows laid end to end.

    ``query`` is 1 x heads x tokens x width, ``key`` and ``value`` may have fewer heads. ``cu_seq_lens_q`` holds the
    start of every row and, last, the number of tokens; ``max_length_q`` is the longest row's length. Returns
    1 x tokens x heads x width.
    """
    for name in _OF_THE_BATCH:
        options.pop(name, None)
    if cu_seq_lens_q is None or max_length_q is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    layout = _layout(cu_seq_lens_q, int(max_length_q), query.shape[2])

    def side_by_side(states: torch.Tensor) -> torch.Tensor:
        flat: torch.Tensor = _SideBySide.apply(states[0].transpose(0, 1), layout)  # type: ignore[no-untyped-call]
        return flat.view(layout.rows, layout.longest, *flat.shape[1:]).transpose(1, 2)

    options["is_causal"] = True
    output, _ = sdpa_attention_forward(
        module, side_by_side(query), side_by_side(key), side_by_side(value), None, **options
    )
    end_to_end: torch.Tensor = _EndToEnd.apply(output.flatten(0, 1), layout)  # type: ignore[no-untyped-call]
    return end_to_end.unsqueeze(0), None
