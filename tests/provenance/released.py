"""A small project with scores, made by DVC for real: quick stages that write what the true ones write."""

from __future__ import annotations

import json
from pathlib import Path

from tests.project import Project

DVC_YAML = """
stages:
  raw:
    cmd: python dvc_stages/work.py raw
    deps: [dvc_stages/work.py]
    params: [raw, sources]
    outs: [data/raw]
  mix:
    cmd: python dvc_stages/work.py mix
    deps: [dvc_stages/work.py, data/raw]
    params: [mix]
    outs:
    - data/mixture/train.jsonl
    - reports/mixture.json: {cache: false}
  dev:
    cmd: python dvc_stages/work.py dev
    deps: [dvc_stages/work.py, data/raw]
    outs: [data/dev.jsonl, data/prompts.jsonl]
  base:
    cmd: python dvc_stages/work.py base
    deps: [dvc_stages/work.py]
    params: [base]
    outs: [models/base.json]
  sft:
    foreach: ${checkpoints}
    do:
      cmd: python dvc_stages/work.py sft@${key}
      deps: [dvc_stages/work.py, data/mixture/train.jsonl, '${item.parent}']
      params: ['checkpoints.${key}']
      outs: ['models/${key}']
  judge:
    cmd: python dvc_stages/work.py judge
    deps: [dvc_stages/work.py]
    outs:
    - models/judge
    - reports/judge.json: {cache: false}
  respond:
    foreach: ${models}
    do:
      cmd: python dvc_stages/work.py respond@${key}
      deps: [dvc_stages/work.py, data/prompts.jsonl, '${item}']
      outs: ['data/responses/${key}.jsonl', 'data/responses/${key}.lineage.json']
  score:
    foreach: ${models}
    do:
      cmd: python dvc_stages/work.py score@${key}
      deps:
      - dvc_stages/work.py
      - data/prompts.jsonl
      - data/dev.jsonl
      - data/responses/${key}.jsonl
      - data/responses/${key}.lineage.json
      - models/judge
      - reports/judge.json
      outs:
      - reports/eq/${key}.detail.json: {cache: false}
      - reports/eq/${key}.ratings.jsonl: {cache: false}
      metrics:
      - reports/eq/${key}.json: {cache: false}
  compare:
    cmd: python dvc_stages/work.py compare
    deps:
    - dvc_stages/work.py
    - reports/eq/base.ratings.jsonl
    - reports/eq/sft-100.ratings.jsonl
    - reports/eq/sft-150.ratings.jsonl
    params: [compare, models]
    outs:
    - reports/comparison.json: {cache: false}
"""

WORK = """
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from ruamel.yaml import YAML

from curation.examples import content_digest
from curation.jsonl import read_jsonl, write_jsonl
from curation.records import digest as digest_of
from pipelines.provenance.hashing import hash_path
from pipelines.provenance.lineage import input_md5, read_json, write_json

name, _, key = sys.argv[1].partition("@")
params = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text())
mixture = Path("data/mixture/train.jsonl")
code = digest_of({"dvc_stages/work.py": hash_path(Path("dvc_stages/work.py")).sha256})


def example(source, number, split):
    uid = hashlib.sha256(f"{source} {split} {number}".encode()).hexdigest() + "-0"
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"I am sad, day {number}."}]
    answer = [{"role": "assistant", "content": f"I am sorry about day {number}, dear {source}."}]
    return {"uid": f"{uid}-1", "source": source, "task": "dialogue", "conversation": uid, "prompt": prompt,
            "completion": answer}


def evidence(*paths):
    return {p: hash_path(Path(p)).as_dict() for p in paths}


def raw():
    write_json(Path("data/raw/manifest.json"), {n: {"format": s["format"]} for n, s in params["sources"].items()})


def mix():
    shares = params["mix"]
    rows = [example(source, n, "train") for source, count in sorted(shares.items()) for n in range(count)]
    write_jsonl(rows, mixture)
    write_json(Path("reports/mixture.json"), {
        "rows": shares, "unit": "examples", "labels": {s: {"sad": c} for s, c in shares.items()},
        "examples_sha256": content_digest(rows)})


def dev():
    rows = [example("empathetic_dialogues", n, "dev") for n in range(8)]
    write_jsonl(rows, Path("data/dev.jsonl"))
    write_jsonl([{"id": r["uid"][:24], "conversation": r["conversation"], "source": r["source"], "emotion": "sad",
                  "messages": r["prompt"]} for r in rows], Path("data/prompts.jsonl"))


def base():
    write_json(Path("models/base.json"), params["base"])


def sft():
    parent = Path(params["checkpoints"][key]["parent"])
    lineage = {"stage": f"sft@{key}", "code": code, "inputs": evidence(mixture.as_posix(), parent.as_posix()), "params": {}}
    first = 0
    if parent.is_dir():
        lineage["parent"] = {"path": parent.as_posix(), "lineage": read_json(parent / "lineage.json")}
        first = lineage["parent"]["lineage"]["consumed_rows"]["next_row"]
    rows = read_jsonl(mixture)
    taken = [rows[n % len(rows)] for n in range(first, first + 4)]
    counts = Counter(r["source"] for r in taken)
    digest = hashlib.sha256("\\n".join(r["uid"] for r in taken).encode()).hexdigest()
    lineage["consumed"] = digest
    lineage["consumed_rows"] = {"first_row": first, "next_row": first + 4, "rows": 4, "too_long": 0,
        "rows_by_source": counts, "epochs_by_source": {s: c / len(rows) for s, c in counts.items()},
        "uids_sha256": digest}
    out = Path("models") / key
    write_json(out / "lineage.json", lineage)
    write_json(out / "base.json", read_json(Path("models/base.json")))
    write_json(out / "adapter_config.json", {"r": 2})
    (out / "adapter_model.safetensors").write_bytes(f"weights of {key} from {digest}".encode())


def judge():
    write_json(Path("models/judge/card.json"), {"judge": "epitome"})
    write_json(Path("reports/judge.json"), {"id": "epitome@1", "label": "exploratory", "agreement": {}})


def model_path():
    return Path(params["models"][key])


def respond():
    prompts = read_jsonl(Path("data/prompts.jsonl"))
    text = "I hear how hard that is for you" if key == "base" else f"That must be hard, {key}"
    write_jsonl([{"prompt_id": p["id"], "text": f"{text} {n}.", "finished": True} for n, p in enumerate(prompts)],
                Path(f"data/responses/{key}.jsonl"))
    lineage = {"stage": f"respond@{key}", "code": code, "inputs": evidence("data/prompts.jsonl", model_path().as_posix())}
    if model_path().is_dir():
        lineage["parent"] = {"path": model_path().as_posix(), "lineage": read_json(model_path() / "lineage.json")}
    write_json(Path(f"data/responses/{key}.lineage.json"), lineage)


class Judge:
    def rate(self, pairs):
        # By the reply's length, and a little by its number: a judge that never differs is refused.
        return [Rating(len(reply) % 7 / 4 + (0.125 if int(reply[-2]) % 2 else -0.125)) for _, reply in pairs]


class Rating:
    def __init__(self, level):
        self.index = 1 + level
        self.emotional_reactions, self.interpretations, self.explorations = level, level / 2, 0.0


def score():
    from pipelines.evaluation.score import score_model

    responses = read_jsonl(Path(f"data/responses/{key}.jsonl"))
    result = score_model(read_jsonl(Path("data/prompts.jsonl")), responses, Judge())
    lineage = read_json(Path(f"data/responses/{key}.lineage.json"))
    trained = (lineage.get("parent") or {}).get("lineage")
    names = ("data/prompts.jsonl", "data/dev.jsonl", f"data/responses/{key}.jsonl",
        f"data/responses/{key}.lineage.json", "models/judge", "reports/judge.json")
    summary = {**result.summary, "judge": "epitome@1 (exploratory)", "base": hash_path(Path("models/base.json")).md5,
        "mixture": input_md5(lineage, mixture.as_posix()) or "none", "consumed": trained["consumed"] if trained else "none",
        "adapter": hash_path(model_path()).md5 if trained else "none",
        "dev": hash_path(Path("data/dev.jsonl")).md5, "prompts": hash_path(Path("data/prompts.jsonl")).md5}
    write_json(Path(f"reports/eq/{key}.json"), summary)
    write_json(Path(f"reports/eq/{key}.detail.json"), {"inputs": evidence(*names), "code": code, **result.breakdown})
    write_jsonl(result.rows, Path(f"reports/eq/{key}.ratings.jsonl"))


def compare():
    from pipelines.evaluation.compare import compare_models

    ratings = {m: read_jsonl(Path(f"reports/eq/{m}.ratings.jsonl")) for m in params["models"]}
    write_json(Path("reports/comparison.json"), compare_models(ratings, params["compare"]["seed"]))


globals()[name]()
"""

PARAMS = """raw:
  location: /corpora
sources:
  empathetic_dialogues:
    format: empathetic_dialogues
  goemotions:
    format: goemotions
  mine:
    format: chat
    path: ../mine
mix:
  empathetic_dialogues: 6
  goemotions: 4
base:
  name: TinyLlama/TinyLlama-1.1B-Chat-v1.0
  revision: fe8a4ea1ffedaf415f4da2f062534de366a451e6
checkpoints:
  sft-100:
    parent: models/base.json
  sft-150:
    parent: models/sft-100
models:
  base: models/base.json
  sft-100: models/sft-100
  sft-150: models/sft-150
compare:
  seed: 0
"""


def build(folder: Path) -> Project:
    """A committed project of three models and their scores; all of it is in DVC's cache."""
    made = Project(folder / "project", folder / "state")
    made.folder.mkdir(parents=True)
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    made.write("dvc.yaml", DVC_YAML)
    made.write("params.yaml", PARAMS)
    made.write("dvc_stages/work.py", WORK)
    made.write(".gitignore", "__pycache__/\n/out/\n")
    made.commit("code")
    made.dvc("repro", "-q")
    made.commit("scores")
    return made


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
