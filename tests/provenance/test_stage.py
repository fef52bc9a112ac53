import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.provenance import stage
from tests.project import Project

SLOW_STAGE = """
import sys, time
from pathlib import Path
from pipelines.provenance.stage import execute

def main(run):
    Path("models/sft").mkdir(parents=True)
    Path("models/sft/adapter").write_text(Path("data.txt").read_text() + str(run.value("sft")))
    run.record("steps_done", 7)
    Path("running").write_text("")
    while not Path("go").exists():
        time.sleep(0.02)

execute(main)
"""

DVC_YAML = """
stages:
  sft:
    cmd: python sft.py
    deps:
    - data.txt
    - sft.py
    params:
    - sft
    outs:
    - models/sft
"""


@pytest.fixture
def training(project: Callable[[], Project]) -> Project:
    made = project()
    made.write("sft.py", SLOW_STAGE)
    made.write("dvc.yaml", DVC_YAML)
    made.write("params.yaml", "sft:\n  steps: 100\n")
    made.write("data.txt", "rows\n")
    made.write(".gitignore", "running\ngo\n.heartwood/\n")
    made.write("models/.gitignore", "/sft\n")
    made.commit()
    return made


def run_while(made: Project, meanwhile: Callable[[], None]) -> tuple[int, str]:
    process = made.start("dvc", "repro")
    deadline = time.monotonic() + 60
    while not (made.folder / "running").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    meanwhile()
    made.write("go", "")
    output = process.communicate(timeout=60)[0]
    return process.returncode, output


def test_an_untouched_run_succeeds_and_leaves_its_record_outside_the_outs(training: Project) -> None:
    code, output = run_while(training, lambda: None)
    assert code == 0, output
    assert (training.folder / "models/sft/adapter").exists()
    record = json.loads((training.folder / ".heartwood/runs/sft.json").read_text())
    assert record["stage"] == "sft"
    assert record["seconds"] > 0
    assert record["steps_done"] == 7


LAUNCHING_STAGE = """
import os, subprocess, sys
from pathlib import Path
from pipelines.provenance.stage import execute

def main(run):
    if "RANK" not in os.environ:
        for rank in "01":
            subprocess.run([sys.executable, "sft.py"], env={**os.environ, "RANK": rank}, check=True)
    elif os.environ["RANK"] == "0":
        Path("models").mkdir(exist_ok=True)
        Path("models/sft").write_text("trained")
        weights = b"w" * (300 << 20)
        run.record("steps_done", 7)

execute(main)
"""


def test_what_the_first_of_several_processes_measured_is_in_the_record_of_the_stage(training: Project) -> None:
    training.write("sft.py", LAUNCHING_STAGE)
    training.dvc("repro")
    record = json.loads((training.folder / ".heartwood/runs/sft.json").read_text())
    assert record["steps_done"] == 7
    assert record["peak_memory_mib"] > 300, "of the process that did the work, not of the one that launched it"
    training.write("sft.py", LAUNCHING_STAGE.replace('run.record("steps_done", 7)', 'run.record("rows_done", 9)'))
    training.dvc("repro")
    record = json.loads((training.folder / ".heartwood/runs/sft.json").read_text())
    assert record["rows_done"] == 9
    assert "steps_done" not in record


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("params.yaml", "sft:\n  steps: 999\n", "params.yaml:sft"),
        ("sft.py", SLOW_STAGE + "# edited\n", "sft.py"),
        ("data.txt", "other rows\n", "data.txt"),
    ],
)
def test_an_edit_while_the_stage_runs_makes_it_fail(training: Project, path: str, text: str, named: str) -> None:
    code, output = run_while(training, lambda: training.write(path, text))
    assert code != 0
    assert f"{named} changed while the stage ran" in output
    assert "Traceback" not in output
    assert not (training.folder / "models/sft").exists()
    assert not (training.folder / "dvc.lock").exists()


def test_an_edit_that_hides_itself_makes_the_stage_fail_too(training: Project) -> None:
    data = training.folder / "data.txt"

    def same_size_and_time() -> None:
        times = data.stat()
        training.write("data.txt", "worn\n")
        os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (data.stat().st_size, data.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)

    code, output = run_while(training, same_size_and_time)
    assert code != 0
    assert "data.txt changed while the stage ran" in output
    assert not (training.folder / "models/sft").exists()


FOREACH = """
vars:
- other.yaml
- note: plain
stages:
  one:
    cmd: python one.py ${note} ${flags}
    deps:
    - b.txt
    - a.txt
    params:
    - sft
    - base.name
    - params.yaml:
      - sft.rank
      - sft
    outs:
    - z.txt
    - y:
        cache: false
    metrics:
    - m.json:
        cache: false
    plots:
    - p.json:
        x: step
  many:
    foreach: ${models}
    do:
      cmd: python many.py
      deps:
      - ${item.path}
      - ${where}/${key}.txt
      params:
      - models.${key}
      outs:
      - out/${key}.jsonl:
          persist: true
  grid:
    matrix:
      size: [1, 2]
      kind: ${kinds}
    cmd: python grid.py
    outs:
    - grid/${item.size}-${item.kind}
"""
FOREACH_PARAMS = """
sft: {rank: 1}
base: {name: x}
flags: {on: true, each: [1, 2]}
kinds: [a, b]
models:
  base: {path: models/base.json}
  sft-100: {path: models/sft-100}
"""


def definitions_by_dvc(folder: Path) -> list[stage.Definition]:
    from dvc.dependency.param import ParamsDependency
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return [
            stage.Definition(
                str(found.name),
                tuple(sorted(d.def_path for d in found.deps if not isinstance(d, ParamsDependency))),
                tuple(sorted(p for d in found.deps if isinstance(d, ParamsDependency) for p in d.params)),
                tuple(out.def_path for out in found.outs),
            )
            for found in repo.index.stages
        ]


def test_a_definition_is_the_one_that_dvc_runs(project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch) -> None:
    made = project()
    made.write("dvc.yaml", FOREACH)
    made.write("params.yaml", FOREACH_PARAMS)
    made.write("other.yaml", "where: data\n")
    monkeypatch.chdir(made.folder)
    found = definitions_by_dvc(made.folder)
    assert len(found) == 1 + 2 + 4
    assert [stage.load_definition(f.name, made.folder) for f in found] == found
    made.write("params.yaml", FOREACH_PARAMS.replace("sft-100", "sft-150") + "  third: {path: c}\n")
    made.write("other.yaml", "where: elsewhere\n")
    changed = definitions_by_dvc(made.folder)
    assert len(changed) == 1 + 3 + 4
    assert changed != found
    assert [stage.load_definition(f.name, made.folder) for f in changed] == changed


def test_every_stage_of_the_project_is_defined_as_dvc_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(stage.__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    found = definitions_by_dvc(root)
    assert {"mix", "respond@base"} <= {f.name for f in found}
    assert [stage.load_definition(f.name, root) for f in found] == found


def test_a_failing_body_leaves_no_half_written_out(training: Project) -> None:
    training.write(
        "sft.py",
        SLOW_STAGE.replace(
            "    while", "    from curation.errors import HeartwoodError\n"
            "    raise HeartwoodError('row 3 of data.txt is bad', hint='mend it')\n    while"
        ),
    )  # fmt: skip
    done = training.dvc("repro", check=False)
    assert done.returncode != 0
    assert "row 3 of data.txt is bad\n  next: mend it" in done.stdout + done.stderr
    assert not (training.folder / "models/sft").exists()


def test_an_unknown_section_is_named(training: Project) -> None:
    training.write("params.yaml", "sft:\n  steps: 100\nstf:\n  steps: 3\n")
    done = training.dvc("repro", check=False)
    assert done.returncode != 0
    assert "unknown section 'stf'" in done.stdout + done.stderr


def test_a_param_that_dvc_yaml_does_not_list_cannot_be_read(training: Project) -> None:
    training.write("dvc.yaml", DVC_YAML.replace("    params:\n    - sft\n", ""))
    done = training.dvc("repro", check=False)
    assert "reads params.yaml:sft without listing it" in done.stdout + done.stderr


def test_only_the_notice_about_the_absent_kernel_package_is_switched_off(monkeypatch, caplog):
    for name in ("OMP_WAIT_POLICY", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    monkeypatch.setattr(logger, "filters", [])
    stage._set_library_switches()
    logger.warning(
        "Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please", "No module named 'kernels'"
    )
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_stages_refuse_to_run_outside_dvc(training: Project) -> None:
    training.write("go", "")
    done = training.run("python", "sft.py", check=False)
    assert done.returncode == 1
    assert "next: run `dvc repro <stage>`" in done.stderr


def test_a_stage_runs_in_the_copy_that_temp_experiments_make(training: Project) -> None:
    training.write("go", "")
    training.dvc("repro")
    training.commit()
    training.write(".gitignore", "running\n.heartwood/\n")
    training.commit()
    training.dvc("exp", "run", "--temp", "-n", "longer", "-S", "sft.steps=200")
    assert not training.run("git", "status", "--porcelain").stdout
    assert "longer" in training.dvc("exp", "list", "--name-only").stdout.split()
