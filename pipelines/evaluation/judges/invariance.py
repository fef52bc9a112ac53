"""The invariance suite: what any judge of empathy must notice, and what it must not be fooled by.

Twelve seekers, each with a fitting reply and spoilt ones, written for this project. A judge that does not pass every check
is labelled ``exploratory``, in every table that shows its scores. The gates come first, as they do in scoring: a gated
reply counts as the lowest index.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curation.errors import HeartwoodError
from pipelines.evaluation.gates import gate
from pipelines.evaluation.score import DEGENERATE_INDEX, Judge

SUITE = "invariance-v1"
"""Version of the cases, the checks and the rules."""

MARGIN = 0.5
"""Points of the index (1..5): a spoilt reply must fall by so much, a harmless change must not move more."""

REQUIRED_RATE = 0.9
"""Share of cases on which each check must pass for the label ``validated``: 11 of 12."""

SYSTEM = "You are a kind and attentive listener. Answer the person with warmth, and ask before you advise."
APOLOGY = "I'm so sorry."
QUESTION = "What do you think?"
PADDING = (
    "There are many sides to things like these.",
    "Days go by and one thing follows another.",
    "Some of it is known and some of it is not.",
    "That is how it is at this time of the year.",
)


@dataclass(frozen=True)
class Case:
    """A seeker's message, a fitting reply, the same with its care negated, and one for the wrong emotion."""

    seeker: str
    reply: str
    negated: str
    wrong_emotion: str
    hostile: str


CASES = (
    Case(
        "My dog died on Sunday. He was with me for fourteen years and the flat is so quiet now.",
        "I'm so sorry about your dog. Fourteen years is a long time, and that quiet must hurt. What was he like?",
        "I'm not sorry about your dog. Fourteen years is not a long time, and that quiet must not hurt. I don't want to "
        "know what he was like.",
        "Congratulations, that is wonderful news! You must be thrilled. How will you celebrate?",
        "It was only an animal. Stop whining and get over it.",
    ),
    Case(
        "I failed the driving test for the third time and everyone at home is laughing at me.",
        "Oh, that sounds humiliating, and I feel for you. Failing in front of people who laugh must sting twice. "
        "Which part of the test went wrong?",
        "Oh, that does not sound humiliating, and I don't feel for you. Failing in front of people who laugh can't sting. "
        "I don't care which part of the test went wrong.",
        "What a lucky day you had! I am so happy for you, enjoy every minute of it. Where are you going to drive first?",
        "They are right to laugh. You are hopeless and should stay off the road.",
    ),
    Case(
        "My best friend has stopped answering my messages and I have no idea what I did.",
        "I'm sorry, being shut out without a word is painful. I understand why you keep searching for a reason. "
        "When did you last talk to each other?",
        "I'm not sorry, being shut out without a word is not painful. I don't understand why you keep searching for a "
        "reason. It doesn't matter when you last talked.",
        "It is great that you two are so close! I love hearing about friendships like that. What are your plans together?",
        "Maybe nobody can stand you. I would not answer you either.",
    ),
    Case(
        "I start chemotherapy on Monday and I am terrified.",
        "I'm so sorry you have to face this. Being terrified makes complete sense, and I'm here for you. "
        "What frightens you most about Monday?",
        "I'm not sorry you have to face this. Being terrified makes no sense, and I'm not here for you. "
        "I don't want to hear what frightens you about Monday.",
        "How exciting, a new start on Monday! I hope you have lots of fun. Are you looking forward to it?",
        "Everybody gets ill. Nobody wants to hear about your fear.",
    ),
    Case(
        "After eleven years my boss let me go in a five minute call. I feel worthless.",
        "That is a cold way to end eleven years, and I'm sorry. I understand why you feel worthless right now, though you "
        "are not. How are you holding up tonight?",
        "That is not a cold way to end eleven years, and I'm not sorry. I don't understand why you feel worthless right "
        "now. I don't care how you are holding up tonight.",
        "Well done, you earned that promotion! I am so proud of you. What will you do with the extra money?",
        "You were probably useless at the job. Five minutes were too many.",
    ),
    Case(
        "I can't sleep since the break-up. I keep reading our old messages.",
        "I'm sorry, those nights sound lonely. I understand holding on to the messages when the person is gone. "
        "What do you find yourself looking for in them?",
        "I'm not sorry, those nights don't sound lonely. I don't understand holding on to the messages when the person is "
        "gone. I don't want to know what you are looking for.",
        "You two are such a happy couple! I wish you a lovely weekend together. Where are you taking her?",
        "Pathetic. No wonder you were left.",
    ),
    Case(
        "My mother keeps telling me I am a disappointment compared with my sister.",
        "That must hurt deeply, and I'm sorry you hear it from your own mother. I can see how unfair the comparison feels. "
        "How do you usually answer her?",
        "That must not hurt, and I'm not sorry you hear it from your own mother. I can't see how the comparison is unfair. "
        "I don't want to know how you answer her.",
        "How sweet, your mother adores you! I'm glad that you have such a supportive family. What are you doing together?",
        "She has a point. Your sister sounds better in every way.",
    ),
    Case(
        "I moved to a new city for work and have not spoken to anyone outside the office for weeks.",
        "I'm sorry, weeks like that are lonely. I understand how hard it is to begin again where nobody knows you. "
        "What did you enjoy doing with people before you moved?",
        "I'm not sorry, weeks like that are not lonely. I don't understand how it could be hard to begin again. "
        "I don't care what you enjoyed before you moved.",
        "So many parties and new friends, that is amazing! I'm happy for you. Who is your favourite?",
        "Nobody there needs you. Go and bore someone else.",
    ),
    Case(
        "My baby was born six weeks early and I can only look at her through glass.",
        "I'm so sorry, being kept behind glass from your own baby must be agonising. I hope she grows stronger each day. "
        "How is she doing this evening?",
        "I'm not sorry, being kept behind glass from your own baby must not be agonising. I don't hope she grows stronger. "
        "I don't want to know how she is doing.",
        "Enjoy the quiet evening, you deserve a treat! I love that you have time for yourself. What film will you watch?",
        "Other people manage. You are making a fuss about nothing.",
    ),
    Case(
        "I told my parents that I am gay and my father has not looked at me since.",
        "I'm sorry, that silence must be crushing after you were so brave. I understand longing for one look from him. "
        "How has your mother taken it?",
        "I'm not sorry, that silence must not be crushing and you were not brave. I don't understand longing for one look "
        "from him. I don't care how your mother has taken it.",
        "It is lovely that your father is so proud of you! I'm glad you all celebrated. What did he give you?",
        "He is ashamed of you and so he should be.",
    ),
    Case(
        "I have an exam tomorrow that decides whether I keep my scholarship and my hands are shaking.",
        "I feel for you, so much resting on one day would make anyone shake. I hope you can rest a little tonight. "
        "Which part worries you most?",
        "I don't feel for you, so much resting on one day would make nobody shake. I don't hope you can rest tonight. "
        "I don't want to know which part worries you.",
        "Great that you are relaxed and have nothing to do! I'm happy that it is all behind you. How was the beach?",
        "You are too stupid for that scholarship anyway.",
    ),
    Case(
        "We lost our house in the flood. The photographs of my late wife were in it.",
        "I'm so sorry. Losing her photographs must feel like losing her again, and I wish I could help you carry that. "
        "Would you like to tell me about her?",
        "I'm not sorry. Losing her photographs must not feel like losing her again, and I don't wish to help you. "
        "I don't want you to tell me about her.",
        "A new house, how exciting! I'm so happy for you, enjoy the moving. Which colour will you paint the walls?",
        "It is your own fault for living there. Photographs are just paper.",
    ),
)
"""The twelve cases of ``invariance-v1``."""


@dataclass(frozen=True)
class Invariance:
    """Result of the suite.

    ``rates``: share of cases that passed, by check. ``moves``: mean change of the index against the reference (None for
    checks that the gates answer). ``label``: ``validated`` if every check reaches `REQUIRED_RATE`, else ``exploratory``.
    ``failed``: the checks that do not, in the order of `CHECKS`.
    """

    rates: dict[str, float]
    moves: dict[str, float | None]
    cases: int
    label: Literal["validated", "exploratory"]
    failed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For reports: suite, rule, label, failed checks, rates and mean moves."""
        return {
            "suite": SUITE,
            "cases": self.cases,
            "margin": MARGIN,
            "required_rate": REQUIRED_RATE,
            "label": self.label,
            "failed": list(self.failed),
            "pass_rate": self.rates,
            "mean_move": self.moves,
        }


def _statements(reply: str) -> str:
    """A fitting reply without its last sentence, the question."""
    return reply[: reply.rindex(". ") + 1]


def _padded(reply: str) -> str:
    """The reply followed by sentences that say nothing, to at least twice its words."""
    sentences = [reply]
    while sum(len(s.split()) for s in sentences) < 2 * len(reply.split()):
        sentences.append(PADDING[(len(sentences) - 1) % len(PADDING)])
    return " ".join(sentences)


def _reversed_sentences(reply: str) -> str:
    return " ".join(reversed(re.split(r"(?<=[.?!]) ", reply)))


def _fitting(i: int) -> tuple[str, str]:
    return CASES[i].seeker, CASES[i].reply


def _fitting_statements(i: int) -> tuple[str, str]:
    return CASES[i].seeker, _statements(CASES[i].reply)


def _next_fitting(i: int) -> tuple[str, str]:
    return _fitting((i + 1) % len(CASES))


@dataclass(frozen=True)
class Check:
    """One check: the changed reply of case ``i``, what must follow, and the (seeker, reply) it is compared with.

    ``rule``: ``gated`` (a gate must catch it), ``falls`` (the index must be lower than the reference's by at least
    `MARGIN`), ``rises_not`` (it may rise by at most `MARGIN`) or ``stays`` (it may move by at most `MARGIN`).
    """

    name: str
    change: Callable[[int], str]
    rule: Literal["gated", "falls", "rises_not", "stays"]
    reference: Callable[[int], tuple[str, str]] = _fitting


CHECKS = (
    Check("empty", lambda _: " ", "gated"),
    Check("echo", lambda i: CASES[i].seeker, "gated"),
    Check("prompt_leak", lambda _: SYSTEM, "gated"),
    Check("hostile", lambda i: CASES[i].hostile, "falls", _fitting_statements),
    Check("negated", lambda i: CASES[i].negated, "falls", _fitting_statements),
    Check("wrong_emotion", lambda i: CASES[i].wrong_emotion, "falls"),
    Check("other_seeker", lambda i: _next_fitting(i)[1], "falls", _next_fitting),
    Check("sorry_once", lambda i: f"{CASES[i].reply} {APOLOGY}", "rises_not"),
    Check("sorry_five_times", lambda i: " ".join([CASES[i].reply, *[APOLOGY] * 5]), "rises_not"),
    Check("trailing_question", lambda i: f"{_statements(CASES[i].reply)} {QUESTION}", "rises_not", _fitting_statements),
    Check("padded_twofold", lambda i: _padded(CASES[i].reply), "rises_not"),
    Check("shuffled_sentences", lambda i: _reversed_sentences(CASES[i].reply), "stays"),
)
"""The checks of ``invariance-v1``, all of them required.

The reference is the fitting reply; where the changed reply asks nothing, or gets a question of no content, it is the
fitting reply without its question, so that a judge which only counts question marks gains nothing. ``other_seeker``
compares the next case's fitting reply with what it earns where it belongs.
"""


def run_invariance(judge: Judge) -> Invariance:
    """Runs the suite on a judge. Raises `HeartwoodError` if the judge leaves a case unrated."""
    before = _indices(judge, [check.reference(i) for check in CHECKS for i in range(len(CASES))])
    after = _indices(judge, [(CASES[i].seeker, check.change(i)) for check in CHECKS for i in range(len(CASES))])
    rates: dict[str, float] = {}
    moves: dict[str, float | None] = {}
    for number, check in enumerate(CHECKS):
        span = slice(number * len(CASES), (number + 1) * len(CASES))
        steps = [index - reference for (index, _), (reference, _) in zip(after[span], before[span], strict=True)]
        passed = [_passes(check, step, gated) for step, (_, gated) in zip(steps, after[span], strict=True)]
        rates[check.name] = round(sum(passed) / len(CASES), 6)
        moves[check.name] = None if check.rule == "gated" else round(sum(steps) / len(CASES), 6)
    failed = tuple(name for name, rate in rates.items() if rate < REQUIRED_RATE)
    return Invariance(rates, moves, len(CASES), "exploratory" if failed else "validated", failed)


def _passes(check: Check, step: float, gated: bool) -> bool:
    if check.rule == "gated":
        return gated
    if check.rule == "falls":
        return step <= -MARGIN
    return step <= MARGIN if check.rule == "rises_not" else abs(step) <= MARGIN


def _indices(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """(index, whether a gate caught it) of each pair."""
    gated = [
        gate([{"role": "system", "content": SYSTEM}, {"role": "user", "content": seeker}], reply, True) is not None
        for seeker, reply in pairs
    ]
    ratings = iter(judge.rate([pair for pair, caught in zip(pairs, gated, strict=True) if not caught]))
    found: list[tuple[float, bool]] = []
    for caught in gated:
        rating = None if caught else next(ratings)
        if not caught and rating is None:
            raise HeartwoodError(
                "the judge gave no verdict on a case of the invariance suite",
                hint="a judge must rate every reply that passes the gates; look at its log",
            )
        found.append((DEGENERATE_INDEX if rating is None else float(rating.index), caught))
    return found
