"""What the mean of two pair encoders, as the shipped judge holds it, agrees with people on ratings that it never saw.

``python -m benchmarks.judge_members --ratings FOLDER`` reads EPITOME's three files. For each of the five folds the whole
procedure runs on the other four: one encoder is trained without the next fold and one without the fold before, so on
three folds each; blend and scale of fit are fitted to what each of the two says of the fold that it left out; the lexical
heads and the floor see all four. The held-out fold enters nothing. An encoder serves both folds that it left out, so five
trainings are enough. The shipped encoders saw four folds, these three: the numbers are rather too low than too high.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.judges.agreement import FOLDS, agreement, folds, groups, kappa_gain, rounded
from pipelines.evaluation.judges.epitome import blend, expectation, fitting
from pipelines.evaluation.judges.fit import FIT_FEATURES, fit_features, sentence_vectors
from pipelines.evaluation.judges.floor import floor_expectations
from pipelines.evaluation.judges.lexical import LexicalHeads, fit_lexical
from pipelines.evaluation.judges.pair import LEVEL_LOGITS, PairEncoder
from pipelines.evaluation.judges.pair_training import RECIPE, Recipe, precision, train_pair_encoder
from pipelines.evaluation.judges.refit import BLEND, OutOfFold, fit_scale, rating_rows, stacks, strangers
from pipelines.evaluation.judges.training_rows import lexical_rows
from pipelines.evaluation.ratings import MECHANISMS, RatedPair, read_ratings

ONE, MEAN, FLOOR = "one encoder", "mean of two", "lexical floor"

_Floats = npt.NDArray[np.float64]


class Members:
    """Heads and encoders by the folds that they did not see, each fitted once. ``folder`` keeps encoders between runs."""

    def __init__(
        self, pairs: Sequence[RatedPair], seed: int, recipe: Recipe = RECIPE, folder: Path | None = None
    ) -> None:
        self.pairs, self.seed, self.recipe, self.folder = pairs, seed, recipe, folder
        self.fold = folds(pairs, seed)
        self._encoders: dict[tuple[int, ...], PairEncoder] = {}
        self._heads: dict[tuple[int, ...], LexicalHeads] = {}

    def seen(self, without: Sequence[int]) -> list[RatedPair]:
        """The pairs of all folds but these."""
        return [pair for pair, fold in zip(self.pairs, self.fold.tolist(), strict=True) if fold not in without]

    def encoder(self, *without: int) -> PairEncoder:
        """The encoder trained without these folds."""
        from safetensors.numpy import load_file, save_file

        key = tuple(sorted(without))
        kept = self.folder / f"without-{'-'.join(map(str, key))}-seed-{self.seed}.safetensors" if self.folder else None
        if key not in self._encoders and kept and kept.is_file():
            self._encoders[key] = PairEncoder(load_file(kept))
        if key not in self._encoders:
            made = train_pair_encoder(self.seen(key), self.seed, self.recipe)
            self._encoders[key] = made
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                save_file({name: np.ascontiguousarray(value) for name, value in made.tensors.items()}, kept)
        return self._encoders[key]

    def heads(self, *without: int) -> LexicalHeads:
        """The lexical heads fitted without these folds."""
        key = tuple(sorted(without))
        if key not in self._heads:
            self._heads[key] = fit_lexical(*lexical_rows(self.seen(key), self.seed))
        return self._heads[key]


def held_out(members: Members) -> dict[str, _Floats]:
    """Expected levels (pairs, mechanisms) of one encoder, of the mean of two, and of the lexical floor, held out."""
    pairs, fold = members.pairs, members.fold
    rows, levels = rating_rows(pairs)
    seekers = sentence_vectors([pair.seeker for pair in pairs])
    replies = sentence_vectors([pair.response for pair in pairs])

    def fit(at: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], heard: _Floats) -> _Floats:
        mean = seekers[known].mean(axis=0).astype(np.float32)
        return fit_features(heard, replies[at], [pairs[i].response for i in at.tolist()], mean)

    expected = {name: np.zeros((len(pairs), len(MECHANISMS))) for name in (ONE, MEAN, FLOOR)}
    for outer in range(FOLDS):
        inner = ((outer + 1) % FOLDS, (outer - 1) % FOLDS)
        found = _nothing(len(pairs), fold)
        for left in inner:
            at = np.flatnonzero(fold == left)
            known = ~np.isin(fold, (outer, left))
            texts = [(pairs[i].seeker, pairs[i].response) for i in at.tolist()]
            found.lexical[at] = members.heads(outer, left).logits(texts)
            found.pair[at] = members.encoder(outer, left).logits(texts)
            found.fit[at] = fit(at, known, seekers[at])
            found.stranger[at] = fit(at, known, seekers[at][strangers(len(at), members.seed)])
        known = np.isin(fold, inner)
        stack = np.stack([stacks(found, known, rows, levels, BLEND)[k] for k in range(len(MECHANISMS))])
        at = np.flatnonzero(fold == outer)
        texts = [(pairs[i].seeker, pairs[i].response) for i in at.tolist()]
        factor = fitting(fit(at, fold != outer, seekers[at]), fit_scale(found, known))[:, None]
        said = [members.encoder(outer, left).logits(texts) for left in inner]
        lexical = members.heads(outer).logits(texts)
        for name, logits in ((ONE, said[0]), (MEAN, np.mean(said, axis=0))):
            expected[name][at] = expectation(blend(lexical, logits, stack)) * factor
        expected[FLOOR][at] = floor_expectations(members.seen((outer,)), texts)
    return expected


def _nothing(count: int, fold: npt.NDArray[np.int64]) -> OutOfFold:
    shape = (count, *LEVEL_LOGITS)
    fits = (count, len(FIT_FEATURES))
    return OutOfFold(np.zeros(shape), np.zeros(shape), np.zeros(fits), np.zeros(fits), np.zeros(shape[:2]), fold)


def compare(pairs: Sequence[RatedPair], expected: dict[str, _Floats], seed: int) -> dict[str, Any]:
    """Kappa with interval of each, and the mean's gain over the floor and over one encoder (paired, over seekers)."""
    rows, levels = rating_rows(pairs)
    group = groups(pairs)
    report: dict[str, Any] = {}
    for k, m in enumerate(MECHANISMS):
        at, human = rows[m], levels[m]
        numbers = {name: agreement(human, values[at, k], group[at], seed) for name, values in expected.items()}
        report[m] = {
            name: {"qwk": round(a.qwk, 6), "low": round(a.qwk_low, 6), "high": round(a.qwk_high, 6)}
            for name, a in numbers.items()
        }
        for other in (FLOOR, ONE):
            judged = (rounded(expected[name][at, k]) for name in (MEAN, other))
            gain, low, high = kappa_gain(human, *judged, group[at], seed)
            report[m][f"gain of the mean over the {other}"] = {
                "value": round(gain, 6),
                "low": round(low, 6),
                "high": round(high, 6),
            }
    return report


def main() -> None:
    """Print the agreement as JSON."""
    parser = argparse.ArgumentParser(description="Agreement of the mean of two encoders, held out.")
    parser.add_argument("--ratings", type=Path, required=True, help="folder with EPITOME's three -reddit.csv files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the trained encoders, so that a run can go on")
    asked = parser.parse_args()
    pairs = read_ratings(asked.ratings).pairs
    report = compare(pairs, held_out(Members(pairs, asked.seed, folder=asked.keep)), asked.seed)
    print(json.dumps({"pairs": len(pairs), "precision": precision(), "seed": asked.seed, **report}, indent=2))


if __name__ == "__main__":
    main()
