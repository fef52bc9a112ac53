"""Check a release folder away from its repository.

What this finds: a file that is not the one that the statement names; a card, a number or a licence that the files do
not give; a stage that read something else than what its producer wrote; a score that its ratings do not give. What it
cannot find in a release that is not signed: a rewrite in which everything agrees, the ratings included.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from curation.errors import HeartwoodError
from curation.examples import content_digest
from curation.jsonl import read_jsonl
from pipelines.evaluation.score import summarise
from pipelines.layout import MIXTURE
from pipelines.provenance.export import cards, croissant, statement
from pipelines.provenance.export.facts import (
    CROISSANT,
    DATA,
    VERIFIED,
    WEIGHTS,
    About,
    Checked,
    Facts,
    Origin,
    files_of,
    is_inside,
    read_facts,
)
from pipelines.provenance.export.release import SCHEME, build_predicate, render
from pipelines.provenance.hashing import hash_file
from pipelines.provenance.lineage import input_md5
from pipelines.provenance.verdict import Fault, Findings, ScoreVerdict, Verdict, Verification
from pipelines.provenance.verify import order_upstream, score_digests

_NEAR = 2e-6
_NEAR_P = 0.02


def is_release(folder: Path) -> bool:
    """Whether a folder holds a statement."""
    return any((folder / name).is_file() for name in (statement.PLAIN, statement.SIGNED))


def verify_folder(folder: Path, key: Path | None = None) -> Verification:
    """The verdicts on the scores of a release; what is wrong with the release is wrong with each.

    ``broken``: the release contradicts itself, or its signature is not of ``key``. ``incomplete``: it is signed and no
    key was given, or another version of heartwood wrote it. A release that was exported unverified keeps the verdict
    that it had then.

    Args:
        key: the publisher's public key (PEM).

    Raises:
        HeartwoodError: the folder holds no statement that can be read, or the key is none.
    """
    path = statement.find(folder)
    if path is None:
        raise HeartwoodError(
            f"{folder}: holds neither {statement.SIGNED} nor {statement.PLAIN}", hint="name the folder of a release"
        )
    stated, wrong = statement.read(path, key)
    release = _Checks()
    if path.name == statement.SIGNED or key is not None:
        release.count("signature")
        if wrong:
            release.fault("broken", "signature", path.name, f"{path.name}: {wrong}")
        elif key is None:
            release.fault("incomplete", "signature", path.name, "it is signed; --key PUB.pem checks by whom")
    release.check_files(folder, stated)
    models = _models(stated.predicate)
    if any(f.kind == "broken" for f in release.faults):
        return Verification(str(folder), _verdicts(release, models, {}), [])
    try:
        facts = _facts(folder, stated.predicate)
        of_model = {model: _Checks() for model in facts.scores}
        _check_release(release, of_model, facts, stated)
    except HeartwoodError as error:
        release.fault("broken", "release", folder.name, str(error))
        of_model = {}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, YAMLError) as error:
        release.fault("broken", "release", folder.name, f"a file has not the form that it must have ({error!r})")
        of_model = {}
    return Verification(str(folder), _verdicts(release, models, of_model), [])


class _Checks(Findings):
    """What was checked, and what does not hold."""

    def fault(self, kind: Verdict, stage: str, link: str, message: str) -> None:
        self.faults.append(Fault(kind, stage, link, message, "ask who made the release, or export it again"))

    def hold(self, holds: bool, stage: str, link: str, message: str, kind: Verdict = "broken") -> None:
        self.count("links")
        if not holds:
            self.fault(kind, stage, link, message)

    def check_files(self, folder: Path, stated: statement.Statement) -> None:
        """Every file against the statement: sha256, none missing, none more."""
        listed = stated.predicate.get("files")
        if not isinstance(listed, dict) or not listed:
            self.fault("broken", "statement", "files", "the statement lists no files")
            return
        for path, entry in sorted(listed.items()):
            target = folder / path
            wanted = entry.get("sha256") if isinstance(entry, dict) else None
            if not is_inside(path):
                self.hold(False, "files", path, f"{path}: a path outside the release")
            elif target.is_symlink() or not target.is_file():
                self.hold(False, "files", path, f"{path}: missing")
            else:
                found = hash_file(target).sha256
                self.hold(found == wanted, "files", path, f"{path}: sha256 {found}, the statement says {wanted}")
        for path in files_of(folder):
            if path not in listed and path not in (statement.PLAIN, statement.SIGNED):
                self.hold(False, "files", path, f"{path}: the statement does not know it")
        for name, subject in sorted(stated.subjects.items()):
            file = (listed.get(name) or {}).get("sha256")
            self.hold(file == subject, "statement", name, f"subject {name} is {subject}, the file is {file}")


def _models(predicate: Mapping[str, Any]) -> dict[str, float | None]:
    """The index of every model that the statement names."""
    scores = predicate.get("scores")
    if not isinstance(scores, dict) or not scores:
        return {"release": None}
    found = {}
    for model, score in scores.items():
        index = score.get("index") if isinstance(score, dict) else None
        found[model] = float(index) if isinstance(index, int | float) else None
    return found


def _verdicts(
    release: _Checks, models: Mapping[str, float | None], of_model: Mapping[str, _Checks]
) -> list[ScoreVerdict]:
    found = []
    for model, index in models.items():
        verdict = ScoreVerdict(model=model, score=index)
        verdict.add(release)
        if model in of_model:
            verdict.add(of_model[model])
        found.append(verdict)
    return found


def _facts(folder: Path, predicate: Mapping[str, Any]) -> Facts:
    said = {model: score["verified"] for model, score in predicate["scores"].items()}
    checked = {m: Checked(str(s["verdict"]), int(s["links_checked"]), tuple(s["faults"])) for m, s in said.items()}
    return read_facts(folder, About(**predicate["about"]), Origin(**predicate["revision"]), checked)


def _check_release(
    release: _Checks, of_model: Mapping[str, _Checks], facts: Facts, stated: statement.Statement
) -> None:
    subjects = {MIXTURE.as_posix(), *(f"{a.path}/{WEIGHTS}" for a in facts.adapters.values())}
    release.hold(
        set(stated.subjects) == subjects,
        "statement",
        "subject",
        f"the subjects are {', '.join(sorted(stated.subjects))}; they must be {', '.join(sorted(subjects))}",
    )
    _check_bytes(release, facts)
    for model, checks in of_model.items():
        _check_chain(checks, facts, model)
        _check_score(checks, facts, model)
    _check_mixture(release, facts)
    for name, adapter in facts.adapters.items():
        _check_lineage(release, facts, f"sft@{name}", adapter.lineage, f"{adapter.path}/lineage.json")
        _check_consumed(release, facts, name)
    for model in facts.scores:
        path = f"data/responses/{model}.lineage.json"
        if path in facts.digests:
            lineage = json.loads((facts.folder / path).read_text(encoding="utf-8"))
            _check_lineage(release, facts, f"respond@{model}", lineage, path)
    _check_comparison(release, facts)
    _check_statement(release, facts, stated.predicate)
    _check_croissant(release, facts)
    _check_cards(release, facts, stated.predicate)


def _check_bytes(checks: _Checks, facts: Facts) -> None:
    """Every out of ``dvc.lock`` that the release holds is the one that its stage wrote."""
    present = set()
    for name, locked in facts.lock.stages.items():
        for out in locked.get("outs", []):
            if (digest := facts.digest(out["path"])) is not None:
                present.add(out["path"])
                message = f"{out['path']} is {digest.md5}, {name} wrote {out.get('md5')}"
                checks.hold(digest.md5 == out.get("md5"), name, out["path"], message)
    for path in (*DATA, *(a.path for a in facts.adapters.values())):
        checks.hold(path in present, "dvc.lock", path, f"{path}: no stage of dvc.lock wrote it")


def _check_chain(checks: _Checks, facts: Facts, model: str) -> None:
    """Every input of every stage behind a score is what its producer wrote."""
    said = facts.checked[model]
    stage = f"score@{model}"
    checks.hold(stage in facts.lock.stages, stage, "dvc.lock", f"{stage} is no stage of dvc.lock")
    # Of a score that was verified, all links held.
    loose: Verdict = "broken" if said.verdict == VERIFIED else "stale"
    for name in order_upstream(facts.lock, stage):
        for dep in facts.lock.stages[name].get("deps", []):
            producer = facts.lock.producer.get(dep["path"])
            if producer is None:
                continue
            wrote = next(o.get("md5") for o in facts.lock.stages[producer]["outs"] if o["path"] == dep["path"])
            message = f"{name} read {dep['path']} as {dep.get('md5')}, {producer} wrote {wrote}"
            checks.hold(wrote == dep.get("md5"), name, dep["path"], message, loose)
    if said.verdict != VERIFIED:
        kind: Verdict = said.verdict if said.verdict in ("broken", "stale", "incomplete") else "broken"  # type: ignore[assignment]
        first = f": {said.faults[0]}" if said.faults else ""
        checks.fault(kind, stage, "export", f"it was exported although it was {said.verdict}{first}")


def _check_score(checks: _Checks, facts: Facts, model: str) -> None:
    """A score against its own inputs, what it names, and its ratings."""
    stage, path = f"score@{model}", f"reports/eq/{model}.json"
    score, detail, said = facts.scores[model], facts.details[model], facts.checked[model]
    _check_inputs(checks, facts, stage, detail["inputs"], f"reports/eq/{model}.detail.json")
    loose: Verdict = "broken" if said.verdict == VERIFIED else "stale"
    for key, out in score_digests(model).items():
        producer = facts.lock.producer.get(out)
        if producer is not None and key in score:
            wrote = next(o.get("md5") for o in facts.lock.stages[producer]["outs"] if o["path"] == out)
            message = f"the score names {key} {score[key]}, {producer} wrote {wrote}"
            checks.hold(score[key] in (wrote, "none"), stage, f"{path}:{key}", message, loose)
    rows = read_jsonl(facts.folder / f"reports/eq/{model}.ratings.jsonl")
    for key, value in summarise(rows).items():
        recorded = score.get(key)
        near = isinstance(recorded, int | float) and abs(recorded - value) <= _NEAR
        checks.hold(near, stage, f"{path}:{key}", f"{path}: {key} is {recorded}, its ratings give {value}")


def _check_inputs(
    checks: _Checks, facts: Facts, stage: str, inputs: Mapping[str, Mapping[str, str]], where: str
) -> None:
    """The inputs that a stage recorded against those that ``dvc.lock`` has, and against the bytes that are here."""
    locked = {d["path"]: d.get("md5") for d in facts.lock.stages.get(stage, {}).get("deps", [])}
    for path, digest in sorted(inputs.items()):
        message = f"{where}: {stage} read {path} as {digest['md5']}, dvc.lock says {locked.get(path)}"
        checks.hold(locked.get(path) == digest["md5"], stage, path, message)
        here = facts.digest(path)
        if here is not None and here.md5 == digest["md5"]:
            message = f"{where}: {path} has sha256 {digest['sha256']}, here it is {here.sha256}"
            checks.hold(here.sha256 == digest["sha256"], stage, path, message)


def _check_lineage(checks: _Checks, facts: Facts, stage: str, lineage: Mapping[str, Any], where: str) -> None:
    checks.hold(lineage["stage"] == stage, stage, where, f"{where} is the lineage of {lineage['stage']}")
    _check_inputs(checks, facts, stage, lineage["inputs"], where)
    parent = lineage.get("parent")
    if parent is None:
        return
    recorded, here = lineage["inputs"].get(parent["path"]), facts.digest(parent["path"])
    if recorded and here and recorded["md5"] == here.md5:
        own = json.loads((facts.folder / parent["path"] / "lineage.json").read_text(encoding="utf-8"))
        checks.hold(own == parent["lineage"], stage, where, f"{where} tells another lineage of {parent['path']}")


def _check_mixture(checks: _Checks, facts: Facts) -> None:
    """The receipt against the mixture."""
    receipt = facts.reports.get("mixture")
    if receipt is None:
        return
    where, found = "reports/mixture.json", facts.data[MIXTURE.as_posix()].by_source
    rows = {name: n for name, n in receipt["rows"].items() if n}
    checks.hold(rows == found, "mix", where, f"{where}: rows are {rows}, the mixture has {found}")
    digest = content_digest(read_jsonl(facts.folder / MIXTURE))
    recorded = receipt["examples_sha256"]
    message = f"{where}: examples_sha256 is {recorded}, the mixture's is {digest}"
    checks.hold(recorded == digest, "mix", where, message)


def _check_consumed(checks: _Checks, facts: Facts, model: str) -> None:
    """The rows that an adapter consumed are those of the mixture here, where it was trained on it."""
    adapter, stage = facts.adapters[model], f"sft@{model}"
    consumed = adapter.consumed
    where = f"{adapter.path}/lineage.json"
    if not consumed:
        return
    recorded = adapter.lineage.get("consumed")
    message = f"{where}: consumed is {recorded}, its rows give {consumed['uids_sha256']}"
    checks.hold(recorded == consumed["uids_sha256"], stage, where, message)
    named = facts.scores.get(model, {}).get("consumed", recorded)
    loose: Verdict = "broken" if facts.checked[model].verdict == VERIFIED else "stale"
    message = f"the score names consumed rows {named}, the adapter has {recorded}"
    checks.hold(named == recorded, f"score@{model}", "consumed", message, loose)
    # Rows that were passed over as too long cannot be told from here: that takes the tokenizer.
    same = input_md5(adapter.lineage, MIXTURE.as_posix()) == facts.digests[MIXTURE.as_posix()].md5
    if not same or consumed["too_long"]:
        return
    rows = read_jsonl(facts.folder / MIXTURE)
    taken = [rows[i % len(rows)] for i in range(consumed["first_row"], consumed["next_row"])]
    digest = sha256("\n".join(row["uid"] for row in taken).encode()).hexdigest()
    message = f"{where}: consumed uids are {consumed['uids_sha256']}, the mixture's rows give {digest}"
    checks.hold(digest == consumed["uids_sha256"], stage, where, message)
    counts = {n: c for n, c in consumed["rows_by_source"].items() if c}
    found = dict(Counter(row["source"] for row in taken))
    message = f"{where}: rows by source are {counts}, the mixture's rows give {found}"
    checks.hold(counts == found, stage, where, message)


def _check_comparison(checks: _Checks, facts: Facts) -> None:
    """The paired differences, computed again from the ratings."""
    recorded = (facts.reports.get("comparison") or {}).get("contrasts")
    if recorded is None:
        return
    from pipelines.evaluation.compare import compare_models

    ratings = {m: read_jsonl(facts.folder / f"reports/eq/{m}.ratings.jsonl") for m in facts.scores}
    again = compare_models(ratings, int(facts.params["compare"]["seed"]))["contrasts"]
    where = "reports/comparison.json"
    checks.hold(len(again) == len(recorded), "compare", where, f"{where}: {len(recorded)} contrasts, not {len(again)}")
    for there, here in zip(recorded, again, strict=False):
        for key in sorted(set(there) & set(here)):
            a, b = there[key], here[key]
            if isinstance(b, float):
                # p values of the Monte Carlo test differ a little between versions of numpy.
                holds = isinstance(a, int | float) and abs(a - b) <= (_NEAR_P if key.startswith("p") else _NEAR)
            else:
                holds = a == b
            message = f"{where}: {key} of {there.get('to')} against {there.get('from')} is {a}, the ratings give {b}"
            checks.hold(holds, "compare", where, message)


def _check_statement(checks: _Checks, facts: Facts, predicate: Mapping[str, Any]) -> None:
    """The statement's predicate against what the files give."""
    if predicate.get("scheme") != SCHEME:
        checks.fault("incomplete", "statement", "scheme", f"of scheme {predicate.get('scheme')!r}; known: {SCHEME!r}")
        return
    for key, value in build_predicate(facts).items():
        if key == "cards":
            continue
        different = next(differences(predicate.get(key), value, key), None)
        message = f"statement, {different[0]}: says {different[1]}, the files give {different[2]}" if different else ""
        checks.hold(different is None, "statement", key, message)


def _check_croissant(checks: _Checks, facts: Facts) -> None:
    """The sha256 of every file that the metadata describes, then all of it."""
    content = json.loads((facts.folder / CROISSANT).read_text(encoding="utf-8"))
    for entry in content["distribution"]:
        digest = facts.digests.get(entry["contentUrl"])
        found = digest.sha256 if digest else "not here"
        message = f"{CROISSANT}: {entry['contentUrl']} has sha256 {entry['sha256']}, the file is {found}"
        checks.hold(entry["sha256"] == found, "croissant", entry["contentUrl"], message)
    different = next(differences(content, croissant.build(facts), ""), None)
    message = f"{CROISSANT}, {different[0]}: says {different[1]}, the files give {different[2]}" if different else ""
    checks.hold(different is None, "croissant", CROISSANT, message)


def _check_cards(checks: _Checks, facts: Facts, predicate: Mapping[str, Any]) -> None:
    """Every line of every card, written again."""
    if predicate.get("cards") != cards.SCHEME:
        message = f"cards of scheme {predicate.get('cards')!r} cannot be checked; known: {cards.SCHEME!r}"
        checks.fault("incomplete", "cards", "README.md", message)
        return
    for path, text in render(facts):
        there = (facts.folder / path).read_text(encoding="utf-8").split("\n")
        wanted = text.split("\n")
        number = next((i for i, (a, b) in enumerate(zip(there, wanted, strict=False)) if a != b), None)
        if number is None and len(there) != len(wanted):
            number = min(len(there), len(wanted))
        message = ""
        if number is not None:
            a, b = (lines[number] if number < len(lines) else "nothing" for lines in (there, wanted))
            message = f"{path}, line {number + 1}: says {_short(a)}, the reports give {_short(b)}"
        checks.hold(number is None, "cards", path, message)


def differences(there: Any, here: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Where two JSON values differ: the path, and both values in short; in order of keys."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}, key=str):
            inner = f"{where} > {key}" if where else str(key)
            if key not in there or key not in here:
                a, b = (_short(v[key]) if key in v else "nothing" for v in (there, here))
                yield inner, a, b
            else:
                yield from differences(there[key], here[key], inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, (a, b) in enumerate(zip(there, here, strict=True), start=1):
            yield from differences(a, b, f"{where} > {number}")
    elif there != here or isinstance(there, bool) != isinstance(here, bool):
        yield where, _short(there), _short(here)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 120 else f"{text[:120]}…")
