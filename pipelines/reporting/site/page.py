"""The page: templates filled with what was gathered, every text escaped, styles and scripts named by their hashes."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from markupsafe import Markup

from curation.errors import HeartwoodError
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.reporting.site import words
from pipelines.reporting.site.drawings import Drawings
from pipelines.reporting.site.gather import Part, Site
from pipelines.reporting.site.text import visible

TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 5_000_000
SECTIONS = {
    "scores": ("Scores", "Scores"),
    "replies": ("Replies", "Every prompt, every reply"),
    "judge": ("Judge", "The judge"),
    "training": ("Training", "Training"),
    "mixture": ("Mixture", "The mixture and its receipt"),
    "flow": ("Flow of rows", "From raw rows to the mixture"),
    "pairs": ("Duplicates and leaks", "Duplicates and leaks"),
    "validation": ("Validation", "Validation"),
    "chain": ("Chain", "The chain of hashes"),
}


def render(site: Site) -> str:
    """The whole page; it names no other file and no address.

    Raises:
        HeartwoodError: the page would be larger than ``LARGEST`` bytes.
    """
    environment = _environment()
    context = {
        "site": site,
        "drawings": Drawings(site),
        "mechanisms": MECHANISMS,
        "series": {name: i for i, name in enumerate(_sources(site))},
        "words": words,
    }
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    replies, pairs = site.replies.content, site.pairs.content
    page: str = environment.get_template("page.html.j2").render(
        context,
        sections=[
            {"id": name, "name": short, "heading": heading, "html": _section(environment, name, site, context)}
            for name, (short, heading) in SECTIONS.items()
        ],
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


def _environment() -> Any:
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
        "rule": words.rule_name,
        "plainly": words.plainly,
    }
    return environment


def _section(environment: Any, name: str, site: Site, context: dict[str, Any]) -> Markup:
    """One section; where a report of an older revision has another form, that is said and no other section suffers."""
    from jinja2 import UndefinedError

    try:
        return Markup(environment.get_template(f"{name}.html.j2").render(context))
    except (UndefinedError, LookupError, TypeError, ValueError, AttributeError) as error:
        unread = Part[Any](
            None,
            f"the reports of {site.revision} are not in a form that this version reads ({error})",
            "use the version of heartwood that belongs to that revision, or run `dvc repro`",
        )
        return Markup(environment.get_template("unread.html.j2").render(context, part=unread))


def _finalize(value: Any) -> Any:
    """No template can forget to show what steers a reader's display."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _sources(site: Site) -> list[str]:
    if site.flow.content:
        return site.flow.content.sources
    return sorted((site.mixture.content or {}).get("rows", {}))


def write(site: Site, folder: Path) -> Path:
    """Write ``index.html`` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(render(site), encoding="utf-8", newline="\n")
    return path
