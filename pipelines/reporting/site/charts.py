"""Charts as inline SVG, drawn offline by Vega-Lite; colours are the page's own, so they follow light and dark."""

from collections.abc import Mapping, Sequence
from typing import Any

VEGA_LITE = "5.21"
FONT = "system-ui, sans-serif"
INK, FAINT = "var(--muted)", "var(--line)"
SERIES = tuple(f"var(--s{n})" for n in range(1, 7))
_CONFIG: dict[str, Any] = {
    "background": None,
    "autosize": {"type": "fit-x", "contains": "padding"},
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "gridColor": FAINT,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelFontWeight": "normal",
    },
    "legend": {
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": 0,
        "orient": "top",
        "symbolOpacity": 1,
        "symbolStrokeWidth": 3,
        "columnPadding": 24,
    },
    "header": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12},
}


def svg(spec: Mapping[str, Any]) -> str:
    """A Vega-Lite specification as SVG; nothing is loaded from anywhere."""
    import vl_convert

    full = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": _CONFIG, **spec}
    drawn: str = vl_convert.vegalite_to_svg(full, vl_version=VEGA_LITE, allowed_base_urls=[])
    return drawn


def _step(width: int) -> dict[str, Any]:
    axis = {"grid": False, "tickCount": width // 80, "tickMinStep": 1}
    return {"field": "step", "type": "quantitative", "title": "optimizer step", "axis": axis, "scale": {"nice": False}}


def losses(points: Sequence[Mapping[str, Any]], width: int, height: int) -> str:
    """Loss by step: train as a thin line under its moving mean, dev as points joined.

    Args:
        points: ``model``, ``step`` (over the whole chain), ``set`` (``train`` or ``dev``) and ``loss``.
    """
    models = list(dict.fromkeys(p["model"] for p in points))
    color = {
        "field": "model",
        "type": "nominal",
        "scale": {"domain": models, "range": list(SERIES[: len(models)])},
        "legend": {"title": None},
    }
    x = _step(width)
    y = {"field": "loss", "type": "quantitative", "title": "loss (nats per token)", "scale": {"zero": False}}
    train = [{"filter": "datum.set === 'train'"}]
    mean = {"window": [{"op": "mean", "field": "loss", "as": "mean"}], "groupby": ["model"], "frame": [-5, 5]}
    layers: list[dict[str, Any]] = [
        {
            "transform": train,
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.35},
            "encoding": {"x": x, "y": y, "color": color},
        },
        {
            "transform": [*train, mean],
            "mark": {"type": "line", "strokeWidth": 2.2},
            "encoding": {"x": x, "y": {**y, "field": "mean"}, "color": color},
        },
    ]
    if any(p["set"] == "dev" for p in points):
        layers.append(
            {
                "transform": [{"filter": "datum.set === 'dev'"}],
                "mark": {"type": "line", "point": {"size": 46, "filled": True}, "strokeDash": [5, 4]},
                "encoding": {"x": x, "y": y, "color": color},
            }
        )
    return svg({"width": width, "height": height, "data": {"values": list(points)}, "layer": layers})


def learning_rates(points: Sequence[Mapping[str, Any]], width: int, height: int) -> str:
    """The learning rate by step; ``points`` hold ``model``, ``step`` and ``learning_rate``."""
    models = list(dict.fromkeys(p["model"] for p in points))
    return svg(
        {
            "width": width,
            "height": height,
            "data": {"values": list(points)},
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {
                "x": _step(width),
                "y": {
                    "field": "learning_rate",
                    "type": "quantitative",
                    "title": "learning rate",
                    "axis": {"tickCount": 3},
                },
                "color": {
                    "field": "model",
                    "type": "nominal",
                    "scale": {"domain": models, "range": list(SERIES[: len(models)])},
                    "legend": None,
                },
            },
        }
    )


def intervals(rows: Sequence[Mapping[str, Any]], title: str, width: int, zero: bool) -> str:
    """A mean as a dot and its interval as a bar, one row each.

    Args:
        rows: ``name``, ``mean``, ``low``, ``high`` and ``tone`` (``good``, ``bad`` or ``plain``).
        zero: whether to mark 0, where there is no difference.
    """
    tones = {"good": "var(--good)", "bad": "var(--bad)", "plain": "var(--ink)"}
    color = {"field": "tone", "scale": {"domain": list(tones), "range": list(tones.values())}, "legend": None}
    # Fonts differ between here and the reader's machine: room for wide ones.
    room = min(width // 2, 14 + round(7.7 * max(len(row["name"]) for row in rows)))
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelColor": "var(--ink)", "labelLimit": room, "minExtent": room},
    }
    scale = {"zero": zero, "nice": True, "padding": 8}
    x = {"type": "quantitative", "scale": scale, "axis": {"tickCount": max(3, width // 90), "format": ".2~f"}}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 6, "opacity": 0.3, "strokeCap": "round"},
            "encoding": {"x": {**x, "field": "low", "title": title}, "x2": {"field": "high"}, "y": y, "color": color},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": {**x, "field": "mean", "title": title}, "y": y, "color": color},
        },
    ]
    if zero:
        layers.insert(
            0,
            {
                "mark": {"type": "rule", "strokeDash": [3, 3], "color": "var(--muted)"},
                "encoding": {"x": {"datum": 0, "type": "quantitative"}},
            },
        )
    return svg({"width": width, "height": {"step": 34}, "data": {"values": list(rows)}, "layer": layers})
