"""A small project made by running the stages' bodies in a folder, without DVC and without the encoder."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.provenance.stage import Definition, Inputs, Run
from pipelines.settings.strict import read_params
from tests.curation.making import bag_of_words
from tests.tiny_model import write_pointer

SITUATION = "My neighbour's cat went missing on a stormy night."
TOPICS = "garden kitchen window letter market winter bridge violin teacher bicycle".split()


def comments(split: str, *rows: str) -> str:
    return "".join(f"{text}\t{label}\t{split}{n}\n" for n, (text, label) in enumerate((r.split("|") for r in rows), 1))


def dialogue(number: int, situation: str, *texts: str) -> str:
    said = (t.replace(",", "_comma_") for t in (situation, *texts))
    prompt, *turns = said
    return "".join(f"hit:{number}_conv:{number},{i},sad,{prompt},{i % 2},{t},,\n" for i, t in enumerate(turns, 1))


HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
RAW = {
    "empathetic_dialogues/train.csv": HEADER
    + dialogue(1, SITUATION, "My neighbour lost her cat in the storm", "Oh no, that is sad to hear.")
    + "hit:2_conv:2,1,melancholic,x,0,I do not know this feeling,,\n"
    + "".join(
        dialogue(
            n + 10,
            f"The {topic} story number {n} that I wanted to tell.",
            f"Yesterday the {topic} made me think of all the {n} years we had together",
            f"What was it about the {topic} that touched you so?",
        )
        for n, topic in enumerate(TOPICS)
    ),
    "empathetic_dialogues/valid.csv": HEADER
    + dialogue(101, SITUATION, "The cat next door is gone since Friday night", "I hope she comes home soon.")
    + dialogue(102, "The exam.", "I failed the exam that I had studied for all spring", "That must hurt."),
    "empathetic_dialogues/test.csv": HEADER
    + dialogue(201, "The move.", "We are moving away from the town where I grew up", "Do you look forward to it?"),
    "goemotions/train.tsv": comments(
        "train",
        "The parking ticket was waiting on my windshield again today.|3",
        "the parking ticket was waiting on my windshield AGAIN today|3",
        "My sister finally called after four long quiet years|17",
        "Thank you|15",
        *(f"Nobody told me that the {topic} would be closed for {n} weeks|3" for n, topic in enumerate(TOPICS)),
    )
    + "a row without a label\n",
    "goemotions/dev.tsv": comments("dev", "My sister FINALLY called, after four long, quiet years!|17"),
    "goemotions/test.tsv": comments("test", "It rained on the whole parade and everybody cheered anyway|17"),
}


class Vectors:
    """Stands for the encoder and for the table of vectors."""

    seconds = 0.0

    def __init__(self, *_: object, **__: object) -> None: ...

    def encode(self, texts: list[str]) -> Any:
        return bag_of_words(texts)


def stage(name: str, params: dict[str, Any]) -> ModuleType:
    """Run one stage's body in the current folder, without DVC around it."""
    module = importlib.import_module(f"dvc_stages.{name}")
    module.main(Run(Definition(name, (), (), ()), Inputs({}, params)))
    return module


def small_params(repo_root: Path) -> dict[str, Any]:
    """The project's params, for two small sources of which one has no share of the mixture."""
    params = read_params(repo_root / "params.yaml")
    params["sources"] = {
        "empathetic_dialogues": {"format": "empathetic_dialogues"},
        "goemotions": {"format": "goemotions"},
    }
    params["records"]["max_quarantined"] = 0.5
    params["leakage"]["min_recall"] = dict.fromkeys(params["leakage"]["min_recall"], 0.0)
    params["mix"] |= {"size": 4, "empathetic_dialogues": "rest", "goemotions": 0.0}
    del params["mix"]["esconv"]
    params["prompts"]["count"] = 2
    return params


def without_encoder(patch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A stage's module with bags of words in the place of sentence vectors."""
    module = importlib.import_module(f"dvc_stages.{name}")
    for what in ("Encoder", "VectorStore", "VectorTable"):
        patch.setattr(module, what, Vectors, raising=False)
    return module


def build_project(folder: Path, repo_root: Path) -> Path:
    """A small project whose stages from records to prompts have run; its ``data/`` and ``reports/`` are theirs."""
    for path, text in RAW.items():
        target = folder / "data" / "raw" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
    write_pointer(repo_root / "models" / "base", folder / "models" / "base.json")
    params = small_params(repo_root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("dedup", "leakage"):
            without_encoder(patch, name)
        for name in ("records", "split", "dedup", "leakage", "mix", "dev", "prompts"):
            stage(name, params)
    return folder


def small_reports() -> dict[str, Any]:
    """Reports of one source that add up."""
    recall = {"planted": 0, "found": 0, "low": 0.0, "high": 1.0, "recall": 0.0}
    return {
        "records": {
            "one": {
                "raw_rows": 12,
                "raw_rows_kept": 10,
                "raw_rows_quarantined": 2,
                "quarantined_by_reason": {"empty_text": 2},
                "records": 10,
                "records_by_split": {"train": 7, "dev": 2, "test": 1},
            }
        },
        "split": {
            "records": 10,
            "removed": 1,
            "removed_by_source_and_split": {"one": {"train": 1}},
            "train": {"one": 6},
            "dev": {"one": 2},
            "test": {"one": 1},
        },
        "dedup": {
            "records": 6,
            "kept": {"one": 5},
            "removed": {"one": 1},
            "removed_by_rule": {"dedup-near-v1": 1},
            "removed_by_source_and_rule": {"one": {"dedup-near-v1": 1}},
        },
        "leakage": {
            "records": 5,
            "kept": {"one": 5},
            "removed": {},
            "removed_by_source_and_rule": {},
            "records_with_leaks": {n: {"found": 0, "removed": 0} for n in ("substantive", "generic")},
            "leaks_by_rule": {},
            "leaks_by_side": {},
            "recall": {"verbatim": recall},
        },
        "mixture": {"size": 4, "rows": {"one": 4}, "available": {"one": 5}, "repeats": {"one": 0}},
        "check": {"examples": 4, "rows": {"one": 4}},
    }
