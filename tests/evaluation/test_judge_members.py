import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks import judge_members
from benchmarks.judge_members import FLOOR, MEAN, ONE, Members, compare, held_out
from pipelines.evaluation.judges.agreement import FOLDS, folds
from pipelines.evaluation.judges.pair import LEVEL_LOGITS
from pipelines.evaluation.ratings import MECHANISMS, RatedPair
from tests.evaluation.test_judges import made_ratings

PAIRS = made_ratings().pairs


class Marked:
    """In place of an encoder: logits that depend on every level it was trained on, and on the reply."""

    def __init__(self, pairs: Sequence[RatedPair]) -> None:
        self.seen = {pair.seeker_id for pair in pairs}
        self.mark = sum(sum(map(sum, pair.levels.values())) * (i + 1) for i, pair in enumerate(pairs)) % 97 / 97

    def logits(self, texts: Sequence[tuple[str, str]]) -> Any:
        length = np.array([len(reply) % 13 for _, reply in texts])[:, None, None] / 6 - 1
        return np.broadcast_to(length + self.mark, (len(texts), *LEVEL_LOGITS)).copy()


def measured(pairs: Sequence[RatedPair]) -> tuple[Any, list[Marked]]:
    """What is said held out, and the encoders that said it."""
    made: list[Marked] = []

    def train(pairs: Sequence[RatedPair], *_: Any) -> Marked:
        made.append(Marked(pairs))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_members, "train_pair_encoder", train)
        return held_out(Members(pairs, 0)), made


@pytest.fixture(scope="module")
def first() -> tuple[Any, list[Marked]]:
    return measured(PAIRS)


def test_the_levels_of_a_fold_do_not_reach_what_is_said_of_it(first: tuple[Any, list[Marked]]) -> None:
    said, trained = first
    # Five encoders, each without two folds, serve all five folds.
    assert len(trained) == FOLDS
    assert all(len(m.seen) < 0.7 * len(PAIRS) for m in trained)
    here = folds(PAIRS, 0) == 0
    changed = [
        dataclasses.replace(pair, levels={m: tuple(2 - level for level in pair.levels[m]) for m in MECHANISMS})
        if inside
        else pair
        for pair, inside in zip(PAIRS, here.tolist(), strict=True)
    ]
    again, _ = measured(changed)
    for name in (ONE, MEAN, FLOOR):
        assert np.array_equal(said[name][here], again[name][here]), name
        assert not np.array_equal(said[name][~here], again[name][~here]), name


def test_the_report_sets_the_mean_beside_one_encoder_and_the_floor(first: tuple[Any, list[Marked]]) -> None:
    report = compare(PAIRS, first[0], 0)
    assert set(report) == set(MECHANISMS)
    for numbers in report.values():
        assert numbers[MEAN]["low"] <= numbers[MEAN]["qwk"] <= numbers[MEAN]["high"]
        for other in (FLOOR, ONE):
            gain = numbers[f"gain of the mean over the {other}"]
            assert gain["value"] == pytest.approx(numbers[MEAN]["qwk"] - numbers[other]["qwk"], abs=2e-6)
