from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import HeartwoodError
from pipelines.provenance.graph import require_independent
from tests.project import Project

GRAPH = """
stages:
  split:
    cmd: x
    outs: [dev]
  mix:
    cmd: x
    deps: [dev]
    params: [mix]
    outs: [train]
  prompts:
    cmd: x
    deps: [dev]
    params: [prompts]
    outs: [prompts]
"""


@pytest.fixture
def check(project: Callable[[], Project]) -> Callable[..., None]:
    made = project()
    made.write("params.yaml", "mix:\n  a: 1\nprompts:\n  b: 1\n")

    def run(graph: str, *outs: str) -> None:
        made.write("dvc.yaml", graph)
        require_independent([Path(o) for o in outs], of="mix", params="mix", root=made.folder)

    return run


def test_what_rests_on_neither_the_stage_nor_its_params_passes(check: Callable[..., None]) -> None:
    check(GRAPH, "dev", "prompts")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "deps: [dev]\n    params: [prompts]",
            "deps: [train]\n    params: [prompts]",
            "depends on mix: prompts <- mix;",
        ),
        ("params: [prompts]", "params: [mix.a]", r"depends on params\.yaml:mix\.a: prompts;"),
        ("cmd: x\n    outs: [dev]", "cmd: x\n    params: [mix]\n    outs: [dev]", "prompts <- split;"),
    ],
)
def test_a_way_from_the_mixture_is_named(check: Callable[..., None], old: str, new: str, said: str) -> None:
    graph = GRAPH.replace(old, new)
    assert graph != GRAPH
    with pytest.raises(HeartwoodError, match=said):
        check(graph, "prompts")


def test_a_way_over_several_stages_is_named(check: Callable[..., None]) -> None:
    more = "  again:\n    cmd: x\n    deps: [train]\n    outs: [other]\n"
    graph = GRAPH.replace("deps: [dev]\n    params: [prompts]", "deps: [other]\n    params: [prompts]") + more
    with pytest.raises(HeartwoodError, match="depends on mix: prompts <- again <- mix;"):
        check(graph, "prompts")


def test_an_out_that_no_stage_writes(check: Callable[..., None]) -> None:
    with pytest.raises(HeartwoodError, match=r"no stage writes elsewhere"):
        check(GRAPH, "elsewhere")
