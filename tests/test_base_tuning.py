"""Tuning of a base model on everyday dialogues, with a model of two layers."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from curation.errors import HeartwoodError
from pipelines.base_model.prepare import read_everyday
from pipelines.base_model.tune import EVERYDAY, TuningRecipe, tune
from tests.tiny_model import build_tiny_base

THINGS = ("rice", "cake", "soup", "bread", "plum tart", "omelette", "pancake", "stew", "pie", "toast")


@pytest.fixture(scope="module")
def everyday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everyday")
    blocks = [
        f"U: I burnt the {thing} {when}.\nA: Burnt {thing} is annoying. There is more {thing} another day."
        for thing in THINGS
        for when in ("again", "tonight", "at lunch", "for my guests")
    ]
    (folder / "kitchen.txt").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return folder


def test_tuning_lowers_the_loss_of_dialogues_it_never_saw_and_repeats_itself(everyday: Path, tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path / "base", pad_token="<unk>")
    with lzma.open(tmp_path / "dialogues.jsonl.xz", "wt", encoding="utf-8") as file:
        for n in range(60):
            turns = [f"Do you like number {n}?", f"Yes, {n} is a fine number."]
            file.write(json.dumps({"source": "self_dialogue", "turns": turns}) + "\n")
    recipe = TuningRecipe(
        epochs=2, batch_size=8, replay_size=2, peak_rate=3e-3, warmup_steps=2, held_out_percent=20.0, dropout=0.1
    )
    logs = [tune(base, tmp_path, everyday, tmp_path / out, recipe, device="cpu") for out in ("one", "two")]
    assert [entry["epoch"] for entry in logs[0]] == [0, 1, 2]
    losses = [entry["held_out_loss"] for entry in logs[0]]
    assert losses[2] < losses[1] < losses[0] - 0.3
    assert losses == [entry["held_out_loss"] for entry in logs[1]]
    written = json.loads((tmp_path / "one" / "tune_log.json").read_text(encoding="utf-8"))
    held_out, training = (written["everyday_dialogues"][part] for part in ("held_out", "training"))
    assert held_out >= 2
    assert held_out + training == 4 * len(THINGS)


@pytest.mark.parametrize(
    ("text", "line"),
    [("U: hello\nU: again\n", 3), ("A: hello\n", 1), ("U: hello\n\nU: hi\nA: hi\n", 2), ("U: hello\nA:  \n", 2)],
)
def test_a_turn_out_of_turn_is_named(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
    with pytest.raises(HeartwoodError, match=rf"bad\.txt: line {line}:"):
        read_everyday(tmp_path)


def test_lines_of_one_speaker_in_succession_are_alternatives_and_each_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(
        "U: hi\nU: hello\nU: hey\nA: Hello.\nA: Good day.\nU: bye\nA: Bye.\n", encoding="utf-8"
    )
    (written,) = read_everyday(tmp_path)
    assert written.turns == (("hi", "hello", "hey"), ("Hello.", "Good day."), ("bye",), ("Bye.",))
    drawn = written.draw(np.random.default_rng(1))
    assert len(drawn) == 3
    assert [{dialogue.turns[turn] for dialogue in drawn} for turn in range(4)] == [
        set(texts) for texts in written.turns
    ]
    assert drawn == written.draw(np.random.default_rng(1))
    pairs = {dialogue.turns[:2] for seed in range(60) for dialogue in written.draw(np.random.default_rng(seed))}
    assert len(pairs) == 6


def test_the_dialogues_that_are_shipped_are_distinct() -> None:
    dialogues = read_everyday(EVERYDAY)
    assert len(dialogues) > 4000
    assert len(set(dialogues)) == len(dialogues)
    replies = [text for dialogue in dialogues for turn in dialogue.turns[1::2] for text in turn if len(turn) > 1]
    assert len(set(replies)) > 0.98 * len(replies)
