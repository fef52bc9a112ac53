"""The commands in docs/training.md, and a third checkpoint, against the real params and the strict models."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipelines.settings.evaluation import RespondParams
from pipelines.settings.strict import parse_section, read_params
from pipelines.settings.training import BaseParams, CheckpointParams, SftParams
from pipelines.sft.model import TINYLLAMA_PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(text.replace("\\\n", " ")) for text in re.findall(r"^(dvc exp run \\\n(?:.*\\\n)*.*)$", PAGE, re.M)
]


def _overrides(command: list[str]) -> list[str]:
    return [word for before, word in pairwise(command) if before == "-S"]


@pytest.mark.parametrize("command", COMMANDS, ids=["t4", "large"])
def test_the_commands_of_the_page_give_valid_params(command: list[str], tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    overrides = _overrides(command)
    assert len(overrides) >= 9
    apply_overrides(str(path), overrides)
    params = read_params(path)
    base = parse_section(BaseParams, params["base"], "base")
    sft = parse_section(SftParams, params["sft"], "sft")
    respond = parse_section(RespondParams, params["respond"], "respond")
    for name, entry in params["checkpoints"].items():
        parse_section(CheckpointParams, entry, f"checkpoints.{name}")
    assert set(params["checkpoints"]) == {"sft-100", "sft-150"}
    assert re.fullmatch(r"[0-9a-f]{40}", base.revision)
    assert respond.context >= sft.context + respond.max_new_tokens
    # q, k, v, o of TinyLlama: 22 layers, 2048 wide, 256 for k and v.
    lora = 22 * sft.lora.rank * 2 * ((2048 + 2048) + (2048 + 256))
    assert sft.lora.targets == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert lora == 2_252_800
    assert f"{lora / (TINYLLAMA_PARAMETERS + lora):.4%}" == "0.2044%"


def test_a_third_checkpoint_is_an_entry(tmp_path: Path) -> None:
    from dvc.repo import Repo

    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    params: dict[str, Any] = read_params(ROOT / "params.yaml")
    (entry,) = re.findall(r"^checkpoints:\n(?:  .*\n)+models:\n(?:  .*\n)+", PAGE, re.M)
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    # In flow style DVC's reader, libyaml, takes no colon in a plain scalar, as an address has one.
    yaml.default_flow_style = False
    for section, added in yaml.load(entry).items():
        params[section] |= added
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        deps = {dep.def_path for dep in stages["sft@sft-250"].deps}
    assert {"respond@sft-250", "score@sft-250"} <= set(stages)
    assert "models/sft-150" in deps
