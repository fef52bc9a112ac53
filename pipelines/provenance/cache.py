"""``--cache``: every object of DVC's cache against its own name.

DVC checks a copy only when it makes it: an object damaged later is restored as it is, and its status stays clean.
"""

from collections.abc import Iterator
from pathlib import Path

from pipelines.provenance.evidence import FETCH
from pipelines.provenance.hashing import hash_file
from pipelines.provenance.lock import Lock
from pipelines.provenance.verdict import Fault, ReportVerdict


def check_cache(lock: Lock) -> ReportVerdict:
    """Every object of the cache, hashed; outs of ``lock`` are named where theirs is damaged."""
    from dvc.repo import Repo

    with Repo() as repo:
        folder = Path(repo.cache.local.path)
    of = {md5: path for stage in lock.stages for path, md5 in lock.outs(stage).items()}
    result = ReportVerdict("DVC's cache")
    for name, path in _objects(folder):
        result.count("objects of the cache")
        found = hash_file(path).md5
        if found != name.removesuffix(".dir"):
            said = f", {of[name]}" if name in of else ""
            message = f"{path}: its name is {name}{said}, its bytes have md5 {found}"
            hint = f"rm -f {path}, then {FETCH}"
            result.faults.append(
                Fault("broken", lock.producer.get(of.get(name, ""), ""), of.get(name, name), message, hint)
            )
    return result


def _objects(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of every object, in order of names."""
    for prefix in sorted(p for p in folder.glob("[0-9a-f][0-9a-f]") if p.is_dir()):
        for path in sorted(prefix.iterdir()):
            if len(path.name.removesuffix(".dir")) == 30:
                yield prefix.name + path.name, path
