"""Lay the hand-written parts out as corpora in the official raw formats, with planted faults and their truth.

    python -m pipelines.embedded_corpora.build

writes ``data/embedded/`` and the leak detector's paraphrase pairs. Every planted fault is named in
``truth.json`` by file and row, so that tests can measure what curation finds. The order of rows, the splits and
the choice of what is planted follow sha256, so the build gives the same bytes everywhere.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from curation.jsonl import write_jsonl
from curation.leakage.planted import PARAPHRASES
from curation.sources.empathetic_dialogues import HEADER
from curation.sources.goemotions import LABELS
from pipelines.embedded_corpora.parts import (
    Comment,
    Dialogue,
    Line,
    read_comments,
    read_dialogues,
    read_stock_phrases,
)

EMBEDDED = Path("data/embedded")
SEED = "heartwood-embedded-v1"
T = TypeVar("T")

CONTACTS = (
    "You can write to me at {n}.listener@example.com if you like.",
    "My number is 555-010-01{n}, call any time.",
    "There is a page about it at https://example.org/help/{n} by the way.",
)
OTHER_REPLIES = (
    "That sounds like a lot to take in. What did you do next?",
    "I can see why that stays with you. How are you holding up today?",
    "What a moment that must have been. Did anyone else notice?",
    "It makes sense that you feel this way. Have you told someone close to you?",
    "Thank you for telling me about it. What would help you most right now?",
)


@dataclass(frozen=True)
class Item:
    """One raw unit on its way into a file: what is written, and the fault it was planted as, if any."""

    key: str
    content: Any
    fault: str = ""
    of: str = ""


@dataclass
class Corpus:
    """The items of one corpus, by file."""

    files: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))

    def add(self, file: str, key: str, content: Any, fault: str = "", of: str = "") -> None:
        """Add one item."""
        self.files[file].append(Item(key, content, fault, of))

    def ordered(self, file: str) -> list[Item]:
        """A file's items in sha256 order of their keys."""
        return sorted(self.files[file], key=lambda item: rank("order", item.key))


def rank(*parts: str) -> str:
    """Where something stands in the order that this build gives everything."""
    return hashlib.sha256("/".join((SEED, *parts)).encode()).hexdigest()


def pick(items: Iterable[T], count: int, purpose: str, key: Callable[[T], str]) -> list[T]:
    """The first ``count`` items in sha256 order for this purpose."""
    return sorted(items, key=lambda item: rank(purpose, key(item)))[:count]


def reword(text: str) -> str:
    """A near copy: one filler word put in."""
    words = text.split()
    middle = len(words) // 2
    return " ".join([*words[:middle], "really", *words[middle:]])


def recase(text: str) -> str:
    """The same words in other case and punctuation."""
    return text.upper().replace(".", " !").replace(",", " ...")


def truncate(text: str) -> str:
    """The first two thirds of the words."""
    words = text.split()
    return " ".join(words[: math.ceil(len(words) * 2 / 3)])


def with_first(dialogue: Dialogue, text: str) -> Dialogue:
    """The dialogue with another first line."""
    return replace(dialogue, lines=(replace(dialogue.lines[0], text=text), *dialogue.lines[1:]))


def only_first(dialogue: Dialogue, text: str, number: int) -> Dialogue:
    """A conversation of its own that shares nothing with ``dialogue`` but its first line, as given."""
    reply = OTHER_REPLIES[number % len(OTHER_REPLIES)]
    first = dialogue.lines[0]
    answer = Line("A", reply, "Question") if first.speaker == "U" else Line("L", reply)
    return Dialogue(dialogue.topic, "", dialogue.emotion, (replace(first, text=text), answer))


def divide(dialogues: Sequence[Dialogue], dev: int, test: int) -> dict[str, list[Dialogue]]:
    """Per topic, ``dev`` and ``test`` dialogues held out, the rest train."""
    splits: dict[str, list[Dialogue]] = defaultdict(list)
    for topic in sorted({d.topic for d in dialogues}):
        rows = pick((d for d in dialogues if d.topic == topic), len(dialogues), "split", lambda d: d.lines[0].text)
        splits["dev"] += rows[:dev]
        splits["test"] += rows[dev : dev + test]
        splits["train"] += rows[dev + test :]
    return splits


def name(dialogue: Dialogue) -> str:
    """The first line of a dialogue, by which the build knows it."""
    return dialogue.lines[0].text


LEAKS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("leak_verbatim", lambda text: text),
    ("leak_truncated", truncate),
    ("leak_recased", recase),
)


def plant_in_dialogues(corpus: Corpus, file: str, splits: dict[str, list[Dialogue]], counts: dict[str, int]) -> None:
    """Plant duplicates of train and leaks of dev into a train file."""
    train, dev = splits["train"], splits["dev"]
    plain = [d for d in train if not d.paraphrase]
    for d in pick(plain, counts["duplicate_exact"], "duplicate_exact", name):
        corpus.add(file, f"duplicate_exact/{name(d)}", d, "duplicate_exact", name(d))
    for d in pick(plain, counts["duplicate_near"], "duplicate_near", name):
        near = replace(d, lines=tuple(replace(x, text=reword(x.text)) for x in d.lines))
        corpus.add(file, f"duplicate_near/{name(d)}", near, "duplicate_near", name(d))
    for d in pick((d for d in train if d.paraphrase), counts["duplicate_paraphrased"], "duplicate_paraphrased", name):
        corpus.add(
            file, f"duplicate_paraphrased/{name(d)}", with_first(d, d.paraphrase), "duplicate_paraphrased", name(d)
        )
    long = [d for d in dev if len(name(d).split()) >= 12]
    used: set[str] = set()
    for fault, change_text in LEAKS:
        for n, d in enumerate(pick((d for d in long if name(d) not in used), counts[fault], fault, name)):
            used.add(name(d))
            corpus.add(file, f"{fault}/{name(d)}", only_first(d, change_text(name(d)), n), fault, name(d))
    free = (d for d in dev if d.paraphrase and name(d) not in used)
    for n, d in enumerate(pick(free, counts["leak_paraphrased"], "leak_paraphrased", name)):
        corpus.add(file, f"leak_paraphrased/{name(d)}", only_first(d, d.paraphrase, n), "leak_paraphrased", name(d))
    for n, d in enumerate(pick(plain, counts["contact"], "contact", name)):
        text = CONTACTS[n % len(CONTACTS)].format(n=10 + n)
        last = [i for i, x in enumerate(d.lines) if x.speaker == d.lines[0].speaker][-1]
        lines = (*d.lines[:last], replace(d.lines[last], text=f"{d.lines[last].text} {text}"), *d.lines[last + 1 :])
        corpus.files[file] = [
            Item(i.key, replace(d, lines=lines), "contact") if i.content is d else i for i in corpus.files[file]
        ]


def build_empathetic_dialogues(folder: Path) -> list[dict[str, Any]]:
    """Write the three CSV files; returns the truth."""
    corpus = Corpus()
    splits = divide(read_dialogues("empathetic_dialogues"), dev=7, test=3)
    for split, file in (("train", "train.csv"), ("dev", "valid.csv"), ("test", "test.csv")):
        for d in splits[split]:
            corpus.add(file, d.lines[0].text, d)
    counts = {
        "duplicate_exact": 14,
        "duplicate_near": 14,
        "duplicate_paraphrased": 12,
        "leak_verbatim": 14,
        "leak_truncated": 14,
        "leak_recased": 14,
        "leak_paraphrased": 14,
        "contact": 9,
    }
    plant_in_dialogues(corpus, "train.csv", splits, counts)
    for n, d in enumerate(pick(splits["dev"], 5, "situation", lambda d: d.situation)):
        twin = replace(only_first(d, f"Something new came up this week, number {n + 1} on my list.", n))
        corpus.add(
            "train.csv",
            f"situation/{d.situation}",
            replace(twin, situation=d.situation),
            "situation_in_two_splits",
            d.lines[0].text,
        )
    for fault, d in zip(
        ("malformed_fields", "malformed_index", "malformed_label", "malformed_empty"),
        pick(splits["test"], 4, "malformed", lambda d: d.situation),
        strict=True,
    ):
        corpus.add("train.csv", f"{fault}", only_first(d, f"This row is broken on purpose: {fault}.", 0), fault)

    truth = []
    positions: dict[str, tuple[str, int]] = {}
    pending: list[tuple[Item, str, int, int]] = []
    number = 0
    for file in ("train.csv", "valid.csv", "test.csv"):
        lines = [",".join(HEADER)]
        for item in corpus.ordered(file):
            number += 1
            first = len(lines) + 1
            lines += _ed_rows(item, number)
            positions.setdefault(item.content.lines[0].text, (file, first))
            pending.append((item, file, first, len(lines)))
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    originals = {
        i.content.lines[0].text: (f, first) for i, f, first, _ in pending if not i.fault or i.fault == "contact"
    }
    for item, file, first, last in pending:
        if item.fault:
            truth.append(_truth("empathetic_dialogues", item, file, first, last, originals))
    return truth


def _ed_rows(item: Item, number: int) -> list[str]:
    d: Dialogue = item.content
    rows = []
    for i, line in enumerate(d.lines, start=1):
        fields = [
            f"hit:{number - 1}_conv:{2 * number}",
            str(i),
            d.emotion,
            d.situation.replace(",", "_comma_"),
            str((i - 1) % 2),
            line.text.replace(",", "_comma_"),
            "",
            "",
        ]
        if i == 2 and item.fault.startswith("malformed"):
            fields = {
                "malformed_fields": fields[:4],
                "malformed_index": [fields[0], "two", *fields[2:]],
                "malformed_label": [*fields[:2], "grumpyish", *fields[3:]],
                "malformed_empty": [*fields[:5], " ", *fields[6:]],
            }[item.fault]
        rows.append(",".join(fields))
    return rows


def build_goemotions(folder: Path) -> list[dict[str, Any]]:
    """Write the three TSV files and the label list; returns the truth."""
    corpus = Corpus()
    splits: dict[str, list[Comment]] = defaultdict(list)
    comments = read_comments()
    for label in LABELS:
        rows = pick((c for c in comments if c.labels[0] == label), len(comments), "split", lambda c: c.text)
        splits["dev"] += rows[:5]
        splits["test"] += rows[5:10]
        splits["train"] += rows[10:]
    for split, file in (("train", "train.tsv"), ("dev", "dev.tsv"), ("test", "test.tsv")):
        for comment in splits[split]:
            corpus.add(file, comment.text, comment)
    for n, phrase in enumerate(read_stock_phrases()):
        for file, copies in (("train.tsv", 4), ("dev.tsv", 1), ("test.tsv", n % 2)):
            for copy in range(copies):
                corpus.add(file, f"stock/{phrase.text}/{copy}", phrase, "stock_phrase", phrase.text)
    _plant_in_comments(corpus, splits)

    pending: list[tuple[Item, str, int]] = []
    for file in ("train.tsv", "dev.tsv", "test.tsv"):
        lines = []
        for item in corpus.ordered(file):
            c: Comment = item.content
            ids = ",".join(str(LABELS.index(x)) for x in sorted(c.labels, key=LABELS.index))
            comment_id = "e" + rank("comment", file, item.key)[:6]
            row = {
                "malformed_fields": f"{c.text}\t{ids}",
                "malformed_label": f"{c.text}\t31\t{comment_id}",
                "malformed_empty": f" \t{ids}\t{comment_id}",
                "malformed_id": f"{c.text}\t{ids}\t",
            }.get(item.fault, f"{c.text}\t{ids}\t{comment_id}")
            lines.append(row)
            pending.append((item, file, len(lines)))
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    (folder / "emotions.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8", newline="\n")
    originals = {i.content.text: (f, row) for i, f, row in pending if not i.fault}
    return [_truth("goemotions", i, f, row, row, originals) for i, f, row in pending if i.fault]


def _plant_in_comments(corpus: Corpus, splits: dict[str, list[Comment]]) -> None:
    def text_of(comment: Comment) -> str:
        return comment.text

    changes: tuple[tuple[str, int, Callable[[Comment], Comment]], ...] = (
        ("duplicate_exact", 12, lambda c: c),
        ("duplicate_recased", 8, lambda c: replace(c, text=recase(c.text))),
        ("label_conflict", 10, lambda c: replace(c, labels=("neutral" if "neutral" not in c.labels else "approval",))),
        ("contact", 4, lambda c: replace(c, text=f"{c.text} {CONTACTS[2].format(n=len(c.text))}")),
    )
    long_train = [c for c in splits["train"] if len(c.text.split()) >= 8 and not c.paraphrase]
    used: set[str] = set()
    for fault, count, change in changes:
        for c in pick((c for c in long_train if c.text not in used), count, fault, text_of):
            used.add(c.text)
            corpus.add("train.tsv", f"{fault}/{c.text}", change(c), fault, c.text)
    taken: set[str] = set()
    for fault, change_text in (*LEAKS, ("leak_paraphrased", None)):
        pool = [c for c in splits["dev"] if c.text not in taken and (c.paraphrase or change_text)]
        pool = [c for c in pool if len(c.text.split()) >= (11 if fault == "leak_truncated" else 4)]
        for c in pick(pool, 9, fault, text_of):
            taken.add(c.text)
            text = change_text(c.text) if change_text else c.paraphrase
            corpus.add("train.tsv", f"{fault}/{c.text}", replace(c, text=text), fault, c.text)
    for fault in ("malformed_fields", "malformed_label", "malformed_empty", "malformed_id"):
        corpus.add("train.tsv", fault, Comment(f"This row is broken on purpose: {fault}.", ("neutral",)), fault)


def build_esconv(folder: Path) -> list[dict[str, Any]]:
    """Write ``ESConv.json`` and its split file; returns the truth."""
    corpus = Corpus()
    splits = divide(read_dialogues("esconv"), dev=1, test=1)
    split_of: dict[str, str] = {}
    for split, rows in splits.items():
        for dialogue in rows:
            corpus.add("ESConv.json", name(dialogue), dialogue)
            split_of[name(dialogue)] = split
    counts = {
        "duplicate_exact": 3,
        "duplicate_near": 3,
        "duplicate_paraphrased": 2,
        "leak_verbatim": 2,
        "leak_truncated": 2,
        "leak_recased": 2,
        "leak_paraphrased": 2,
        "contact": 3,
    }
    plant_in_dialogues(corpus, "ESConv.json", splits, counts)
    example = splits["train"][0]
    mute = replace(example, lines=tuple(x for x in example.lines if x.speaker == "U"))
    odd = replace(example, lines=(example.lines[0], Line("A", "I hear you.", "Shrugging")))
    corpus.add("ESConv.json", "malformed_one_speaker", mute, "malformed_one_speaker")
    corpus.add("ESConv.json", "malformed_strategy", odd, "malformed_strategy")

    dialogues, pending = [], []
    indices: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for index, item in enumerate(corpus.ordered("ESConv.json")):
        d: Dialogue = item.content
        split = split_of[d.lines[0].text] if item.fault in ("", "contact") else "train"
        indices["valid" if split == "dev" else split].append(index)
        dialogues.append(_esconv_dialogue(d))
        pending.append((item, index + 1))
    text = json.dumps(dialogues, indent=1, ensure_ascii=False) + "\n"
    (folder / "ESConv.json").write_text(text, encoding="utf-8", newline="\n")
    (folder / "ESConv.hub_splits.json").write_text(json.dumps(indices) + "\n", encoding="utf-8", newline="\n")
    originals = {i.content.lines[0].text: ("ESConv.json", row) for i, row in pending if i.fault in ("", "contact")}
    return [_truth("esconv", i, "ESConv.json", row, row, originals) for i, row in pending if i.fault]


def _esconv_dialogue(d: Dialogue) -> dict[str, Any]:
    turns = []
    for line in d.lines:
        seeker = line.speaker == "U"
        annotation = {} if seeker else {"strategy": line.strategy}
        turns.append({"speaker": "seeker" if seeker else "supporter", "annotation": annotation, "content": line.text})
    return {
        "experience_type": "Previous Experience",
        "emotion_type": d.emotion,
        "problem_type": d.topic.replace("_", " "),
        "situation": d.situation,
        "survey_score": {"seeker": {}, "supporter": {}},
        "dialog": turns,
    }


def _truth(
    source: str, item: Item, file: str, first: int, last: int, originals: dict[str, tuple[str, int]]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "source": source,
        "fault": item.fault,
        "file": file,
        "first_row": first,
        "last_row": last,
    }
    if item.of in originals:
        row["of_file"], row["of_row"] = originals[item.of]
    return row


def paraphrase_pairs() -> list[dict[str, str]]:
    """Every text of the parts that was written a second time in other words."""
    pairs = []
    for folder in ("empathetic_dialogues", "esconv"):
        pairs += [(d.lines[0].text, d.paraphrase) for d in read_dialogues(folder) if d.paraphrase]
    pairs += [(c.text, c.paraphrase) for c in read_comments() if c.paraphrase]
    return [{"text": a, "paraphrase": b} for a, b in sorted(pairs)]


def build(target: Path) -> None:
    """Write all corpora, the truth and the checksums below ``target``."""
    for name in ("empatheticdialogues", "goemotions"):
        (target / name).mkdir(parents=True, exist_ok=True)
    truth = [
        *build_empathetic_dialogues(target / "empatheticdialogues"),
        *build_esconv(target),
        *build_goemotions(target / "goemotions"),
    ]
    truth.sort(key=lambda t: (t["source"], t["fault"], t["file"], t["first_row"]))
    (target / "truth.json").write_text(
        "[\n" + ",\n".join(json.dumps(t) for t in truth) + "\n]\n", encoding="utf-8", newline="\n"
    )
    files = sorted(p for p in target.rglob("*") if p.is_file() and p.name not in ("SHA256SUMS", "README.md"))
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(target).as_posix()}" for p in files]
    (target / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    build(EMBEDDED)
    write_jsonl(paraphrase_pairs(), PARAPHRASES)
