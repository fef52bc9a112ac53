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


class CausalLmParams(Section):
    """A local causal language model as judge: a folder, or a hub name with a 40-digit revision."""

    model: str
    revision: str
    quantisation: Literal["nf4", "none"]
    device: Literal["auto", "cpu", "cuda"]
    threads: Count


class EndpointParams(Section):
    """An OpenAI-compatible endpoint as judge. The key itself stands in the environment variable ``key_variable``."""

    address: str
    model: str
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    samples: Count
    retries: Annotated[int, Field(ge=0, le=10)]
    timeout_s: Annotated[float, Field(gt=0)]
    requests_per_minute: Annotated[float, Field(gt=0)]
    price_prompt: Annotated[float, Field(ge=0)]
    price_completion: Annotated[float, Field(ge=0)]


class JudgeParams(Section):
    """Which judge; and the ratings EPITOME's rests on: ``shipped``, ``download``, or a folder with its files."""

    kind: Literal["epitome", "causal_lm", "endpoint"]
    ratings: str = Field(min_length=1)
    seed: Seed
    rubric: str = Field(min_length=1)
    causal_lm: CausalLmParams
    endpoint: EndpointParams


class CompareParams(Section):
    """The seed of the permutation test."""

    seed: Seed


class ReportParams(Section):
    """The model whose score ``headline`` copies into ``reports/metrics.json``."""

    model: str = Field(min_length=1)
