"""The table of mixtures in words and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from pipelines.evaluation.compare import say_share
from pipelines.experiments.mixtures import MIN_SEEDS, Cell, Contrast, MixtureRow, Mixtures

FORMATS = (".svg", ".png")


def print_mixtures(console: Console, found: Mixtures, confirmed: Sequence[str] = ()) -> None:
    """Print what the mixtures are, then one table a model, then what may be concluded.

    Args:
        confirmed: what was confirmed on prompts from test, in words.
    """
    _print_legend(console, found)
    for model, interval in found.base.items():
        console.print(f"{model} (no mixture): index {interval.mean:.3f} ± {interval.high - interval.mean:.3f}")
    for model in found.rows[0].cells:
        console.print()
        _print_model(console, found, model)
    console.print()
    for sentence in sentences(found):
        console.print(sentence)
    for sentence in confirmed:
        console.print(f"confirmed: {sentence}")
    if not confirmed and len(found.rows) > 1:
        console.print("The next step for a choice: heartwood confirm NAME, once, on prompts from test.")


def _print_legend(console: Console, found: Mixtures) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    sources = sorted({name for row in found.rows for name in row.requested})
    for heading in ("", *sources, "rows", "unit", "training seeds"):
        table.add_column(heading, justify="left" if heading in ("", "unit", "training seeds") else "right")
    for row in found.rows:
        settings = row.settings
        seeds = ", ".join(str(train) for train, _ in row.seeds)
        shares = (f"{100 * row.requested.get(name, 0):.1f} %" for name in sources)
        table.add_row(row.letter, *shares, f"{settings['size']:,}", settings.get("unit", "examples"), seeds)
    console.print(table)
    first = found.rows[0]
    kind = ", proportional" if first.proportional else ""
    console.print(f"reference: {first.letter}{kind} ({', '.join(first.runs)})")
    for row in found.rows[1:]:
        kind = ", proportional" if row.proportional else ""
        console.print(f"{row.letter}{kind}: {', '.join(row.runs)}")


def _print_model(console: Console, found: Mixtures, model: str) -> None:
    console.print(model)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("index", "seeds sd", "degen.", "stock", "difference", "Holm p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row in found.rows:
        cell = row.cells[model]
        table.add_row(*_cells(row, cell))
    console.print(table)


def _cells(row: MixtureRow, cell: Cell) -> list[str]:
    interval = cell.interval
    index = f"{interval.mean:.3f} ± {interval.high - interval.mean:.3f}"
    spread = f"{cell.sd_seeds:.3f}" if cell.sd_seeds is not None else "-"
    shares = [f"{100 * cell.degenerate_rate:.1f} %", say_share(cell.stock_opening_rate)]
    start = [row.letter, index, spread, *shares]
    c = cell.contrast
    if c is None:
        return [*start, "", "", "reference"]
    return [*start, f"{c.difference:+.3f} ± {c.high - c.difference:.3f}", say_p(c.p_holm), _verdict(c)]


def say_p(value: float) -> str:
    """A p value with three digits."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _verdict(contrast: Contrast) -> str:
    rose = "; degenerate rate rose" if contrast.degenerate_rate_rose else ""
    about = "" if contrast.scope == "mixtures" else f" ({contrast.scope})"
    return f"{contrast.outcome}{about}{rose}"


def sentences(found: Mixtures) -> list[str]:
    """What the table means and what is missing from it."""
    said = []
    contrasts = [c.contrast for row in found.rows for c in row.cells.values() if c.contrast]
    about_mixtures = [c for c in contrasts if c.scope == "mixtures"]
    if contrasts:
        said.append(
            f"± is half a 95 % interval: of an index over prompts, of a difference over paired prompts and, where both"
            f" sides have {MIN_SEEDS} training seeds, over those. Holm over all {len(contrasts)} differences."
        )
    said.append(
        "stock: replies that begin with the model's commonest three words, on average over trainings; of people's in the"
        " corpora, 1 %."
    )
    if about_mixtures:
        prompts, seeds = (
            sum(values) / len(about_mixtures)
            for values in (
                [c.se_prompts for c in about_mixtures],
                [c.se_seeds or 0.0 for c in about_mixtures],
            )
        )
        said.append(
            f"Standard error of a difference, on average: {prompts:.3f} from the choice of prompts, {seeds:.3f} from"
            f" training seeds; differences of {min(c.mde for c in about_mixtures):.3f} and more could have been found."
        )
    if len(about_mixtures) < len(contrasts):
        said.append(
            f"Where a verdict is about models only, a side has fewer than {MIN_SEEDS} training seeds: nothing is said about the"
            " mixtures, since two trainings of one mixture differ as well."
        )
    if found.missing_baseline:
        said.append(f"Proportional (stratified) mixing, the baseline, is missing. Make it: {found.missing_baseline}")
        said.append("then: dvc queue start")
    if found.commits > 1:
        said.append(f"These runs were made from {found.commits} commits; see `git diff` for what else changed.")
    for why in dict.fromkeys(found.left_out.values()):
        names = ", ".join(name for name, other in found.left_out.items() if other == why)
        said.append(f"left out: {names}, {why}")
    said.append(f"judge {found.judge}, prompts {found.prompts[:12]}, from dev: the best of many on dev is no result.")
    return said


def check_picture(path: Path) -> None:
    """Raise unless a picture can be written to this path.

    Raises:
        HeartwoodError: another format, no folder, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise HeartwoodError(f"{path}: a picture is {' or '.join(FORMATS)}", hint="change the name's end")
    if not path.parent.is_dir():
        raise HeartwoodError(f"{path}: there is no folder {path.parent}", hint="make it first")
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise HeartwoodError("matplotlib is not installed", hint="pip install -e '.[report]'")


def draw(found: Mixtures, path: Path) -> None:
    """Write the picture: for each model each mixture's index with its interval over prompts, a dot a training."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    models = list(found.rows[0].cells)
    # Without salt and date, the same table gives the same file.
    with mpl.rc_context({"svg.hashsalt": "heartwood", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(1.5 + 3.2 * len(models), 1.2 + 0.42 * len(found.rows)), layout="constrained")
        axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            for place, row in enumerate(found.rows):
                cell = row.cells[model]
                center = cell.interval.mean
                error = [[center - cell.interval.low], [cell.interval.high - center]]
                axis.errorbar(center, place, xerr=error, fmt="o", color="#1b4965", capsize=3)
                seeds = list(cell.by_seed.values())
                axis.plot(seeds, [place + 0.18] * len(seeds), ".", color="#ca6702", markersize=5)
            axis.axvline(found.rows[0].cells[model].interval.mean, color="#999999", linewidth=0.8, linestyle=":")
            axis.set_title(model)
            axis.set_xlabel("index (1 to 5)")
        axes[0].set_yticks(range(len(found.rows)), [_name(row) for row in found.rows])
        axes[0].invert_yaxis()
        figure.supxlabel("bars: 95 % interval over prompts; small dots: each training seed", fontsize=7)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}, dpi=150)


def _name(row: MixtureRow) -> str:
    shares = " ".join(f"{name[:12]} {100 * share:.0f}" for name, share in sorted(row.requested.items()) if share)
    return f"{row.letter}  {shares}{' (proportional)' if row.proportional else ''}"
