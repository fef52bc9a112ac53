"""The flow of rows as a picture: bars as tall as counts, bands between them, laid out so that heights add up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.errors import HeartwoodError
from pipelines.reporting.flow import Flow, Line

UNKNOWN = ""
BAR = 12.0
LINE = 34.0
ROOM = 165.0
HELD_OUT = ("test", "dev")


@dataclass(frozen=True)
class Exit:
    """Rows that leave between two stages: removed, held out, or not drawn; by source, or under ``UNKNOWN``."""

    label: str
    rows: Mapping[str, int]
    removed: bool

    @property
    def total(self) -> int:
        """All rows that leave here."""
        return sum(self.rows.values())


@dataclass(frozen=True)
class Step:
    """From one stage's rows to the next's: ``before`` + ``joined`` = ``after`` + every exit, by source."""

    unit: str
    name: str
    before: Mapping[str, int]
    joined: Mapping[str, int]
    exits: Sequence[Exit]
    after_name: str
    after: Mapping[str, int]


@dataclass(frozen=True)
class Bar:
    """A bar of the picture, with its label beside it."""

    x: float
    y: float
    height: float
    label: str
    rows: int
    removed: bool = False
    ends: bool = False


@dataclass(frozen=True)
class Band:
    """Rows of one source on their way from bar to bar, as an SVG path; ``series`` is the source's place."""

    path: str
    series: int
    title: str


@dataclass(frozen=True)
class Picture:
    """A part of the flow, of one unit, in pixels."""

    unit: str
    width: float
    height: float
    bars: list[Bar]
    bands: list[Band]


def steps_of(flow: Flow) -> list[Step]:
    """The stages of a flow as steps that add up.

    Raises:
        HeartwoodError: rows are lost or made between two stages.
    """
    steps: list[Step] = []
    before: Line | None = None
    exits: list[Exit] = []
    joined: dict[str, int] = {}
    for line in flow.lines:
        if line.sign == "of":
            continue
        if line.sign == "+":
            joined = dict(line.by_source or {UNKNOWN: line.total})
        elif line.sign == "-" or (line.stage == "split" and line.label in HELD_OUT):
            rows = line.by_source if line.by_source is not None else {UNKNOWN: line.total}
            exits.append(Exit(_SHORT.get(line.label, line.label), rows, line.sign == "-" and line.stage != "mix"))
        else:
            if before is not None and (line.stage, line.label) not in _NEW_UNIT:
                name = _START.get((before.stage, before.label), _SHORT.get(before.label, before.label))
                unit = {"records": "raw rows", "mix": "training examples"}.get(line.stage, "records")
                after = _SHORT.get(line.label, line.label)
                steps.append(_checked(Step(unit, name, _rows(before), joined, exits, after, _rows(line))))
            before, exits, joined = line, [], {}
    return steps


_NEW_UNIT = {("records", "records made of them"), ("mix", "examples of clean train")}
# Said shorter beside a bar; the table has the words of the reports.
_SHORT = {"group stands in a later split": "also in a later split", "train, deduplicated": "deduplicated"}
_START = {("records", "records made of them"): "records", ("mix", "examples of clean train"): "examples"}


def _rows(line: Line) -> Mapping[str, int]:
    return line.by_source if line.by_source is not None else {UNKNOWN: line.total}


def _checked(step: Step) -> Step:
    into = sum(step.before.values()) + sum(step.joined.values())
    out = sum(step.after.values()) + sum(e.total for e in step.exits)
    if into != out:
        raise HeartwoodError(
            f"{step.name}: {into:,} {step.unit} go in, {out:,} come out as {step.after_name} and what leaves",
            hint="run `dvc repro`; `heartwood flow` names the report that does not fit",
        )
    return step


def draw(steps: Sequence[Step], sources: Sequence[str], width: float, height: float) -> Picture:
    """Lay out steps of one unit that follow on each other, from left to right.

    Args:
        sources: in the order in which their bands lie, top first.
        width: of the whole picture.
        height: of its tallest bar; labels of what leaves may need more.
    """
    tallest = max(max(sum(s.before.values()) + sum(s.joined.values()), sum(s.after.values())) for s in steps)
    scale = height / tallest if tallest else 0.0
    room = min(ROOM, width / 2)
    column = (width - room - BAR) / len(steps)
    top = LINE
    series = {name: i for i, name in enumerate(sources)}
    bars = [Bar(0, top, sum(steps[0].before.values()) * scale, steps[0].name, sum(steps[0].before.values()))]
    bands: list[Band] = []
    bottom = top + bars[0].height
    for n, step in enumerate(steps):
        left, right = n * column + BAR, (n + 1) * column
        ends = n == len(steps) - 1
        after = sum(step.after.values())
        bars.append(Bar(right, top, after * scale, step.after_name, after, ends=ends))
        starts = top
        staying = {s: step.after.get(s, 0) - step.joined.get(s, 0) for s in [*sources, UNKNOWN]}
        flows = [(step.after_name, staying, top, False)]
        # Labels of what leaves stand below the bar that goes on, each with room for two lines.
        below = top + max(after * scale, LINE if ends else 0.0) + LINE * 0.6
        for leaving in (e for e in step.exits if e.total):
            bars.append(Bar(right, below, leaving.total * scale, leaving.label, leaving.total, leaving.removed, True))
            flows.append((leaving.label, dict(leaving.rows), below, leaving.removed))
            below += max(leaving.total * scale + 10.0, LINE + 4.0)
        for label, rows, at, removed in flows:
            for source in [*sources, UNKNOWN]:
                count = rows.get(source, 0)
                if count <= 0:
                    continue
                thick = count * scale
                title = f"{source or 'all sources'}: {count:,} {step.unit}, {'removed: ' if removed else ''}{label}"
                bands.append(Band(_band(left, right, starts, at, thick), series.get(source, -1), title))
                starts, at = starts + thick, at + thick
        bottom = max(bottom, below)
    return Picture(steps[0].unit, width, bottom + 4, bars, bands)


def _band(x0: float, x1: float, y0: float, y1: float, thick: float) -> str:
    middle = (x0 + x1) / 2
    # A band of few rows is still seen.
    shown = max(thick, 0.8)
    return (
        f"M{x0:.1f},{y0:.1f}C{middle:.1f},{y0:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
        f"V{y1 + shown:.1f}C{middle:.1f},{y1 + shown:.1f} {middle:.1f},{y0 + shown:.1f} {x0:.1f},{y0 + shown:.1f}Z"
    )
