"""Fitting the judge to human ratings, with its agreement on ratings that it did not see.

Five folds that neither a seeker nor a response straddles. In each, the lexical heads, the pair encoder and the lexical
floor are fitted without the fold. The blend and the scale of fit are fitted to out-of-fold values: for the agreement of
a fold on the other four, for the judge that is kept on all five. The judge that is kept holds lexical heads fitted to
all ratings and the encoders of the first `MEMBERS` folds, whose mean replaces the one encoder that a fold was rated by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import HeartwoodError
from pipelines.evaluation.judges.agreement import (
    DIGITS,
    DRAWS,
    FOLDS,
    HUMAN_CEILING,
    agreement,
    confusion,
    folds,
    groups,
    kappa_gain,
    kappa_interval,
    quadratic_weighted_kappa,
    rounded,
)
from pipelines.evaluation.judges.epitome import (
    JUDGE,
    MEMBERS,
    STRANGER_PRIOR,
    TOLERANCE,
    EpitomeJudge,
    blend,
    expectation,
    fitting,
)
from pipelines.evaluation.judges.features import FEATURES
from pipelines.evaluation.judges.fit import FIT_FEATURES, fit_features, sentence_vectors
from pipelines.evaluation.judges.floor import FLOOR, floor_expectations
from pipelines.evaluation.judges.lexical import THRESHOLDS, fit_lexical
from pipelines.evaluation.judges.pair import LEVEL_LOGITS, PairEncoder
from pipelines.evaluation.judges.pair_training import RECIPE, Recipe, precision, train_pair_encoder
from pipelines.evaluation.judges.training_rows import lexical_rows
from pipelines.evaluation.judges.variants import WRITTEN
from pipelines.evaluation.ratings import MECHANISMS, RatedPair, Ratings

FEWEST_PAIRS = 50
LEXICAL, BLEND = "lexical", "lexical and pair encoder"

_STACK_PENALTY = 1e-3
_NEWTON_STEPS = 100
_NEWTON_TOLERANCE = 1e-9
_INDEX_STEPS = 5

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What judges that did not see a pair say of it; N pairs, M mechanisms, 2 thresholds.

    ``lexical`` and ``pair`` (N, M, 2): logits. ``fit`` (N, 3): `FIT_FEATURES` of each pair, ``stranger`` (N, 3) of the
    response under a seeker drawn from the same fold. ``floor`` (N, M): expected levels of the lexical floor.
    ``fold`` (N,): the fold of each pair.
    """

    lexical: _Floats
    pair: _Floats
    fit: _Floats
    stranger: _Floats
    floor: _Floats
    fold: _Ints


def fit_judge(
    ratings: Ratings,
    seed: int,
    recipe: Recipe = RECIPE,
    threads: int = 1,
    say: Say = lambda _: None,
) -> tuple[EpitomeJudge, dict[str, Any]]:
    """The judge fitted to all ratings, and its agreement with people on held-out ones (see the module).

    Same ratings, seed and recipe on one machine with the same versions: same bytes. ``say`` hears of each step.

    Raises `HeartwoodError` if there are too few ratings to fit every threshold in every fold.
    """
    pairs = ratings.pairs
    if len(pairs) < FEWEST_PAIRS:
        raise HeartwoodError(
            f"{len(pairs)} rated pairs are too few to fit a judge; it needs at least {FEWEST_PAIRS}",
            hint="use all rows of EPITOME's three files, or judge.ratings: shipped",
        )
    found, encoders = out_of_fold(pairs, seed, recipe, threads, say)
    return assemble(pairs, found, encoders[:MEMBERS], seed)


def out_of_fold(
    pairs: Sequence[RatedPair], seed: int, recipe: Recipe, threads: int = 1, say: Say = lambda _: None
) -> tuple[OutOfFold, list[PairEncoder]]:
    """What judges fitted without its fold say of each pair, and the encoder of each fold."""
    fold_of = folds(pairs, seed)
    shape = (len(pairs), *LEVEL_LOGITS)
    found = OutOfFold(
        lexical=np.zeros(shape),
        pair=np.zeros(shape),
        fit=np.zeros((len(pairs), len(FIT_FEATURES))),
        stranger=np.zeros((len(pairs), len(FIT_FEATURES))),
        floor=np.zeros(shape[:2]),
        fold=fold_of,
    )
    say("vectors of all texts")
    seekers = sentence_vectors([pair.seeker for pair in pairs])
    replies = sentence_vectors([pair.response for pair in pairs])
    encoders = []
    for fold in range(FOLDS):
        say(f"fold {fold + 1} of {FOLDS}")
        outside = np.flatnonzero(fold_of == fold)
        inside = [pair for pair, number in zip(pairs, fold_of.tolist(), strict=True) if number != fold]
        texts = [(pairs[i].seeker, pairs[i].response) for i in outside.tolist()]
        found.lexical[outside] = fit_lexical(*lexical_rows(inside, seed)).logits(texts)
        found.floor[outside] = floor_expectations(inside, texts)
        encoder = train_pair_encoder(inside, seed, recipe, threads)
        encoders.append(encoder)
        found.pair[outside] = encoder.logits(texts, threads)
        said, answers = replies[outside], [reply for _, reply in texts]
        mean = seekers[fold_of != fold].mean(axis=0).astype(np.float32)
        found.fit[outside] = fit_features(seekers[outside], said, answers, mean)
        found.stranger[outside] = fit_features(seekers[outside][strangers(len(outside), seed)], said, answers, mean)
    return found, encoders


def strangers(count: int, seed: int) -> _Ints:
    """For each of ``count`` pairs (two or more) another one, drawn from PCG64 with ``seed``."""
    order = np.random.default_rng(seed).permutation(count)
    after = np.empty(count, dtype=np.int64)
    # The next in a random cycle is never the pair itself.
    after[order] = np.roll(order, -1)
    return after


def assemble(
    pairs: Sequence[RatedPair], found: OutOfFold, members: Sequence[PairEncoder], seed: int
) -> tuple[EpitomeJudge, dict[str, Any]]:
    """The judge of these members, and the agreement of what was found out of fold."""
    heads = fit_lexical(*lexical_rows(pairs, seed))
    rows, levels = rating_rows(pairs)
    group = groups(pairs)
    held_out = {kind: _held_out(found, rows, levels, kind) for kind in (LEXICAL, BLEND)}
    report: dict[str, Any] = {}
    chosen = {}
    for k, m in enumerate(MECHANISMS):
        at, human = rows[m], levels[m]
        floor = rounded(found.floor[at, k])
        gains = {
            kind: kappa_gain(human, rounded(values[at, k]), floor, group[at], seed) for kind, values in held_out.items()
        }
        chosen[m] = BLEND if gains[BLEND][1] > 0 else LEXICAL
        low, high = kappa_interval(human, floor, group[at], seed)
        report[m] = {
            **agreement(human, held_out[chosen[m]][at, k], group[at], seed).as_json(),
            "human_ceiling": dict(HUMAN_CEILING[m]),
            "head": chosen[m],
            "lexical_floor": _numbers(quadratic_weighted_kappa(confusion(human, floor)), low, high),
            "gain_over_floor": _numbers(*gains[chosen[m]]),
            "lexical_head": round(
                quadratic_weighted_kappa(confusion(human, rounded(held_out[LEXICAL][at, k]))), DIGITS
            ),
        }
    kept = np.stack([held_out[chosen[m]][:, k] for k, m in enumerate(MECHANISMS)], axis=1)
    report["index"] = _index_agreement(kept, rows, levels, group, seed)
    everyone = np.ones(len(pairs), dtype=bool)
    stack = np.stack([stacks(found, everyone, rows, levels, chosen[m])[k] for k, m in enumerate(MECHANISMS)])
    report["fit"] = _fit_report(found)
    seekers = sentence_vectors([pair.seeker for pair in pairs])
    tensors = {
        **{f"lexical.{name}": value for name, value in heads.tensors.items()},
        **{f"pair.{n}.{name}": value for n, member in enumerate(members) for name, value in member.tensors.items()},
        "stack": stack.astype(np.float32),
        "fit_scale": fit_scale(found, everyone).astype(np.float32),
        "mean_seeker": seekers.mean(axis=0).astype(np.float32),
    }
    return EpitomeJudge(tensors), report


def _numbers(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def rating_rows(pairs: Sequence[RatedPair]) -> tuple[dict[str, _Ints], dict[str, _Ints]]:
    """The pair and the level of each rating, by mechanism."""
    rows = {m: np.array([i for i, p in enumerate(pairs) for _ in p.levels[m]], dtype=np.int64) for m in MECHANISMS}
    levels = {m: np.array([y for p in pairs for y in p.levels[m]], dtype=np.int64) for m in MECHANISMS}
    return rows, levels


def _held_out(found: OutOfFold, rows: Mapping[str, _Ints], levels: Mapping[str, _Ints], kind: str) -> _Floats:
    """Expected levels (N, M): each fold blended and scaled by what is known of the others."""
    expected = np.zeros(found.floor.shape)
    for fold in range(FOLDS):
        here = found.fold == fold
        stack = stacks(found, ~here, rows, levels, kind)
        fits = fitting(found.fit[here], fit_scale(found, ~here))
        expected[here] = expectation(blend(found.lexical[here], found.pair[here], stack)) * fits[:, None]
    return expected


def stacks(
    found: OutOfFold, known: npt.NDArray[np.bool_], rows: Mapping[str, _Ints], levels: Mapping[str, _Ints], kind: str
) -> _Floats:
    """Weights of lexical and pair logit and intercept by mechanism and threshold, from the ``known`` pairs."""
    stack = np.zeros((*LEVEL_LOGITS, 3))
    for k, m in enumerate(MECHANISMS):
        at = known[rows[m]]
        pair, level = rows[m][at], levels[m][at]
        for t, threshold in enumerate(THRESHOLDS):
            logits = [found.lexical[pair, k, t], found.pair[pair, k, t]]
            used = logits if kind == BLEND else logits[:1]
            weights = _logistic(np.column_stack(used), level > threshold)
            stack[k, t, : len(used)], stack[k, t, 2] = weights[:-1], weights[-1]
    return stack


def fit_scale(found: OutOfFold, known: npt.NDArray[np.bool_]) -> _Floats:
    """Weights and intercept of the log odds of a true pair against a stranger's, at even odds."""
    value = np.concatenate((found.fit[known], found.stranger[known]))
    return _logistic(value, np.arange(len(value)) < int(known.sum()))


def _fit_report(found: OutOfFold) -> dict[str, float]:
    """How well fit tells a true pair from a stranger's, out of fold, at even odds."""
    true, strange = np.zeros(len(found.fold)), np.zeros(len(found.fold))
    for fold in range(FOLDS):
        here = found.fold == fold
        scale = fit_scale(found, ~here)
        true[here], strange[here] = (x[here] @ scale[:-1] + scale[-1] for x in (found.fit, found.stranger))
    above = (true[:, None] > strange[None, :]).mean() + (true[:, None] == strange[None, :]).mean() / 2
    return {
        "auc": round(float(above), DIGITS),
        "median_log_odds_of_own_seeker": round(float(np.median(true)), DIGITS),
        "median_log_odds_of_strangers": round(float(np.median(strange)), DIGITS),
    }


def _logistic(x: _Floats, yes: npt.NDArray[np.bool_]) -> _Floats:
    """Weights and intercept (features + 1,) of a logistic regression with Platt's smoothed targets and a faint penalty.

    Newton's method; with one feature this is Platt scaling.
    """
    positives, negatives = int(yes.sum()), int((~yes).sum())
    target = np.where(yes, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack((x, np.ones(len(x))))
    penalty = np.diag([_STACK_PENALTY] * x.shape[1] + [1e-9])
    theta = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -50, 50)))
        slope = design.T @ (target - p) - penalty @ theta
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + penalty, slope)
        theta = theta + step
        if float(np.abs(step).max()) < _NEWTON_TOLERANCE:
            return theta
    raise HeartwoodError(
        "the blend of the judge did not converge",
        hint="check the ratings for a mechanism with next to no level above 0",
    )


def _index_agreement(
    expected: _Floats, rows: Mapping[str, _Ints], levels: Mapping[str, _Ints], group: _Ints, seed: int
) -> dict[str, Any]:
    """Kappa of the rounded index, on the first rating of each pair."""
    human = np.zeros(len(expected), dtype=np.int64)
    for m in MECHANISMS:
        human += levels[m][np.searchsorted(rows[m], np.arange(len(expected)))]
    top = _INDEX_STEPS - 1
    human = np.minimum(top, human)
    judge = rounded(np.minimum(float(top), expected.sum(axis=1)), top)
    low, high = kappa_interval(human, judge, group, seed, _INDEX_STEPS)
    return {
        "pairs": len(expected),
        "qwk": round(quadratic_weighted_kappa(confusion(human, judge, _INDEX_STEPS)), DIGITS),
        "qwk_low": round(low, DIGITS),
        "qwk_high": round(high, DIGITS),
    }


def judge_card(ratings: Ratings, report: Mapping[str, Any], seed: int, recipe: Recipe = RECIPE) -> dict[str, Any]:
    """What is known of a fitted judge, for ``card.json``; `write_judge` adds the digest."""
    agreed = {name: value for name, value in report.items() if name != "fit"}
    return {
        "judge": JUDGE,
        "features": FEATURES,
        "method": (
            "hashed TF-IDF n-grams and surface features; all-MiniLM-L6-v2 over the text pair with LoRA, cumulative"
            " logits; blended by stacked logistic regression on out-of-fold values; times twice the"
            " probability, at most 1, that the reply answers this seeker"
        ),
        "recipe": {**asdict(recipe), "precision": precision()},
        "members": f"the encoders of the first {MEMBERS} folds",
        "stranger_prior": STRANGER_PRIOR,
        "tolerance": TOLERANCE,
        "written_conversations": len(WRITTEN),
        "data": {
            "name": "EPITOME, Reddit part (behavioral-data/Empathy-Mental-Health)",
            "paper": "https://arxiv.org/abs/2009.08441",
            "pairs": len(ratings.pairs),
            "rows": dict(sorted(ratings.rows.items())),
            "sha256": dict(sorted(ratings.sha256.items())),
            "terms": "academic, non-commercial research; the head holds none of its text",
        },
        "folds": {
            "count": FOLDS,
            "seed": seed,
            "groups": "connected components over seeker ids, response ids and both folded texts",
            "nesting": "blend and scale of fit for a fold come from out-of-fold values of the other four",
            "interval": f"95 % percentile bootstrap over groups, {DRAWS} draws; gains paired",
        },
        "floor": FLOOR,
        "agreement": agreed,
        "fit": report["fit"],
        "limits": [
            "Raters judged Reddit peer support in English; replies of chat models are another domain.",
            "It does not know whether a reply is true, safe, wise or meant.",
            "The index is a sum that no person rated; it is not a 1-5 empathy rubric.",
            "A pair is cut at 112 tokens; the lexical heads see all of the reply.",
            "The kinds of changed replies it was trained with were chosen knowing the checks of the invariance suite;"
            " the suite's cases are not among them.",
            "Features, recipe and the stranger's prior were chosen by looking at out-of-fold agreement on these folds, so it"
            " is somewhat optimistic. The shipped judge averages two encoders; the agreement is that of single ones, and the"
            " mean's was not measured.",
            "It says nothing about safety, truth or clinical quality.",
        ],
    }
