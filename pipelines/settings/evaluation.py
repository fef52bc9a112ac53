"""Sections of params.yaml for prompts, generation, the judge and the report."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.settings.strict import Count, Section, Seed


class PromptsParams(Section):
    """How many prompts are drawn from dev, by which seed, and the fewest words of a disclosure."""

    count: Annotated[int, Field(ge=2)]
    seed: Seed
    min_words: Count


class RespondParams(Section):
    """Generation, the same for every model."""

    batch_size: Count
    context: Annotated[int, Field(ge=16)]
    max_new_tokens: Count
    decoding: Literal["greedy", "sample"]
    temperature: Annotated[float, Field(gt=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: Seed
    quantisation: Literal["nf4", "none"]
    device: Literal["auto", "cpu", "cuda"]
    threads: Count


class JudgeParams(Section):
    """The ratings that the judge rests on: ``shipped``, ``download``, or a folder with EPITOME's files.

    ``seed`` and ``threads`` are those of a refit.
    """

    ratings: str = Field(min_length=1)
    seed: Seed
    threads: Count


class CompareParams(Section):
    """The seed of the permutation test."""

    seed: Seed


class ReportParams(Section):
    """The model whose score ``headline`` copies into ``reports/metrics.json``."""

    model: str = Field(min_length=1)
