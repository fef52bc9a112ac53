"""What verification says: faults, what was checked, what could not be, and the verdict that follows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["verified", "stale", "broken", "incomplete"]
GRAVITY: tuple[Verdict, ...] = ("broken", "stale", "incomplete")
EXIT_CODES: dict[str, int] = {"verified": 0, "stale": 1, "broken": 1, "incomplete": 2}


@dataclass(frozen=True)
class Fault:
    """A link of the chain that does not hold: which, what was expected, what was found, what to do next."""

    kind: Verdict
    stage: str
    link: str
    message: str
    next: str = "dvc repro"


@dataclass(frozen=True)
class Unchecked:
    """Something that was looked at and could not be compared, and why; no fault."""

    link: str
    why: str


@dataclass(kw_only=True)
class Findings:
    """What was found at one place: faults in the order of the pipeline, links checked (also by kind), what was not."""

    faults: list[Fault] = field(default_factory=list)
    checked: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    unchecked: list[Unchecked] = field(default_factory=list)

    def count(self, kind: str, number: int = 1) -> None:
        """Say that so many links of a kind have been compared."""
        self.counts[kind] = self.counts.get(kind, 0) + number
        self.checked += number

    def add(self, other: "Findings") -> None:
        """Take over another place's findings; equal ones once."""
        self.faults += [f for f in other.faults if f not in self.faults]
        self.unchecked += [u for u in other.unchecked if u not in self.unchecked]
        for kind, number in other.counts.items():
            self.count(kind, number)

    @property
    def verdict(self) -> Verdict:
        """The gravest of broken, stale and incomplete; verified when nothing is wrong."""
        kinds = {f.kind for f in self.faults}
        return next((k for k in GRAVITY if k in kinds), "verified")

    @property
    def first(self) -> Fault | None:
        """The first link at fault, among those that decide the verdict."""
        return next((f for f in self.faults if f.kind == self.verdict), None)


@dataclass
class ScoreVerdict(Findings):
    """The verdict on one model's score."""

    model: str
    score: float | None


@dataclass
class ReportVerdict(Findings):
    """The verdict on a report that is no model's score: the comparison, the headline, and the like."""

    path: str


@dataclass(frozen=True)
class Verification:
    """What was found at one revision."""

    revision: str
    scores: list[ScoreVerdict]
    reports: list[ReportVerdict]


def exit_code(findings: Iterable[Findings]) -> int:
    """0 when all is verified; 1 when anything is stale or broken; else 2, when anything could not be checked."""
    codes = {EXIT_CODES[f.verdict] for f in findings}
    return 1 if 1 in codes else max(codes, default=0)
