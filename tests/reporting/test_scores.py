import pytest

from pipelines.reporting.scores import say_agreement

PART = {"qwk": 0.651, "qwk_low": 0.61, "qwk_high": 0.68, "human_ceiling": {"qwk": 0.74, "low": 0.5, "high": 0.9}}


@pytest.mark.parametrize("floor", [0.604, {"value": 0.604, "low": 0.5, "high": 0.7}])
def test_agreement_stands_beside_ceiling_and_floor(floor: object) -> None:
    judge = {
        "agreement": {"emotional_reactions": {**PART, "lexical_floor": floor}, "interpretations": PART},
        "agreement_from": "this run",
        "invariance": {"failed": ["negated"]},
    }
    assert say_agreement(judge) == [
        "agreement with people (weighted kappa, this run):",
        "ER 0.65, 95 % 0.61 to 0.68 (people with each other 0.74, lexical floor 0.60)",
        "IP 0.65, 95 % 0.61 to 0.68 (people with each other 0.74)",
        "checks of the judge that fail: negated",
    ]


def test_a_judge_that_nobody_compared_with_people_says_so() -> None:
    assert say_agreement({"agreement": {}, "agreement_from": "not measured"}) == ["agreement with people: not measured"]
    assert say_agreement({}) == []
