"""A local causal language model as judge: its own chat template, one criterion a call, all five digits weighed.

Nothing is generated: the answer is the probability that the model gives each digit in the place of its answer. Computed
one reply at a time (padding changes rounding), in float32 on a CPU.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.evaluation.judges.rubric import (
    DIGITS,
    FEWEST_MASS,
    NoVerdictError,
    Rubric,
    RubricJudge,
    identity_digest,
    read_rubric,
    rubric_of,
)
from pipelines.sft.base import BasePointer, resolve_base
from pipelines.sft.hardware import choose
from pipelines.sft.model import load_base, quiet_libraries

KIND = "causal_lm"
SCHEME = "causal-lm-v1"
ONE_TOKEN, WHOLE_STRING = "one token a digit", "whole strings"


class CausalJudge(RubricJudge):
    """Rates by a loaded model; ``method`` says how the digits are read."""

    no_digit = "too little probability on the digits"

    def __init__(self, model: Any, tokenizer: Any, rubric: Rubric) -> None:
        super().__init__(rubric)
        self.model, self.tokenizer = model, tokenizer
        self.digits = digit_tokens(tokenizer)
        self.method = ONE_TOKEN if all(self.digits.values()) else WHOLE_STRING

    def probabilities(self, criterion: str, seeker: str, reply: str) -> dict[int, float]:
        """Probability of each digit as the answer. Raises NoVerdictError if the call does not fit the context."""
        ids = self.tokenizer.apply_chat_template(
            self.rubric.messages(criterion, seeker, reply), tokenize=True, add_generation_prompt=True, return_dict=False
        )
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and len(ids) + max(len(self._string(d)) for d in DIGITS) > longest:
            raise NoVerdictError("does not fit the judge's context")
        if self.method == ONE_TOKEN:
            last = self._log_probabilities(ids)[-1]
            return {d: math.fsum(math.exp(float(last[t])) for t in tokens) for d, tokens in self.digits.items()}
        found = {}
        for digit in DIGITS:
            string = self._string(digit)
            rows = self._log_probabilities([*ids, *string])[len(ids) - 1 : -1]
            found[digit] = math.exp(sum(float(row[token]) for row, token in zip(rows, string, strict=True)))
        return found

    def _string(self, digit: int) -> list[int]:
        return list(self.tokenizer.encode(str(digit), add_special_tokens=False))

    def _log_probabilities(self, ids: Sequence[int]) -> Any:
        import torch

        device = next(self.model.parameters()).device
        with torch.inference_mode(), quiet_libraries():
            logits = self.model(input_ids=torch.tensor([list(ids)], device=device)).logits[0]
        return torch.log_softmax(logits.detach().double(), dim=-1)


def digit_tokens(tokenizer: Any) -> dict[int, list[int]]:
    """By digit, every token that is this digit and white space; a digit without one cannot be read from one token."""
    found: dict[int, list[int]] = {digit: [] for digit in DIGITS}
    wanted = {str(digit): digit for digit in DIGITS}
    for token in sorted(tokenizer.get_vocab().values()):
        digit = wanted.get(tokenizer.decode([token]).strip())
        if digit is not None:
            found[digit].append(token)
    return found


def make_card(
    name: str, revision: str | None, rubric: str, quantisation: str, device: str, threads: int
) -> dict[str, Any]:
    """The card of a local model as judge, its files hashed. Raises what `resolve_base` refuses."""
    pointer = resolve_base(name, revision)
    read = read_rubric(rubric)
    identity = {
        "scheme": SCHEME,
        "model": pointer.digest,
        "rubric": read.digest,
        "quantisation": quantisation,
        "fewest_mass": FEWEST_MASS,
    }
    return {
        "kind": KIND,
        "judge": f"{SCHEME}:{Path(name).name}",
        "digest": identity_digest(identity),
        "identity": identity,
        "rubric": rubric,
        "pointer": asdict(pointer),
        "quantisation": quantisation,
        "device": device,
        "threads": threads,
    }


def load_causal_judge(card: Mapping[str, Any]) -> CausalJudge:
    """The judge of a card. Raises HeartwoodError if the model's files or the rubric have changed since."""
    rubric = rubric_of(card)
    model, tokenizer = load_base(
        BasePointer(**card["pointer"]), choose(card["device"], card["threads"]), card["quantisation"]
    )
    return CausalJudge(model, tokenizer, rubric)
