"""The page: templates filled with what was gathered, every text escaped, styles and scripts named by their hashes."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from curation.errors import HeartwoodError
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.reporting.site import charts
from pipelines.reporting.site.gather import Site
from pipelines.reporting.site.sankey import Picture, draw, steps_of
from pipelines.reporting.site.text import visible

TEMPLATES = Path(__file__).parent / "templates"
WIDE, NARROW = 1032, 350
LARGEST = 5_000_000
HEADLINES = {
    "verified": (
        "Verified",
        "Data, settings, code and the evidence of every score agree, link by link, from the raw files to the last number."
        " “heartwood verify --help” says what this check cannot find.",
    ),
    "stale": (
        "Stale: made before the last change",
        "A score here is older than something that it rests on. It was true once. Run “dvc repro” to make it anew.",
    ),
    "broken": (
        "Broken: do not trust these scores",
        "The evidence contradicts itself: a file is not what the stage that is said to have made it wrote.",
    ),
    "incomplete": (
        "Could not be checked",
        "Something that a score rests on is missing here, so nothing can be said about it.",
    ),
}
WORDS = {
    "verified": "verified",
    "stale": "stale",
    "broken": "broken",
    "incomplete": "not checked",
    "improved": "better",
    "worse": "worse",
    "inconclusive": "no clear difference",
}
TRICKS = {
    "echo": "repeating the message back scores low",
    "empty": "an empty reply scores low",
    "hostile": "a hostile reply loses",
    "negated": "saying the opposite loses",
    "other_seeker": "a reply to somebody else loses",
    "padded_twofold": "saying it twice gains nothing",
    "prompt_leak": "repeating the instructions scores low",
    "shuffled_sentences": "shuffled sentences gain nothing",
    "sorry_five_times": "“sorry” five times gains nothing",
    "sorry_once": "one “sorry” gains little",
    "trailing_question": "a tacked-on question gains little",
    "wrong_emotion": "naming the wrong feeling loses",
}
LEARNING = {
    "improving": "still improving on held-out data",
    "level": "no longer improving on held-out data",
    "overfitting": "overfitting: it went past its best",
    "diverging": "diverging: train and held-out loss both rose",
    "unknown": "too little measured to say",
}
SECTIONS = {
    "scores": "Scores",
    "replies": "Replies",
    "judge": "Judge",
    "training": "Training",
    "mixture": "Mixture",
    "flow": "Flow of rows",
    "pairs": "Duplicates and leaks",
    "validation": "Validation",
    "chain": "Chain",
}
PAIR_KINDS = {
    "duplicate": "duplicates",
    "leak": "leaks",
    "split": "records whose group stands in a later split",
    "close call": "decisions near a threshold",
}


@dataclass(frozen=True)
class Pictures:
    """The flow for a wide and for a narrow screen."""

    wide: list[Picture]
    narrow: list[Picture]


def render(site: Site) -> str:
    """The whole page; it names no other file and no address.

    Raises:
        HeartwoodError: the page would be larger than ``LARGEST`` bytes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "n": lambda value: f"{value:,}",
        "f": lambda value, digits: f"{value:.{digits}f}",
        "pct": lambda value: f"{100 * value:.1f} %",
        "rule": _rule,
        "plainly": plainly,
    }
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    flow, replies, pairs, details = site.flow.content, site.replies.content, site.pairs.content, site.details.content
    pictures, flow_problem = _pictures(site)
    page = environment.get_template("page.html.j2").render(
        site=site,
        headline=HEADLINES[site.verdict],
        words=WORDS,
        tricks=TRICKS,
        learning=LEARNING,
        sections=list(SECTIONS.items()),
        pair_kinds=PAIR_KINDS,
        mechanisms=MECHANISMS,
        prompt_sources=sorted({s for d in (details or {}).values() for s in d["by_source"]}),
        series={name: i for i, name in enumerate(flow.sources if flow else sorted(_mixed(site)))},
        pictures=pictures,
        flow_problem=flow_problem,
        charts=_charts(site),
        style=Markup(style),
        script=Markup(script),
        style_hash=_source(style),
        script_hash=_source(script),
        data={
            "replies": {"models": replies.models if replies else [], "rows": replies.shown if replies else []},
            "pairs": pairs.shown if pairs else [],
        },
    )
    if len(page.encode()) > LARGEST:
        raise HeartwoodError(
            f"the page of {site.revision} has {len(page.encode()):,} bytes; allowed: {LARGEST:,}",
            hint="a report of that revision is far larger than a stage writes: see `git show --stat`",
        )
    return page


def _finalize(value: Any) -> Any:
    """No template can forget to show what steers a reader's display."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _rule(label: str) -> str:
    """``dedup-exact-v1`` as people say it; other labels as they are."""
    stage, _, rest = label.partition("-")
    if stage not in ("dedup", "leakage") or not rest:
        return label
    name = rest.rpartition("-v")[0] or rest
    return f"{name} {'duplicates' if stage == 'dedup' else 'leaks'}"


def plainly(contrast: Mapping[str, Any]) -> str:
    """What a paired difference amounts to, for a reader who is no statistician."""
    size, low, high = contrast["difference"], contrast["low"], contrast["high"]
    signed = [f"{value:+.2f}".replace("-", "−") for value in (size, low, high)]
    counts = f"{contrast['up']} replies scored higher, {contrast['down']} lower, {contrast['same']} the same"
    p = contrast["p_holm"]
    tested = f"adjusted p {'under 0.001' if p < 0.001 else f'{p:.3f}'}"
    if contrast["verdict"] == "inconclusive":
        rose = (
            " More of its replies are broken, so it is not called better." if contrast["degenerate_rate_rose"] else ""
        )
        return (
            f"Inconclusive: the average differs by {signed[0]}, but the true difference may lie anywhere from {signed[1]}"
            f" to {signed[2]} ({tested}).{rose} These {contrast['n']} prompts could have shown a difference of"
            f" {contrast['mde']:.2f}. {counts}."
        )
    way = "higher" if size > 0 else "lower"
    near, far = sorted((abs(low), abs(high)))
    return (
        f"On average {abs(size):.2f} {way}, and very likely between {near:.2f} and {far:.2f} {way}"
        f" (95 % interval; {tested}). {counts}."
    )


def _mixed(site: Site) -> Mapping[str, Any]:
    return site.mixture.content["rows"] if site.mixture.content else {}


def _pictures(site: Site) -> tuple[Pictures | None, str]:
    flow = site.flow.content
    if not flow:
        return None, ""
    try:
        steps = steps_of(flow)
    except HeartwoodError as error:
        return None, str(error)
    if not steps:
        return None, "No stage after the records has run."
    units = [list(group) for _, group in groupby(steps, key=lambda s: s.unit)]
    wide = [draw(u, flow.sources, WIDE, 190 if len(u) > 1 else 70) for u in units]
    return Pictures(wide, [draw([s], flow.sources, NARROW, 110) for s in steps]), ""


def _charts(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = {"has_dev": False, "rates": None}
    if site.scores.content:
        rows = [
            {"name": m, "mean": s["index"], "low": s["ci_low"], "high": s["ci_high"], "tone": "plain"}
            for m, s in site.scores.content.items()
        ]
        found["scores"] = [_svg(charts.intervals(rows, "index (1 to 5)", w, False)) for w in (720, NARROW)]
    if site.contrasts.content:
        tones = {"improved": "good", "worse": "bad", "inconclusive": "plain"}
        rows = [
            {
                "name": f"{c['to']} − {c['from']}",
                "mean": c["difference"],
                "low": c["low"],
                "high": c["high"],
                "tone": tones[c["verdict"]],
            }
            for c in site.contrasts.content
        ]
        found["contrasts"] = [_svg(charts.intervals(rows, "difference in index", w, True)) for w in (720, NARROW)]
    if site.training.content:
        points = [p for t in site.training.content for p in t.curve.points]
        rates = [p for t in site.training.content for p in t.curve.rates]
        found["has_dev"] = any(p["set"] == "dev" for p in points)
        found["losses"] = [_svg(charts.losses(points, w, h)) for w, h in ((WIDE, 280), (NARROW, 230))]
        if rates:
            found["rates"] = [_svg(charts.learning_rates(rates, w, 140)) for w in (720, NARROW)]
    return found


def _svg(drawn: str) -> Markup:
    # Made by Vega-Lite of numbers and of names that it escapes itself.
    return Markup(drawn)


def write(site: Site, folder: Path) -> Path:
    """Write ``index.html`` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(render(site), encoding="utf-8", newline="\n")
    return path
