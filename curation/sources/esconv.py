"""ESConv (Liu et al. 2021, https://arxiv.org/abs/2106.01144), as its authors publish it and as the hub has it.

The raw row is one dialogue. Consecutive turns of one speaker become one turn, their strategies and the seeker's
feedback (1 to 5) kept in order. A dialogue may open with the supporter (``assistant``); turns always alternate.

- ``ESConv.json``: a list of dialogues with ``content`` and ``annotation`` in each turn. It has no split: with
  ``ESConv.hub_splits.json`` (the hub's split, indices into the file) the records carry it, otherwise they stay
  unassigned and the split stage divides them by dialogue. ``FailedESConv.json`` has the same form, with other names
  of roles and strategies.
- The hub's files (https://huggingface.co/datasets/thu-coai/esconv), one for each split: a dialogue a line with
  ``text`` and ``strategy`` in each turn, also as a JSON text inside ``{"text": ...}``. They hold no feedback, so
  that dialogues with feedback have other ids there.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from curation.records import UNASSIGNED, Conversation, Origin, Turn, digest
from curation.sources.quarantine import (
    Parsed,
    Quarantined,
    UnusableError,
    checked_text,
    optional_text,
    read_text,
    require_files,
    text_problem,
)
from curation.sources.rows import (
    MAX_DEPTH,
    Row,
    add_turn,
    deeper_than,
    jsonl_rows,
    load_json,
    require_both_speakers,
    show,
    split_files,
    too_deep,
)

FILES = ("ESConv.json",)
HUB_SPLITS = "ESConv.hub_splits.json"
HUB_SUFFIXES = (".jsonl", ".txt", ".json")
ROLE_OF = {
    "seeker": "user",
    "supporter": "assistant",
    "usr": "user",
    "sys": "assistant",
    "speaker": "user",
    "listener": "assistant",
}
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
FEEDBACK = {str(n): n for n in range(1, 6)}
_WRAPPINGS = 3


def holds(folder: Path) -> bool:
    """Whether a folder holds ESConv in one of its two forms."""
    return (folder / FILES[0]).is_file() or bool(split_files(folder, HUB_SUFFIXES))


def find(folder: Path, hint: str) -> tuple[str, ...]:
    """The names of a folder's files, in the form that they have.

    Raises:
        HeartwoodError: the folder holds neither form, both, or the hub's without one of its three splits.
    """
    hub = split_files(folder, HUB_SUFFIXES)
    if not hub:
        require_files(FILES, folder, hint)
        return (*FILES, HUB_SPLITS) if (folder / HUB_SPLITS).is_file() else FILES
    if (folder / FILES[0]).is_file():
        raise HeartwoodError(
            f"{folder}: holds {FILES[0]} and {', '.join(hub)}, the same dialogues in two forms",
            hint="leave one of the two forms in the folder",
        )
    if missing := sorted(set(SPLIT_OF.values()) - set(hub.values())):
        raise HeartwoodError(
            f"{folder}: {', '.join(hub)} without a file of the {missing[0]} split; needed: train, valid and test",
            hint=hint,
        )
    return tuple(hub)


def _load(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: not JSON ({error.msg}); half a download?"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON that can be read ({error})"
    raise HeartwoodError(f"{path}, {problem}", hint="restore the official file and run `dvc repro`")


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


def _strategies(annotation: Mapping[str, Any], number: int) -> tuple[str, ...]:
    strategy = annotation.get("strategy")
    if strategy is None:
        return ()
    name = RENAMED.get(strategy, strategy) if isinstance(strategy, str) else ""
    if name not in STRATEGIES:
        allowed = ", ".join(sorted(STRATEGIES))
        raise UnusableError("unknown_label", f"turn {number}: strategy {show(strategy)}; allowed: {allowed}")
    return (name,)


def _feedback(annotation: Mapping[str, Any], number: int) -> tuple[int, ...]:
    feedback = annotation.get("feedback")
    if feedback is None:
        return ()
    text = str(feedback) if isinstance(feedback, str | int) else ""
    if text not in FEEDBACK:
        raise UnusableError("bad_feedback", f"turn {number}: feedback {show(feedback)}; allowed: 1 to 5, or none")
    return (FEEDBACK[text],)


def _turns(dialog: list[Any]) -> list[Turn]:
    turns: list[Turn] = []
    for number, raw in enumerate(dialog, start=1):
        if not isinstance(raw, dict):
            raise UnusableError("bad_turn", f"turn {number} is {show(raw)}; allowed: speaker and content")
        speaker = raw.get("speaker")
        if not isinstance(speaker, str) or speaker not in ROLE_OF:
            allowed = ", ".join(ROLE_OF)
            raise UnusableError("bad_turn", f"turn {number}: speaker {show(speaker)}; allowed: {allowed}")
        contents = [raw[key] for key in ("content", "text") if key in raw]
        if len(contents) != 1 or not isinstance(contents[0], str):
            found = show(contents[0]) if len(contents) == 1 else f"{len(contents)} of them"
            raise UnusableError("bad_turn", f"turn {number}: content (or text) is {found}; allowed: one text")
        annotation = raw.get("annotation")
        if not isinstance(annotation, dict | None):
            raise UnusableError("bad_turn", f"turn {number}: annotation {show(annotation)}; allowed: values by name")
        # The hub's form has beside the text what the official one has in the annotation.
        known = {**raw, **(annotation or {})}
        strategies, feedback = _strategies(known, number), _feedback(known, number)
        text = optional_text(contents[0], f"turn {number}")
        if text:
            add_turn(turns, ROLE_OF[speaker], text, strategies, feedback)
        elif strategies or feedback:
            raise UnusableError("empty_text", f"turn {number} is annotated")
    require_both_speakers(turns)
    return turns


def _unwrapped(row: Row) -> Row:
    value = row.value
    try:
        for _ in range(_WRAPPINGS):
            if isinstance(value, dict) and "dialog" not in value and isinstance(value.get("text"), str):
                value = value["text"]
            if isinstance(value, str):
                value = load_json(value)
    except UnusableError as problem:
        return replace(row, problem=problem)
    return replace(row, value=value)


def _parse_dialogue(raw: Any, source: str, split: str) -> Conversation:
    if not isinstance(raw, dict) or not isinstance(raw.get("dialog"), list):
        raise UnusableError("no_dialogue", "no list under 'dialog'")
    turns = _turns(raw["dialog"])
    situation, emotion = raw.get("situation", ""), raw.get("emotion_type", "")
    if not isinstance(situation, str) or not isinstance(emotion, str) or not emotion:
        found = f"{show(situation)}, {show(emotion)}"
        raise UnusableError("bad_field", f"situation or emotion_type is not text: {found}")
    return Conversation(
        source=source,
        task="dialogue",
        group=digest([[t.role, t.text] for t in turns])[:32],
        split=split,
        turns=tuple(turns),
        situation=optional_text(situation, "situation"),
        emotions=(checked_text(emotion, "emotion_type"),),
    )


def parse(folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    """Yield one record a dialogue, in file order; rows are numbered from 1.

    Raises:
        HeartwoodError: a file is empty or not UTF-8; ``ESConv.json`` is not a JSON list; the split file does not fit.
    """
    hub = split_files(folder, HUB_SUFFIXES)
    for name in hub:
        for row in jsonl_rows(folder / name):
            yield _parse_row(_unwrapped(row), name, source, hub[name])
    if not hub:
        yield from _parse_official(folder, source)


def _parse_official(folder: Path, source: str) -> Iterator[Parsed | Quarantined]:
    path = folder / FILES[0]
    dialogues = _load(path)
    if not isinstance(dialogues, list) or not dialogues:
        raise HeartwoodError(
            f"{path}: expected a list of dialogues, found {type(dialogues).__name__}",
            hint="restore the official ESConv.json",
        )
    splits = _splits(folder / HUB_SPLITS, len(dialogues))
    for index, raw in enumerate(dialogues):
        row = Row(index + 1, _raw(raw), raw, too_deep() if deeper_than(raw, MAX_DEPTH) else None)
        yield _parse_row(row, path.name, source, splits.get(index, UNASSIGNED))


def _parse_row(row: Row, name: str, source: str, split: str) -> Parsed | Quarantined:
    try:
        if row.problem:
            raise row.problem
        conversation = _parse_dialogue(row.value, source, split)
    except UnusableError as problem:
        return Quarantined(name, row.number, 1, problem.reason, problem.detail, row.raw)
    return Parsed(conversation, Origin(name, row.number, row.number), 1, row.raw)


def _raw(raw: Any) -> str:
    text = json.dumps(raw, ensure_ascii=False, sort_keys=True)
    # A lone surrogate cannot be written as UTF-8; escaped, it is kept as it was.
    return json.dumps(raw, sort_keys=True) if text_problem(text) == "lone_surrogate" else text
