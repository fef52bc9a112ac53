"""The rubric that language models judge by: a versioned file, one criterion a question, answers from 1 to 5.

The criteria are EPITOME's three mechanisms. An answer of 1 to 5 becomes a level of 0 to 2, and the levels become the same
index as the default judge's, ``1 + min(4, sum)``; that is a definition, not agreement: no person rated it.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.ratings import MECHANISMS

FOLDER = Path(__file__).parent / "rubrics"
DIGITS = (1, 2, 3, 4, 5)

FEWEST_MASS = 0.5
"""With less probability on the five digits together, a reply is unscored."""

_HIGHEST_LEVEL = 2.0
_SUM_LIMIT = 4.0
_ROUNDING = 6


@dataclass(frozen=True)
class RubricRating:
    """Levels (0..2) of the three mechanisms and their index (1..5)."""

    emotional_reactions: float
    interpretations: float
    explorations: float
    index: float


@dataclass(frozen=True)
class Rubric:
    """A rubric by name: the system message, and question with levels by criterion. ``digest`` is its file's sha256."""

    name: str
    system: str
    questions: Mapping[str, str]
    digest: str

    def messages(self, criterion: str, seeker: str, reply: str) -> list[dict[str, str]]:
        """The messages of one call. Both texts stand as JSON strings, so that neither can end its own quotation."""
        pair = json.dumps({"message": seeker, "reply": reply}, ensure_ascii=False, indent=1)
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": f"{self.questions[criterion]}\n\n{pair}\n\nAnswer with one digit from 1 to 5."},
        ]


def read_rubric(name: str) -> Rubric:
    """A rubric of ``pipelines/evaluation/judges/rubrics``. Raises HeartwoodError for another name."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise HeartwoodError(
            f"judge.rubric is {name!r}; allowed: {', '.join(sorted(p.stem for p in FOLDER.glob('*.json')))}",
            hint="correct judge.rubric in params.yaml or -S",
        )
    data = path.read_bytes()
    content = json.loads(data)
    questions = {}
    for mechanism in MECHANISMS:
        criterion = content["criteria"][mechanism]
        levels = "\n".join(f"{digit}: {criterion['levels'][str(digit)]}" for digit in DIGITS)
        questions[mechanism] = f"{criterion['question']}\n{levels}"
    return Rubric(content["rubric"], content["system"], questions, hashlib.sha256(data).hexdigest())


class NoVerdictError(Exception):
    """No verdict, and why, in a few words that hold no text of the pair and no secret."""


class RubricJudge(ABC):
    """Asks one question a criterion and weighs the digits of the answer; a kind of judge says how it gets them."""

    no_digit: str
    """Why a pair is unrated when the digits together have less than `FEWEST_MASS`."""

    def __init__(self, rubric: Rubric) -> None:
        self.rubric = rubric
        self._reasons: dict[tuple[str, str], str] = {}

    @abstractmethod
    def probabilities(self, criterion: str, seeker: str, reply: str) -> Mapping[int, float]:
        """Probability of each digit as the answer. Raises NoVerdictError if there is no answer."""

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[RubricRating | None]:
        """Rates (seeker's message, reply) pairs, in order; None where there is no verdict."""
        return [self._rate(pair) for pair in pairs]

    def reason(self, pair: tuple[str, str]) -> str:
        """Why a pair was left unrated."""
        return self._reasons[pair]

    def _rate(self, pair: tuple[str, str]) -> RubricRating | None:
        answers = {}
        for criterion in MECHANISMS:
            try:
                expected = expected_digit(self.probabilities(criterion, *pair))
            except NoVerdictError as why:
                self._reasons[pair] = str(why)
                return None
            if expected is None:
                self._reasons[pair] = self.no_digit
                return None
            answers[criterion] = expected
        return combine(answers)


def rubric_of(card: Mapping[str, Any]) -> Rubric:
    """The rubric of a judge's card. Raises HeartwoodError if it has changed since."""
    rubric = read_rubric(card["rubric"])
    if rubric.digest != card["identity"]["rubric"]:
        raise HeartwoodError(
            f"the rubric {rubric.name} has sha256 {rubric.digest}, the judge's card says {card['identity']['rubric']}",
            hint="run `dvc repro judge`",
        )
    return rubric


def identity_digest(identity: Mapping[str, Any]) -> str:
    """sha256 over all that makes a judge what it is."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def combine(answers: Mapping[str, float]) -> RubricRating:
    """The rating that the answers (1..5) to all three criteria amount to."""
    levels = {m: round((answers[m] - 1) * _HIGHEST_LEVEL / (DIGITS[-1] - 1), _ROUNDING) for m in MECHANISMS}
    return RubricRating(**levels, index=round(1 + min(_SUM_LIMIT, sum(levels.values())), _ROUNDING))


def expected_digit(probabilities: Mapping[int, float]) -> float | None:
    """The mean over the digits weighted by their probability; None if together they have less than `FEWEST_MASS`.

    A single greedy digit piles up on one value; the weighted mean does not (G-Eval, arXiv 2303.16634).
    """
    mass = sum(probabilities.values())
    if not math.isfinite(mass) or mass < FEWEST_MASS:
        return None
    return sum(digit * p for digit, p in probabilities.items()) / mass
