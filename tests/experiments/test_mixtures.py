import random
from dataclasses import replace

import pytest

from curation.errors import HeartwoodError
from pipelines.experiments.mixture_table import check_picture, draw, sentences
from pipelines.experiments.mixtures import TrainingRun, build_table
from pipelines.experiments.scores import Scored
from tests.experiments.making import ratings, summary

SOURCES = {"esconv": {"format": "esconv"}, "other": {"format": "chat"}}
MODELS = ("sft-100", "sft-150")


def training(name, share=0.3, seed=0, *, shift=0.0, wobble=0.0, draw_seed=0, n=60, noise=0.3, **changed):
    """A run whose replies score ``shift`` better than those of prompts alone, and ``wobble`` by its seed."""
    chance = random.Random(f"{name}/{share}/{seed}/{draw_seed}")
    prompts = random.Random("prompts")
    level = [prompts.gauss(3, 0.6) for _ in range(n)]
    by_seed = shift + wobble * chance.gauss(0, 1)
    mix = {"size": 100, "seed": draw_seed, "unit": "examples", "temperature": "none", "esconv": share, "other": "rest"}
    params = {"mix": mix, "sources": SOURCES, "sft": {"seed": seed, "steps": 5}, "report": {"model": "base"}}
    scores = {"base": Scored(summary(level), ratings(level))}
    for model in MODELS:
        values = [round(v + by_seed + chance.gauss(0, noise), 6) for v in level]
        scores[model] = Scored(summary(values, mixture=f"{share}"), ratings(values))
    run = TrainingRun(name, name * 3, params, {"esconv": share, "other": 1 - share}, scores)
    return replace(run, **changed)


def sweep(share, seeds, **rules):
    return [training(f"m{share}-{seed}", share, seed, **rules) for seed in range(seeds)]


def proportional(seeds, **rules):
    found = []
    for run in sweep(0.25, seeds, **rules):
        mix = run.params["mix"] | {"temperature": 1, "esconv": "rest"}
        found.append(replace(run, name=f"prop-{run.seeds[0]}", params={**run.params, "mix": mix}))
    return found


def table(runs, reference=None):
    return build_table(runs, {}, reference=reference)


def contrast(found, letter="B", model="sft-150"):
    return next(r for r in found.rows if r.letter == letter).cells[model].contrast


@pytest.fixture(autouse=True)
def _no_repository(monkeypatch):
    monkeypatch.setattr("pipelines.experiments.mixtures.list_experiments", list)


def test_runs_of_one_mixture_are_one_row_and_the_order_does_not_matter():
    runs = [*sweep(0.3, 3), *sweep(0.4, 3, shift=0.5)]
    found = table(runs, "m0.3-0")
    assert [(r.letter, len(r.runs), r.requested["esconv"]) for r in found.rows] == [("A", 3, 0.3), ("B", 3, 0.4)]
    assert found.rows[0].seeds == [(0, 0), (1, 0), (2, 0)]
    assert list(found.rows[0].cells) == list(MODELS)
    assert list(found.base) == ["base"]
    for number in range(5):
        shuffled = list(runs)
        random.Random(number).shuffle(shuffled)
        assert table(shuffled, "m0.3-0") == found


def test_three_seeds_a_side_and_a_large_difference_is_a_verdict_about_mixtures():
    found = contrast(table([*sweep(0.3, 3), *sweep(0.4, 3, shift=0.5)], "m0.3-0"))
    assert (found.scope, found.outcome) == ("mixtures", "improved")
    assert found.low > 0.2
    assert found.se_seeds is not None
    worse = contrast(table([*sweep(0.3, 3), *sweep(0.4, 3, shift=-0.5)], "m0.3-0"))
    assert worse.outcome == "worse"


@pytest.mark.parametrize(("one", "other", "words"), [(1, 1, "these two models only"), (2, 3, "these 5 models only")])
def test_fewer_seeds_say_something_about_these_models_only(one, other, words):
    table_found = table([*sweep(0.3, one), *sweep(0.4, other, shift=0.5)], "m0.3-0")
    found = contrast(table_found)
    assert (found.scope, found.outcome, found.se_seeds) == (words, "improved", None)
    assert any("nothing is said about the mixtures" in s for s in sentences(table_found))


def test_three_draws_with_one_training_seed_are_not_three_training_seeds():
    runs = [training(f"d{n}", share, 0, draw_seed=n) for share in (0.3, 0.4) for n in range(3)]
    runs = [replace(r, name=f"{r.name}-{r.requested['esconv']}") for r in runs]
    found = table(runs, "d0-0.3")
    assert contrast(found).scope == "these 6 models only"
    assert list(found.rows[0].cells["sft-100"].by_seed) == ["0#0", "0#1", "0#2"]


def test_seeds_that_differ_as_much_as_mixtures_are_inconclusive_though_prompts_alone_would_be_sure():
    # The same two mixtures of no effect, whose trainings differ by 0.3: with many prompts each pair looks certain.
    verdicts = []
    sure_by_prompts = 0
    for number in range(40):
        a = [training(f"{number}a{s}", 0.3, s, wobble=0.3, noise=0.1) for s in range(3)]
        b = [training(f"{number}b{s}", 0.4, s, wobble=0.3, noise=0.1) for s in range(3)]
        found = contrast(table([*a, *b], f"{number}a0"))
        verdicts.append(found.outcome)
        sure_by_prompts += abs(found.difference) > 2 * found.se_prompts
    assert sure_by_prompts > 25
    assert verdicts.count("inconclusive") >= 36


def test_no_effect_is_seldom_found():
    hits = 0
    for number in range(60):
        a = [training(f"{number}a{s}", 0.3, s, wobble=0.05) for s in range(3)]
        b = [training(f"{number}b{s}", 0.4, s, wobble=0.05) for s in range(3)]
        hits += contrast(table([*a, *b], f"{number}a0")).p < 0.05
    assert hits <= 5


def test_p_values_are_adjusted_over_the_whole_table():
    runs = [*sweep(0.3, 3), *(r for share in (0.2, 0.4, 0.5) for r in sweep(share, 3, shift=0.06))]
    found = table(runs, "m0.3-0")
    contrasts = [c.contrast for r in found.rows for c in r.cells.values() if c.contrast]
    assert len(contrasts) == 6
    smallest = min(contrasts, key=lambda c: c.p)
    assert smallest.p_holm == pytest.approx(min(1, 6 * smallest.p))
    assert all(c.p_holm >= c.p for c in contrasts)
    assert any("Holm over all 6 differences" in s for s in sentences(found))


def test_a_degenerate_rate_that_rose_is_no_improvement():
    better = sweep(0.4, 3, shift=1.5)
    for run in better:
        for model in MODELS:
            rows = ratings([1.0 if i < 7 else r["index"] for i, r in enumerate(run.scores[model].ratings)])
            run.scores[model] = Scored(run.scores[model].summary, rows)
    found = contrast(table([*sweep(0.3, 3), *better], "m0.3-0"))
    assert found.low > 0
    assert (found.degenerate_rate_rose, found.outcome) == (True, "inconclusive")


def test_proportional_mixing_is_the_reference_unless_another_is_chosen():
    runs = [*sweep(0.3, 3), *proportional(3)]
    found = table(runs)
    assert found.rows[0].proportional
    assert found.missing_baseline is None
    assert table(runs, "m0.3-1").rows[0].requested["esconv"] == 0.3
    assert table(runs, "proportional").rows[0].proportional


def test_a_missing_proportional_baseline_is_said_with_the_command_that_makes_it():
    found = table([*sweep(0.3, 1), *sweep(0.4, 1)], "m0.3-0")
    command = (
        "dvc exp run --queue -n proportional -S mix.temperature=1 -S mix.esconv=rest -S mix.other=rest"
        " -S 'sft.seed=0,1,2'"
    )
    assert found.missing_baseline == command
    assert any(command in s for s in sentences(found))
    with pytest.raises(HeartwoodError, match="no run is called 'proportional'"):
        table(sweep(0.3, 1), "proportional")


def test_without_a_name_the_reference_is_the_last_commit_where_nothing_is_proportional():
    found = table([*sweep(0.3, 1), replace(training("x", 0.4), name="HEAD")])
    assert found.rows[0].runs == ["HEAD"]


def test_runs_that_cannot_be_compared_are_left_out_with_the_reason():
    one = training("one")
    other_steps = training("steps", 0.4, seed=1)
    other_steps.params["sft"]["steps"] = 9
    other_prompts = training("prompts", 0.4, seed=2)
    for model in MODELS:
        scored = other_prompts.scores[model]
        other_prompts.scores[model] = Scored({**scored.summary, "prompts": "0"}, scored.ratings)
    unscored = training("unscored", 0.4, seed=3)
    del unscored.scores["sft-150"]
    other_dev = training("dev", 0.4, seed=4)
    other_dev.scores["sft-100"].summary["dev"] = "0"
    again = replace(one, name="again")
    differing = replace(training("more"), name="differing")
    found = table([one, other_steps, other_prompts, unscored, other_dev, again, differing], "one")
    assert (
        found.left_out
        == {
            "steps": "other settings than the reference: sft.steps",
            "prompts": "scored with other prompts than the reference",
            "unscored": "not scored: sft-150",
            "dev": "scored with another dev than the reference",
            "differing": "the same mixture and seeds as again, but OTHER ratings",
            "one": "the same mixture and seeds as again, but OTHER ratings",
        }
        or found.left_out["again"] == "the same mixture and seeds as one"
    )
    assert "left out: steps, other settings" in " ".join(sentences(found))


def test_nothing_to_show():
    with pytest.raises(HeartwoodError, match=r"no finished experiment .* \(a has no dvc.lock\)") as error:
        build_table([], {"a": "has no dvc.lock"}, reference=None)
    assert "dvc exp run --queue" in error.value.hint


def test_unscored_prompts_of_one_run_leave_the_prompt_out_on_both_sides():
    runs = [*sweep(0.3, 3), *sweep(0.4, 3)]
    rows = runs[0].scores["sft-150"].ratings
    rows[0] = ratings([None])[0]
    found = table(runs, "m0.3-0")
    assert found.rows[0].cells["sft-150"].interval.n == 59
    assert found.rows[0].cells["sft-100"].interval.n == 60


class TestPicture:
    def test_the_same_table_gives_the_same_file(self, tmp_path):
        pytest.importorskip("matplotlib")
        found = table([*sweep(0.3, 3), *proportional(3)])
        draw(found, tmp_path / "a.svg")
        draw(found, tmp_path / "b.svg")
        draw(found, tmp_path / "c.png")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
        assert "(proportional)" in (tmp_path / "a.svg").read_text()
        assert (tmp_path / "c.png").stat().st_size > 5000

    @pytest.mark.parametrize(("name", "said"), [("a.pdf", ".svg or .png"), ("none/a.svg", "there is no folder")])
    def test_where_none_can_be_written(self, tmp_path, name, said):
        with pytest.raises(HeartwoodError, match=said):
            check_picture(tmp_path / name)
