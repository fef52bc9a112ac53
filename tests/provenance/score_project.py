"""A small repository with every stage from raw files to scores, most of them the project's own, run by DVC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.project import ROOT, Project
from tests.small_project import HEADER, comments, dialogue
from tests.tiny_model import build_tiny_base

MODELS = ("base", "sft-100", "sft-150")
TOPICS = "garden kitchen window letter market winter bridge violin teacher bicycle".split()
HELD_OUT = "harbour station library mountain river theatre workshop bakery".split()
REPLIES = (
    "I am sorry to hear that.",
    "What happened with the {topic}?",
    "That must have hurt you. Do you want to talk?",
    "I felt the same about a {topic} once.",
)
REPLACED = ("embed", "dedup", "leakage", "validate", "check", "plots")

CURATE = '''"""Train as it was split, in the place of dedup, leakage and validate."""

from pathlib import Path

from curation.records import read_records, write_records
from pipelines.layout import CLEAN, REPORTS, SPLIT
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute


def main(run: Run) -> None:
    records = read_records(SPLIT["train"])
    write_records(records, CLEAN)
    write_json(REPORTS / "validation.json", {"rows": len(records)})
    while Path("hold").exists():
        Path("held").write_text("")


execute(main)
'''
CHECK = '''"""The number of examples, in the place of all checks."""

from curation.jsonl import read_jsonl
from pipelines.layout import MIXTURE, REPORTS
from pipelines.provenance.lineage import write_json
from pipelines.provenance.stage import Run, execute


def main(run: Run) -> None:
    write_json(REPORTS / "check.json", {"examples": len(read_jsonl(MIXTURE))})


execute(main)
'''


def talk(number: int, topic: str) -> str:
    return dialogue(
        number,
        f"The {topic} story that I wanted to tell.",
        f"Yesterday the {topic} made me think of all the years we had",
        REPLIES[number % len(REPLIES)].format(topic=topic),
    )


def corpora() -> dict[str, str]:
    return {
        "empatheticdialogues/train.csv": HEADER + "".join(talk(n, t) for n, t in enumerate(TOPICS, 10)),
        "empatheticdialogues/valid.csv": HEADER + "".join(talk(n, t) for n, t in enumerate(HELD_OUT, 100)),
        "empatheticdialogues/test.csv": HEADER + talk(200, "museum"),
        "goemotions/train.tsv": comments(
            "train", *(f"Nobody told me of the {t} at all|{n}" for n, t in enumerate(TOPICS))
        ),
        "goemotions/dev.tsv": comments("dev", "My sister finally called after four long years|17"),
        "goemotions/test.tsv": comments("test", "It rained on the whole parade and everybody cheered|17"),
    }


def definition() -> dict[str, Any]:
    """The project's ``dvc.yaml`` with two small stages for those that need the sentence encoder, and without pictures."""
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
    common = [d for d in stages["dev"]["deps"] if d.startswith(("curation/", "pipelines/", "requirements/"))]
    own = {
        "curate": {
            "cmd": "python -m dvc_stages.curate",
            "deps": ["data/split/train.parquet", "dvc_stages/curate.py", *common],
            "outs": ["data/clean/train.parquet", {"reports/validation.json": {"cache": False}}],
        },
        "check": {
            "cmd": "python -m dvc_stages.check",
            "deps": ["data/mixture/train.jsonl", "dvc_stages/check.py", *common],
            "outs": [{"reports/check.json": {"cache": False}}],
        },
    }
    kept = {**{n: s for n, s in stages.items() if n not in REPLACED}, **own}
    for stage in kept.values():
        body = stage.get("do", stage)
        body["deps"] = [d for d in body["deps"] if is_needed(d)]
    return {"stages": kept}


def is_needed(dep: str) -> bool:
    """Data, the stage's own script, what rates and counts, and the locks: a small lock is read in half a second."""
    is_module = dep.startswith(("curation/", "pipelines/")) or dep == "dvc_stages/__init__.py"
    return not is_module or dep.startswith("pipelines/evaluation/")


def parameters() -> dict[str, Any]:
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    params["raw"]["location"] = "../corpora"
    params["sources"] = {n: {"format": n} for n in ("empathetic_dialogues", "goemotions")}
    params["chat"]["system"] = "You are kind."
    params["mix"] |= {"size": 10, "empathetic_dialogues": "rest", "goemotions": 0.2}
    del params["mix"]["esconv"]
    params["prompts"] |= {"count": 8, "min_words": 5}
    params["sft"] |= {"context": 224, "batch_size": 2, "quantisation": "none", "device": "cpu", "threads": 1}
    params["sft"]["lora"] |= {"rank": 4, "targets": ["q_proj", "v_proj"]}
    params["checkpoints"]["sft-100"] |= {"steps": 4, "learning_rate": 0.02}
    params["checkpoints"]["sft-150"] |= {"steps": 3, "learning_rate": 0.02}
    params["respond"] |= {"batch_size": 4, "context": 224, "max_new_tokens": 40, "quantisation": "none"}
    params["respond"] |= {"device": "cpu", "threads": 1}
    return params


def write_yaml(path: Path, value: object) -> None:
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        writer.dump(value, handle)


def teach(folder: Path) -> None:
    """Full training of the tiny model on the replies, so that most of what it says ends and can be rated."""
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.sft.base import load_tokenizer
    from pipelines.sft.formatting import encode_example

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(str(folder)).train()
    rows = [
        {
            "uid": topic,
            "prompt": [
                {"role": "system", "content": "You are kind."},
                {"role": "user", "content": f"Yesterday the {topic} made me think of all the years we had"},
            ],
            "completion": [{"role": "assistant", "content": REPLIES[n % len(REPLIES)].format(topic=topic)}],
        }
        for n, topic in enumerate(TOPICS)
    ]
    encoded = [encode_example(tokenizer, row, 256) for row in rows]
    longest = max(len(e.input_ids) for e in encoded)
    ids = torch.tensor([list(e.input_ids) + [0] * (longest - len(e.input_ids)) for e in encoded])
    labels = torch.tensor(
        [
            [t if m else -100 for t, m in zip(e.input_ids, e.completion_mask, strict=True)]
            + [-100] * (longest - len(e.input_ids))
            for e in encoded
        ]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    model.save_pretrained(str(folder), safe_serialization=True)


def build(base: Path) -> Project:
    """Make the repository in ``base/project``, its raw files in ``base/corpora``, and run every stage once."""
    for path, text in corpora().items():
        (base / "corpora" / path).parent.mkdir(parents=True, exist_ok=True)
        (base / "corpora" / path).write_text(text, encoding="utf-8", newline="\n")
    made = open_project(base)
    made.folder.mkdir()
    write_yaml(made.folder / "dvc.yaml", definition())
    write_yaml(made.folder / "params.yaml", parameters())
    for package in ("curation", "pipelines", "dvc_stages", "requirements"):
        shutil.copytree(ROOT / package, made.folder / package, ignore=shutil.ignore_patterns("__pycache__", "parts"))
    made.write("dvc_stages/curate.py", CURATE)
    made.write("dvc_stages/check.py", CHECK)
    made.write("data/embedded/README.md", "The raw files are in ../corpora.\n")
    shutil.copytree(ROOT / "models/judge_head", made.folder / "models/judge_head")
    build_tiny_base(made.folder / "models/base")
    teach(made.folder / "models/base")
    for name in (".gitattributes", ".dvcignore"):
        shutil.copyfile(ROOT / name, made.folder / name)
    made.write(".gitignore", "__pycache__/\n*.pyc\n.heartwood/\nhold\nheld\n")
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    shutil.copyfile(ROOT / ".dvc/config", made.folder / ".dvc/config")
    made.commit("project")
    made.dvc("repro")
    made.commit("run")
    made.run("git", "tag", "first")
    made.dvc("exp", "run", "--temp", "-n", "of-sft-100", "-S", "report.model=sft-100")
    made.run("git", "checkout", "-q", "-b", "partial")
    made.write("params.yaml", made.read("params.yaml").replace("size: 10", "size: 9"))
    made.dvc("repro", "mix", "check")
    made.commit("only the mixture")
    made.run("git", "checkout", "-q", "main")
    made.dvc("checkout", "-q")
    return made


def open_project(base: Path) -> Project:
    """The repository under ``base``, whose stages run its own copy of the code."""
    made = Project(base / "project", base / "state", code=base / "project")
    made.env |= {"HEARTWOOD_CACHE": str(base / "kept"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return made
