import csv
import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import HeartwoodError
from curation.text import fold
from pipelines.evaluation.judges.agreement import (
    HUMAN_CEILING,
    agreement,
    confusion,
    folds,
    groups,
    quadratic_weighted_kappa,
    rounded,
)
from pipelines.evaluation.judges.epitome import (
    JUDGE,
    Head,
    Rating,
    fit,
    fit_with_agreement,
    head_card,
    load_card,
    load_head,
    write_head,
)
from pipelines.evaluation.judges.features import BUCKETS, SURFACE, hashed, surface
from pipelines.evaluation.judges.invariance import CASES, CHECKS, REQUIRED_RATE, run_invariance
from pipelines.evaluation.ratings import COLUMNS, FILES, MECHANISMS, RatedPair, Ratings, read_ratings

REACTIONS = ("Fine.", "I hope it gets better.", "I'm so sorry, my heart goes out to you.")
READINGS = ("The weather is mild.", "That sounds heavy.", "I understand, I have been there and felt it too.")
QUESTIONS = ("The end.", "What happened?", "What makes the nights so long for you?")


def made_ratings(count: int = 90) -> Ratings:
    pairs = []
    for i in range(count):
        reaction, reading, question = (i * 7 + i // 9) % 3, (i * 5 + i // 4) % 3, (i + i // 3) % 3
        levels = {
            "emotional_reactions": (reaction,) if i % 10 else (reaction, min(2, reaction + 1)),
            "interpretations": (reading,),
            "explorations": (question,),
        }
        reply = f"{REACTIONS[reaction]} {READINGS[reading]} {QUESTIONS[question]} Case {i}."
        pairs.append(RatedPair(f"s{i:03}", f"r{i:03}", f"Day number {i} was long and grey.", reply, levels))
    return Ratings(tuple(pairs), {"made.csv": "0" * 64}, {"made.csv": count})


@pytest.fixture(scope="module")
def made() -> tuple[Head, dict[str, Any]]:
    return fit_with_agreement(made_ratings(), seed=0)


@pytest.fixture(scope="session")
def shipped(repo_root: Path) -> Path:
    return repo_root / "models" / "judge_head"


def write_csv(folder: Path, mechanism: str, rows: Sequence[Sequence[object]], columns: Sequence[str] = COLUMNS) -> None:
    with (folder / FILES[mechanism]).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture
def epitome(tmp_path: Path) -> Path:
    for mechanism in MECHANISMS:
        space = "  " if mechanism == "explorations" else " "
        write_csv(
            tmp_path,
            mechanism,
            [
                ("s2", "r2", f"It{space}rains, and\nI am alone.", "Why?", 2, ""),
                ("s1", "r1", "I lost my keys.", f"Oh{space}no.", 0, "a|b"),
                ("s1", "r1", "I lost my keys.", "Oh no.", 1, ""),
            ],
        )
    return tmp_path


def test_ratings_are_joined_on_ids(epitome: Path) -> None:
    found = read_ratings(epitome)
    assert [(pair.seeker_id, pair.response_id) for pair in found.pairs] == [("s1", "r1"), ("s2", "r2")]
    assert found.pairs[0].levels["interpretations"] == (0, 1)
    assert found.pairs[1].seeker == "It rains, and\nI am alone."
    assert set(found.rows.values()) == {3}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found.sha256.values())


def test_ratings_name_the_missing_file_and_column(epitome: Path) -> None:
    write_csv(epitome, "interpretations", [], [name for name in COLUMNS if name != "level"])
    with pytest.raises(HeartwoodError, match=r"interpretations-reddit\.csv: no column level"):
        read_ratings(epitome)
    (epitome / FILES["interpretations"]).unlink()
    with pytest.raises(HeartwoodError, match=r"interpretations-reddit\.csv: no such file") as caught:
        read_ratings(epitome)
    assert caught.value.hint


@pytest.mark.parametrize("level", [3, -1, "", "high", 1.5])
def test_ratings_name_the_row_of_a_wrong_level(epitome: Path, level: object) -> None:
    write_csv(epitome, "explorations", [("s1", "r1", "a", "b", 0, ""), ("s2", "r2", "a", "b", level, "")])
    with pytest.raises(HeartwoodError, match=r"explorations-reddit\.csv: row 2 .*level is"):
        read_ratings(epitome)


def test_ratings_refuse_empty_text_missing_pairs_and_other_encodings(epitome: Path) -> None:
    write_csv(epitome, "explorations", [("s1", "r1", "a", "  ", 0, "")])
    with pytest.raises(HeartwoodError, match="response_post is empty"):
        read_ratings(epitome)
    write_csv(epitome, "explorations", [("s1", "r1", "a", "b", 0, "")])
    with pytest.raises(HeartwoodError, match="no rating of the pair sp_id=s2 rp_id=r2"):
        read_ratings(epitome)
    write_csv(epitome, "explorations", [])
    with pytest.raises(HeartwoodError, match="no rating in it"):
        read_ratings(epitome)
    (epitome / FILES["explorations"]).write_bytes("sp_id,é".encode("latin-1"))
    with pytest.raises(HeartwoodError, match="UTF-8"):
        read_ratings(epitome)


def test_features_are_stable_hashes_and_counts() -> None:
    (words, counts), (characters, _) = hashed("No no, why?")
    assert len(words) == len(set(words.tolist())) == len({"no", "why", "?", "no no", "no why", "why ?"})
    assert max(counts) == pytest.approx(1 + np.log(2))
    assert characters.max() < BUCKETS
    assert hashed("")[0][0].size == 0
    named = dict(zip(SURFACE, surface("I miss my cat", "Do you miss your cat? I'm sorry!"), strict=True))
    assert named["question_to_you"] == named["cue_sorry"] == named["has_question"] == named["exclamation_marks"] == 1
    assert named["ends_in_question"] == 0
    assert named["overlap_with_seeker"] == pytest.approx(2 / 9)


def test_kappa_agrees_with_sklearn() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(0)
    human = generator.integers(0, 3, 200)
    judge = np.clip(human + generator.integers(-1, 2, 200), 0, 2)
    assert quadratic_weighted_kappa(confusion(human, judge)) == pytest.approx(
        cohen_kappa_score(human, judge, weights="quadratic")
    )
    assert np.isnan(quadratic_weighted_kappa(confusion(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64))))
    found = agreement(human, judge.astype(float), np.arange(200), seed=0)
    assert found.qwk_low < found.qwk < found.qwk_high
    assert np.sum(found.confusion) == found.ratings == 200
    assert rounded(np.array([0.49, 0.5, 1.5, 2.0])).tolist() == [0, 1, 2, 2]


def test_groups_join_shared_seekers_responses_and_texts() -> None:
    level = dict.fromkeys(MECHANISMS, (0,))
    pairs = [
        RatedPair("s1", "r1", "one", "a", level),
        RatedPair("s1", "r2", "one", "b", level),
        RatedPair("s2", "r3", "two", "B!", level),
        RatedPair("s3", "r4", "Two.", "c", level),
        RatedPair("s4", "r5", "four", "d", level),
    ]
    assert groups(pairs).tolist() == [0, 0, 0, 0, 1]


def test_no_text_straddles_two_folds() -> None:
    pairs = made_ratings(300).pairs
    pairs = tuple(dataclasses.replace(pair, seeker_id=f"s{i // 3}") for i, pair in enumerate(pairs))
    fold_of = folds(pairs, seed=4)
    for name in ("seeker_id", "response_id", "seeker", "response"):
        seen: dict[str, int] = {}
        for pair, number in zip(pairs, fold_of.tolist(), strict=True):
            assert seen.setdefault(fold(getattr(pair, name)), number) == number
    assert set(fold_of.tolist()) == {0, 1, 2, 3, 4}
    reordered = tuple(reversed(pairs))
    assert folds(reordered, seed=4).tolist() == fold_of.tolist()[::-1]


def test_the_fit_agrees_with_sklearn() -> None:
    from sklearn.linear_model import LogisticRegression

    from pipelines.evaluation.judges.epitome import STRENGTH, _kernel_logistic

    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 8))
    yes = (x[:, 0] + generator.normal(size=60) > 0.3).astype(float)
    alpha, bias = _kernel_logistic(x @ x.T, yes, np.ones(60))
    reference = LogisticRegression(C=STRENGTH, tol=1e-10, max_iter=10_000).fit(x, yes)
    assert x.T @ alpha == pytest.approx(reference.coef_[0], abs=1e-4)
    assert bias == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_a_fitted_head_learns_and_repeats(made: tuple[Head, dict[str, Any]]) -> None:
    head, report = made
    assert head.to_bytes() == fit(made_ratings(), seed=0).to_bytes()
    assert all(report[mechanism]["qwk"] > 0.5 for mechanism in MECHANISMS)
    assert report["explorations"]["human_ceiling"] == HUMAN_CEILING["explorations"]
    weak, strong = head.rate([("A long day.", "Fine. The end."), ("A long day.", f"{REACTIONS[2]} {QUESTIONS[2]}")])
    assert weak.index < strong.index
    assert head.rate([]) == []


def test_ratings_stay_in_range_for_any_text(made: tuple[Head, dict[str, Any]]) -> None:
    texts = ("", "?", "?" * 4000, "word " * 3000, "\ud800", "日本語のテキスト", "I'm so sorry! " * 300)
    for rating in made[0].rate([(a, b) for a in texts for b in texts]):
        assert isinstance(rating, Rating)
        parts = (rating.emotional_reactions, rating.interpretations, rating.explorations)
        assert all(0 <= part <= 2 for part in parts)
        assert rating.index == pytest.approx(1 + min(4, sum(parts)), abs=2e-6)


def test_a_head_survives_writing_and_its_digest_is_checked(made: tuple[Head, dict[str, Any]], tmp_path: Path) -> None:
    head, report = made
    card = write_head(tmp_path, head, head_card(made_ratings(), report, seed=0))
    assert card["digest"] == head.digest
    assert load_card(tmp_path) == card
    pairs = [(case.seeker, case.reply) for case in CASES]
    assert load_head(tmp_path).rate(pairs) == head.rate(pairs)
    data = bytearray((tmp_path / "head.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "head.safetensors").write_bytes(data)
    with pytest.raises(HeartwoodError, match="sha256"):
        load_head(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(HeartwoodError, match=r"head\.safetensors: no such file"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    ("card", "message"), [("{", "not JSON"), ("{}", "no digest"), ('{"digest": "0", "features": "x"}', "features 'x'")]
)
def test_a_wrong_card_is_refused(tmp_path: Path, card: str, message: str) -> None:
    (tmp_path / "card.json").write_text(card, encoding="utf-8")
    with pytest.raises(HeartwoodError, match=message):
        load_card(tmp_path)


def test_too_few_ratings_are_refused() -> None:
    with pytest.raises(HeartwoodError, match="too few"):
        fit(made_ratings(20), seed=0)
    flat = made_ratings()
    pairs = tuple(dataclasses.replace(p, levels={**p.levels, "interpretations": (0,)}) for p in flat.pairs)
    with pytest.raises(HeartwoodError, match="interpretations: in one fold"):
        fit(dataclasses.replace(flat, pairs=pairs), seed=0)


class Oracle:
    """Knows the fitting replies, and rates everything else low."""

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        return [self._one(seeker, reply) for seeker, reply in pairs]

    def _one(self, seeker: str, reply: str) -> Rating:
        case = next(case for case in CASES if case.seeker == seeker)
        known = {s.strip() for s in re.split(r"(?<=[.?!])\s", case.reply)}
        good = all(s in reply for s in known if not s.endswith("?"))
        return Rating(1.0, 1.0, 0.0, 3.0) if good else Rating(0.0, 0.0, 0.0, 1.0)


class Flat:
    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        return [Rating(0.5, 0.5, 0.5, 2.5) for _ in pairs]


def test_invariance_tells_a_careful_judge_from_a_blind_one() -> None:
    good = run_invariance(Oracle())
    assert good.label == "validated"
    assert good.failed == ()
    blind = run_invariance(Flat())
    assert blind.label == "exploratory"
    assert blind.failed == ("hostile", "negated", "wrong_emotion", "other_seeker")
    assert blind.rates["empty"] == blind.rates["echo"] == blind.rates["prompt_leak"] == 1.0


def test_a_judge_that_skips_a_case_fails_the_suite() -> None:
    class Skipping(Flat):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating | None]:  # type: ignore[override]
            return [None for _ in pairs]

    with pytest.raises(HeartwoodError, match="no verdict"):
        run_invariance(Skipping())


def test_the_shipped_head_is_small_intact_and_as_its_card_says(shipped: Path) -> None:
    head, card = load_head(shipped), load_card(shipped)
    assert (shipped / "head.safetensors").stat().st_size < 2_000_000
    assert card["judge"] == JUDGE
    assert head.digest == card["digest"]
    assert sorted(card["data"]["sha256"]) == sorted(FILES.values())
    for mechanism in MECHANISMS:
        numbers = card["agreement"][mechanism]
        assert numbers["qwk_low"] < numbers["qwk"] < numbers["qwk_high"]
        assert numbers["qwk"] > numbers["majority_qwk"] + 0.4
        assert numbers["human_ceiling"] == HUMAN_CEILING[mechanism]
    readme = (shipped / "README.md").read_text("utf-8")
    for mechanism in (*MECHANISMS, "index"):
        numbers = card["agreement"][mechanism]
        assert f"{numbers['qwk']:.3f} ({numbers['qwk_low']:.3f} to {numbers['qwk_high']:.3f})" in readme


def test_the_shipped_card_tells_how_the_head_does_in_the_suite(shipped: Path) -> None:
    found, card = run_invariance(load_head(shipped)), load_card(shipped)["invariance"]
    assert (found.label, list(found.failed)) == (card["label"], card["failed"])
    assert found.rates == card["pass_rate"]
    readme = (shipped / "README.md").read_text("utf-8")
    assert found.label in readme
    for check in CHECKS:
        assert f"| `{check.name}` | {round(found.rates[check.name] * len(CASES))} of {len(CASES)} |" in readme
        assert (check.name in found.failed) == (found.rates[check.name] < REQUIRED_RATE)


def test_rating_is_fast_and_needs_numpy_only(shipped: Path) -> None:
    head = load_head(shipped)
    start = time.process_time()
    head.rate([(f"{case.seeker} {i}", f"{case.reply} {i}") for case in CASES for i in range(50)])
    assert time.process_time() - start < 10
    code = (
        "import sys; from pipelines.evaluation.judges.epitome import load_head; "
        f"load_head({str(shipped)!r}).rate([('I am sad.', 'I hear you.')]); "
        "print([m for m in ('sklearn', 'scipy', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=shipped.parents[1]
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.real_data
def test_the_shipped_head_holds_no_text_of_its_data(shipped: Path, real_data: Path) -> None:
    ratings = read_ratings(real_data / "epitome")
    assert load_card(shipped)["data"]["sha256"] == dict(ratings.sha256)
    stored = b"".join(path.read_bytes() for path in sorted(shipped.iterdir()))
    for pair in ratings.pairs:
        for text in (pair.seeker, pair.response):
            if len(text.split()) >= 8:
                assert text.encode() not in stored


@pytest.mark.real_data
@pytest.mark.slow
def test_the_shipped_head_can_be_made_again(shipped: Path, real_data: Path) -> None:
    card = load_card(shipped)
    head, report = fit_with_agreement(read_ratings(real_data / "epitome"), card["folds"]["seed"])
    kept = load_head(shipped)
    for name, tensor in head.tensors().items():
        assert tensor == pytest.approx(kept.tensors()[name], abs=2e-3)
    for mechanism in MECHANISMS:
        assert report[mechanism]["qwk"] == pytest.approx(card["agreement"][mechanism]["qwk"], abs=0.005)
