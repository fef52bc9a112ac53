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
from curation.records import ROLES, UNASSIGNED, Conversation, Origin, Turn, clean_text, digest
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
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise HeartwoodError(
            f"{path}: expected lists of indices by split, found {type(loaded).__name__}", hint="restore the split file"
        )
    for name, indices in loaded.items():
        if name not in SPLIT_OF or not isinstance(indices, list):
            raise HeartwoodError(
                f"{path}: split {name!r} holds {type(indices).__name__}; allowed: lists under {', '.join(SPLIT_OF)}",
                hint="restore the split file",
            )
        for index in indices:
            if type(index) is not int or not 0 <= index < size or index in splits:
                raise HeartwoodError(
                    f"{path}: index {index!r} in {name!r} is out of range or named twice (dialogues: {size})",
                    hint="use the split file that belongs to this ESConv.json",
                )
            splits[index] = SPLIT_OF[name]
    return splits


def _turns(dialog: list[Any]) -> list[Turn] | tuple[str, str]:
    turns: list[Turn] = []
    for number, raw in enumerate(dialog, start=1):
        speaker = raw.get("speaker") if isinstance(raw, dict) else None
        annotation = (raw.get("annotation") or {}) if isinstance(raw, dict) else None
        known = isinstance(speaker, str) and speaker in ROLE_OF
        if not known or not isinstance(raw.get("content"), str) or not isinstance(annotation, dict):
            allowed = f"{', '.join(ROLE_OF)}, with a content and annotations by name"
            return "bad_turn", f"turn {number}: speaker {speaker!r:.40}; allowed: {allowed}"
        text = clean_text(raw["content"])
        if reason := text_problem(text):
            if reason == "empty_text":
                continue
            return reason, f"turn {number}"
        strategy = annotation.get("strategy")
        if isinstance(strategy, str):
            strategy = RENAMED.get(strategy, strategy)
        if strategy is not None and not (isinstance(strategy, str) and strategy in STRATEGIES):
            allowed = ", ".join(sorted(STRATEGIES))
            return "unknown_label", f"turn {number}: strategy {strategy!r:.40}; allowed: {allowed}"
        strategies = (strategy,) if strategy else ()
        role = ROLE_OF[str(speaker)]
        if turns and turns[-1].role == role:
            last = turns.pop()
            turns.append(Turn(role, f"{last.text} {text}", last.strategies + strategies))
        else:
            turns.append(Turn(role, text, strategies))
    roles = sorted({t.role for t in turns})
    if len(roles) != len(ROLES):
        return "one_speaker", f"speakers: {roles}; allowed: seeker and supporter"
    if too_long := [n for n, t in enumerate(turns, start=1) if text_problem(t.text)]:
        return "too_long", f"merged turn {too_long[0]}"
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
    for name, text in (("situation", situation), ("emotion_type", emotion)):
        if text.strip() and (reason := text_problem(text)):
            return reason, name
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
            yield Quarantined(path.name, index + 1, 1, *parsed, _raw(raw))


def _raw(raw: Any) -> str:
    text = json.dumps(raw, ensure_ascii=False, sort_keys=True)
    # A lone surrogate cannot be written as UTF-8; escaped, it is kept as it was.
    return json.dumps(raw, sort_keys=True) if text_problem(text) == "lone_surrogate" else text
