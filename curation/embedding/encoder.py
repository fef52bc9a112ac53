"""Texts to unit vectors, with every vector kept for later runs."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from curation.embedding.minilm import DIMENSIONS, SentenceModel, load_model
from curation.embedding.store import VectorStore, text_keys
from curation.neighbours import Vectors

# Kept piece by piece, so that an interrupted run loses a minute of a slow CPU's work at most.
PIECE = 16_384


class Encoder:
    """Encodes each distinct text once and keeps its vector in the store.

    Attributes:
        encoded: texts that had no vector yet, over all calls.
        seconds: bare encoding time of those: tokenizing and running the model, without loading it and without the
            store.

    Args:
        store: where vectors are kept.
        threads: for encoding on a CPU; None for every usable core.
        progress: hears, after each batch, how many of the texts that need encoding are done, and of how many.
        load: makes the model from ``threads``; called when the first text needs encoding.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        load: Callable[[int | None], SentenceModel] = load_model,
    ) -> None:
        self._store = store
        self._threads = threads
        self._progress = progress
        self._load = load
        self.encoded = 0
        self.seconds = 0.0

    @cached_property
    def _model(self) -> SentenceModel:
        return self._load(self._threads)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), 384), float32, in the order of ``texts``.

        Raises:
            HeartwoodError: a text is not valid Unicode, or the store cannot be written.
        """
        keys, first, inverse = np.unique(text_keys(texts), return_index=True, return_inverse=True)
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        missing = np.ones(len(keys), dtype=bool)
        for positions, found in self._store.find(keys):
            vectors[first[positions]] = found
            missing[positions] = False
        new = np.flatnonzero(missing)
        finished = 0

        def done(count: int) -> None:
            nonlocal finished
            finished += count
            if self._progress:
                self._progress(finished, len(new))

        for start in range(0, len(new), PIECE):
            part = new[start : start + PIECE]
            model = self._model
            began = time.perf_counter()
            made = model.encode([texts[row] for row in first[part]], done)
            self.seconds += time.perf_counter() - began
            self.encoded += len(part)
            vectors[first[part]] = made
            self._store.add(keys[part], made)
        source = first[inverse]
        repeated = np.flatnonzero(source != np.arange(len(texts)))
        vectors[repeated] = vectors[source[repeated]]
        return vectors
