"""Train the tokenizer and encode the pretraining corpora to flat uint16 token files."""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from curation.errors import HeartwoodError

Tokens = npt.NDArray[np.uint16]

VOCAB_SIZE = 8192
CONTEXT_LENGTH = 1024
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|system|>")
VALIDATION_PERCENT = 2.0
SYSTEM_PERCENT = 20.0
NOVEL_CHUNK_CHARS = 20_000
TOKENIZER_NOVEL_STRIDE = 3

CHAT_TEMPLATE = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

SYSTEM_LINES = (
    "You are a kind and attentive listener.",
    "You are a friendly and helpful assistant.",
    "You are a warm conversation partner.",
    "Listen carefully and answer in plain words.",
    "You are a supportive friend.",
    "You are a helpful assistant. Keep your answers short.",
    "Be polite, patient and honest.",
    "You enjoy talking with people about their day.",
)


@dataclass(frozen=True)
class Dialogue:
    """One conversation of the pretraining corpus, with the digest that decides its split."""

    source: str
    turns: tuple[str, ...]
    digest: bytes

    @classmethod
    def from_turns(cls, source: str, turns: Iterable[str]) -> Dialogue:
        """Strip the turns, and hash their case- and space-folded text, so that exact repeats share a split."""
        stripped = tuple(text for turn in turns if (text := turn.strip()))
        folded = "\n".join(" ".join(turn.lower().split()) for turn in stripped)
        return cls(source, stripped, hashlib.sha256(folded.encode()).digest())

    def percentile(self, purpose: int) -> float:
        """Return a fixed number in [0, 100), independent for every ``purpose`` (0 to 3)."""
        word = self.digest[8 * purpose : 8 * purpose + 8]
        return int.from_bytes(word, "big") / 2**64 * 100

    @property
    def held_out(self) -> bool:
        """Whether this dialogue belongs to validation."""
        return self.percentile(0) < VALIDATION_PERCENT

    def messages(self) -> list[dict[str, str]]:
        """Return the chat messages, now and then after a system line."""
        spoken = self.percentile(1) < SYSTEM_PERCENT
        return self.chat(SYSTEM_LINES[int(self.percentile(2) / 100 * len(SYSTEM_LINES))] if spoken else None)

    def chat(self, system: str | None) -> list[dict[str, str]]:
        """Return the turns as alternating user and assistant messages, after a system message if one is given."""
        roles = ("user", "assistant")
        opening = [] if system is None else [{"role": "system", "content": system}]
        return opening + [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(self.turns)]


@dataclass(frozen=True)
class Everyday:
    """A dialogue that was written for the base model: for every turn one or more texts, any of which may be said."""

    turns: tuple[tuple[str, ...], ...]

    @property
    def percentile(self) -> float:
        """A fixed number in [0, 100), which decides the split."""
        return Dialogue.from_turns("everyday", (texts[0] for texts in self.turns)).percentile(0)

    def draw(self, generator: np.random.Generator) -> list[Dialogue]:
        """Return as many dialogues as the turn of the most texts has, so that every text is said at least once."""
        count = max(map(len, self.turns))
        said = [np.resize(generator.permutation(np.array(texts, dtype=object)), count) for texts in self.turns]
        orders = [generator.permutation(column) for column in said]
        return [Dialogue.from_turns("everyday", turns) for turns in zip(*orders, strict=True)]


def read_jsonl_xz(path: Path, *, key: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of an xz-compressed JSON-lines file, each of which must hold the list ``key``."""
    if not path.is_file():
        raise HeartwoodError(
            f"{path}: no such file", hint="Point --data at the folder with dialogues.jsonl.xz and novels.jsonl.xz."
        )
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            if not isinstance(record.get(key), list):
                raise HeartwoodError(
                    f"{path}: line {number}: {key!r} is {record.get(key)!r}, expected a list of strings",
                    hint="Download the file again: it is damaged or of another format.",
                )
            yield record


def read_dialogues(path: Path) -> list[Dialogue]:
    """Read all dialogues of at least two turns."""
    rows = read_jsonl_xz(path, key="turns")
    dialogues = (Dialogue.from_turns(row["source"], row["turns"]) for row in rows)
    return [dialogue for dialogue in dialogues if len(dialogue.turns) >= 2]


def read_novel_chunks(path: Path) -> list[str]:
    """Read the novels, each cut at paragraph ends into texts of about ``NOVEL_CHUNK_CHARS`` characters."""
    chunks: list[str] = []
    for row in read_jsonl_xz(path, key="paragraphs"):
        held: list[str] = []
        size = 0
        for paragraph in row["paragraphs"]:
            held.append(paragraph)
            size += len(paragraph)
            if size >= NOVEL_CHUNK_CHARS:
                chunks.append("\n".join(held))
                held, size = [], 0
        if held:
            chunks.append("\n".join(held))
    return chunks


def read_everyday(folder: Path) -> list[Everyday]:
    """Read the everyday dialogues of ``folder/*.txt``, in the order of file names and lines.

    A dialogue is a block of lines ``U: ...`` and ``A: ...``, from a ``U`` to an ``A``; an empty line ends it. Lines of one
    speaker in succession are alternatives for one turn.

    Raises HeartwoodError naming file and line where a turn is out of turn or empty.
    """
    dialogues: list[Everyday] = []
    for path in sorted(folder.glob("*.txt")):
        turns: list[list[str]] = []
        lines = [*path.read_text(encoding="utf-8").splitlines(), ""]
        for number, line in enumerate(lines, start=1):
            last = "UA"[(len(turns) - 1) % 2]
            allowed = ("U: ", "A: ") if turns else ("U: ",)
            if line.startswith(allowed) and line[3:].strip():
                if not turns or line[0] != last:
                    turns.append([])
                turns[-1].append(line[3:].strip())
            elif not line and turns and last == "A":
                dialogues.append(Everyday(tuple(map(tuple, turns))))
                turns = []
            elif line or turns:
                raise HeartwoodError(
                    f"{path}: line {number}: {line[:60]!r}, expected a turn that starts with {' or '.join(map(repr, allowed))}",
                    hint="Write dialogues as 'U: ' and 'A: ' lines, from a 'U: ' to an 'A: ', with an empty line after each.",
                )
    if not dialogues:
        raise HeartwoodError(f"{folder}: no dialogues in *.txt", hint="Point --everyday at the folder that holds them.")
    return dialogues


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer and wrap it with the special tokens and the chat template.

    No post-processor adds ``<s>``: a rendered chat is encoded as it stands, so it can never get a double one.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
        add_bos_token=False,
        add_eos_token=False,
        model_max_length=CONTEXT_LENGTH,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, batch: int = 512) -> Tokens:
    """Encode texts to one flat array in which ``<s>`` stands before every document."""
    parts: list[Tokens] = []
    for start in range(0, len(texts), batch):
        for ids in tokenizer(list(texts[start : start + batch]), add_special_tokens=False, verbose=False)["input_ids"]:
            parts.append(np.array([tokenizer.bos_token_id, *ids], dtype=np.uint16))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)


def prepare(data: Path, out: Path) -> dict[str, int]:
    """Write the tokenizer and the token files ``dialogues_train``, ``dialogues_valid`` and ``novels_train``.

    Returns the number of tokens of each file.
    """
    dialogues = read_dialogues(data / "dialogues.jsonl.xz")
    novels = read_novel_chunks(data / "novels.jsonl.xz")
    training = [dialogue for dialogue in dialogues if not dialogue.held_out]

    tokenizer = train_tokenizer(
        [turn for dialogue in training for turn in dialogue.turns] + novels[::TOKENIZER_NOVEL_STRIDE]
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out / "tokenizer")

    def render(dialogue: Dialogue) -> str:
        return str(tokenizer.apply_chat_template(dialogue.messages(), tokenize=False))

    counts: dict[str, int] = {}
    for name, texts in (
        ("dialogues_train", [render(dialogue) for dialogue in training]),
        ("dialogues_valid", [render(dialogue) for dialogue in dialogues if dialogue.held_out]),
        ("novels_train", [f"{chunk}{tokenizer.eos_token}" for chunk in novels]),
    ):
        tokens = encode_documents(tokenizer, texts)
        np.save(out / f"{name}.npy", tokens)
        counts[name] = len(tokens)
    return counts


def main() -> None:
    """Command line: ``python -m pipelines.base_model.prepare --data DIR --out DIR``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the two .jsonl.xz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer and token files")
    args = parser.parse_args()
    try:
        counts = prepare(args.data, args.out)
    except HeartwoodError as error:
        raise SystemExit(f"error: {error}\nhint: {error.hint}") from None
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
