import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from curation.errors import HeartwoodError
from heartwood.cli import app
from pipelines.evaluation.compare import compare_models, compare_ratings
from pipelines.evaluation.statistics import detectable_difference
from pipelines.experiments.comparing import plan
from tests.project import Project


def rows(values: Sequence[float | None], degenerate: Sequence[int] = ()) -> list[dict[str, Any]]:
    return [
        {"prompt_id": f"p{i}", "status": "unscored"}
        if value is None
        else {"prompt_id": f"p{i}", "status": "degenerate" if i in degenerate else "rated", "index": value}
        for i, value in enumerate(values)
    ]


def test_every_pair_is_compared_in_order() -> None:
    base = [2.0 + 0.01 * (i % 7) for i in range(40)]
    found = compare_models(
        {
            "base": rows(base),
            "sft-100": rows([v + 0.5 + 0.01 * (i % 3) for i, v in enumerate(base)]),
            "sft-150": rows(base),
        },
        seed=0,
    )
    verdicts = [contrast["verdict"] for contrast in found["contrasts"]]
    assert verdicts == ["improved", "inconclusive", "worse"]
    sentence = found["contrasts"][0]["sentence"]
    assert sentence.startswith("sft-100 against base: +0.5")
    assert "improved" in sentence
    assert all(contrast["p_holm"] >= contrast["p"] for contrast in found["contrasts"])
    json.dumps(found, allow_nan=False)


def test_comparison_is_repeatable() -> None:
    models = {
        "a": rows([1 + (i * 7 % 11) / 5 for i in range(50)]),
        "b": rows([1 + (i * 5 % 13) / 5 for i in range(50)]),
    }
    assert compare_models(models, seed=3) == compare_models(models, seed=3)


def test_more_broken_replies_bar_an_improvement() -> None:
    before = [2.0 + 0.01 * (i % 5) for i in range(60)]
    after = [1.0 if i < 12 else value + 1.5 for i, value in enumerate(before)]
    found = compare_models({"base": rows(before), "sft": rows(after, degenerate=range(12))}, seed=0)
    contrast = found["contrasts"][0]
    assert contrast["low"] > 0
    assert contrast["p_holm"] < 0.05
    assert contrast["verdict"] == "inconclusive"
    assert "degenerate" in contrast["sentence"]


def test_prompts_that_one_model_has_unscored_are_left_out() -> None:
    found = compare_models({"a": rows([2.0, 3.0, None, 2.0]), "b": rows([2.5, 3.0, 4.0, 2.0])}, seed=0)
    assert found["contrasts"][0]["n"] == 3


def test_models_must_share_their_prompts() -> None:
    with pytest.raises(HeartwoodError, match="p2"):
        compare_models({"a": rows([2.0, 3.0]), "b": rows([2.5, 3.0, 4.0])}, seed=0)


def varied(shift: float = 0.0, n: int = 40) -> list[float]:
    return [2.0 + shift + 0.1 * (i * 7 % 11) for i in range(n)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt_id": "p0", "status": "rated"}, "prompt p0 is rated, its index is None"),
        ({"prompt_id": "p0", "status": "rated", "index": math.nan}, "index is nan, not a finite number"),
        ({"prompt_id": "p0", "status": "rated", "index": "3"}, "index is '3'"),
        ({"prompt_id": "p0", "status": "rated", "index": True}, "index is True"),
        ({"prompt_id": "p0", "status": "fine", "index": 3.0}, "status 'fine'; allowed: rated, degenerate, unscored"),
        ({"prompt_id": "p1", "status": "rated", "index": 3.0}, "prompt 'p1' is there twice"),
        ({"status": "rated", "index": 3.0}, "prompt None is no id"),
    ],
)
def test_a_row_without_a_usable_rating_is_an_error_with_its_number(row: dict[str, Any], message: str) -> None:
    bad = [*rows(varied())[1:], row]
    with pytest.raises(HeartwoodError, match="b: row 40 of its ratings") as caught:
        compare_ratings({"a": rows(varied()), "b": bad}, seed=0)
    assert message in str(caught.value)


def test_scores_that_cannot_be_compared_are_errors() -> None:
    good = rows(varied())
    with pytest.raises(HeartwoodError, match="b: none of its 40 replies is scored"):
        compare_ratings({"a": good, "b": rows([None] * 40)}, seed=0)
    with pytest.raises(HeartwoodError, match="b: the judge gave all 40 rated replies the index 3"):
        compare_ratings({"a": good, "b": rows([3.0] * 40)}, seed=0)
    with pytest.raises(HeartwoodError, match="1 prompts scored on both sides"):
        compare_ratings({"a": rows([2.0, 3.0, None]), "b": rows([2.0, None, 3.0])}, seed=0)
    with pytest.raises(HeartwoodError, match=r"different prompts \(40 and 39\); p39"):
        compare_ratings({"a": good, "b": good[:39]}, seed=0)
    with pytest.raises(HeartwoodError, match="1 model cannot be compared"):
        compare_ratings({"a": good}, seed=0)
    for wrong in (-0.1, math.nan):
        with pytest.raises(HeartwoodError, match="allowed: 0 or more"):
            compare_ratings({"a": good, "b": good}, seed=0, min_effect=wrong)


def test_a_model_whose_replies_all_broke_is_worse_not_an_error() -> None:
    [found] = compare_ratings({"a": rows(varied()), "b": rows([1.0] * 40, degenerate=range(40))}, seed=0)
    assert (found.outcome, found.degenerate_rates) == ("worse", (0.0, 1.0))


def test_left_out_prompts_are_counted_and_said() -> None:
    some: list[float | None] = [*varied()]
    some[3] = some[4] = None
    [found] = compare_ratings({"a": rows(some), "b": rows(varied(0.1))}, seed=0)
    assert (found.paired.n, found.left_out) == (38, 2)
    assert "2 prompts left out" in found.sentence


def test_equal_ratings_are_said_to_be_equal() -> None:
    [found] = compare_ratings({"a": rows(varied()), "b": rows(varied())}, seed=0, interval="bca")
    assert found.outcome == "inconclusive"
    assert found.sentence == "b against a: the same rating on all 40 prompts, inconclusive"


def test_a_smallest_effect_must_be_surely_exceeded() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.3, 40)
    models = {"a": rows(varied()), "b": rows([v + d for v, d in zip(varied(), noise, strict=True)])}
    plain, small, large = (compare_ratings(models, seed=0, min_effect=e)[0] for e in (0.0, 0.2, 0.45))
    assert (plain.outcome, small.outcome, large.outcome) == ("improved", "improved", "inconclusive")
    assert plain.paired.p <= small.paired.p < large.paired.p
    assert small.paired.mde == pytest.approx(plain.paired.mde + 0.2)
    assert "improved by more than 0.2" in small.sentence
    beyond = compare_ratings(models, seed=0, min_effect=0.7)[0]
    assert (beyond.paired.p, beyond.outcome) == (1.0, "inconclusive")
    back = compare_ratings(dict(reversed(models.items())), seed=0, min_effect=0.2)[0]
    assert (back.outcome, back.paired.p) == ("worse", pytest.approx(small.paired.p, abs=0.01))


def test_the_detectable_difference_allows_for_the_number_of_contrasts() -> None:
    models = {name: rows(varied(shift)) for name, shift in (("a", 0.0), ("b", 0.3), ("c", 0.1))}
    models["b"] = rows(list(reversed(varied(0.3))))
    one = compare_ratings({m: models[m] for m in "ab"}, seed=0)[0].paired
    three = compare_ratings(models, seed=0)[0].paired
    assert (one.difference, one.sd) == (three.difference, three.sd)
    step = 0.1 / 40
    assert one.mde == pytest.approx(detectable_difference(one.sd, 40) + step)
    assert three.mde == pytest.approx(detectable_difference(one.sd, 40, 0.05 / 3) + step)


def test_plans_agree_with_each_other_and_refuse_nonsense() -> None:
    found = plan(1.10, "given", difference=0.033, prompts=30)
    assert found.needed is not None
    assert found.detectable == pytest.approx(0.58, abs=5e-3)
    assert found.power == pytest.approx(0.05, abs=5e-3)
    assert 8_600 < found.needed < 8_800
    back = plan(1.10, "given", difference=None, prompts=found.needed)
    assert back.detectable is not None
    assert back.detectable <= 0.033
    assert back.needed is None
    assert plan(1.10, "given", difference=None, prompts=found.needed - 1).detectable > 0.033  # type: ignore[operator]
    several = plan(1.10, "given", difference=0.033, prompts=30, contrasts=3)
    assert several.needed is not None
    assert several.needed > found.needed
    assert several.detectable == pytest.approx(0.68, abs=6e-3)
    for sd, difference, prompts in ((0.0, 0.1, None), (math.nan, 0.1, None), (1.0, 0.0, None), (1.0, None, None)):
        with pytest.raises(HeartwoodError):
            plan(sd, "given", difference=difference, prompts=prompts)
    with pytest.raises(HeartwoodError, match="more than"):
        plan(1.0, "given", difference=1e-9, prompts=None)


def opened(values: Sequence[float | None], alike: int) -> list[dict[str, Any]]:
    """Rows of which the first ``alike`` begin with the same words."""
    return [{**row, "opening": "same" if n < alike else f"{n}"} for n, row in enumerate(rows(values))]


def test_stock_openings_are_said_beside_the_verdict() -> None:
    few, many = opened(varied(), 2), opened(varied(0.5), 30)
    contrast = compare_ratings({"base": few, "sft": many}, 0)[0]
    assert contrast.outcome == "improved"
    assert "75.0 % of its replies begin with the same three words (against 5.0 %)" in contrast.sentence
    assert "(against 5.0 %): their index 3.007, that of the others 3.000;" in contrast.sentence
    said = contrast.as_dict()
    assert (said["stock_opening_rate_from"], said["stock_opening_rate_to"]) == (0.05, 0.75)
    backwards = compare_ratings({"sft": many, "base": few}, 0)[0]
    assert "5.0 % of its replies begin with the same three words (against 75.0 %);" in backwards.sentence


def test_what_people_do_too_is_no_stock_opening() -> None:
    contrast = compare_ratings({"base": opened(varied(), 1), "sft": opened(varied(0.5), 3)}, 0)[0]
    assert "begin with" not in contrast.sentence


def test_ratings_without_openings_are_compared_and_say_nothing_of_them() -> None:
    contrast = compare_ratings({"base": rows(varied()), "sft": opened(varied(0.5), 40)}, 0)[0]
    assert "100.0 % of its replies begin with the same three words (against -)" in contrast.sentence
    assert "stock_opening_rate_from" not in contrast.as_dict()
    assert "begin with" not in compare_ratings({"a": rows(varied()), "b": rows(varied(0.5))}, 0)[0].sentence


def written(project: Project, model: str, values: Sequence[float | None], **changed: str) -> None:
    scored = [v for v in values if v is not None]
    summary = {
        "index": float(np.mean(scored)),
        "ci_low": 1.0,
        "ci_high": 5.0,
        "degenerate_rate": 0.0,
        "mean_words": 9.5,
        "n": len(scored),
        "n_unscored": len(values) - len(scored),
        "prompts": "0" * 32,
        "judge": "some-judge@123 (exploratory)",
        **changed,
    }
    project.write(f"reports/eq/{model}.json", json.dumps(summary))
    project.write(f"reports/eq/{model}.ratings.jsonl", "".join(json.dumps(r) + "\n" for r in rows(values)))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path / "project", tmp_path / "state")
    made.write("params.yaml", "models:\n  base: models/base.json\n  sft: models/sft\n")
    made.run("git", "init", "-q")
    written(made, "base", varied())
    written(made, "sft", varied(0.5))
    made.commit("first")
    made.run("git", "tag", "before")
    noise = np.random.default_rng(3).normal(0.6, 0.2, 40)
    written(made, "sft", [v + d for v, d in zip(varied(0.5), noise, strict=True)])
    made.commit("second")
    monkeypatch.chdir(made.folder)
    return made


def heartwood(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_compare_takes_models_revisions_and_both(project: Project) -> None:
    models = heartwood("compare", "base", "sft", "--json")
    assert models.exit_code == 0, models.output
    found = json.loads(models.stdout)
    assert list(found["models"]) == ["base", "sft"]
    assert found["contrasts"][0]["verdict"] == "improved"
    assert found["judge"] == "some-judge@123 (exploratory)"
    earlier = json.loads(heartwood("compare", "base", "sft", "--rev", "before", "--json").stdout)["contrasts"][0]
    assert earlier["difference"] == pytest.approx(0.5)
    revisions = json.loads(heartwood("compare", "before", "HEAD", "--json").stdout)["contrasts"][0]
    assert (revisions["from"], revisions["to"], revisions["verdict"]) == ("before:sft", "HEAD:sft", "improved")
    other = json.loads(heartwood("compare", "before", "HEAD", "--model", "base", "--json").stdout)["contrasts"][0]
    assert (other["up"], other["down"], other["same"]) == (0, 0, 40)
    explicit = json.loads(heartwood("compare", "before:base", "HEAD:sft", "base", "--json").stdout)
    assert len(explicit["contrasts"]) == 3
    shown = heartwood("compare", "base", "sft", "--interval", "bca").stdout
    assert "exploratory" in shown
    assert "sft against base" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_compare_is_repeatable(project: Project) -> None:
    ask = ("compare", "base", "sft", "--interval", "bca", "--seed", "5", "--json")
    assert heartwood(*ask).stdout == heartwood(*ask).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base"], "1 name to compare"),
        (["base", "base"], "base: named twice"),
        (["base", "nothing"], "'nothing' is no model of workspace (base, sft), and no revision"),
        (["base", "HEAD:none"], "none: no score or no ratings at HEAD"),
    ],
)
def test_compare_refuses_names(project: Project, arguments: list[str], message: str) -> None:
    done = heartwood("compare", *arguments)
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert "next:" in done.stderr


def test_other_prompts_and_other_judges_are_not_compared(project: Project) -> None:
    written(project, "sft", varied(0.5), judge="another@456 (validated)")
    assert "not comparable: other judge" in heartwood("compare", "base", "sft").stderr
    written(project, "sft", varied(0.5), prompts="1" * 32)
    assert "not comparable: other prompts" in heartwood("compare", "base", "sft").stderr
    written(project, "sft", varied(0.5)[:30])
    done = heartwood("compare", "base", "sft")
    assert "not comparable: other prompts" in done.stderr
    assert done.exit_code == 1


def test_damaged_ratings_are_an_error(project: Project) -> None:
    project.write("reports/eq/sft.ratings.jsonl", '{"prompt_id": "p0", "status": "rated", "index": NaN}\n')
    done = heartwood("compare", "base", "sft")
    assert done.exit_code == 1
    (project.folder / "reports/eq/sft.ratings.jsonl").unlink()
    done = heartwood("compare", "base", "sft")
    assert "no score or no ratings" in done.stderr


def test_power_takes_a_standard_deviation_or_two_models(project: Project) -> None:
    given = json.loads(heartwood("power", "--sd", "1.1", "--difference", "0.1", "--prompts", "30", "--json").stdout)
    assert given["needed"] == pytest.approx(950, abs=5)
    measured = json.loads(heartwood("power", "base", "sft", "--difference", "0.1", "--json").stdout)
    expected = json.loads(heartwood("compare", "base", "sft", "--json").stdout)["contrasts"][0]["sd"]
    assert measured["sd"] == pytest.approx(expected, abs=1e-5)
    assert "base, 40 prompts" in measured["sd_from"]
    for wrong in ([], ["--sd", "1", "base", "sft"], ["--sd", "1"], ["--sd", "0", "--prompts", "30"]):
        assert heartwood("power", *wrong).exit_code == 1
    assert "8,7" in heartwood("power", "--sd", "1.1", "--difference", "0.033").stdout


JUMPS = np.array([-3, -2, -1, 0, 1, 2, 3], dtype=float)
WEIGHTS = np.array([0.03, 0.05, 0.12, 0.6, 0.12, 0.05, 0.03])
RUNS = {1: 400, 3: 150}
"""Simulated comparisons, by number of contrasts."""


def differences(generator: np.random.Generator, n: int, shift: float, integers: bool) -> Any:
    """Paired differences with mean ``shift``; whole rating points like the published ones, or continuous."""
    if integers:
        return generator.choice(JUMPS, n, p=WEIGHTS) + (generator.random(n) < shift)
    return generator.normal(shift, 0.7, n)


def true_mde(n: int, integers: bool, contrasts: int) -> float:
    """The shift that is its own smallest detectable difference, at the true standard deviation."""
    if not integers:
        return detectable_difference(0.7, n, 0.05 / contrasts)
    shift = 0.0
    for _ in range(20):
        sd = math.sqrt(float(WEIGHTS @ JUMPS**2) + shift * (1 - shift))
        shift = detectable_difference(sd, n, 0.05 / contrasts) + 1 / n
    return shift


def simulated(n: int, shift: float, integers: bool, contrasts: int) -> list[list[str]]:
    """The verdicts of each simulated comparison of a first model with ``contrasts`` others, all of one true shift."""
    generator = np.random.default_rng([n, contrasts, integers, shift > 0])
    outcomes = []
    for run in range(RUNS[contrasts]):
        base = 3 + generator.integers(-1, 2, n).astype(float)
        models = {"a": rows(base.tolist())}
        for name in "bc"[: 2 if contrasts == 3 else 1]:
            models[name] = rows((base + differences(generator, n, shift, integers)).tolist())
        outcomes.append([c.outcome for c in compare_ratings(models, seed=run)])
    return outcomes


@pytest.fixture
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough draws for a p near 0.05, and a test of seconds."""
    monkeypatch.setattr("pipelines.evaluation.statistics.MONTE_CARLO_DRAWS", 2_000)


CASES = [(30, True, 1), (30, False, 1), (200, True, 1), (200, False, 1), (30, True, 3)]


@pytest.mark.slow
@pytest.mark.usefixtures("_fewer_draws")
@pytest.mark.parametrize(("n", "integers", "contrasts"), CASES)
def test_without_a_true_difference_the_verdict_is_seldom_wrong(n: int, integers: bool, contrasts: int) -> None:
    """With three contrasts: any of them wrong."""
    wrong = sum(any(v != "inconclusive" for v in found) for found in simulated(n, 0.0, integers, contrasts))
    # Not significantly above 5 % of the runs, and no test that never says anything.
    assert stats.binomtest(wrong, RUNS[contrasts], 0.05, alternative="greater").pvalue > 0.01
    assert wrong > 0


@pytest.mark.slow
@pytest.mark.usefixtures("_fewer_draws")
@pytest.mark.parametrize(("n", "integers", "contrasts"), CASES)
def test_a_true_difference_of_the_stated_size_is_found_four_times_in_five(
    n: int, integers: bool, contrasts: int
) -> None:
    found = sum(v[0] == "improved" for v in simulated(n, true_mde(n, integers, contrasts), integers, contrasts))
    assert stats.binomtest(found, RUNS[contrasts], 0.8, alternative="less").pvalue > 0.01
    # And the stated size is not far larger than needed; Holm's later steps find more than its first.
    assert found / RUNS[contrasts] < (0.87 if contrasts == 1 else 0.95)
