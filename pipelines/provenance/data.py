"""``--data``: the bytes behind the chain, the lineages that lie beside them, and what can be derived from them.

It finds damaged or exchanged bytes, lineages that say otherwise than ``dvc.lock``, ids and digests that do not follow
from their rows, and raw files outside the repository that are no longer those that were read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.cache import cache_folder
from curation.errors import HeartwoodError
from curation.examples import content_digest
from curation.jsonl import read_jsonl
from curation.records import content_id, read_records
from curation.sources.official import fetch_local, fetch_official, fetch_path
from pipelines.layout import MIXTURE, RECORDS, main_checkout
from pipelines.provenance.chain import Chain, detail_path, first_difference, score_path
from pipelines.provenance.evidence import Evidence, Located, Problem
from pipelines.provenance.stage import is_code
from pipelines.provenance.verdict import Fault, Findings, ScoreVerdict, Unchecked

RAW_OUT, MANIFEST, DOWNLOAD = "data/raw", "manifest.json", "download"
RECEIPT = "reports/mixture.json"
LINEAGE = "lineage.json"
SCHEMES = ("lineage-v1", "lineage-v2")


class DataLevel:
    """What the bytes say, stage by stage; each stage is looked at once."""

    def __init__(self, chain: Chain, evidence: Evidence) -> None:
        self.chain = chain
        self.evidence = evidence
        self._stages: dict[str, Findings] = {}

    def stage(self, name: str) -> Findings:
        """What holds and what does not at one stage."""
        if name not in self._stages:
            found = Findings()
            if name in self.chain.lock.stages:
                noted = len(self.evidence.notes)
                self._check_outs(name, found)
                for check in self._checks(name):
                    check(name, found)
                found.unchecked += self.evidence.notes[noted:]
            self._stages[name] = found
        return self._stages[name]

    def score(self, result: ScoreVerdict) -> None:
        """What the bytes say about one score, added to its verdict."""
        stage = f"score@{result.model}"
        if stage not in self.chain.lock.stages:
            return
        for name in self.chain.upstream(stage):
            result.add(self.stage(name))
        self._check_score(stage, result)

    def _checks(self, name: str) -> list[Callable[[str, Findings], None]]:
        checks: list[Callable[[str, Findings], None]] = []
        outs = self.chain.lock.outs(name)
        if RAW_OUT in outs:
            checks.append(self._check_raw)
        if RECORDS.as_posix() in outs:
            checks.append(self._check_records)
        if MIXTURE.as_posix() in outs:
            checks.append(self._check_mixture)
        if self._lineage_place(name):
            checks.append(self._check_lineage)
        if name.startswith("sft@"):
            checks.append(self._check_consumed)
        return checks

    def _check_outs(self, name: str, found: Findings) -> None:
        definition = self.chain.definitions.get(name)
        for path, md5 in self.chain.lock.outs(name).items():
            if (definition and path in definition.in_git) or self.chain.revision.files(path):
                continue
            located = self.evidence.locate(path, md5)
            if isinstance(located, Problem):
                message = located.message if md5 in located.message else f"{located.message}; {name} wrote {md5}"
                found.faults.append(Fault(located.kind, name, path, message, located.next))
            else:
                found.count("files hashed again", len(located.files))

    def _out(self, name: str, path: str) -> Located | None:
        """A stage's out, or None where its bytes are missing or wrong; the out itself has been judged already."""
        md5 = self.chain.lock.outs(name).get(path)
        located = self.evidence.locate(path, md5) if md5 else None
        return located if isinstance(located, Located) else None

    def _check_raw(self, name: str, found: Findings) -> None:
        raw = self._out(name, RAW_OUT)
        if raw is None:
            return
        manifest = json.loads(raw.files[MANIFEST].read_text(encoding="utf-8"))
        params = self.chain.lock.params(name)
        location = str((params.get("raw") or {}).get("location"))
        for source, entry in manifest.items():
            for file in entry["files"]:
                inner = f"{source}/{file['name']}"
                found.count("raw files")
                kept = raw.files.get(inner)
                digest = hashlib.sha256(kept.read_bytes()).hexdigest() if kept else "missing"
                if digest != file["sha256"]:
                    message = f"{RAW_OUT}/{inner} has sha256 {digest}, its manifest says {file['sha256']}"
                    found.faults.append(Fault("broken", name, f"{RAW_OUT}/{inner}", message, "dvc repro -f raw"))
            self._check_location(name, source, entry, location, found)

    def _check_location(self, name: str, source: str, entry: dict[str, Any], location: str, found: Findings) -> None:
        """Compare the place that the raw files came from with what was read there, unless git or an address pins it."""
        base = main_checkout(Path.cwd())
        own = entry.get("path")
        place = (base / Path(str(own or location)).expanduser()).resolve()
        downloaded = own is None and location == DOWNLOAD
        if not downloaded and place.is_relative_to(base.resolve()):
            return
        link = f"raw:{source}"
        try:
            if downloaded:
                files = fetch_official(entry["format"], cache_folder())
            elif not place.exists():
                message = f"the raw files of {source} came from {place}, which is not here"
                found.faults.append(
                    Fault("incomplete", name, link, message, "put the files there, or check without --data")
                )
                return
            elif own is not None:
                files = fetch_path(entry["format"], place, f"sources.{source}.path")
            else:
                files = fetch_local(entry["format"], place)
        except HeartwoodError as error:
            hint = error.hint if downloaded else "dvc repro -f raw"
            found.faults.append(Fault("incomplete" if downloaded else "stale", name, link, str(error), hint))
            return
        recorded = {f["name"]: f["sha256"] for f in entry["files"]}
        now = {n: hashlib.sha256(data).hexdigest() for n, data in files.items()}
        for file in sorted({*recorded, *now}):
            found.count("raw files")
            if recorded.get(file) != now.get(file):
                message = (
                    f"{place}: {file} has sha256 {now.get(file, 'missing')} now, {name} read"
                    f" {recorded.get(file, 'no such file')}"
                )
                found.faults.append(Fault("stale", name, f"{link}/{file}", message, "dvc repro -f raw"))

    def _check_records(self, name: str, found: Findings) -> None:
        located = self._out(name, RECORDS.as_posix())
        for inner, path in (located.files if located else {}).items():
            seen: set[str] = set()
            for row, record in enumerate(read_records(path), start=1):
                found.count("record ids")
                expected = content_id(record)
                if record.id != expected or record.uid in seen:
                    link = f"{RECORDS.as_posix()}/{inner}"
                    said = f"its content gives {expected}" if record.id != expected else "another row has it too"
                    message = f"{link}, row {row}: the record is named {record.uid}, {said}"
                    found.faults.append(Fault("broken", name, link, message, f"dvc repro -f {name}"))
                    break
                seen.add(record.uid)

    def _check_mixture(self, name: str, found: Findings) -> None:
        located = self._out(name, MIXTURE.as_posix())
        if located is None or not self.chain.is_intact(RECEIPT, self.chain.lock.outs(name).get(RECEIPT)):
            return
        receipt = json.loads(self.chain.revision.read(RECEIPT) or b"{}")
        found.count("digests of training rows")
        expected = content_digest(read_jsonl(located.files[""]))
        if receipt.get("examples_sha256") != expected:
            message = f"{RECEIPT} names the training rows {receipt.get('examples_sha256')}, {MIXTURE} holds {expected}"
            found.faults.append(Fault("broken", name, f"{RECEIPT}:examples_sha256", message, f"dvc repro -f {name}"))

    def _lineage_place(self, name: str) -> tuple[str, str] | None:
        """(out, file inside it) of the lineage that a stage writes."""
        for path in self.chain.lock.outs(name):
            if path.endswith(f".{LINEAGE}"):
                return path, ""
            if name.startswith("sft@") and path.startswith("models/"):
                return path, LINEAGE
        return None

    def lineage(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """(where it stands, content) of the lineage that a stage wrote, or None where its bytes are not here."""
        place = self._lineage_place(name)
        located = self._out(name, place[0]) if place else None
        if place is None or located is None or place[1] not in located.files:
            return None
        content: dict[str, Any] = json.loads(located.files[place[1]].read_text(encoding="utf-8"))
        return "/".join(filter(None, place)), content

    def _check_lineage(self, name: str, found: Findings) -> None:
        read = self.lineage(name)
        if read is None:
            place = self._lineage_place(name) or ("", "")
            if self._out(name, place[0]):
                message = f"{place[0]} holds no {LINEAGE}"
                found.faults.append(Fault("broken", name, "/".join(place), message, f"dvc repro -f {name}"))
            return
        where, lineage = read
        lock = self.chain.lock

        def broken(key: str, message: str) -> None:
            found.faults.append(Fault("broken", name, f"{where}:{key}", f"{where}: {message}", f"dvc repro -f {name}"))

        found.count("lineages")
        if lineage.get("scheme") not in SCHEMES:
            message = f"{where}: scheme {lineage.get('scheme')!r}; known: {', '.join(SCHEMES)}"
            hint = "install the version of heartwood that belongs to this revision"
            found.faults.append(Fault("incomplete", name, f"{where}:scheme", message, hint))
            return
        if lineage.get("stage") != name:
            broken("stage", f"it is the lineage of {lineage.get('stage')}, and lies at {name}")
        inputs, locked = lineage.get("inputs") or {}, {p: m for p, m in lock.deps(name).items() if not is_code(p)}
        for path in sorted({*inputs, *locked}):
            recorded = inputs.get(path) or {}
            found.count("inputs in lineages")
            if recorded.get("md5") != locked.get(path):
                broken(
                    f"inputs.{path}",
                    f"made from {path} with md5 {recorded.get('md5', 'none')}, dvc.lock says {locked.get(path, 'none')}",
                )
            elif (sha256 := self.sha256(path, locked[path])) and recorded.get("sha256") != sha256:
                broken(f"inputs.{path}", f"names {path} with sha256 {recorded.get('sha256')}, its bytes have {sha256}")
        if difference := first_difference(lineage.get("params"), lock.params(name), 0.0):
            key, there, here = difference
            broken(f"params.{key}", f"ran with {key} = {there!r:.80}, dvc.lock says {here!r:.80}")
        code = self.chain.code_digest(name)
        if code is not None and lineage.get("code") != code:
            broken("code", f"names the code digest {lineage.get('code')}, the code in dvc.lock has {code}")
        self._check_parent(name, lineage, broken)

    def _check_parent(self, name: str, lineage: dict[str, Any], broken: Callable[[str, str], None]) -> None:
        """The lineage of the adapter that this stage read is carried along whole."""
        lock = self.chain.lock
        read = next((p for p in lock.deps(name) if lock.producer.get(p, "").startswith("sft@")), None)
        parent = lineage.get("parent")
        if read is None or parent is None:
            if (read is None) != (parent is None):
                broken("parent", f"names the parent {(parent or {}).get('path')}, dvc.lock says {read}")
            return
        producer = lock.producer[read]
        if lock.outs(producer)[read] != lock.deps(name)[read]:
            return
        own = self.lineage(producer)
        if parent.get("path") != read or (own and parent.get("lineage") != own[1]):
            broken("parent", f"the lineage of its parent is not the one that {read} holds")

    def sha256(self, path: str, md5: str) -> str | None:
        """The sha256 of what a stage read, from its bytes or from git; None where they are not here."""
        at_revision = self.chain.revision.digest(path)
        if at_revision is not None:
            return at_revision.sha256 if at_revision.md5 == md5 else None
        located = self.evidence.locate(path, md5)
        return located.digest.sha256 if isinstance(located, Located) else None

    def _check_consumed(self, name: str, found: Findings) -> None:
        """The rows that an adapter says it has consumed, from the mixture's own order."""
        model = name.partition("@")[2]
        adapter, read = self._out(name, f"models/{model}"), self.lineage(name)
        rows_md5 = self.chain.lock.deps(name).get(MIXTURE.as_posix())
        if adapter is None or read is None or rows_md5 is None:
            return
        link = f"models/{model}/consumed.json"
        mixture = self.evidence.locate(MIXTURE.as_posix(), rows_md5)
        if isinstance(mixture, Problem):
            found.unchecked.append(Unchecked(link, f"the mixture that it consumed is not here ({mixture.message})"))
            return
        consumed = json.loads(adapter.files["consumed.json"].read_text(encoding="utf-8"))
        found.count("consumed rows", int(consumed["rows"]))

        def broken(message: str) -> None:
            found.faults.append(Fault("broken", name, link, f"{link}: {message}", f"dvc repro -f {name}"))

        lineage = read[1]
        if lineage.get("consumed_rows") != consumed or lineage.get("consumed") != consumed["uids_sha256"]:
            broken(f"it is not what {read[0]} says")
        first = self._first_row(name)
        if first is not None and consumed["first_row"] != first:
            broken(f"first_row is {consumed['first_row']}, its parent ends before row {first}")
        rows = read_jsonl(mixture.files[""])
        taken = [rows[i % len(rows)] for i in range(consumed["first_row"], consumed["next_row"])]
        if consumed["too_long"]:
            # Which rows were passed over is the tokenizer's doing; the number of them is what can be compared here.
            if len(taken) != consumed["rows"] + consumed["too_long"]:
                broken(
                    f"{len(taken)} rows were looked at, {consumed['rows']} taken and {consumed['too_long']} passed over"
                )
            found.unchecked.append(
                Unchecked(link, "rows were passed over as too long; which ones, only the tokenizer can tell")
            )
            return
        sources = Counter(str(row["source"]) for row in taken)
        uids = hashlib.sha256("\n".join(str(row["uid"]) for row in taken).encode()).hexdigest()
        if uids != consumed["uids_sha256"]:
            broken(
                f"rows {consumed['first_row']} to {consumed['next_row'] - 1} of {MIXTURE} have the digest {uids}, the"
                f" adapter says {consumed['uids_sha256']}"
            )
        elif {n: c for n, c in consumed["rows_by_source"].items() if c} != dict(sources):
            broken(
                f"rows by source are {consumed['rows_by_source']}, the mixture gives {dict(sorted(sources.items()))}"
            )

    def _first_row(self, name: str) -> int | None:
        """Where training must have begun: behind the parent adapter's last row, or at 0."""
        lock = self.chain.lock
        read = next((p for p in lock.deps(name) if lock.producer.get(p, "").startswith("sft@")), None)
        if read is None:
            return 0
        located = self.evidence.locate(read, lock.deps(name)[read])
        if isinstance(located, Problem):
            return None
        return int(json.loads(located.files["consumed.json"].read_text(encoding="utf-8"))["next_row"])

    def _check_score(self, stage: str, result: ScoreVerdict) -> None:
        """The sha256 of the score's inputs, and the consumed rows that it names."""
        data = self.chain.revision.read(detail_path(result.model)), self.chain.revision.read(score_path(result.model))
        if data[0] is None or data[1] is None or result.score is None:
            return
        detail, score = json.loads(data[0]), json.loads(data[1])
        hint = f"dvc repro -f {stage}"
        for path, md5 in self.chain.lock.deps(stage).items():
            recorded = detail["inputs"].get(path, {})
            sha256 = None if is_code(path) or recorded.get("md5") != md5 else self.sha256(path, md5)
            if sha256 is None:
                continue
            result.count("inputs of the score")
            if recorded.get("sha256") != sha256:
                message = f"the score names {path} with sha256 {recorded.get('sha256')}, its bytes have {sha256}"
                result.faults.append(Fault("broken", stage, path, message, hint))
        adapter = self.lineage(f"sft@{result.model}")
        respond = self.lineage(f"respond@{result.model}")
        if adapter and respond and (respond[1].get("parent") or {}).get("lineage") == adapter[1]:
            result.count("digests of the score")
            if score.get("consumed") != adapter[1].get("consumed"):
                message = (
                    f"the score names consumed rows {score.get('consumed')}, {adapter[0]} {adapter[1].get('consumed')}"
                )
                result.faults.append(Fault("broken", stage, f"{score_path(result.model)}:consumed", message, hint))
