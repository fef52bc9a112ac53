"""The lexical floor: what any judge must beat, fitted to the same folds.

TF-IDF of word 1-2-grams and character 2-5-grams of the reply with five surface features, one-against-rest logistic
regression; the expected level, rounded, is its answer. It sees no seeker.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.ratings import MECHANISMS, RatedPair

FLOOR = (
    "TF-IDF word 1-2-grams and character 2-5-grams of the reply, five surface features (length, question marks,"
    " exclamation marks, first and second person), one-against-rest logistic"
    " regression with balanced classes, C = 10 (the best of six settings for the floor); expected level, rounded"
)

_FIRST, _SECOND = frozenset({"i", "me", "my", "i'm", "i've"}), frozenset({"you", "your", "you're", "u"})


def floor_expectations(rated: Sequence[RatedPair], texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float64]:
    """Expected levels of (seeker, reply) ``texts`` by the floor fitted to ``rated``; shape (texts, mechanisms)."""
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    blocks = (
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )
    train, test = [pair.response for pair in rated], [reply for _, reply in texts]
    scaler = StandardScaler().fit(_surfaces(train))
    seen = sparse.hstack([*(b.fit_transform(train) for b in blocks), scaler.transform(_surfaces(train))]).tocsr()
    new = sparse.hstack([*(b.transform(test) for b in blocks), scaler.transform(_surfaces(test))]).tocsr()
    found = np.zeros((len(texts), len(MECHANISMS)))
    for k, m in enumerate(MECHANISMS):
        rows = [i for i, pair in enumerate(rated) for _ in pair.levels[m]]
        levels = [y for pair in rated for y in pair.levels[m]]
        model = OneVsRestClassifier(LogisticRegression(C=10.0, class_weight="balanced", max_iter=2_000)).fit(
            seen[rows], levels
        )
        found[:, k] = model.predict_proba(new) @ model.classes_
    return found


def _surfaces(replies: Sequence[str]) -> npt.NDArray[np.float64]:
    rows = []
    for reply in replies:
        words = reply.lower().replace("’", "'").split()
        n = max(1, len(words))
        first, second = sum(w in _FIRST for w in words), sum(w in _SECOND for w in words)
        rows.append([math.log1p(len(words)), min(3, reply.count("?")), min(3, reply.count("!")), first / n, second / n])
    return np.array(rows)
