"""The base of every section of params.yaml, and errors that name the key, the value and what is allowed."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from curation.errors import HeartwoodError

SECTIONS = (
    "raw sources records split dedup leakage validate chat mix prompts base sft checkpoints models judge respond "
    "compare report"
).split()

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]

T = TypeVar("T")


class Section(BaseModel):
    """A section: no unknown keys, no silent conversion, no change after reading.

    The text under a field, or its ``Field(description=...)``, is what docs/reference/params.md and the JSON schema say.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def read_params(path: Path) -> dict[str, Any]:
    """params.yaml as DVC reads it (YAML 1.2).

    Raises:
        HeartwoodError: no file, not YAML, or a section that nothing reads.
    """
    try:
        params = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HeartwoodError(f"{path}: missing", hint="run in the project's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise HeartwoodError(f"{path}: not YAML ({str(error).splitlines()[0]})", hint="correct params.yaml") from None
    if not isinstance(params, dict):
        raise HeartwoodError(f"{path}: expected sections, found {type(params).__name__}", hint="correct params.yaml")
    if unknown := sorted(set(params) - set(SECTIONS)):
        raise HeartwoodError(
            f"params.yaml: unknown section {unknown[0]!r}; allowed: {', '.join(SECTIONS)}",
            hint="remove it, or correct its name",
        )
    return params


def parse_section(model: type[T], value: object, key: str) -> T:
    """One section of params.yaml as its model.

    Raises:
        HeartwoodError: names the key, the value found and what is allowed.
    """
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *(str(part) for part in first["loc"] if not str(part).startswith("function-"))])
        if first["type"] == "extra_forbidden":
            inner, _, _ = where.rpartition(".")
            allowed = ", ".join(_fields(model, [str(part) for part in first["loc"][:-1]]))
            raise HeartwoodError(
                f"params.yaml: unknown key {where}; allowed in {inner}: {allowed}",
                hint="remove it, or correct its name",
            ) from None
        if first["type"] == "missing":
            raise HeartwoodError(f"params.yaml: {where} is missing", hint="add it to params.yaml") from None
        raise HeartwoodError(
            f"params.yaml: {where} is {first['input']!r}: {_plain(first['msg'])}", hint="correct params.yaml or -S"
        ) from None


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _fields(model: Any, path: list[str]) -> list[str]:
    for part in path:
        model = model.model_fields[part].annotation
    return sorted(getattr(model, "model_fields", {}))
