"""A copy of the small repository to forge in, with the tools of a forger who knows DVC's formats."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from curation.jsonl import read_jsonl, write_jsonl
from pipelines.evaluation.compare import compare_models
from pipelines.evaluation.score import summarise
from pipelines.provenance.hashing import hash_file, hash_path
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.revision import open_revision
from pipelines.provenance.verdict import Findings, ReportVerdict
from pipelines.provenance.verify import Level, verify_revision
from tests.project import Project
from tests.provenance.score_project import MODELS, open_project

LINEAGES = {
    "sft@sft-100": ("models/sft-100", "lineage.json"),
    "sft@sft-150": ("models/sft-150", "lineage.json"),
    **{f"respond@{m}": (f"data/responses/{m}.lineage.json", "") for m in MODELS},
}
CACHE = Path(".dvc/cache/files/md5")


class Lab:
    """Paths are relative to the repository, which is the current folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.project: Project = open_project(base)
        self._read: tuple[str, dict[str, Any]] = ("", {})

    def lock(self) -> dict[str, Any]:
        text = self.project.read("dvc.lock")
        if text != self._read[0]:
            self._read = (text, YAML(typ="safe", pure=True).load(io.StringIO(text)))
        return self._read[1]

    def md5(self, path: str) -> str:
        return next(o["md5"] for s in self.lock()["stages"].values() for o in s.get("outs", []) if o["path"] == path)

    def edit_lock(self, change: Callable[[dict[str, Any]], None]) -> None:
        lock = self.lock()
        change(lock["stages"])
        # JSON is YAML, and written a hundred times faster.
        text = json.dumps(lock, indent=1)
        self.project.write("dvc.lock", text)
        self._read = (text, lock)

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.project.read(path)
        assert old in text
        self.project.write(path, text.replace(old, new, 1))

    def edit_json(self, path: str, **fields: Any) -> None:
        write_json(Path(path), {**read_json(Path(path)), **fields})

    def edit_rows(self, path: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
        rows = read_jsonl(Path(path))
        change(rows)
        write_jsonl(rows, Path(path))

    def flip(self, path: Path | str, at: int = -2) -> None:
        target = Path(path)
        data = bytearray(target.read_bytes())
        data[at] ^= 1
        target.chmod(0o644)
        target.write_bytes(data)

    def relock(self, *paths: str) -> None:
        """Give every entry of these paths in the lock the hash that they have now, and the cache their bytes."""
        new = {path: hash_path(Path(path)).md5 for path in paths}

        def change(stages: dict[str, Any]) -> None:
            for stage in stages.values():
                for entry in (*stage.get("deps", []), *stage.get("outs", [])):
                    if entry["path"] in new:
                        entry["md5"] = new[entry["path"]]

        self.edit_lock(change)
        for path, md5 in new.items():
            if not self.project.run("git", "ls-files", "--", path).stdout:
                self._keep(Path(path), md5)

    def _keep(self, path: Path, md5: str) -> None:
        def put(name: str, data: bytes) -> None:
            target = CACHE / name[:2] / name[2:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.write_bytes(data)

        if not path.is_dir():
            put(md5, path.read_bytes())
            return
        files = sorted(p for p in path.rglob("*") if p.is_file())
        entries = [{"md5": hash_file(p).md5, "relpath": p.relative_to(path).as_posix()} for p in files]
        put(md5, json.dumps(entries).encode())
        for p, entry in zip(files, entries, strict=True):
            put(entry["md5"], p.read_bytes())

    def agree(self) -> None:
        """Make everything that is written from something else agree with it: lineages, scores, lock, reports."""
        for stage, (out, inner) in LINEAGES.items():
            path = Path(out, inner)
            lineage = read_json(path)
            lineage["inputs"] = {p: hash_path(Path(p)).as_dict() for p in lineage["inputs"]}
            if parent := lineage.get("parent"):
                parent["lineage"] = read_json(Path(parent["path"], "lineage.json"))
            write_json(path, lineage)
            self.relock(out, *([f"data/responses/{stage.partition('@')[2]}.jsonl"] if not inner else []))
        for model in MODELS:
            self.agree_score(model)

    def agree_score(self, model: str) -> None:
        """Make a model's score agree with its ratings and inputs, and the reports and the lock with it."""
        score, detail = f"reports/eq/{model}.json", f"reports/eq/{model}.detail.json"
        ratings = f"reports/eq/{model}.ratings.jsonl"
        inputs = read_json(Path(detail))["inputs"]
        self.edit_json(detail, inputs={p: hash_path(Path(p)).as_dict() for p in inputs})
        fields = {"prompts": self.md5("data/prompts.jsonl"), "dev": self.md5("data/dev.jsonl")}
        if model != "base":
            fields |= {"mixture": self.md5("data/mixture/train.jsonl"), "adapter": self.md5(f"models/{model}")}
            fields["consumed"] = read_json(Path(f"models/{model}/lineage.json"))["consumed"]
        self.edit_json(score, **summarise(read_jsonl(Path(ratings))), **fields)
        shutil.copyfile("reports/eq/base.json", "reports/metrics.json")
        table = read_json(Path("reports/scores.json"))
        numbers = {m: read_json(Path(f"reports/eq/{m}.json")) for m in table}
        write_json(Path("reports/scores.json"), {m: {k: numbers[m][k] for k in row} for m, row in table.items()})
        rows = {m: read_jsonl(Path(f"reports/eq/{m}.ratings.jsonl")) for m in MODELS}
        write_json(Path("reports/comparison.json"), compare_models(rows, 0))
        self.relock(score, detail, ratings, "reports/metrics.json", "reports/scores.json", "reports/comparison.json")

    def look(self, level: Level = "chain", at: str = "workspace") -> dict[str, Findings]:
        """Every verdict at a level, by model or by the report's path."""
        found = verify_revision(open_revision(at), level)
        by_name: dict[str, Findings] = {v.model: v for v in found.scores}
        return by_name | {r.path: r for r in found.reports if isinstance(r, ReportVerdict)}

    def cached(self, path: str) -> Path:
        md5 = self.md5(path)
        return CACHE / md5[:2] / md5[2:]
