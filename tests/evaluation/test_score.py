import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from curation.errors import HeartwoodError
from pipelines.evaluation.score import compare_models, score_model

TEXTS = (
    "The boiler broke again and the landlord will not answer.",
    "I was left out of the wedding party after ten years.",
    "My knee gave way on the last mile.",
    "Nobody came to the reading I had prepared for months.",
)
REPLIES = (
    "How cold is it in there now?",
    "Ten years, and not a word of warning.",
    "So close to the end, that is bitter.",
    "An empty room after all that work.",
)


@dataclass(frozen=True)
class Fixed:
    emotional_reactions: float
    interpretations: float
    explorations: float
    index: float


class FixedJudge:
    """Gives replies 2.0, 2.5, 3.0 ... in the order in which it sees them, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
        self.seen = list(pairs)
        return [Fixed(0.5, 0.25, 0.25 + 0.5 * i, 2 + 0.5 * i) for i in range(len(pairs))]


def prompts() -> list[dict[str, Any]]:
    return [
        {
            "id": f"p{i}",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}],
            "emotion": "sad" if i % 2 else "angry",
            "source": "made",
        }
        for i, text in enumerate(TEXTS)
    ]


def responses(*texts: str) -> list[dict[str, Any]]:
    return [{"prompt_id": f"p{i}", "text": text, "finished": True} for i, text in enumerate(texts)]


def test_gated_replies_score_one_and_never_reach_the_judge() -> None:
    judge = FixedJudge()
    result = score_model(prompts(), responses("", TEXTS[1], REPLIES[2], REPLIES[3]), judge)
    assert judge.seen == [(TEXTS[2], REPLIES[2]), (TEXTS[3], REPLIES[3])]
    assert [(row["status"], row.get("reason"), row["index"]) for row in result.rows] == [
        ("degenerate", "empty", 1.0),
        ("degenerate", "echo", 1.0),
        ("rated", None, 2.0),
        ("rated", None, 2.5),
    ]
    assert result.summary["index"] == pytest.approx(6.5 / 4)
    assert result.summary["degenerate_rate"] == 0.5
    assert result.summary["explorations"] == pytest.approx(0.5)
    assert (result.summary["n"], result.summary["n_unscored"]) == (4, 0)
    assert result.breakdown["degenerate_by_reason"] == {"echo": 1, "empty": 1}


def test_the_summary_is_flat_short_and_holds_no_text() -> None:
    result = score_model(prompts(), responses(*REPLIES), FixedJudge())
    assert len(result.summary) <= 15
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in result.summary.values())
    written = json.dumps([result.rows, result.summary, result.breakdown])
    assert not any(text in written for text in (*TEXTS, *REPLIES))
    assert json.loads(written)[0][0]["prompt_id"] == "p0"
    assert result.summary["ci_low"] < result.summary["index"] < result.summary["ci_high"]
    assert {name: group["n"] for name, group in result.breakdown["by_emotion"].items()} == {"angry": 2, "sad": 2}


def test_truncated_replies_and_hidden_tokens_are_degenerate() -> None:
    rows = responses(*REPLIES)
    rows[0]["finished"] = False
    rows[1]["special_tokens"] = 2
    found = score_model(prompts(), rows, FixedJudge()).rows
    assert [row.get("reason") for row in found] == ["truncated", "template_tokens", None, None]


def test_what_the_judge_cannot_rate_is_unscored_and_no_number() -> None:
    class Silent(FixedJudge):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
            return [None, *super().rate(pairs)[1:]]

    result = score_model(prompts(), responses(*REPLIES), Silent())
    assert result.rows[0]["status"] == "unscored"
    assert result.rows[0].get("index") is None
    assert (result.summary["n"], result.summary["n_unscored"]) == (3, 1)
    assert result.summary["index"] == pytest.approx((2.5 + 3 + 3.5) / 3)


def test_ids_must_match_exactly() -> None:
    with pytest.raises(HeartwoodError, match="p3"):
        score_model(prompts(), responses(*REPLIES)[:3], FixedJudge())
    with pytest.raises(HeartwoodError, match="p9"):
        score_model(prompts(), [*responses(*REPLIES), {"prompt_id": "p9", "text": "x", "finished": True}], FixedJudge())
    with pytest.raises(HeartwoodError, match="p0 has two"):
        score_model(prompts(), [*responses(*REPLIES), responses(*REPLIES)[0]], FixedJudge())


def test_a_score_needs_two_replies() -> None:
    with pytest.raises(HeartwoodError, match="at least 2"):
        score_model(prompts()[:1], responses(REPLIES[0]), FixedJudge())


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
