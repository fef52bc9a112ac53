"""Sections of params.yaml for prompts, generation, the judge and the report."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.settings.strict import Count, Section, Seed


class PromptsParams(Section):
    """How many prompts are drawn from dev, by which seed, and the fewest words of a disclosure."""

    count: Annotated[int, Field(ge=2)]
    """How many prompts are drawn from dev."""
    seed: Seed
    """Of the draw."""
    min_words: Count
    """The fewest words of a user turn that becomes a prompt; above `leakage.detector.generic_words`."""


class RespondParams(Section):
    """Generation, the same for every model."""

    batch_size: Count
    """Prompts answered at once. Part of the result: padding changes rounding."""
    context: Annotated[int, Field(ge=16)]
    """Tokens of prompt and reply together."""
    max_new_tokens: Count
    """The longest reply, in tokens."""
    decoding: Literal["greedy", "sample"]
    """`greedy` (the likeliest token each time) or `sample`."""
    temperature: Annotated[float, Field(gt=0)]
    """With `sample`: below 1 sharper, above 1 flatter."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """With `sample`: the likeliest tokens that together have this probability."""
    seed: Seed
    """With `sample`: of the draw."""
    quantisation: Literal["nf4", "none"]
    """How the base's weights are held: `nf4` (4 bits) or `none`."""
    device: Literal["auto", "cpu", "cuda"]
    """`auto` takes a GPU if there is one."""
    threads: Count
    """CPU threads."""


class JudgeParams(Section):
    """The ratings that the judge rests on: ``shipped``, ``download``, or a folder with EPITOME's files."""

    ratings: str = Field(min_length=1)
    """The human ratings that the judge rests on: `shipped` (the fitted head), `download`, or a folder with EPITOME's
    files; the last two fit the head again."""
    seed: Seed
    """Of the folds and the fit."""


class CompareParams(Section):
    """The seed of the permutation test."""

    seed: Seed
    """Of the Monte Carlo permutation test, where the exact one is too long."""


class ReportParams(Section):
    """The model whose score ``headline`` copies into ``reports/metrics.json``."""

    model: str = Field(min_length=1)
    """The model whose score becomes `reports/metrics.json`; `heartwood models` sets it."""
