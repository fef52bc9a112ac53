"""docs/reference/params.md: every key of params.yaml, from the models that read it."""

from pathlib import Path
from typing import Any

from pipelines.settings.mixture import MixSettings
from pipelines.settings.schema import ENTRIES, MODELS_TEXT, SECTION_MODELS, SHARE_TEXT
from pipelines.settings.strict import SECTIONS, Section, read_params

HEAD = """# Params, key by key

<!-- Written by `python -m docs.generate` from `pipelines/settings/`. -->

`params.yaml` has one section a stage. Each section is a strict model: an unknown key, a wrong type or an impossible value
is an error that names the key, the value and what is allowed, also through `dvc exp run -S section.key=value`.
A key that is not in the file yet takes a plus: `-S +sources.mine.format=chat`.

**Editors** complete and check the file with `params.schema.json`: its first line names the schema for every editor
with the YAML language server (in VS Code: the extension `redhat.vscode-yaml`), and it stays there when
`dvc exp run -S` writes the file again.
"""


def params_page(root: Path) -> str:
    """The page, with the shipped value of every key."""
    shipped = read_params(root / "params.yaml")
    parts = [HEAD]
    for name in SECTIONS:
        parts.append(f"## `{name}`\n")
        if name == "models":
            parts.append(f"{MODELS_TEXT}\n")
            parts.append(_table([(key, _value(at), "text", "") for key, at in shipped[name].items()]))
            continue
        model = SECTION_MODELS[name]
        parts.append(f"{_paragraph(model.__doc__)}\n")
        if name in ENTRIES:
            first = next(iter(shipped[name]))
            parts.append(f"Named entries ({', '.join(f'`{n}`' for n in shipped[name])}); shipped, of `{first}`:\n")
            parts.append(_table(_rows(model, shipped[name][first], "<name>.")))
        elif name == "mix":
            shares = {k: v for k, v in shipped[name].items() if k not in MixSettings.model_fields}
            rows = [(k, _value(v), "number from 0 to 1, or `rest`", SHARE_TEXT) for k, v in shares.items()]
            parts.append(_table(_rows(model, shipped[name]) + rows))
        else:
            parts.append(_table(_rows(model, shipped[name])))
    return "\n".join(parts)


def _rows(model: type[Section], shipped: dict[str, Any], before: str = "") -> list[tuple[str, str, str, str]]:
    rows = []
    schema = model.model_json_schema()
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            rows += _rows(inner, shipped.get(key, {}), f"{before}{key}.")
            continue
        allowed = _allowed(schema["properties"][key])
        value = _value(shipped[key]) if key in shipped else "not set"
        rows.append((f"{before}{key}", value, allowed, " ".join((field.description or "").split())))
    return rows


def _allowed(schema: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if options := schema.get("anyOf"):
        return ", or ".join(_allowed(option) for option in options)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_allowed(schema['items'])}"
    if kind in ("integer", "number"):
        words = "whole number" if kind == "integer" else "number"
        bounds = [
            f"{word} {schema[key]:,g}" if isinstance(schema[key], float) else f"{word} {schema[key]:,}"
            for key, word in (
                ("minimum", "from"),
                ("exclusiveMinimum", "over"),
                ("maximum", "to"),
                ("exclusiveMaximum", "under"),
            )
            if key in schema
        ]
        return " ".join([words, *bounds])
    return {"string": "text", "boolean": "`true` or `false`", "null": "not set"}[str(kind)]


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return "empty" if value == "" else f"`{value}`"


def _paragraph(text: str | None) -> str:
    import inspect

    return inspect.cleandoc(text or "").replace("``", "`")


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["| key | shipped | allowed | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{key}` | {value} | {allowed} | {meaning} |" for key, value, allowed, meaning in rows]
    return "\n".join(lines) + "\n"
