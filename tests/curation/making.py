"""Small records, a fake encoder and hypothesis strategies for the tests of curation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.neighbours import Vectors
from curation.records import Conversation, Origin, Turn, content_id, identify
from curation.sources import parse
from curation.sources.quarantine import Parsed, Quarantined
from curation.text import words


def talk(
    *texts: str,
    source: str = "talks",
    split: str = "train",
    group: str = "",
    situation: str = "",
    emotions: Iterable[str] = ("sad",),
) -> Conversation:
    """A dialogue that the user opens, its texts in turn; the id is set, the copy number is 0."""
    turns = tuple(Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))
    made = Conversation(source, "dialogue", group or texts[0], split, turns, situation, tuple(emotions))
    return replace(made, id=content_id(made))


def comment(text: str, *labels: str, split: str = "train", group: str = "c", source: str = "comments") -> Conversation:
    """A labelled comment; the id is set, the copy number is 0."""
    made = Conversation(source, "emotion", group, split, (Turn("user", text),), emotions=labels or ("neutral",))
    return replace(made, id=content_id(made))


def numbered(records: Iterable[Conversation]) -> list[Conversation]:
    """The records with their copies numbered, in uid order."""
    return [c for c, _ in identify((r, Origin("made", i, i)) for i, r in enumerate(records))]


def bag_of_words(texts: Sequence[str]) -> Vectors:
    """Unit vectors of hashed folded words: equal for equal words in any case and order, shape (n, 256)."""
    vectors = np.zeros((len(texts), 256), dtype=np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in words(text):
            row[int(hashlib.sha256(word.encode()).hexdigest(), 16) % 256] += 1.0
        if row.any():
            row /= np.linalg.norm(row)
    return vectors


def orthogonal(texts: Sequence[str]) -> Vectors:
    """Vectors under which no text is like any other, nor like itself: all zero."""
    return np.zeros((len(texts), 4), dtype=np.float32)


def by_angle(degrees: dict[str, float]) -> Callable[[Sequence[str]], Vectors]:
    """An encoder that puts each named text on a circle; all other texts are zero."""

    def encode(texts: Sequence[str]) -> Vectors:
        angles = np.radians([degrees.get(t, 0.0) for t in texts])
        known = np.array([t in degrees for t in texts], dtype=np.float32)
        return (np.stack([np.cos(angles), np.sin(angles)], axis=1) * known[:, None]).astype(np.float32)

    return encode


def parsed(format_name: str, folder: Path) -> tuple[list[Parsed], list[Quarantined]]:
    """What a parser makes of a folder: records, and rows set aside."""
    items = list(parse(format_name, folder, format_name))
    return [i for i in items if isinstance(i, Parsed)], [i for i in items if isinstance(i, Quarantined)]


def parsed_or_refused(format_name: str, folder: Path) -> tuple[list[Parsed | Quarantined], str]:
    """What a parser yields, or nothing and the message of the error with which it refuses the files."""
    try:
        return list(parse(format_name, folder, format_name)), ""
    except HeartwoodError as error:
        return [], str(error)


def chat(*texts: str, **fields: object) -> dict[str, object]:
    """A row with messages, the user first; two turns if no texts are given."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts or ("I am lost.", "Why?"))]
    return {"messages": messages, **fields}


def pair(prompt: object = "I am lost.", completion: object = "Why?", **fields: object) -> dict[str, object]:
    """A row with a prompt and a completion."""
    return {"prompt": prompt, "completion": completion, **fields}


def write_chat(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    """Rows as JSON Lines: values, or lines as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return folder / name


# A small vocabulary, so that random conversations often repeat each other.
sentences = st.lists(st.sampled_from("i feel so lost today and tired of work".split()), min_size=1, max_size=9).map(
    " ".join
)
conversations = st.builds(
    lambda texts, split, group, situation, emotion: talk(
        *texts, split=split, group=group, situation=situation, emotions=(emotion,)
    ),
    st.lists(sentences, min_size=1, max_size=3),
    st.sampled_from(["train", "dev", "test", ""]),
    st.sampled_from(["g1", "g2", "g3", "g4", "g5", "g6"]),
    st.sampled_from(["", "", "My dog died.", "my dog died", "I lost my job."]),
    st.sampled_from(["sad", "angry"]),
)
