"""Sections of params.yaml for the mixture and the chat that is made of it."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from curation.errors import HeartwoodError
from pipelines.settings.strict import Section, Seed, parse_section

OFF = "none"
MAX_SIZE = 10_000_000
TEMPERATURES = (0.1, 100)
Temperature = Literal["none"] | Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]


def _temperature(value: Any) -> float | None:
    if value == OFF:
        return None
    low, high = TEMPERATURES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"should be '{OFF}', or a number from {low} to {high}")
    return float(value)


class ChatParams(Section):
    """The one system message of training and evaluation; empty for none."""

    system: str
    """The system message of training and evaluation; empty for none."""


class MixSettings(Section):
    """The reserved keys of ``mix``; every other key is a source with its share.

    ``size`` counts rows, also where shares are shares of supervised tokens (``unit: tokens``), so that steps stay
    comparable. ``temperature`` divides the rest by size^(1/temperature); ``none`` (here None) divides it equally.
    """

    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    """Rows of the mixture, also with `unit: tokens`."""
    seed: Seed
    """Of the order in which rows of a source are drawn."""
    when_short: Literal["error", "repeat", "shrink"]
    """A source has too few rows: `error`; `repeat` its rows, counted; `shrink` the mixture and keep the shares."""
    unit: Literal["examples", "tokens"]
    """What shares are shares of: `examples`, or `tokens` (supervised tokens)."""
    temperature: Annotated[float | None, PlainValidator(_temperature, json_schema_input_type=Temperature)]
    """How sources that are `rest` divide what is left: `none` equally, a number T in proportion to size^(1/T)."""


def parse_mix(section: Any, sources: Iterable[str]) -> tuple[MixSettings, dict[str, float | str]]:
    """The settings of ``mix`` and the shares asked for; a source that is not named has share 0.

    Raises:
        HeartwoodError: an unknown source, or a source whose name is a reserved key.
    """
    known = sorted(sources)
    reserved = set(MixSettings.model_fields)
    if clash := sorted(reserved & set(known)):
        raise HeartwoodError(
            f"sources.{clash[0]}: the name is reserved in mix ({', '.join(sorted(reserved))})",
            hint="rename the source",
        )
    if not isinstance(section, dict):
        raise HeartwoodError(f"params.yaml: mix is {section!r}; allowed: keys and shares", hint="correct params.yaml")
    if unknown := sorted(set(section) - reserved - set(known), key=str):
        raise HeartwoodError(
            f"params.yaml: mix.{unknown[0]} is neither a setting nor a source;"
            f" allowed: {', '.join([*sorted(reserved), *known])}",
            hint="correct the name, or add the source under sources",
        )
    settings = parse_section(MixSettings, {k: v for k, v in section.items() if k in reserved}, "mix")
    return settings, {name: section.get(name, 0) for name in known}
