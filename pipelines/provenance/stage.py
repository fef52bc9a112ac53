"""The one wrapper that every stage of ``dvc.yaml`` runs through.

DVC writes the hashes of dependencies and params after the command has ended, so an edit made while a stage runs
would be recorded as what the stage has read (treeverse/dvc#11058). The wrapper hashes everything that
``dvc.yaml`` lists for the stage at the start, again at the end, and on a change removes the outs and fails.
"""

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from ruamel.yaml import YAML

from curation.errors import HeartwoodError
from curation.records import digest
from pipelines.provenance.hashing import Digest, hash_path
from pipelines.settings.strict import parse_section, read_params

T = TypeVar("T")
PARAMS = Path("params.yaml")
RUNS = Path(".heartwood/runs")


@dataclass(frozen=True)
class Definition:
    """A stage as ``dvc.yaml`` defines it, templates resolved: paths relative to the root, and params keys."""

    name: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def key(self) -> str:
        """What stands behind ``@`` in a foreach stage's name."""
        return self.name.partition("@")[2]


@dataclass(frozen=True)
class Inputs:
    """Everything a stage reads, as it stood at one moment: digests by path and values by params key."""

    files: dict[str, Digest]
    params: dict[str, Any]

    def difference(self, later: "Inputs") -> list[str]:
        """The paths and params keys that are not what they were."""
        files = [p for p in self.files if self.files[p] != later.files[p]]
        return files + [f"params.yaml:{k}" for k in self.params if self.params[k] != later.params[k]]


def load_definition(name: str, root: Path) -> Definition:
    """A stage's definition, its templates resolved by DVC itself.

    Only DVC's resolver is asked: opening a whole repository would also read ``dvc.lock``, which takes longer than
    everything else together. DVC has checked ``dvc.yaml`` against its schema before it starts a stage.
    """
    from dvc.fs import localfs
    from dvc.parsing import DataResolver

    content = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))
    # The resolver asks a repository for no more than these two; its config is about commands alone.
    resolver = DataResolver(SimpleNamespace(fs=localfs, config={}), str(root), content)
    stage = resolver.resolve_one(name)[name]
    params = [key for entry in stage.get("params", []) for key in _param_keys(entry)]
    outs = [path for kind in ("outs", "metrics", "plots") for path in map(_path, stage.get(kind, []))]
    deps = map(_path, stage.get("deps", []))
    return Definition(name, tuple(sorted(deps)), tuple(sorted(params)), tuple(outs))


def _path(entry: str | dict[str, Any]) -> str:
    """The path of a dependency or out, which is given alone or as the one key of its flags."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _param_keys(entry: str | dict[str, list[str] | None]) -> list[str]:
    """The keys of one entry under ``params``: a key of ``params.yaml``, or a file with its keys."""
    return [entry] if isinstance(entry, str) else [key for keys in entry.values() for key in keys or []]


def look_up(params: dict[str, Any], key: str) -> Any:
    """The value under a dotted params key.

    Raises:
        HeartwoodError: there is none.
    """
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise HeartwoodError(f"params.yaml: {key} is missing", hint="add it to params.yaml")
        value = value[part]
    return value


def read_inputs(definition: Definition) -> Inputs:
    """Hash a stage's dependencies and read its params, as they stand now.

    Raises:
        HeartwoodError: a dependency is missing, or is an empty file or folder.
    """
    files = {}
    for path in definition.deps:
        target = Path(path)
        if not target.exists():
            raise HeartwoodError(f"{path}: missing", hint="run `dvc repro` (or `dvc pull`) for the stages before it")
        if target.is_dir() and not any(target.iterdir()):
            raise HeartwoodError(f"{path}: the folder is empty", hint="run `dvc repro` for the stage that writes it")
        files[path] = hash_path(target)
    params = read_params(PARAMS)
    return Inputs(files, {key: look_up(params, key) for key in definition.params})


@dataclass(frozen=True)
class Run:
    """What a stage's body is given: its definition, its inputs as hashed at the start, and its params."""

    definition: Definition
    inputs: Inputs
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What stands behind ``@`` in the stage's name."""
        return self.definition.key

    def value(self, key: str) -> Any:
        """The raw value of a params key that ``dvc.yaml`` lists for this stage."""
        if key not in self.inputs.params:
            raise HeartwoodError(
                f"stage {self.definition.name} reads params.yaml:{key} without listing it", hint="list it in dvc.yaml"
            )
        return self.inputs.params[key]

    def section(self, key: str, model: type[T]) -> T:
        """A params section, validated by its model."""
        return parse_section(model, self.value(key), key)

    def entries(self, key: str, model: type[T]) -> dict[str, T]:
        """A params section of named entries, each validated by the model.

        Raises:
            HeartwoodError: it holds no entry.
        """
        value = self.value(key)
        if not isinstance(value, dict) or not value:
            raise HeartwoodError(f"params.yaml: {key} is {value!r}; allowed: named entries", hint="correct params.yaml")
        return {name: parse_section(model, entry, f"{key}.{name}") for name, entry in sorted(value.items())}

    def record(self, name: str, value: float) -> None:
        """Add a number that varies between equal runs (seconds, counts of work done) to the run's untracked record."""
        self.measured[name] = value

    def evidence(self) -> dict[str, dict[str, str]]:
        """md5 and sha256 of every input file that is data, by path."""
        return {p: d.as_dict() for p, d in self.inputs.files.items() if not is_code(p)}

    def locks(self) -> list[str]:
        """The library locks among this stage's dependencies."""
        return [p for p in self.inputs.files if p.startswith("requirements/")]

    def code_digest(self) -> str:
        """sha256 over the sha256 of every code file or package that this stage depends on."""
        return digest({p: d.sha256 for p, d in self.inputs.files.items() if is_code(p)})


def is_code(path: str) -> bool:
    """Whether a dependency is code or a library lock, not data."""
    return path.split("/")[0] in {"curation", "pipelines", "dvc_stages", "requirements"}


def execute(body: Callable[[Run], None]) -> None:
    """Run a stage's body between the two checks; the process exits 1 with one message when anything is wrong."""
    name = os.environ.get("DVC_STAGE", "")
    definition: Definition | None = None
    try:
        if not name:
            raise HeartwoodError("stages run through DVC only", hint="run `dvc repro <stage>`")
        _set_library_switches()
        # Stages run in the root; under `exp run --temp` DVC_ROOT names the checkout that the copy was made from.
        definition = load_definition(name, Path.cwd())
        started = time.time()
        before = read_inputs(definition)
        run = Run(definition, before)
        body(run)
        if changed := before.difference(read_inputs(definition)):
            raise HeartwoodError(
                f"{', '.join(changed)} changed while the stage ran; its outs are removed,"
                " since nobody could say what they were made from",
                hint=f"run `dvc repro {name}` again and leave its inputs alone meanwhile",
            )
        _record(name, started, run.measured)
    except HeartwoodError as error:
        if definition is not None:
            _remove(definition.outs)
        print(f"heartwood: {name or 'stage'}: {error}\n  next: {error.hint}", file=sys.stderr)
        sys.exit(1)
    except BaseException:
        if definition is not None:
            _remove(definition.outs)
        raise


def _set_library_switches() -> None:
    # Idle threads that spin make a training step ten times slower as soon as anything else runs beside it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # On CPUs with AVX512-BF16, bitsandbytes would fetch a binary kernel from the hub if the package `kernels` were
    # there, and says at every import that it is not. Its own kernel is what the project uses.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
        lambda record: "gemm_4bit_forward from kernels-community" not in record.getMessage()
    )


def _remove(outs: tuple[str, ...]) -> None:
    for out in outs:
        path = Path(out)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _record(name: str, started: float, measured: dict[str, float]) -> None:
    """Keep what varies between equal runs (time, memory, commit) out of every out.

    Of the processes of one launch the first speaks for all; the process that launched them keeps what it measured. CPU
    time is that of all processes, the peak of memory that of the largest one.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    path = RUNS / f"{name}.json"
    inner = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"started": 0.0}
    mine, waited_for = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    RUNS.mkdir(parents=True, exist_ok=True)
    record = {
        "stage": name,
        "started": round(started, 3),
        "seconds": round(time.time() - started, 3),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in (mine, waited_for)), 3),
        "peak_memory_mib": round(max(mine.ru_maxrss, waited_for.ru_maxrss) / 1024),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        **measured,
    }
    if inner["started"] > started:
        record = {**inner, **record}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
