"""The pictures of one page, each drawn when its section asks for it, for wide and for narrow screens."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from curation.errors import HeartwoodError
from pipelines.reporting.site import charts
from pipelines.reporting.site.gather import Site
from pipelines.reporting.site.sankey import Picture, draw, steps_of

WIDE, MIDDLE, NARROW = 1032, 720, 350
TONES = {"improved": "good", "worse": "bad", "inconclusive": "plain"}


@dataclass(frozen=True)
class FlowPictures:
    """The flow for a wide and for a narrow screen, or why there is none."""

    wide: list[Picture]
    narrow: list[Picture]
    problem: str = ""


@dataclass(frozen=True)
class Drawings:
    """The pictures of a site; each chart is a pair of SVGs, wide and narrow."""

    site: Site

    def scores(self) -> list[Markup]:
        """Every model's index with its interval."""
        rows = [
            {"name": m, "mean": s["index"], "low": s["ci_low"], "high": s["ci_high"], "tone": "plain"}
            for m, s in (self.site.scores.content or {}).items()
        ]
        return [_svg(charts.intervals(rows, "index (1 to 5)", w, False)) for w in (MIDDLE, NARROW)]

    def contrasts(self) -> list[Markup]:
        """Every paired difference with its interval."""
        rows = [
            {
                "name": f"{c['to']} − {c['from']}",
                "mean": c["difference"],
                "low": c["low"],
                "high": c["high"],
                "tone": TONES[c["verdict"]],
            }
            for c in self.site.contrasts.content or []
        ]
        return [_svg(charts.intervals(rows, "difference in index", w, True)) for w in (MIDDLE, NARROW)]

    def _points(self) -> list[dict[str, Any]]:
        return [p for t in self.site.training.content or [] for p in t.curve.points]

    def has_dev(self) -> bool:
        """Whether any run took losses on dev."""
        return any(p["set"] == "dev" for p in self._points())

    def losses(self) -> list[Markup]:
        """Loss by step."""
        return [_svg(charts.losses(self._points(), w, h)) for w, h in ((WIDE, 280), (NARROW, 230))]

    def rates(self) -> list[Markup]:
        """Learning rate by step."""
        rates = [p for t in self.site.training.content or [] for p in t.curve.rates]
        return [_svg(charts.learning_rates(rates, w, 140)) for w in (MIDDLE, NARROW)]

    def flow(self) -> FlowPictures:
        """The flow of rows: the long part as one picture if there is room, else step by step."""
        flow = self.site.flow.content
        if flow is None:
            return FlowPictures([], [])
        try:
            steps = steps_of(flow)
        except HeartwoodError as error:
            return FlowPictures([], [], str(error))
        units = [list(group) for _, group in groupby(steps, key=lambda s: s.unit)]
        wide = [draw(u, flow.sources, WIDE, 190 if len(u) > 1 else 70) for u in units]
        return FlowPictures(wide, [draw([s], flow.sources, NARROW, 110) for s in steps])


def _svg(drawn: str) -> Markup:
    # Made by Vega-Lite of numbers and of names that it escapes itself.
    return Markup(drawn)
