"""The pipeline as a picture, light and dark: arrows from dvc.yaml, numbers from the reports of the last run."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from docs.generate.stages import Stage, read_stages

# Where each stage stands, column and row, and what is said of it under its name; a stage that dvc.yaml lacks is left out.
PLACES: dict[str, tuple[int, int, str]] = {
    "raw": (0, 0, "digest of each file"),
    "records": (1, 0, "content ids"),
    "split": (2, 0, "groups kept whole"),
    "embed": (3, 0, "sentence vectors"),
    "dedup": (4, 0, "exact, near, same"),
    "leakage": (5, 0, "dev and test text"),
    "validate": (6, 0, "expectations"),
    "prompts": (2, 1, "fixed, from dev"),
    "dev": (5, 1, "held out"),
    "base": (0, 2, "weights pinned"),
    "mix": (1, 2, "shares, receipt"),
    "check": (2, 2, "no leak left"),
    "sft": (3, 2, "QLoRA"),
    "respond": (4, 2, "replies"),
    "score": (5, 2, "gates, judge"),
    "compare": (6, 2, "paired, interval"),
    "ratings": (4, 3, "by people"),
    "judge": (5, 3, "agreement, checks"),
    "headline": (6, 3, "for dvc metrics"),
    "plots": (3, 3, "for dvc plots"),
}
TRAINING = ("base", "mix", "check", "sft")
EVALUATION = ("prompts", "dev", "respond", "score", "compare", "ratings", "judge", "headline", "plots")
LIGHT = {
    "text": "#1f2328",
    "faint": "#59636e",
    "line": "#818b98",
    "curation": "#dff3e4 #1a7f37",
    "training": "#ddf0ff #0969da",
    "evaluation": "#f3e8ff #8250df",
}
DARK = {
    "text": "#f0f6fc",
    "faint": "#9198a1",
    "line": "#656c76",
    "curation": "#12261e #3fb950",
    "training": "#0d2540 #4493f8",
    "evaluation": "#251a3d #ab7df8",
}
WIDTH, HEIGHT, STEP_X, STEP_Y, LEFT, TOP = 112, 56, 134, 92, 8, 34


def arrows(stages: list[Stage]) -> list[tuple[str, str]]:
    """Which stage reads what another writes, without arrows that follow from others."""
    makes = {path: _plain(s.name) for s in stages for path in s.writes}
    # A reader of one model's score reads what the stage of all models makes.
    reads = {s.name: [re.sub(r"^reports/eq/[^.]+", "reports/eq/<name>", p) for p in s.reads] for s in stages}
    found = {(makes[p], _plain(name)) for name, paths in reads.items() for p in paths if p in makes}
    direct = {(a, b) for a, b in found if a != b}
    after: dict[str, set[str]] = {}
    for a, b in direct:
        after.setdefault(a, set()).add(b)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        wave = [start]
        while wave:
            for b in after.get(wave.pop(), ()):
                if b not in seen:
                    seen.add(b)
                    wave.append(b)
        return seen

    return sorted((a, b) for a, b in direct if not any(b in reachable(c) for c in after[a] - {b}))


def _plain(name: str) -> str:
    return name.partition("@")[0]


def numbers(root: Path) -> dict[str, str]:
    """One number a stage, from the reports of the last run."""

    def read(name: str) -> Any:
        return json.loads((root / "reports" / f"{name}.json").read_text(encoding="utf-8"))

    records, split, dedup, leakage = read("records"), read("split"), read("dedup"), read("leakage")
    validation, mixture, check = read("validation"), read("mixture"), read("check")
    return {
        "raw": f"{sum(r['raw_rows'] for r in records.values()):,} rows",
        "records": f"{sum(r['records'] for r in records.values()):,} records",
        "split": f"{_total(split['train']):,} in train",
        "dedup": f"\N{MINUS SIGN}{_total(dedup['removed']):,}",
        "leakage": f"\N{MINUS SIGN}{_total(leakage['removed']):,}",
        "validate": f"{len(validation)} suites",
        "mix": f"{_total(mixture['rows']):,} examples",
        "check": f"{check['residual_leaks']} leaks",
    }


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def pipeline_svg(root: Path, colours: dict[str, str]) -> str:
    """The picture as SVG text; it needs no font or script of its own."""
    stages = read_stages(root)
    drawn = {_plain(s.name) for s in stages}
    if missing := drawn - set(PLACES):
        raise SystemExit(f"docs/generate/picture.py: give {', '.join(sorted(missing))} a place in PLACES")
    shown = numbers(root)
    width, height = LEFT * 2 + 6 * STEP_X + WIDTH, TOP + 3 * STEP_Y + HEIGHT + 10
    what = "The pipeline: " + "; ".join(f"{_plain(s.name)}: {s.what}" for s in stages)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif">',
        f"<title>{escape(what)}</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colours["line"]}"/></marker></defs>',
    ]
    for x, (kind, words) in zip(
        (LEFT, LEFT + 130, LEFT + 258),
        (("curation", "curate the data"), ("training", "mix and train"), ("evaluation", "score and compare")),
        strict=True,
    ):
        fill, edge = colours[kind].split()
        parts.append(f'<rect x="{x}" y="6" width="12" height="12" rx="3" fill="{fill}" stroke="{edge}"/>')
        parts.append(f'<text x="{x + 18}" y="16" font-size="12" fill="{colours["faint"]}">{words}</text>')
    parts += [f'<path d="{_path(a, b)}" fill="none" stroke="{colours["line"]}" marker-end="url(#a)"/>'
              for a, b in arrows(stages)]  # fmt: skip
    for name, (column, row, words) in PLACES.items():
        if name not in drawn:
            continue
        kind = "training" if name in TRAINING else "evaluation" if name in EVALUATION else "curation"
        fill, edge = colours[kind].split()
        x, y = LEFT + column * STEP_X, TOP + row * STEP_Y
        middle = x + WIDTH / 2
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{fill}" stroke="{edge}"/>')
        lines = [(name, 13, "text", "600"), (words, 10.5, "faint", "400")]
        if shown.get(name):
            lines.append((shown[name], 10.5, "text", "400"))
        top = y + (22 if len(lines) == 3 else 26)
        for i, (text, size, colour, weight) in enumerate(lines):
            parts.append(
                f'<text x="{middle:g}" y="{top + i * 14}" font-size="{size}" font-weight="{weight}"'
                f' text-anchor="middle" fill="{colours[colour]}">{escape(text)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _path(a: str, b: str) -> str:
    """From one box to another: straight in a row or column, else by the way between the rows."""
    (ca, ra, _), (cb, rb, _) = PLACES[a], PLACES[b]
    xa, ya = LEFT + ca * STEP_X, TOP + ra * STEP_Y
    xb, yb = LEFT + cb * STEP_X, TOP + rb * STEP_Y
    if ra == rb:
        return f"M{xa + WIDTH} {ya + HEIGHT / 2:g}H{xb - 2}"
    if ca == cb:
        return (
            f"M{xa + WIDTH / 2:g} {ya + HEIGHT}V{yb - 2}" if rb > ra else f"M{xa + WIDTH / 2:g} {ya}V{yb + HEIGHT + 2}"
        )
    taken = {(column, row) for column, row, _ in PLACES.values()}
    if abs(ca - cb) == 1 and rb == ra + 1 and (ca, rb) not in taken:
        side = xb + WIDTH + 2 if cb < ca else xb - 2
        return f"M{xa + WIDTH / 2 - 16:g} {ya + HEIGHT}V{yb + HEIGHT / 2:g}H{side}"
    between = yb - (STEP_Y - HEIGHT) / 2
    return f"M{xa + WIDTH / 2 + 16:g} {ya + HEIGHT}V{between:g}H{xb + WIDTH / 2:g}V{yb - 2}"
