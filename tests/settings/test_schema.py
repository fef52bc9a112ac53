"""The whole of params.yaml: every key described, and a schema for editors that says what the models say."""

import copy
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dvc.utils.hydra import apply_overrides

from pipelines.settings.schema import ENTRIES, SCHEMA, SECTION_MODELS, json_schema
from pipelines.settings.strict import SECTIONS, Section, read_params

MODELINE = f"# yaml-language-server: $schema={SCHEMA}\n"


def models_below(model: type[Section]) -> list[type[Section]]:
    nested = [f.annotation for f in model.model_fields.values()]
    return [model, *(m for n in nested if isinstance(n, type) and issubclass(n, Section) for m in models_below(n))]


def test_every_section_has_a_model() -> None:
    assert [name for name in SECTIONS if name not in SECTION_MODELS] == ["models"]
    assert set(ENTRIES) < set(SECTION_MODELS)


@pytest.mark.parametrize("section", list(SECTION_MODELS))
def test_every_key_is_described(section: str) -> None:
    for model in models_below(SECTION_MODELS[section]):
        for key, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{key}: write a text under it"
            assert field.description.rstrip().endswith("."), f"{model.__name__}.{key}"


@pytest.fixture(scope="module")
def shipped(repo_root: Path) -> dict[str, Any]:
    return read_params(repo_root / "params.yaml")


def test_the_shipped_params_are_as_the_schema_allows(shipped: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(shipped, json_schema())


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("mix", "esconv", 1.5),
        ("mix", "esconv", "half"),
        ("mix", "temperature", 0),
        ("mix", "when_short", "stop"),
        ("dedup", "near_jaccard", 0),
        ("dedup", "nearjaccard", 0.5),
        ("sft", "device", "tpu"),
        ("split", "seed", 0.5),
        ("chat", "system", None),
    ],
)
def test_the_schema_refuses_what_the_models_refuse(
    shipped: dict[str, Any], section: str, key: str, value: object
) -> None:
    params = copy.deepcopy(shipped)
    params[section][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, json_schema())


def test_the_line_for_editors_outlives_overrides(tmp_path: Path, repo_root: Path) -> None:
    params = shutil.copy(repo_root / "params.yaml", tmp_path / "params.yaml")
    apply_overrides(str(params), ["mix.esconv=0.4", "+sources.mine.format=chat"])
    text = Path(params).read_text(encoding="utf-8")
    assert text.startswith(MODELINE)
    assert "esconv: 0.4" in text
    assert "mine:" in text
