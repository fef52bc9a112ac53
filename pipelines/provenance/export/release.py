"""Write a release folder of one revision: data, adapters, reports, cards, Croissant metadata and a statement."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.layout import BASE, MIXTURE
from pipelines.provenance.export import cards, croissant, statement
from pipelines.provenance.export.facts import (
    CARD,
    CROISSANT,
    DATA,
    LOCK,
    PARAMS,
    PIPELINE,
    VERIFIED,
    WEIGHTS,
    About,
    Checked,
    Facts,
    Origin,
    read_facts,
)
from pipelines.provenance.export.licences import JUDGE
from pipelines.provenance.hashing import hash_path
from pipelines.provenance.lineage import chain
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision, open_revision
from pipelines.provenance.stage import look_up
from pipelines.provenance.verify import ScoreVerdict, read_yaml, verify

SCHEME = "release-v1"
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Wish:
    """What the publisher says of a release; empty for the defaults: a name and an address made of the mixture's
    sha256, and a creator that is not stated."""

    name: str = ""
    creator: str = ""
    url: str = ""


@dataclass(frozen=True)
class Release:
    """A release folder as written: its facts, and the file that holds its statement."""

    folder: Path
    facts: Facts
    statement: Path


def export(name: str, out: Path, *, wish: Wish, key: Path | None, allow_unverified: bool) -> Release:
    """Write the release of a revision into a new folder; nothing is left there when it fails.

    Args:
        name: a commit, tag, branch or experiment, or ``workspace``.
        key: a private key in PEM to sign the statement with, or None.
        allow_unverified: go on although ``heartwood verify`` does not confirm every score; everything says so.

    Raises:
        HeartwoodError: the folder is not free, or git would track it; a score is not verified; data is not there.
    """
    _require_free(out)
    revision = open_revision(name)
    verdicts = verify(revision)
    if not allow_unverified:
        _require_verified(verdicts, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        copy_files(revision, scratch)
        checked = {v.model: Checked(v.verdict, v.checked, tuple(f.message for f in v.faults)) for v in verdicts}
        facts = describe(scratch, wish, _origin(revision), checked)
        written = _state(facts, key)
        if out.exists():
            out.rmdir()
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Release(out, facts, out / written)


def _require_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise HeartwoodError(f"{out}: is there already", hint="name a new folder, or delete this one")
    here = Path(_git("rev-parse", "--show-toplevel").strip() or ".").resolve()
    if out.resolve().is_relative_to(here) and not _git("check-ignore", str(out)).strip():
        raise HeartwoodError(
            f"{out} is inside the repository: the corpora's text would be one `git add` from being published",
            hint="name a folder outside it, as ../release, or one that git ignores",
        )


def _require_verified(verdicts: Iterable[ScoreVerdict], name: str) -> None:
    wrong = [v for v in verdicts if v.verdict != VERIFIED]
    if wrong:
        first = f": {wrong[0].first.message}" if wrong[0].first else ""
        raise HeartwoodError(
            f"{name}: the score of {', '.join(v.model for v in wrong)} is {wrong[0].verdict}, not verified{first}",
            hint=f"see `heartwood verify {name}`; --allow-unverified exports it all the same, and every card says so",
        )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout


def _origin(revision: Revision) -> Origin:
    """Whence a release is: the date is the commit's, so that a revision always gives the same bytes."""
    shown = _git("show", "-s", "--format=%H %cI", revision.commit or "HEAD").split()
    edited = not revision.commit and bool(_git("status", "--porcelain", "--untracked-files=no").strip())
    return Origin(revision.name, shown[0], shown[1], edited)


def copy_files(revision: Revision, folder: Path) -> None:
    """Copy what a release holds of a revision, each out checked against its hash in ``dvc.lock``.

    Raises:
        HeartwoodError: an out was never written, or is neither in the workspace nor in DVC's cache.
    """
    outs = Outs(revision)
    models = look_up(read_yaml(revision, PARAMS), "models")
    adapters = [str(path) for path in models.values() if not str(path).endswith(".json")]
    for path in (*DATA, BASE.as_posix(), *adapters):
        _copy(outs, path, folder / path)
    for path in adapters:
        if (folder / path / CARD).exists():
            raise HeartwoodError(
                f"{path}/{CARD}: the adapter has a card of its own",
                hint="a stage must not write it: it is the export's",
            )
    for path in outs.lock.producer:
        if path.startswith("data/responses/") and path.endswith(".lineage.json"):
            _copy(outs, path, folder / path)
    reports = [p for p in outs.lock.producer if p.startswith("reports/")]
    for path in (LOCK, PARAMS, PIPELINE, *reports):
        if (content := revision.read(path)) is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def _copy(outs: Outs, path: str, target: Path) -> None:
    """From the workspace where it has the very bytes, else from DVC's cache."""
    md5, here = outs.md5(path), Path(path)
    if not here.exists() or hash_path(here).md5 != md5:
        outs.copy(path, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.copytree(here, target)
    else:
        shutil.copyfile(here, target)
    if (found := hash_path(target).md5) != md5:
        raise HeartwoodError(f"{path} changed while it was copied (md5 {found}, not {md5})", hint="export again")


def describe(folder: Path, wish: Wish, origin: Origin, checked: dict[str, Checked]) -> Facts:
    """Write metadata and cards into a folder that holds everything else, and give its facts with them."""
    sha = hash_path(folder / MIXTURE).sha256
    about = About(wish.name or f"heartwood-{sha[:12]}", wish.creator or NOT_STATED, wish.url or f"urn:sha256:{sha}")
    facts = read_facts(folder, about, origin, checked)
    _write(folder / CROISSANT, json.dumps(croissant.build(facts), indent=2, ensure_ascii=False) + "\n")
    croissant.require_valid(folder / CROISSANT)
    for path, text in render(facts):
        _write(folder / path, text)
    return read_facts(folder, about, origin, checked)


def render(facts: Facts) -> Iterator[tuple[str, str]]:
    """The path and the text of every card."""
    yield CARD, cards.dataset_card(facts)
    for model, adapter in facts.adapters.items():
        yield f"{adapter.path}/{CARD}", cards.model_card(facts, model)


def _state(facts: Facts, key: Path | None) -> str:
    from pipelines.provenance.export.check import verify_folder

    content = build_statement(facts).to_bytes()
    statement.parse(content, statement.PLAIN)
    plain = facts.folder / statement.PLAIN
    plain.write_bytes(content)
    if facts.verified and (bad := next((v for v in verify_folder(facts.folder).scores if v.verdict != VERIFIED), None)):
        raise HeartwoodError(
            f"the release contradicts itself: {bad.first.message if bad.first else bad.verdict}",
            hint="run `dvc repro` so that scores and reports belong together, commit, and export again",
        )
    if key is None:
        return statement.PLAIN
    (facts.folder / statement.SIGNED).write_bytes(statement.sign(content, key))
    plain.unlink()
    return statement.SIGNED


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def build_statement(facts: Facts) -> statement.Statement:
    """The statement of a release folder whose cards and metadata are written."""
    paths = [MIXTURE.as_posix(), *(f"{a.path}/{WEIGHTS}" for a in facts.adapters.values())]
    files = {
        path: {"sha256": digest.sha256, "size": facts.sizes[path]}
        for path, digest in facts.digests.items()
        if path not in (statement.PLAIN, statement.SIGNED)
    }
    return statement.Statement(
        {path: facts.digests[path].sha256 for path in paths}, {**build_predicate(facts), "files": files}
    )


def build_predicate(facts: Facts) -> dict[str, Any]:
    """The predicate but for its list of files; plain JSON (``docs/export.md``)."""
    scores = {}
    for model, score in facts.scores.items():
        checked = facts.checked[model]
        said = {"verdict": checked.verdict, "links_checked": checked.links, "faults": list(checked.faults)}
        scores[model] = {**score, "verified": said}
    predicate: dict[str, Any] = {
        "scheme": SCHEME,
        "cards": cards.SCHEME,
        "about": vars(facts.about),
        "revision": vars(facts.origin),
        "chain": build_chain(facts),
        "params": facts.params,
        "lineages": {model: adapter.lineage for model, adapter in facts.adapters.items()},
        "licences": {
            "data": facts.licence.as_dict(),
            "models": {model: adapter.licence.as_dict() for model, adapter in facts.adapters.items()},
            "scores": JUDGE,
        },
        "scores": scores,
        "comparison": facts.reports.get("comparison"),
    }
    plain: dict[str, Any] = json.loads(json.dumps(predicate))
    return plain


def build_chain(facts: Facts) -> dict[str, Any]:
    """Every stage of ``dvc.lock``: command, params, and each input and output with md5, and sha256 where it is known."""
    known = dict(_recorded(facts))

    def digests(entries: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
        found = {}
        for entry in entries:
            path, md5 = entry["path"], str(entry.get("md5"))
            here = facts.digest(path)
            sha = here.sha256 if here and here.md5 == md5 else known.get((path, md5))
            found[path] = {"md5": md5, **({"sha256": sha} if sha else {})}
        return found

    return {
        name: {
            "cmd": locked.get("cmd"),
            "inputs": digests(locked.get("deps", [])),
            "outputs": digests(locked.get("outs", [])),
            "params": (locked.get("params") or {}).get(PARAMS, {}),
        }
        for name, locked in facts.lock.stages.items()
    }


def _recorded(facts: Facts) -> Iterator[tuple[tuple[str, str], str]]:
    """The sha256 that lineages and scores recorded beside an md5, by path and md5."""
    inputs = [link["inputs"] for a in facts.adapters.values() for link in chain(a.lineage)]
    for found in (*inputs, *(d["inputs"] for d in facts.details.values())):
        for path, digest in found.items():
            yield (path, digest["md5"]), digest["sha256"]
