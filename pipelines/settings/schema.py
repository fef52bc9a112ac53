"""params.yaml as a whole: the model of each section, and the JSON schema that editors read. No stage imports this."""

from typing import Any

from pydantic.json_schema import models_json_schema

from pipelines.settings.curation import (
    DedupParams,
    LeakageParams,
    RawParams,
    RecordsParams,
    SourceParams,
    SplitParams,
    ValidateParams,
)
from pipelines.settings.evaluation import CompareParams, JudgeParams, PromptsParams, ReportParams, RespondParams
from pipelines.settings.mixture import ChatParams, MixSettings
from pipelines.settings.strict import SECTIONS, Section
from pipelines.settings.training import BaseParams, CheckpointParams, SftParams

SCHEMA = "params.schema.json"
SECTION_MODELS: dict[str, type[Section]] = {
    "raw": RawParams,
    "sources": SourceParams,
    "records": RecordsParams,
    "split": SplitParams,
    "dedup": DedupParams,
    "leakage": LeakageParams,
    "validate": ValidateParams,
    "chat": ChatParams,
    "mix": MixSettings,
    "prompts": PromptsParams,
    "base": BaseParams,
    "sft": SftParams,
    "checkpoints": CheckpointParams,
    "judge": JudgeParams,
    "respond": RespondParams,
    "compare": CompareParams,
    "report": ReportParams,
}
# Sections of named entries: each entry, not the section, is of the model.
ENTRIES = ("sources", "checkpoints")
MODELS_TEXT = "Where each model is: `models/base.json`, or the folder of a checkpoint. Each gets replies and a score."
SHARE_TEXT = "A source's share of the finished mixture: a number from 0 to 1, or `rest` for a part of what is left."


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of params.yaml: every section needed, no other keys."""
    keyed, defined = models_json_schema(
        [(model, "validation") for model in SECTION_MODELS.values()], ref_template="#/$defs/{model}"
    )
    of = {name: keyed[model, "validation"] for name, model in SECTION_MODELS.items()}
    named = {name: {"type": "object", "additionalProperties": of[name], "minProperties": 1} for name in ENTRIES}
    models = {"type": "object", "additionalProperties": {"type": "string"}, "description": MODELS_TEXT}
    definitions = defined["$defs"]
    definitions["MixSettings"]["additionalProperties"] = {
        "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "rest"}],
        "description": SHARE_TEXT,
    }
    schema = {
        "type": "object",
        "properties": {name: {**of, **named, "models": models}[name] for name in SECTIONS},
        "required": SECTIONS,
        "additionalProperties": False,
        "$defs": definitions,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Heartwood: params.yaml",
        **_tidy(schema),
    }


def _tidy(node: Any) -> Any:
    """Texts on one line; no title that only repeats a key."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _tidy(value)
        for key, value in node.items()
        if key != "title" or not isinstance(value, str)
    }
