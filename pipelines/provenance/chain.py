"""The first level of verification: ``dvc.lock``, ``dvc.yaml``, ``params.yaml``, git and the scores' own evidence.

No data is needed. It finds every edit that leaves these in disagreement; it cannot find data that no longer has its
recorded hash, nor a rewrite in which everything agrees.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.records import digest
from pipelines.evaluation.compare import compare_models
from pipelines.evaluation.score import count_reasons, summarise
from pipelines.provenance.hashing import Digest, hash_file, hash_path
from pipelines.provenance.lock import Definition, Lock, read_definitions, read_lock, read_yaml
from pipelines.provenance.revision import Revision
from pipelines.provenance.stage import is_code, look_up
from pipelines.provenance.verdict import Fault, Findings, ReportVerdict, ScoreVerdict, Unchecked

NONE = "none"
ROUNDING = 2e-6
"""Numbers in reports are rounded to six digits; two equal computations differ by no more."""

RATING_CODE = ("pipelines/evaluation/", "curation/text.py")
COMPARE, HEADLINE = "compare", "headline"
COMPARISON, METRICS, SCORES = "reports/comparison.json", "reports/metrics.json", "reports/scores.json"


def score_path(model: str) -> str:
    """Where a model's score stands."""
    return f"reports/eq/{model}.json"


def detail_path(model: str) -> str:
    """Where a score's breakdowns and inputs stand."""
    return f"reports/eq/{model}.detail.json"


def ratings_path(model: str) -> str:
    """Where a model's ratings stand, ids and numbers."""
    return f"reports/eq/{model}.ratings.jsonl"


def score_digests(model: str) -> dict[str, str]:
    """The digests that a score file names, and the path that each is the md5 of."""
    return {
        "mixture": "data/mixture/train.jsonl",
        "dev": "data/dev.jsonl",
        "prompts": "data/prompts.jsonl",
        "base": "models/base.json",
        "adapter": f"models/{model}",
    }


@dataclass
class Chain:
    """The chain at one revision; each stage is looked at once, however many scores rest on it."""

    revision: Revision
    _stages: dict[str, Findings] = field(default_factory=dict)

    @cached_property
    def params(self) -> dict[str, Any]:
        """``params.yaml`` at the revision."""
        found: dict[str, Any] = read_yaml(self.revision, "params.yaml") or {}
        return found

    @cached_property
    def lock(self) -> Lock:
        """``dvc.lock`` at the revision."""
        return read_lock(self.revision)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """The stages of ``dvc.yaml`` at the revision."""
        return read_definitions(self.revision)

    @property
    def models(self) -> list[str]:
        """The models that ``params.yaml`` names, in order."""
        return list(look_up(self.params, "models"))

    def upstream(self, stage: str) -> list[str]:
        """The stages that a stage rests on by lock or definition, itself last, each after those it reads from."""
        defined = {path: name for name, d in self.definitions.items() for path in d.outs}
        seen: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in seen:
                return
            seen[name] = None
            read = set(self.lock.deps(name)) if name in self.lock.stages else set()
            read |= self.definitions[name].deps if name in self.definitions else set()
            for path in sorted(read):
                for producer in (self.lock.producer_of(path), defined.get(path)):
                    if producer is not None:
                        visit(producer)
            # Dictionaries keep insertion order: behind everything that it reads from.
            seen[name] = seen.pop(name)

        visit(stage)
        return list(seen)

    def stage(self, name: str) -> Findings:
        """What holds and what does not at one stage."""
        if name not in self._stages:
            self._stages[name] = self._check_stage(name)
        return self._stages[name]

    def seen_by(self, stage: str) -> dict[str, set[str]]:
        """Every path behind a stage with the md5 as which it was read, as far as the links of the lock are whole."""
        seen: dict[str, set[str]] = {}
        waiting, done = [stage], {stage}
        while waiting:
            current = waiting.pop()
            for path, md5 in self.lock.deps(current).items():
                seen.setdefault(path, set()).add(md5)
                producer = self.lock.producer_of(path)
                if producer and producer not in done and self.lock.outs(producer).get(path) == md5:
                    done.add(producer)
                    waiting.append(producer)
        return seen

    def is_intact(self, path: str, md5: str | None) -> bool:
        """Whether a git-tracked file is, byte for byte, the one with this md5."""
        found = self.revision.digest(path)
        return found is not None and found.md5 == md5

    def same_code(self, stage: str) -> bool:
        """Whether the code that rates and counts is the same in the stage's run and here."""
        import curation

        root = Path(curation.__file__).parents[1]
        used = {p: m for p, m in self.lock.deps(stage).items() if p.startswith(RATING_CODE) and p.endswith(".py")}
        return all((root / p).is_file() and hash_file(root / p).md5 == m for p, m in used.items())

    def code_digest(self, stage: str) -> str | None:
        """The digest of a stage's code from git, or None where git no longer has the code that ran."""
        found: dict[str, str] = {}
        for path, md5 in self.lock.deps(stage).items():
            if is_code(path):
                at_revision = self.revision.digest(path)
                if at_revision is None or at_revision.md5 != md5:
                    return None
                found[path] = at_revision.sha256
        return digest(found)

    def _check_stage(self, name: str) -> Findings:
        found = Findings()
        definition = self.definitions.get(name)
        if name not in self.lock.stages:
            message = f"dvc.lock has no entry of {name}; what it read and wrote cannot be checked"
            found.faults.append(Fault("incomplete", name, "dvc.lock", message, f"dvc repro {name}"))
            return found
        if definition is None:
            message = f"dvc.yaml has no stage {name}, which wrote {', '.join(self.lock.outs(name))}"
            found.faults.append(Fault("stale", name, "dvc.yaml", message))
        else:
            self._check_definition(name, definition, found)
        self._check_deps(name, found)
        self._check_params(name, found)
        self._check_outs(name, definition, found)
        return found

    def _check_definition(self, name: str, definition: Definition, found: Findings) -> None:
        ran = str(self.lock.stages[name].get("cmd"))
        found.count("definitions")
        if ran != definition.cmd:
            message = f"{name} ran as `{ran}`, dvc.yaml has `{definition.cmd}`"
            found.faults.append(Fault("stale", name, "dvc.yaml", message))
        for what, defined, locked in (
            ("dependency", definition.deps, self.lock.deps(name)),
            ("param", definition.params, self.lock.params(name)),
            ("out", definition.outs, self.lock.outs(name)),
        ):
            for path in sorted(defined ^ set(locked)):
                there = ("dvc.yaml", "dvc.lock") if path in defined else ("dvc.lock", "dvc.yaml")
                message = f"{name}: {there[0]} lists the {what} {path}, {there[1]} does not"
                found.faults.append(Fault("stale", name, path, message))

    def _check_deps(self, name: str, found: Findings) -> None:
        for path, md5 in self.lock.deps(name).items():
            found.count("dependencies")
            if producer := self.lock.producer_of(path):
                outs = self.lock.outs(producer)
                if path not in outs:
                    found.unchecked.append(Unchecked(path, f"it is a part of an out of {producer}, hashed as a whole"))
                elif outs[path] != md5:
                    message = f"{name} read {path} as {md5}, {producer} has since written {outs[path]}"
                    found.faults.append(Fault("stale", name, path, message))
                continue
            at_revision = self.revision.digest(path)
            if at_revision is None:
                message = f"{path}, which {name} read, is neither in git nor made by a stage"
                found.faults.append(Fault("incomplete", name, path, message, f"git add {path}, and commit"))
            elif not self.revision.is_same(path, md5):
                message = f"{name} ran with {path} as {md5}, it is now {at_revision.md5}"
                found.faults.append(Fault("stale", name, path, message))

    def _check_params(self, name: str, found: Findings) -> None:
        for key, value in self.lock.params(name).items():
            found.count("params")
            try:
                current = look_up(self.params, key)
            except HeartwoodError:
                current = None
            if current != value:
                message = f"{name} ran with {key} = {value!r}, params.yaml has {current!r}"
                found.faults.append(Fault("stale", name, f"params.yaml:{key}", message))

    def _check_outs(self, name: str, definition: Definition | None, found: Findings) -> None:
        in_git = definition.in_git if definition else frozenset()
        for path, md5 in self.lock.outs(name).items():
            at_revision = self.revision.digest(path) or self._untracked(path, in_git)
            if at_revision is None or at_revision.md5 == "missing":
                if path in in_git:
                    message = f"{path}, which {name} wrote, is not there"
                    found.faults.append(
                        Fault("incomplete", name, path, message, f"dvc repro {name}, and commit {path}")
                    )
                continue
            found.count("outs in git")
            if at_revision.md5 != md5 and not self.revision.is_same(path, md5):
                message = f"{path} is {at_revision.md5}, {name} wrote {md5}"
                hint = f"git checkout -- {path}, or dvc repro -f {name}"
                found.faults.append(Fault("broken", name, path, message, hint))

    def _untracked(self, path: str, in_git: frozenset[str]) -> Digest | None:
        here = not self.revision.commit and path in in_git and Path(path).exists()
        return hash_path(Path(path)) if here else None


def check_score(chain: Chain, model: str) -> ScoreVerdict:
    """The verdict on one model's score without data."""
    stage = f"score@{model}"
    result = ScoreVerdict(model, None)
    if stage not in chain.lock.stages:
        hint = f"dvc repro {stage}"
        result.faults.append(Fault("incomplete", stage, "dvc.lock", f"{stage} has never run", hint))
        return result
    for name in chain.upstream(stage):
        result.add(chain.stage(name))
    read = _read_score(chain, model, result)
    if read is None:
        return result
    score, detail, rows = read
    _check_inputs(chain, stage, detail, result)
    _check_digests(chain, stage, model, score, result)
    _check_judge(chain, stage, score, result)
    _check_summary(chain, stage, model, score, detail, rows, result)
    return result


def check_report(chain: Chain, stage: str) -> ReportVerdict:
    """The verdict, without data, on the outs of a stage that no score rests on."""
    outs = chain.lock.outs(stage) if stage in chain.lock.stages else dict.fromkeys(chain.definitions[stage].outs, "")
    result = ReportVerdict(", ".join(sorted(outs)))
    for name in chain.upstream(stage):
        result.add(chain.stage(name))
    if stage in chain.lock.stages:
        if stage == COMPARE:
            _check_comparison(chain, result)
        if stage == HEADLINE:
            _check_headline(chain, result)
    return result


def _read_score(
    chain: Chain, model: str, result: ScoreVerdict
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]] | None:
    stage, read = f"score@{model}", {}
    for path in (score_path(model), detail_path(model), ratings_path(model)):
        data = chain.revision.read(path)
        if data is None:
            message = f"{path} is not at {chain.revision.name}"
            result.faults.append(Fault("incomplete", stage, path, message, f"dvc repro {stage}, and commit {path}"))
            return None
        read[path] = data
    path = score_path(model)
    try:
        score = json.loads(read[path])
        result.score = float(score["index"])
        path = detail_path(model)
        detail = json.loads(read[path])
        detail["inputs"] = {p: dict(d) for p, d in detail["inputs"].items()}
        path = ratings_path(model)
        rows = [json.loads(line) for line in read[path].decode().splitlines()]
        if not all(isinstance(row["prompt_id"], str) and isinstance(row["status"], str) for row in rows):
            raise ValueError("a row without prompt_id or status")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is not what score@{model} writes ({type(error).__name__}: {error})"
        result.faults.append(Fault("broken", stage, path, message, f"dvc repro -f {stage}"))
        return None
    return score, detail, rows


def _check_inputs(chain: Chain, stage: str, detail: dict[str, Any], result: Findings) -> None:
    hint = f"dvc repro -f {stage}"
    locked = {p: m for p, m in chain.lock.deps(stage).items() if not is_code(p)}
    for path in sorted({*locked, *detail["inputs"]}):
        result.count("inputs of the score")
        recorded = detail["inputs"].get(path, {})
        if recorded.get("md5") != locked.get(path):
            message = (
                f"the score was made from {path} with md5 {recorded.get('md5', NONE)}, dvc.lock says"
                f" {locked.get(path, NONE)}"
            )
            result.faults.append(Fault("broken", stage, path, message, hint))
            continue
        found = chain.revision.digest(path)
        if found and found.md5 == recorded["md5"] and found.sha256 != recorded.get("sha256"):
            message = f"the score names {path} with sha256 {recorded.get('sha256')}, git has {found.sha256}"
            result.faults.append(Fault("broken", stage, path, message, hint))
    code = chain.code_digest(stage)
    if code is None:
        result.unchecked.append(Unchecked(f"{stage}: code", "git no longer has the code that ran at this revision"))
    else:
        result.count("inputs of the score")
        if detail.get("code") != code:
            message = f"the score names the code digest {detail.get('code')}, the code in dvc.lock has {code}"
            result.faults.append(Fault("broken", stage, f"{stage}: code", message, hint))


def _check_digests(chain: Chain, stage: str, model: str, score: dict[str, Any], result: Findings) -> None:
    path = score_path(model)
    seen = chain.seen_by(stage)
    behind = {p for name in chain.upstream(stage) if name in chain.lock.stages for p in chain.lock.deps(name)}
    hint = f"dvc repro -f {stage}"
    for key, of in score_digests(model).items():
        result.count("digests of the score")
        recorded = score.get(key)
        if of in seen and of in chain.lock.producer:
            if recorded not in seen[of]:
                message = f"the score names {key} {recorded}, the chain in dvc.lock has {', '.join(sorted(seen[of]))}"
                result.faults.append(Fault("broken", stage, f"{path}:{key}", message, hint))
        elif of in behind and of in chain.lock.producer:
            result.unchecked.append(Unchecked(f"{path}:{key}", "a link between the score and it is stale"))
        elif recorded != NONE:
            message = f"the score names {key} {recorded}, but nothing behind it has read {of}"
            result.faults.append(Fault("broken", stage, f"{path}:{key}", message, hint))
    trained = score_digests(model)["mixture"] in behind
    if (score.get("consumed", NONE) != NONE) != trained:
        message = (
            f"the score names consumed rows {score.get('consumed')}, {'a' if trained else 'no'} mixture is behind it"
        )
        result.faults.append(Fault("broken", stage, f"{path}:consumed", message, hint))


def _check_judge(chain: Chain, stage: str, score: dict[str, Any], result: Findings) -> None:
    path = "reports/judge.json"
    if not chain.is_intact(path, chain.lock.deps(stage).get(path)):
        return
    judge = json.loads(chain.revision.read(path) or b"{}")
    name = f"{judge.get('id')} ({judge.get('label')})"
    result.count("digests of the score")
    if score.get("judge") != name:
        message = f"the score names the judge {score.get('judge')!r}, {path} has {name!r}"
        result.faults.append(Fault("broken", stage, path, message, f"dvc repro -f {stage}"))


def _check_summary(
    chain: Chain,
    stage: str,
    model: str,
    score: dict[str, Any],
    detail: dict[str, Any],
    rows: list[dict[str, Any]],
    result: Findings,
) -> None:
    """The numbers of the score from its own ratings."""
    try:
        expected: dict[str, Any] = {**summarise(rows), "degenerate_by_reason": count_reasons(rows)}
    except (KeyError, TypeError, ValueError, HeartwoodError) as error:
        message = f"{ratings_path(model)} holds no ratings that can be averaged ({type(error).__name__}: {error})"
        result.faults.append(Fault("broken", stage, ratings_path(model), message, f"dvc repro -f {stage}"))
        return
    recorded = {**score, "degenerate_by_reason": detail.get("degenerate_by_reason")}
    compare_numbers(
        chain, stage, score_path(model), {k: recorded.get(k) for k in expected}, expected, "its ratings give", result
    )


def compare_numbers(
    chain: Chain,
    stage: str,
    path: str,
    recorded: Any,
    expected: Any,
    said: str,
    result: Findings,
    tolerance: float = ROUNDING,
) -> None:
    """Compare what a file holds with what its evidence gives; a difference is a fault only where the code is the same."""
    result.count("numbers computed again")
    place = first_difference(recorded, expected, tolerance)
    if place is None:
        return
    where, there, here = place
    link = f"{path}:{where}" if where else path
    if chain.same_code(stage):
        message = f"{link} is {there!r}, {said} {here!r}"
        result.faults.append(Fault("broken", stage, link, message, f"dvc repro -f {stage}"))
    else:
        why = f"it is {there!r}; this version of the code gives {here!r}, the version that ran may not"
        result.unchecked.append(Unchecked(link, why))


def first_difference(there: Any, here: Any, tolerance: float, where: str = "") -> tuple[str, Any, Any] | None:
    """The first place at which two JSON values differ, numbers by more than ``tolerance``: (dotted key, there, here)."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            inner = f"{where}.{key}" if where else str(key)
            if found := first_difference(there.get(key), here.get(key), tolerance, inner):
                return found
        return None
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, (a, b) in enumerate(zip(there, here, strict=True)):
            if found := first_difference(a, b, tolerance, f"{where}[{number}]"):
                return found
        return None
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (there, here))
    same = abs(there - here) <= tolerance if numbers else there == here
    return None if same else (where, there, here)


def _check_comparison(chain: Chain, result: Findings) -> None:
    params, deps = chain.lock.params(COMPARE), chain.lock.deps(COMPARE)
    models = params.get("models") or {}
    if not all(chain.is_intact(ratings_path(m), deps.get(ratings_path(m))) for m in models):
        result.unchecked.append(Unchecked(COMPARISON, "the ratings that it compared are not those at this revision"))
        return
    try:
        ratings = {
            m: [json.loads(line) for line in (chain.revision.read(ratings_path(m)) or b"").decode().splitlines()]
            for m in models
        }
        expected = compare_models(ratings, params["compare"]["seed"])
        recorded = json.loads(chain.revision.read(COMPARISON) or b"null")
    except (KeyError, TypeError, ValueError, HeartwoodError) as error:
        message = f"the ratings cannot be compared again ({type(error).__name__}: {error})"
        result.faults.append(Fault("broken", COMPARE, COMPARISON, message, f"dvc repro -f {COMPARE}"))
        return
    compare_numbers(chain, COMPARE, COMPARISON, recorded, expected, "the ratings give", result)


def _check_headline(chain: Chain, result: Findings) -> None:
    model = (chain.lock.params(HEADLINE).get("report") or {}).get("model")
    path = score_path(str(model))
    if not chain.is_intact(path, chain.lock.deps(HEADLINE).get(path)):
        result.unchecked.append(Unchecked(METRICS, f"{path} is not the one that it copied"))
        return
    result.count("numbers computed again")
    if chain.revision.read(METRICS) != chain.revision.read(path):
        message = f"{METRICS} is not the score of {model}, {path}"
        result.faults.append(Fault("broken", HEADLINE, METRICS, message, f"dvc repro -f {HEADLINE}"))
    table = json.loads(chain.revision.read(SCORES) or b"{}")
    for name in chain.lock.params(HEADLINE).get("models") or {}:
        path = score_path(name)
        if not chain.is_intact(path, chain.lock.deps(HEADLINE).get(path)):
            continue
        result.count("numbers computed again")
        score = json.loads(chain.revision.read(path) or b"{}")
        row = table.get(name)
        if not row or row != {key: score.get(key) for key in row}:
            message = f"{SCORES} has {row} for {name}, its score file {path} has other numbers"
            result.faults.append(Fault("broken", HEADLINE, f"{SCORES}:{name}", message, f"dvc repro -f {HEADLINE}"))
