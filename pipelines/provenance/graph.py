"""What DVC's own graph of stages says about who depends on whom."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError


def require_independent(outs: Iterable[Path], of: str, params: str, root: Path) -> None:
    """Raise if one of these outs could change with a stage or a params section.

    Args:
        outs: paths that stages write.
        of: a stage that none of their stages may rest on, at any remove.
        params: a params section that none of those may read.
        root: the project's folder.

    Raises:
        HeartwoodError: names the out and the way from the stage or section to it; or no stage writes an out.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        producer = {out.def_path: stage for stage in repo.index.stages for out in stage.outs}
        for path in map(Path.as_posix, outs):
            if path not in producer:
                raise HeartwoodError(f"dvc.yaml: no stage writes {path}", hint="restore the stage in dvc.yaml")
            _require_independent(repo.index.graph, producer[path], path, of, params)


def _require_independent(graph: Any, stage: Any, path: str, of: str, params: str) -> None:
    from dvc.dependency.param import ParamsDependency

    # Edges of DVC's graph go from a stage to those that it reads from.
    way = {stage: [_name(stage)]}
    waiting = [stage]
    while waiting:
        current = waiting.pop()
        keys = [key for dep in current.deps if isinstance(dep, ParamsDependency) for key in dep.params]
        read = next((key for key in keys if key.split(".")[0] == params), None)
        if _name(current) == of or read is not None:
            cause = of if _name(current) == of else f"params.yaml:{read}"
            raise HeartwoodError(
                f"{path} depends on {cause}: {' <- '.join(way[current])}; two mixtures must be judged on the same data",
                hint="take that dependency out of dvc.yaml",
            )
        for upstream in sorted(graph.successors(current), key=_name):
            if upstream not in way:
                way[upstream] = [*way[current], _name(upstream)]
                waiting.append(upstream)


def _name(stage: Any) -> str:
    # A data file of its own (`dvc add`, `dvc import-url`) is a stage without a name.
    return str(getattr(stage, "name", None) or stage.addressing)
