import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from pipelines.evaluation.score import STOCK_FROM, StockOpening, opening, score_model, stock_opening, summarise
from pipelines.evaluation.statistics import detectable_difference
from tests.people import replies

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


def test_the_share_of_the_commonest_opening_is_a_headline() -> None:
    alike = ("I'm sorry, that is hard.", "i m sorry to hear about the knee", "I'M SORRY!")
    result = score_model(prompts(), responses(*alike, REPLIES[0]), FixedJudge())
    assert result.summary["stock_opening_rate"] == 0.75
    assert len({row["opening"] for row in result.rows}) == 2
    with_echo = score_model(prompts(), responses(TEXTS[0], TEXTS[0], REPLIES[2], ""), FixedJudge())
    assert [row["status"] for row in with_echo.rows] == ["degenerate", "rated", "rated", "degenerate"]
    assert with_echo.summary["stock_opening_rate"] == 0.5


def rated(begins: str, index: float) -> dict[str, Any]:
    return {"opening": begins, "status": "rated", "index": index}


def test_what_the_commonest_opening_earns_stands_beside_what_the_others_earn() -> None:
    rows = [rated("a", 3.0), rated("a", 2.0), rated("b", 1.5), {"opening": "a", "status": "unscored"}]
    assert stock_opening(rows) == StockOpening(0.75, 2.5, 1.5)
    assert stock_opening(rows[:2]) == StockOpening(1.0, 2.5, None)
    assert stock_opening([rated("", 1.0)] * 2) == StockOpening(0.0, None, 1.0)
    tie = [rated("d", 4.0), rated("c", 2.0)] * 2
    assert stock_opening(tie) == stock_opening(tie[::-1]) == StockOpening(0.5, 2.0, 4.0)
    assert stock_opening(tie[:2]) == StockOpening(0.0, None, 3.0)


def people_begin_alike(location: Path, folder: Path) -> float:
    found = stock_opening([rated(opening(said), 2.0) for _, said in replies(location, folder)])
    assert found is not None
    return found.rate


def test_people_do_not_begin_alike_in_the_embedded_corpora(repo_root: Path, tmp_path: Path) -> None:
    assert people_begin_alike(repo_root / "data" / "embedded", tmp_path) == pytest.approx(0.012, abs=5e-4)
    assert STOCK_FROM > 0.05


@pytest.mark.real_data
def test_people_do_not_begin_alike_in_the_real_corpora(real_data: Path, tmp_path: Path) -> None:
    assert people_begin_alike(real_data, tmp_path) == pytest.approx(0.0086, abs=5e-5)


def test_replies_without_words_have_no_opening_in_common() -> None:
    assert opening("") == opening(" ... \U0001f642") == ""
    rows = score_model(prompts(), responses("", "...", REPLIES[2], REPLIES[3]), FixedJudge()).rows
    found = stock_opening(rows)
    assert found is not None
    assert found.rate == 0.0


def test_ratings_of_an_earlier_version_name_no_openings() -> None:
    rows = score_model(prompts(), responses(*REPLIES), FixedJudge()).rows
    assert summarise(rows)["stock_opening_rate"] == 0.0
    earlier = [{k: v for k, v in row.items() if k != "opening"} for row in rows]
    assert "stock_opening_rate" not in summarise(earlier)
    assert stock_opening(earlier) is None


@given(st.lists(st.sampled_from(["a b c d", "A, b: c", "a b", "d e f g", "", "!"]), min_size=1, max_size=12))
def test_the_commonest_opening_is_counted_in_any_order(texts: list[str]) -> None:
    rows = [rated(opening(text), 1.0 + place) for place, text in enumerate(texts)]
    folded = [" ".join(text.lower().replace(",", "").replace(":", "").split()[:3]).strip("!") for text in texts]
    most = max((n for begins in folded if begins and (n := folded.count(begins)) > 1), default=0)
    found = stock_opening(rows)
    assert found is not None
    assert found == stock_opening(rows[::-1])
    assert found.rate == most / len(texts)


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
    with pytest.raises(HeartwoodError, match="at least 2 are needed"):
        score_model(prompts()[:1], responses(REPLIES[0]), FixedJudge())


def test_a_judge_that_tells_nothing_apart_has_no_score() -> None:
    class Constant(FixedJudge):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
            return [Fixed(0.5, 0.5, 1.0, 3.0)] * len(pairs)

    many = [{**prompts()[i % 4], "id": f"p{i}"} for i in range(8)]
    said = [{"prompt_id": f"p{i}", "text": REPLIES[i % 4], "finished": True} for i in range(8)]
    with pytest.raises(HeartwoodError, match="all 8 rated replies the index 3; a judge that tells nothing apart"):
        score_model(many, said, Constant())
    broken = [{**row, "text": ""} for row in said]
    found = score_model(many, broken, Constant()).summary
    assert (found["index"], found["degenerate_rate"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "rating", [Fixed(0, 0, 0, math.nan), Fixed(math.nan, 0, 0, 2), Fixed(0, 0, 2.5, 2), Fixed(0, 0, 0, 0)]
)
def test_a_rating_outside_its_scale_is_an_error(rating: Fixed) -> None:
    class Wrong(FixedJudge):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
            return [rating] * len(pairs)

    with pytest.raises(HeartwoodError, match=r"prompt p0 .*allowed: an index from 1 to 5"):
        score_model(prompts(), responses(*REPLIES), Wrong())


def test_a_judge_that_returns_nothing_gives_no_score_and_its_reason() -> None:
    class Empty(FixedJudge):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
            return []

    class Unable(FixedJudge):
        def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Fixed | None]:
            return [None] * len(pairs)

        def reason(self, pair: tuple[str, str]) -> str:
            return f"refused, {len(pair)} texts"

    with pytest.raises(HeartwoodError, match="answered for 0 of 4 replies"):
        score_model(prompts(), responses(*REPLIES), Empty())
    with pytest.raises(HeartwoodError, match=r"0 of 4 replies are scored, .*\(4 refused, 2 texts\)"):
        score_model(prompts(), responses(*REPLIES), Unable())


def test_breakdowns_say_how_many_and_how_sure() -> None:
    found = score_model(prompts(), responses("", *REPLIES[1:]), FixedJudge()).breakdown
    assert found["by_emotion"]["angry"] == {"n": 2, "index": 1.75, "se": 0.75, "degenerate_rate": 0.5}
    assert found["unscored_by_reason"] == {}
    assert found["length"]["shortest_words"] == 0
    assert found["length"]["longest_words"] == max(len(r.split()) for r in REPLIES[1:])


def test_the_smallest_difference_to_another_model_takes_it_as_unrelated() -> None:
    found = score_model(prompts(), responses(*REPLIES), FixedJudge()).summary
    spread = np.std([2.0, 2.5, 3.0, 3.5], ddof=1)
    assert found["mde"] == pytest.approx(detectable_difference(math.sqrt(2) * spread, 4), abs=1e-5)
