"""The pair encoder of the judge at rating time: MiniLM over ``[CLS] seeker [SEP] reply [SEP]``, with fitted numbers.

A training changes MiniLM by low-rank updates (LoRA, Hu et al. 2021) and adds three ordinal heads. The updates are added
to the packaged weights, and ONNX Runtime runs the sum in fp32.
Both texts are one segment, as in the graph of the sentence encoder. A batch holds pairs of one token count and is not
padded, so that what a pair gets does not depend on the pairs beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.embedding.graph import LAYERS, WIDTH, build_graph
from curation.embedding.minilm import BATCH_TOKENS, batches_of_one_length, packaged_folder
from curation.hardware import usable_cores
from pipelines.evaluation.ratings import MECHANISMS

MAX_TOKENS = 112
"""Tokens of a pair, special ones included; a longer reply loses its middle."""

SEEKER_TOKENS = 40
"""Tokens of the seeker's text; a longer one loses its beginning."""

RANK = 8
"""Rank of the low-rank updates."""

FROZEN = 3
"""The lowest layers stay as they are, so that a training computes them once."""

TARGETS = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (4 * WIDTH, WIDTH),
    "output.dense": (WIDTH, 4 * WIDTH),
}
"""The updated matrices of a layer: (outputs, inputs)."""

LEVEL_LOGITS = (len(MECHANISMS), 2)
POOLED = 3 * WIDTH

_Floats = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[Any]]


def matrices() -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and shape of every updated matrix, as in the packaged weights (without ``.weight``)."""
    for layer in range(FROZEN, LAYERS):
        for target, shape in TARGETS.items():
            yield f"encoder.layer.{layer}.{target}", shape


def shapes() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each array of a fitted encoder.

    ``<matrix>.down`` (rank, inputs) and ``<matrix>.up`` (outputs, rank): the update is up @ down. ``token_*``: one logit
    a token and mechanism, what in the reply speaks for it; their softmax over the reply weighs its tokens.
    ``level_*``: P(level > 0) and P(level > 1) from (weighed reply, mean of the reply, mean of the seeker).
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (outputs, inputs) in matrices():
        found[f"{name}.down"] = ("float16", (RANK, inputs))
        found[f"{name}.up"] = ("float16", (outputs, RANK))
    return found | {
        "token_weight": ("float32", (len(MECHANISMS), WIDTH)),
        "token_bias": ("float32", (len(MECHANISMS),)),
        "level_weight": ("float32", (*LEVEL_LOGITS, POOLED)),
        "level_bias": ("float32", LEVEL_LOGITS),
    }


@dataclass(frozen=True)
class TokenPair:
    """Token ids of a pair; the reply's are ``ids[start:-1]``, and its n-th came from ``spans[n]`` of its text."""

    ids: list[int]
    start: int
    spans: list[tuple[int, int]]


class PairTokenizer:
    """Pairs to token ids. Whitespace is collapsed, and what is no Unicode text (lone surrogates) becomes ``?``."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._open, self._close = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[TokenPair]:
        """Token ids of (seeker, reply) pairs, in order."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        found = self._tokenizer.encode_batch([plain(text) for text in texts], add_special_tokens=False)
        by_text = dict(zip(texts, found, strict=True))
        made = []
        for seeker, reply in pairs:
            heard, said = by_text[seeker].ids[-SEEKER_TOKENS:], by_text[reply]
            room = MAX_TOKENS - 3 - len(heard)
            ids = [self._open, *heard, self._close, *_ends(said.ids, room), self._close]
            made.append(TokenPair(ids, len(heard) + 2, _ends(said.offsets, room)))
        return made


def _ends(items: list[Any], room: int) -> list[Any]:
    """All items, or as many of the first as of the last ones as there is room for."""
    if len(items) <= room:
        return items
    return items[: room - room // 2] + items[len(items) - room // 2 :]


def plain(text: str) -> str:
    """The text as the tokenizer gets it."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


@dataclass(frozen=True, eq=False)
class PairEncoder:
    """A fitted encoder: the arrays of `shapes` by name."""

    tensors: Tensors

    def logits(self, pairs: Sequence[tuple[str, str]], threads: int | None = None) -> _Floats:
        """Logits of (seeker, reply) pairs; shape (pairs, mechanisms, 2)."""
        levels = np.zeros((len(pairs), *LEVEL_LOGITS))
        tokens = self._tokenizer.encode(pairs)

        def run(rows: npt.NDArray[np.intp]) -> None:
            (hidden,) = self._session.run(None, {"ids": np.array([tokens[row].ids for row in rows], dtype=np.int64)})
            for row, states in zip(rows.tolist(), hidden.astype(np.float64), strict=True):
                levels[row] = self._heads(states, tokens[row].start)

        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            for _ in pool.map(run, batches_of_one_length([len(pair.ids) for pair in tokens], BATCH_TOKENS)):
                pass
        return levels

    def _heads(self, states: _Floats, start: int) -> _Floats:
        """Logits of one pair from its hidden states (tokens, width), in which the reply begins at ``start``."""
        wide = self._wide
        heard = states[1 : start - 1].mean(axis=0) if start > 2 else states[0]
        reply = states[start:-1] if len(states) > start + 1 else states[-1:]
        said = reply.mean(axis=0)
        scores = reply @ wide["token_weight"].T + wide["token_bias"]
        weights = np.exp(scores - scores.max(axis=0))
        weighed = (weights / weights.sum(axis=0)).T @ reply
        return np.array(
            [
                w @ np.concatenate((x, said, heard)) + b
                for w, b, x in zip(wide["level_weight"], wide["level_bias"], weighed, strict=True)
            ]
        )

    @cached_property
    def _wide(self) -> dict[str, _Floats]:
        return {k: v.astype(np.float64) for k, v in self.tensors.items() if k.startswith(("token_", "level_"))}

    @cached_property
    def _tokenizer(self) -> PairTokenizer:
        return PairTokenizer(packaged_folder())

    @cached_property
    def _session(self) -> Any:
        import onnxruntime
        from safetensors.numpy import load_file

        weights = dict(load_file(packaged_folder() / "model.safetensors"))
        for name, _ in matrices():
            up, down = self.tensors[f"{name}.up"], self.tensors[f"{name}.down"]
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + up.astype(np.float32) @ down.astype(np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return onnxruntime.InferenceSession(build_graph(weights), options, providers=["CPUExecutionProvider"])
