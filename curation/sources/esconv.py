"""ESConv (Liu et al. 2021, https://arxiv.org/abs/2106.01144), the official ``ESConv.json``.

The raw row is one dialogue. Consecutive turns of one speaker become one turn, their strategies kept in order.
The official file has no split: with ``ESConv.hub_splits.json`` (the hub's split, indices into the file) the
records carry it, otherwise they stay unassigned and the split stage divides them by dialogue.
A dialogue may open with the supporter (``assistant``); turns always alternate.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.records import UNASSIGNED, Conversation, Origin, Turn, clean_text, digest
from curation.sources.quarantine import Parsed, Quarantined, read_text, text_problem

FILES = ("ESConv.json",)
OPTIONAL_FILES = ("ESConv.hub_splits.json",)
ROLE_OF = {"seeker": "user", "supporter": "assistant", "speaker": "user", "listener": "assistant"}
SPLIT_OF = {"train": "train", "valid": "dev", "test": "test"}
STRATEGIES = frozenset(
    {
        "Question",
        "Restatement or Paraphrasing",
        "Reflection of feelings",
        "Self-disclosure",
        "Affirmation and Reassurance",
        "Providing Suggestions",
        "Information",
        "Others",
    }
)
RENAMED = {"Questions": "Question", "Other": "Others"}


def _load(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise HeartwoodError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); half a download?",
            hint="restore the official file and run `dvc repro`",
        ) from None


def _splits(path: Path, size: int) -> dict[int, str]:
    if not path.exists():
        return {}
    splits: dict[int, str] = {}
    for name, indices in _load(path).items():
        if name not in SPLIT_OF:
            raise HeartwoodError(
                f"{path}: split {name!r}; allowed: {', '.join(SPLIT_OF)}", hint="restore the split file"
            )
        for index in indices:
            if not 0 <= index < size or index in splits:
                raise HeartwoodError(
                    f"{path}: index {index} in {name!r} is out of range or named twice (dialogues: {size})",
                    hint="use the split file that belongs to this ESConv.json",
                )
            splits[index] = SPLIT_OF[name]
    return splits


def _turns(dialog: list[Any]) -> list[Turn] | tuple[str, str]:
    turns: list[Turn] = []
    for number, raw in enumerate(dialog, start=1):
        speaker = raw.get("speaker") if isinstance(raw, dict) else None
        if speaker not in ROLE_OF or not isinstance(raw.get("content"), str):
            return (
                "bad_turn",
                f"turn {number}: speaker {speaker!r}; allowed: {', '.join(ROLE_OF)}, with a content",
            )
        text = clean_text(raw["content"])
        if reason := text_problem(text):
            if reason == "empty_text":
                continue
            return reason, f"turn {number}"
        strategy = (raw.get("annotation") or {}).get("strategy")
        if isinstance(strategy, str):
            strategy = RENAMED.get(strategy, strategy)
        if strategy is not None and strategy not in STRATEGIES:
            return (
                "unknown_label",
                f"turn {number}: strategy {strategy!r}; allowed: {', '.join(sorted(STRATEGIES))}",
            )
        strategies = (strategy,) if strategy else ()
        role = ROLE_OF[speaker]
        if turns and turns[-1].role == role:
            last = turns.pop()
            turns.append(Turn(role, f"{last.text} {text}", last.strategies + strategies))
        else:
            turns.append(Turn(role, text, strategies))
    if {t.role for t in turns} != {"user", "assistant"}:
        return (
            "one_speaker",
            f"speakers: {sorted({t.role for t in turns})}; allowed: seeker and supporter",
        )
    return turns


def _parse_dialogue(raw: Any, source: str, split: str) -> Conversation | tuple[str, str]:
    if not isinstance(raw, dict) or not isinstance(raw.get("dialog"), list):
        return "no_dialogue", "no list under 'dialog'"
    turns = _turns(raw["dialog"])
    if isinstance(turns, tuple):
        return turns
    situation, emotion = raw.get("situation", ""), raw.get("emotion_type", "")
    if not isinstance(situation, str) or not isinstance(emotion, str) or not emotion:
        return "bad_field", f"situation or emotion_type is not text: {situation!r:.60}, {emotion!r:.60}"
    return Conversation(
        source=source,
        task="dialogue",
        group=digest([[t.role, t.text] for t in turns])[:32],
        split=split,
        turns=tuple(turns),
        situation=clean_text(situation),
        emotions=(emotion,),
    )


def parse(folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Yield one record a dialogue, in file order; rows are numbered from 1.

    Raises:
        HeartwoodError: the file is empty, not UTF-8, not JSON or not a list; the split file does not fit.
    """
    path = folder / FILES[0]
    dialogues = _load(path)
    if not isinstance(dialogues, list) or not dialogues:
        raise HeartwoodError(
            f"{path}: expected a list of dialogues, found {type(dialogues).__name__}",
            hint="restore the official ESConv.json",
        )
    splits = _splits(folder / OPTIONAL_FILES[0], len(dialogues))
    for index, raw in enumerate(dialogues):
        parsed = _parse_dialogue(raw, source, splits.get(index, UNASSIGNED))
        if isinstance(parsed, Conversation):
            yield Parsed(parsed, Origin(path.name, index + 1, index + 1), 1)
        else:
            yield Quarantined(path.name, index + 1, 1, *parsed, json.dumps(raw, ensure_ascii=False, sort_keys=True))
