"""Whether a reply answers this seeker at all: log odds against the same reply under another seeker.

The packaged sentence encoder was trained on Reddit among others to bring a post and its reply together, so the cosine of
the two says most. A reply that is near everybody's post says less by it: the cosine with the mean seeker is set against
it, and the reply's length.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from curation.embedding.graph import WIDTH
from curation.embedding.minilm import MiniLM, OnnxModel
from pipelines.evaluation.judges.pair import plain

FIT_FEATURES = ("cosine", "cosine_with_mean_seeker", "log_words")

_Floats = npt.NDArray[np.float64]


def sentence_vectors(texts: Sequence[str]) -> _Floats:
    """Unit vectors of texts; shape (texts, 384). A text's vector does not depend on the texts beside it."""
    distinct = list(dict.fromkeys(texts))
    row = {text: number for number, text in enumerate(distinct)}
    found = _encoder().encode([plain(text) for text in distinct]).astype(np.float64)
    return found[[row[text] for text in texts]] if texts else np.zeros((0, WIDTH))


@cache
def _encoder() -> MiniLM:
    # On every CPU the same path: a judge must not rate differently where AMX is at hand.
    return MiniLM(model=OnnxModel())


def fit_features(
    seekers: _Floats, replies: _Floats, texts: Sequence[str], mean_seeker: npt.NDArray[np.float32]
) -> _Floats:
    """`FIT_FEATURES` of pairs, from the unit vectors of both sides and the replies' texts; shape (pairs, 3)."""
    words = np.log1p([len(text.split()) for text in texts])
    return np.column_stack(((seekers * replies).sum(axis=1), replies @ mean_seeker.astype(np.float64), words))
