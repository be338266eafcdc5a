"""The one look of every picture: sizes, a palette that colour-blind readers can tell apart, light and dark.

The rule: a figure names colours only by what they mean (`ESTIMATE`, `TRUTH`, ...); ink, grid and background come from the theme, so that
the same specification reads well on white paper and on a dark page. Colours: Okabe and Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import numpy as np

WIDTH = 640  # px, whole figure
HEIGHT = 380
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"

ESTIMATE = "#0072B2"  # blue: what the log says
TRUTH = "#D55E00"  # vermilion: what a simulated world knows
ONLINE = "#009E73"  # green: what an A/B test saw
REFERENCE = "#CC79A7"  # pink: static weights to compare with
FAINT = "#8C8C8C"  # grey: dominated, expected, not chosen
ON_DARK = {ESTIMATE: "#4FAEEB", TRUTH: "#F0803C", ONLINE: "#2CC295", REFERENCE: "#E29CC6", FAINT: "#9AA1A9"}  # same hues, lighter
SERIES = (ESTIMATE, TRUTH, ONLINE, REFERENCE, "#56B4E9", "#E69F00", FAINT)

_INK = {False: "#1b1f24", True: "#e8eaed"}
_SOFT = {False: "#57606a", True: "#a8b0ba"}
_GRID = {False: "#e4e7eb", True: "#30363d"}
_HEAT = {False: ["#f1f5f9", "#7fb8dd", ESTIMATE, "#00395c"], True: ["#20272f", "#1d5f8c", "#4FAEEB", "#d9f0ff"]}
_PAPER = {False: "#ffffff", True: "#16191d"}


def theme(*, dark: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite config of every figure.

    Args:
        dark: for a dark page.
    """
    ink, soft, grid, paper = _INK[dark], _SOFT[dark], _GRID[dark], _PAPER[dark]
    text = {"font": FONT, "color": ink, "fontSize": 12}
    return {
        "background": paper,
        "font": FONT,
        "padding": 12,
        "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": ink,
            "fontSize": 16,
            "fontWeight": 600,
            "subtitleColor": soft,
            "subtitleFontSize": 12.5,
            "subtitlePadding": 5,
            "lineHeight": 20,
            "subtitleLineHeight": 17,
            "offset": 14,
        },
        "axis": {
            "labelColor": soft,
            "titleColor": ink,
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": 500,
            "gridColor": grid,
            "domainColor": soft,
            "tickColor": soft,
            "titlePadding": 9,
            "labelFlush": False,
        },
        "header": {"labelColor": ink, "titleColor": ink, "labelFontSize": 13, "labelFontWeight": 600, "titleFontSize": 13},
        "legend": {
            "labelColor": ink,
            "titleColor": ink,
            "labelFontSize": 12,
            "titleFontSize": 12.5,
            "titleFontWeight": 500,
            "orient": "top",
            "labelLimit": 320,
            "symbolSize": 90,
        },
        "range": {"category": list(SERIES), "heatmap": _HEAT[dark], "ramp": _HEAT[dark]},
        "text": text,
        "style": {
            "label": {"color": ink, "fontSize": 12.5, "fontWeight": 600},
            "note": {"color": soft, "fontSize": 12, "fontStyle": "italic"},
            "halo": {"stroke": paper, "strokeWidth": 4, "strokeOpacity": 0.9, "strokeJoin": "round"},
            "zero": {"color": soft, "strokeWidth": 1.2},
            "leader": {"color": soft, "strokeWidth": 0.8},
            "better": {"color": ONLINE, "fillOpacity": 0.16 if dark else 0.1},
            "production": {"color": ink},
            "hollow": {"fill": paper},
        },
    }


def finished(chart: Any, *, title: str, subtitle: str | list[str] = "") -> alt.TopLevelMixin:
    """Return the chart with its title and the theme on it.

    Args:
        chart: any Altair chart.
        title: a sentence that says what is to be seen.
        subtitle: how to read it, and on what evidence it rests.
    """
    heading = alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title)
    chart = chart.properties(title=heading, description=title)
    chart.config = alt.Config.from_dict(theme())
    return chart


def inline(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Return rows as data that travel inside the specification; NaN and infinity become null."""
    return alt.InlineData([{key: _plain(value) for key, value in row.items()} for row in rows])


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
