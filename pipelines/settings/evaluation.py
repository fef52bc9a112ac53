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


class CausalLmParams(Section):
    """A local causal language model as judge: a folder, or a hub name with a 40-digit revision."""

    model: str
    """A folder, or a name on the Hugging Face hub."""
    revision: str
    """With a hub name: the commit, 40 hex digits."""
    quantisation: Literal["nf4", "none"]
    """How its weights are held: `nf4` (4 bits) or `none`."""
    device: Literal["auto", "cpu", "cuda"]
    """`auto` takes a GPU if there is one."""
    threads: Count
    """CPU threads."""


class EndpointParams(Section):
    """An OpenAI-compatible endpoint as judge. The key itself stands in the environment variable ``key_variable``."""

    address: str
    """The server's base address, up to and with `/v1`."""
    model: str
    """The model's name there."""
    key_variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The environment variable that holds the key; the key itself stands in no file."""
    samples: Count
    """Answers a question where the server offers no log-probabilities."""
    retries: Annotated[int, Field(ge=0, le=10)]
    """How often a failed request is sent again."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds until a request counts as failed."""
    requests_per_minute: Annotated[float, Field(gt=0)]
    """The most requests a minute."""
    price_prompt: Annotated[float, Field(ge=0)]
    """Price of a million prompt tokens, for the cost that is reported."""
    price_completion: Annotated[float, Field(ge=0)]
    """Price of a million tokens of answers."""


class JudgeParams(Section):
    """Which judge; and the ratings EPITOME's rests on: ``shipped``, ``download``, or a folder with its files."""

    kind: Literal["epitome", "causal_lm", "endpoint"]
    """`epitome` (three heads fitted to human ratings, offline), `causal_lm` (a local language model) or `endpoint`."""
    ratings: str = Field(min_length=1)
    """The human ratings that the judge rests on: `shipped` (the fitted head), `download`, or a folder with EPITOME's
    files; the last two fit the head again."""
    seed: Seed
    """Of the folds and the fit."""
    threads: Count
    """CPU threads of a refit."""
    rubric: str = Field(min_length=1)
    """The versioned rubric that language-model judges rate by."""
    causal_lm: CausalLmParams
    """A local language model as judge; counts with `kind: causal_lm`."""
    endpoint: EndpointParams
    """A server as judge; counts with `kind: endpoint`."""


class CompareParams(Section):
    """The seed of the permutation test."""

    seed: Seed
    """Of the Monte Carlo permutation test, where the exact one is too long."""


class ReportParams(Section):
    """The model whose score ``headline`` copies into ``reports/metrics.json``."""

    model: str = Field(min_length=1)
    """The model whose score becomes `reports/metrics.json`; `heartwood models` sets it."""
