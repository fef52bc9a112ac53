"""dvc.yaml, params.yaml and the code agree with each other."""

from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def paths(entries: list) -> list[str]:
    return [e if isinstance(e, str) else next(iter(e)) for e in entries]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("curation", "pipelines", "dvc_stages", cache_dir=None)


def source_of(module: str) -> str:
    path = Path(*module.split("."))
    return (path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")).as_posix()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_imports(stage: str, graph: grimp.ImportGraph) -> None:
    module = f"dvc_stages.{stage}"
    imported = graph.find_upstream_modules(module) | {module}
    packages = {".".join(m.split(".")[:n]) for m in imported for n in range(1, m.count(".") + 1)}
    deps = set(body(stage)["deps"])
    missing = sorted(
        s for s in map(source_of, imported | packages) if not any(s == d or s.startswith(f"{d}/") for d in deps)
    )
    assert not missing, f"add to the deps of {stage}: {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_only_code_that_it_imports(stage: str, graph: grimp.ImportGraph) -> None:
    module = f"dvc_stages.{stage}"
    imported = graph.find_upstream_modules(module) | {module}
    packages = {".".join(m.split(".")[:n]) for m in imported for n in range(1, m.count(".") + 1)}
    sources = set(map(source_of, imported | packages))
    assert not [d for d in body(stage)["deps"] if d.endswith(".py") and d not in sources]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_a_library_lock(stage: str) -> None:
    assert [d for d in body(stage)["deps"] if d.startswith("requirements/")]


def test_params_yaml_is_in_the_form_that_dvc_writes(tmp_path: Path) -> None:
    from dvc.utils.serialize import modify_yaml

    text = (ROOT / "params.yaml").read_text()
    copy = tmp_path / "params.yaml"
    copy.write_text(text)
    for model in ("sft-100", PARAMS["report"]["model"]):
        with modify_yaml(copy) as params:
            params["report"]["model"] = model
    assert copy.read_text() == text


def test_every_model_is_the_base_or_a_checkpoint_and_is_compared() -> None:
    names = ["base", *PARAMS["checkpoints"]]
    assert list(PARAMS["models"]) == names
    assert PARAMS["models"] == {"base": "models/base.json", **{n: f"models/{n}" for n in PARAMS["checkpoints"]}}
    assert [f"reports/eq/{n}.ratings.jsonl" for n in names] == [
        d for d in body("compare")["deps"] if d.endswith(".ratings.jsonl")
    ]
    for stage in ("headline", "plots"):
        assert [f"reports/eq/{n}.json" for n in names] == [
            d for d in body(stage)["deps"] if d.startswith("reports/eq/")
        ]
    curves = [f"reports/training/{n}{kind}.json" for n in PARAMS["checkpoints"] for kind in ("", ".dev")]
    assert curves == [d for d in body("plots")["deps"] if d.startswith("reports/training/")]


def test_no_stage_depends_on_the_parent_of_another_stages_outs() -> None:
    outs = [o for s in STAGES for kind in ("outs", "metrics") for o in paths(body(s).get(kind, []))]
    for stage in STAGES:
        for dep in body(stage)["deps"]:
            inside = [o for o in outs if o.startswith(f"{dep}/")]
            assert not inside, f"{stage} depends on {dep}, which holds {inside}"


def test_held_out_data_and_prompts_do_not_depend_on_the_mixture() -> None:
    for stage in ("dev", "prompts"):
        assert "mix" not in body(stage)["params"]
        assert not [d for d in body(stage)["deps"] if d.startswith("data/mixture")]
