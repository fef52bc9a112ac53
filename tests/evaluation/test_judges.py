import csv
import dataclasses
import re
import subprocess
import sys
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
    kappa_gain,
    quadratic_weighted_kappa,
    rounded,
)
from pipelines.evaluation.judges.epitome import (
    JUDGE,
    STRANGER_PRIOR,
    TOLERANCE,
    EpitomeJudge,
    Rating,
    blend,
    expectation,
    fitting,
    load_card,
    load_judge,
    shapes,
    write_judge,
)
from pipelines.evaluation.judges.features import BUCKETS, SURFACE, hashed, surface
from pipelines.evaluation.judges.fit import fit_features, sentence_vectors
from pipelines.evaluation.judges.invariance import (
    APOLOGY,
    CASES,
    CHECKS,
    PADDING,
    QUESTION,
    REQUIRED_RATE,
    run_invariance,
)
from pipelines.evaluation.judges.lexical import fit_lexical
from pipelines.evaluation.judges.pair import MAX_TOKENS, PairTokenizer
from pipelines.evaluation.judges.pair_training import Recipe
from pipelines.evaluation.judges.refit import BLEND, LEXICAL, fit_judge, judge_card, strangers
from pipelines.evaluation.judges.variants import (
    APOLOGIES,
    EMPTY_QUESTIONS,
    FILLERS,
    WRITTEN,
    denied,
    harmless,
)
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


QUICK = Recipe(epochs=1)


@pytest.fixture(scope="module")
def made() -> tuple[EpitomeJudge, dict[str, Any]]:
    return fit_judge(made_ratings(), 0, QUICK)


def random_judge(seed: int = 0) -> EpitomeJudge:
    """A judge of the right shape whose numbers mean nothing."""
    generator = np.random.default_rng(seed)
    return EpitomeJudge(
        {
            name: (generator.normal(size=shape) * 0.02 + ("scale" in name)).astype(dtype)
            for name, (dtype, shape) in shapes().items()
        }
    )


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


def test_the_gain_in_kappa_is_paired() -> None:
    generator = np.random.default_rng(1)
    human = generator.integers(0, 3, 400)
    good = np.where(generator.random(400) < 0.8, human, 0)
    bad = np.where(generator.random(400) < 0.4, human, 0)
    group = np.arange(400)
    gain, low, high = kappa_gain(human, good, bad, group, seed=0)
    assert low < gain < high
    assert low > 0
    assert kappa_gain(human, good, good, group, seed=0) == (0.0, 0.0, 0.0)
    one = quadratic_weighted_kappa(confusion(human, good)) - quadratic_weighted_kappa(confusion(human, bad))
    assert gain == pytest.approx(one)


def test_the_lexical_fit_takes_shares_and_leaves_out_the_unknown() -> None:
    pairs = [("A long day.", f"{REACTIONS[i % 3]} Case {i}.") for i in range(60)]
    targets = np.array([[[i % 3 > t for t in (0, 1)]] * 3 for i in range(60)], dtype=float)
    weights = np.ones((60, 3))
    head = fit_lexical(pairs, targets, weights)
    level = expectation(1 / (1 + np.exp(-head.logits(pairs))))[:, 0]
    assert level[0::3].max() < level[1::3].min() < level[1::3].max() < level[2::3].min()
    # The same rows, with rows of unknown levels between them, give the same head.
    strange = fit_lexical(pairs * 2, np.concatenate((targets, targets * np.nan)), np.ones((120, 3)))
    assert strange.tensors["bias"].shape == head.tensors["bias"].shape
    with pytest.raises(HeartwoodError, match="emotional_reactions: in one fold"):
        fit_lexical(pairs, targets * 0, weights)


def test_the_lexical_fit_runs_its_linear_algebra_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two threads the last bits of the weights differ, and a refit would not give the shipped bytes."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_info

    seen: list[int] = []
    fit = LogisticRegression.fit

    def watched(self: LogisticRegression, *args: Any, **keys: Any) -> LogisticRegression:
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return fit(self, *args, **keys)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    targets = np.tile(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), (6, len(MECHANISMS), 1))
    fit_lexical([("I am sad.", f"Oh no {n}.") for n in range(12)], targets, np.ones((12, len(MECHANISMS))))
    assert set(seen) == {1}


def test_a_fitted_judge_learns_and_repeats(made: tuple[EpitomeJudge, dict[str, Any]]) -> None:
    judge, report = made
    assert judge.to_bytes() == fit_judge(made_ratings(), 0, QUICK)[0].to_bytes()
    assert all(report[mechanism]["qwk"] > 0.4 for mechanism in MECHANISMS)
    for mechanism in MECHANISMS:
        numbers = report[mechanism]
        assert numbers["head"] in (LEXICAL, BLEND)
        assert numbers["human_ceiling"] == HUMAN_CEILING[mechanism]
        assert numbers["lexical_floor"]["low"] <= numbers["lexical_floor"]["value"] <= numbers["lexical_floor"]["high"]
        pair_weight = judge.tensors["stack"][MECHANISMS.index(mechanism), :, 1]
        assert (numbers["head"] == LEXICAL) == bool((pair_weight == 0).all())
    weak, strong = judge.rate([("A long day.", "Fine. The end."), ("A long day.", f"{REACTIONS[2]} {QUESTIONS[2]}")])
    assert weak.index < strong.index
    assert judge.rate([]) == []


def test_ratings_stay_in_range_for_any_text() -> None:
    judge = random_judge()
    texts = ("", "?", "?" * 400, "word " * 3000, "\ud800", "日本語のテキスト", "I'm so sorry! " * 300)
    for rating in judge.rate([(a, b) for a in texts for b in texts]):
        assert isinstance(rating, Rating)
        parts = (rating.emotional_reactions, rating.interpretations, rating.explorations)
        assert all(0 <= part <= 2 for part in parts)
        assert rating.index == pytest.approx(1 + min(4, sum(parts)), abs=2e-6)


def test_a_rating_does_not_depend_on_the_pairs_beside_it() -> None:
    judge = random_judge()
    pairs = [(case.seeker, case.reply) for case in CASES] + [("Short.", "Yes."), ("Short.", "No.")]
    together = judge.rate(pairs)
    for pair, rating in zip(pairs, together, strict=True):
        (alone,) = judge.rate([pair])
        assert dataclasses.astuple(alone) == pytest.approx(dataclasses.astuple(rating), abs=1e-6)
    assert judge.rate(pairs[::-1]) == together[::-1]


def test_onnx_runtime_gives_what_torch_gives() -> None:
    """The merged weights in the graph are the packaged model with the updates of the adapter."""
    import torch
    from transformers import BertModel

    from curation.embedding.minilm import packaged_folder
    from pipelines.evaluation.judges.pair import PairEncoder, matrices

    judge = random_judge()
    tensors = {k.removeprefix("pair.0."): v for k, v in judge.tensors.items() if k.startswith("pair.0.")}
    encoder = PairEncoder(tensors)
    pair = ("I lost my keys and I am alone.", "That is hard. Where did you see them last?")
    (tokens,) = PairTokenizer(packaged_folder()).encode([pair])
    model = BertModel.from_pretrained(str(packaged_folder()), add_pooling_layer=False).eval()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, _ in matrices():
            update = tensors[f"{name}.up"].astype(np.float32) @ tensors[f"{name}.down"].astype(np.float32)
            weights[f"{name}.weight"] += torch.from_numpy(update)
        states = model(input_ids=torch.tensor([tokens.ids])).last_hidden_state[0].double().numpy()
    assert encoder.logits([pair])[0] == pytest.approx(encoder._heads(states, tokens.start), abs=1e-4)


def test_a_long_pair_keeps_the_end_of_the_seeker_and_both_ends_of_the_reply() -> None:
    from curation.embedding.minilm import packaged_folder

    tokenizer = PairTokenizer(packaged_folder())
    (tokens,) = tokenizer.encode([("begin " + "word " * 300 + "finish", "first " + "word " * 300 + "last")])
    assert len(tokens.ids) == MAX_TOKENS
    known = tokenizer._tokenizer
    text = known.decode(tokens.ids)
    assert "begin" not in text
    assert all(word in text for word in ("finish", "first", "last"))
    assert len(tokens.spans) == MAX_TOKENS - 1 - tokens.start


def test_blending_calibrates_and_a_stranger_costs() -> None:
    stack = np.zeros((3, 2, 3))
    stack[:, :, 0], stack[:, 1, 2] = 1.0, -1.0
    probability = blend(np.zeros((1, 3, 2)), np.ones((1, 3, 2)), stack)
    assert probability[0, 0] == pytest.approx([0.5, 1 / (1 + np.e)])
    assert expectation(np.array([0.3, 0.9])) == pytest.approx(0.6)
    scale = np.array([10.0, 0.0, 0.0, 0.0])
    sure, even, stranger = fitting(np.array([[2.0, 0.3, 1.0], [0.0, 0.3, 1.0], [-2.0, 0.3, 1.0]]), scale)
    assert sure == even == 1
    assert stranger < 0.001
    odds = np.log(STRANGER_PRIOR / (1 - STRANGER_PRIOR)) / 10
    assert fitting(np.array([[odds, 0.0, 0.0]]), scale) == pytest.approx(1.0)
    assert fitting(np.array([[odds - 0.2, 0.0, 0.0]]), scale) == pytest.approx(2 / (1 + np.exp(2)))


def test_changed_replies_keep_or_lose_what_they_should() -> None:
    from random import Random

    levels = dict.fromkeys(MECHANISMS, 1)
    reply = "I'm so sorry. I understand how that feels. What happened then?"
    changed = {harmless(reply, levels, Random(seed)) for seed in range(60)}
    assert len(changed) > 10
    assert all(len(text) >= len(reply) for text in changed)
    assert not any("sorry" in harmless("Fine.", dict.fromkeys(MECHANISMS, 0), Random(n)).lower() for n in range(60))
    found = denied(reply, levels, Random(0))
    assert found is not None
    text, known = found
    assert "not sorry" in text
    assert "don't understand" in text
    assert "?" not in text
    assert set(known.values()) == {0}
    assert denied("The sky is blue.", levels, Random(0)) is None


def test_no_text_of_the_invariance_suite_is_trained_on() -> None:
    suite = {fold(t) for c in CASES for t in (c.seeker, c.reply, c.negated, c.wrong_emotion, c.hostile)}
    suite |= {fold(s) for text in suite for s in (text,)} | {fold(t) for t in (APOLOGY, QUESTION, *PADDING)}
    sentences = {
        fold(s)
        for c in CASES
        for t in (c.seeker, c.reply, c.negated, c.wrong_emotion, c.hostile)
        for s in re.split(r"(?<=[.?!]) ", t)
    }
    used = {fold(t) for c in WRITTEN for t in (c.seeker, c.reply, c.wrong, c.hostile)}
    used |= {fold(s) for c in WRITTEN for t in (c.reply, c.wrong, c.hostile) for s in re.split(r"(?<=[.?!]) ", t)}
    used |= {fold(t) for t in (*EMPTY_QUESTIONS, *APOLOGIES, *FILLERS)}
    assert not used & (suite | sentences)


def test_strangers_are_never_the_own_seeker() -> None:
    for count in (2, 3, 90):
        found = strangers(count, 3)
        assert sorted(found.tolist()) == list(range(count))
        assert (found != np.arange(count)).all()


def test_a_reply_to_another_seeker_fits_worse() -> None:
    seekers = sentence_vectors([case.seeker for case in CASES])
    replies = [case.reply for case in CASES]
    vectors = sentence_vectors(replies)
    mean = seekers.mean(axis=0).astype(np.float32)
    own = fit_features(seekers, vectors, replies, mean)
    other = fit_features(np.roll(seekers, 1, axis=0), vectors, replies, mean)
    assert (own[:, 0] > other[:, 0]).all()
    assert (own[:, 1:] == other[:, 1:]).all()


def test_a_judge_survives_writing_and_damage_is_found(tmp_path: Path) -> None:
    judge = random_judge()
    report: dict[str, Any] = {"fit": {}}
    card = write_judge(tmp_path, judge, judge_card(made_ratings(), report, seed=0))
    assert card["digest"] == judge.digest
    assert load_card(tmp_path) == card
    pairs = [(case.seeker, case.reply) for case in CASES]
    assert load_judge(tmp_path).rate(pairs) == judge.rate(pairs)
    path = tmp_path / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(HeartwoodError, match="sha256"):
        load_judge(tmp_path)
    path.unlink()
    with pytest.raises(HeartwoodError, match=r"head\.safetensors: no such file"):
        load_judge(tmp_path)
    for spoilt, message in (
        ({**judge.tensors, "stack": judge.tensors["stack"][:1]}, "stack should be float32 of shape"),
        ({**judge.tensors, "fit_scale": np.full(4, np.nan, dtype=np.float32)}, "fit_scale holds a number that"),
    ):
        write_judge(tmp_path, EpitomeJudge(spoilt), card)
        with pytest.raises(HeartwoodError, match=message):
            load_judge(tmp_path)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "not JSON"),
        ("{}", "no digest"),
        ('{"digest": "0", "judge": "x"}', "made for judge 'x'"),
        (f'{{"digest": "0", "judge": "{JUDGE}", "features": "x"}}', "features 'x'"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path: Path, card: str, message: str) -> None:
    (tmp_path / "card.json").write_text(card, encoding="utf-8")
    with pytest.raises(HeartwoodError, match=message):
        load_card(tmp_path)


def test_too_few_ratings_are_refused() -> None:
    with pytest.raises(HeartwoodError, match="too few"):
        fit_judge(made_ratings(20), 0, QUICK)


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


def test_the_shipped_judge_is_small_intact_and_as_its_card_says(shipped: Path) -> None:
    judge, card = load_judge(shipped), load_card(shipped)
    assert (shipped / "head.safetensors").stat().st_size < 8_000_000
    assert judge.digest == card["digest"]
    assert sorted(card["data"]["sha256"]) == sorted(FILES.values())
    assert card["tolerance"] == TOLERANCE
    readme = (shipped / "README.md").read_text("utf-8")
    for k, mechanism in enumerate(MECHANISMS):
        numbers = card["agreement"][mechanism]
        assert numbers["qwk_low"] < numbers["qwk"] < numbers["qwk_high"]
        assert numbers["human_ceiling"] == HUMAN_CEILING[mechanism]
        gain = numbers["gain_over_floor"]
        assert gain["value"] == pytest.approx(numbers["qwk"] - numbers["lexical_floor"]["value"], abs=2e-6)
        assert gain["low"] > 0
        assert (numbers["head"] == LEXICAL) == bool((judge.tensors["stack"][k, :, 1] == 0).all())
        assert f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})" in readme
    for name in (*MECHANISMS, "index"):
        numbers = card["agreement"][name]
        assert f"{numbers['qwk']:.3f} ({numbers['qwk_low']:.3f} to {numbers['qwk_high']:.3f})" in readme


def test_the_shipped_card_tells_how_the_judge_does_in_the_suite(shipped: Path) -> None:
    found, card = run_invariance(load_judge(shipped)), load_card(shipped)["invariance"]
    assert (found.label, list(found.failed)) == (card["label"], card["failed"])
    assert found.rates == card["pass_rate"]
    readme = (shipped / "README.md").read_text("utf-8")
    assert found.label in readme
    for check in CHECKS:
        assert f"| `{check.name}` | {round(found.rates[check.name] * len(CASES))} of {len(CASES)} |" in readme
        assert (check.name in found.failed) == (found.rates[check.name] < REQUIRED_RATE)


def test_rating_needs_no_torch(shipped: Path) -> None:
    code = (
        "import sys; from pipelines.evaluation.judges.epitome import load_judge; "
        f"load_judge({str(shipped)!r}).rate([('I am sad.', 'I hear you.')]); "
        "print([m for m in ('sklearn', 'scipy', 'torch', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=shipped.parents[1]
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.real_data
def test_the_shipped_judge_holds_no_text_of_its_data(shipped: Path, real_data: Path) -> None:
    ratings = read_ratings(real_data / "epitome")
    assert load_card(shipped)["data"]["sha256"] == dict(ratings.sha256)
    stored = b"".join(path.read_bytes() for path in sorted(shipped.iterdir()))
    for pair in ratings.pairs:
        for text in (pair.seeker, pair.response):
            if len(text.split()) >= 8:
                assert text.encode() not in stored


@pytest.mark.real_data
@pytest.mark.slow
def test_the_shipped_judge_rates_its_own_ratings_at_least_as_well_as_held_out_ones(
    shipped: Path, real_data: Path
) -> None:
    """In sample, so only a sanity bound: too low means damage, too high would mean memory of the ratings."""
    judge, card = load_judge(shipped), load_card(shipped)
    pairs = read_ratings(real_data / "epitome").pairs
    rated = judge.rate([(pair.seeker, pair.response) for pair in pairs])
    for mechanism in MECHANISMS:
        human = np.array([y for pair in pairs for y in pair.levels[mechanism]])
        expected = np.array(
            [getattr(r, mechanism) for pair, r in zip(pairs, rated, strict=True) for _ in pair.levels[mechanism]]
        )
        kappa = quadratic_weighted_kappa(confusion(human, rounded(expected)))
        assert card["agreement"][mechanism]["qwk"] - 0.02 < kappa < 0.98
