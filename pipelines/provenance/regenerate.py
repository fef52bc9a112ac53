"""``--regenerate``: the replies again from the recorded model, compared word for word.

It finds responses that the recorded model did not give, even where everything after them agrees. Greedy text can
differ between CPUs and builds of the libraries; a difference is a broken link only where those are the recorded ones.
"""

import tempfile
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from pipelines.evaluation.respond import RespondSettings, respond
from pipelines.provenance.chain import Chain
from pipelines.provenance.data import DataLevel
from pipelines.provenance.environment import differences_here
from pipelines.provenance.evidence import Evidence, Problem
from pipelines.provenance.rescore import PROMPTS, responses_path
from pipelines.provenance.verdict import Fault, ScoreVerdict
from pipelines.settings.evaluation import RespondParams
from pipelines.settings.strict import parse_section
from pipelines.sft.base import read_pointer


def regenerate(chain: Chain, evidence: Evidence, data: DataLevel, result: ScoreVerdict) -> None:
    """Make one model's replies again and add to its verdict what differs."""
    stage, path = f"respond@{result.model}", responses_path(result.model)
    if stage not in chain.lock.stages:
        return
    deps = chain.lock.deps(stage)
    model = chain.lock.params(stage).get(f"models.{result.model}")
    located = {}
    wanted = {PROMPTS: deps.get(PROMPTS), str(model): deps.get(str(model)), path: chain.lock.outs(stage).get(path)}
    for name, md5 in wanted.items():
        found = evidence.locate(name, str(md5))
        if isinstance(found, Problem):
            if not any(f.link == name and f.kind == found.kind for f in result.faults):
                message = f"the replies cannot be made again: {found.message}"
                result.faults.append(Fault(found.kind, stage, name, message, found.next))
            return
        located[name] = found
    settings = RespondSettings(
        **parse_section(RespondParams, chain.lock.params(stage)["respond"], "respond").model_dump()
    )
    recorded = read_jsonl(located[path].files[""])
    with tempfile.TemporaryDirectory(prefix="heartwood-model-") as folder:
        root = Path(folder)
        located[str(model)].copy(root / str(model))
        try:
            base_root = _base_root(chain, root / str(model), root)
            again = respond(root / str(model), read_jsonl(located[PROMPTS].files[""]), settings, root=base_root)
        except HeartwoodError as error:
            message = f"the replies cannot be made again: {error}"
            result.faults.append(Fault("incomplete", stage, path, message, error.hint))
            return
    result.count("replies made again", len(again))
    _compare(stage, path, recorded, again, data, result)


def _base_root(chain: Chain, model: Path, root: Path) -> Path:
    """The folder under which the base model's own folder stands: a copy of what git has at a commit."""
    pointer = read_pointer(model)
    if not chain.revision.commit or pointer.revision is not None or not chain.revision.files(pointer.name):
        return Path()
    for name in chain.revision.files(pointer.name):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(chain.revision.read(name) or b"")
    return root


def _compare(
    stage: str,
    path: str,
    recorded: list[dict[str, Any]],
    again: list[dict[str, Any]],
    data: DataLevel,
    result: ScoreVerdict,
) -> None:
    ids = [row.get("prompt_id") for row in recorded], [row["prompt_id"] for row in again]
    if ids[0] != ids[1]:
        message = f"{path} answers other prompts, or in another order, than {PROMPTS} holds"
        result.faults.append(Fault("broken", stage, path, message, f"dvc repro -f {stage}"))
        return
    changed = [row["prompt_id"] for row, new in zip(recorded, again, strict=True) if row != new]
    if not changed:
        return
    lineage = data.lineage(stage)
    elsewhere = differences_here(lineage[1]) if lineage else ["no lineage says where they were made"]
    message = (
        f"{path}: {len(changed)} of {len(again)} replies are not what the recorded model says; the first is to"
        f" {changed[0]}"
    )
    if elsewhere:
        message += f"; made elsewhere ({'; '.join(elsewhere)}), where rounding can change a word"
        hint = "verify --regenerate where they were made"
        result.faults.append(Fault("incomplete", stage, path, message, hint))
    else:
        result.faults.append(Fault("broken", stage, path, message, f"dvc repro -f {stage}"))
