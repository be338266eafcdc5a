"""Head-room as tables and one picture: which segments the heads are wrong about, and by how much.

The rule: a ratio is observed over predicted odds after the curve that holds for everybody; 1 is right, and what is shown is shrunk.
"""

from __future__ import annotations

from math import exp
from typing import Any

import altair as alt

from paretune.monitor.headroom import Headroom, Segment
from paretune.report.tables import Table
from paretune.report.theme import SERIES, WIDTH, finished, inline

MOST_SHOWN = 12


def worst_segments(headroom: Headroom, *, at_most: int = MOST_SHOWN) -> tuple[Segment, ...]:
    """Return the segments with the largest errors."""
    return headroom.segments[:at_most]


def segments_table(headroom: Headroom) -> Table:
    """Return the segments that the heads are most wrong about, one row each."""
    rows = []
    for segment in worst_segments(headroom):
        ratio = f"{exp(segment.shrunk):.2f} ({exp(segment.low):.2f} … {exp(segment.high):.2f})"
        rows.append((segment.name, segment.objective, f"{segment.rows:,}", ratio, f"{exp(segment.estimate):.2f}"))
    note = "Observed over predicted odds; above 1 the head is too low. Shrunk: noise taken out as far as the spread between segments tells."
    return Table("Where the heads are wrong", ("segment", "objective", "rows", "ratio, shrunk", "as seen"), tuple(rows), note)


def spreads_table(headroom: Headroom) -> Table:
    """Return how far the heads are off between the segments of each grouping, one row per grouping and objective."""
    rows = [
        (each.grouping, each.objective, f"{each.segments:,}", f"{each.sd:.3f} ({each.low:.3f} … {each.high:.3f})", f"{each.rows:,}")
        for each in headroom.spreads
    ]
    note = "Standard deviation between segments in log odds, sampling noise removed; between heads: what weights can repair."
    return Table("How far the heads are off between segments", ("segments", "objective", "number", "sd", "rows"), tuple(rows), note)


def headroom_figure(headroom: Headroom) -> alt.TopLevelMixin:
    """Return a forest of the worst segments: observed over predicted odds with intervals, a colour per objective."""
    rows: list[dict[str, Any]] = [
        {
            "segment": segment.name,
            "objective": segment.objective,
            "ratio": exp(segment.shrunk),
            "low": exp(segment.low),
            "high": exp(segment.high),
        }
        for segment in worst_segments(headroom)
    ]
    objectives = list(dict.fromkeys(row["objective"] for row in rows))
    colours = [SERIES[i % len(SERIES)] for i in range(len(objectives))]
    colour = alt.Color("objective:N", title=None, scale=alt.Scale(domain=objectives, range=colours))
    y = alt.Y("segment:N", title=None, sort=list(dict.fromkeys(row["segment"] for row in rows)), axis=alt.Axis(labelLimit=280, grid=False))
    offset = alt.YOffset("objective:N", sort=objectives)
    scale = alt.Scale(type="log", zero=False)
    base = alt.Chart(inline(rows))
    bars = base.mark_rule(strokeWidth=2.2).encode(alt.X("low:Q", scale=scale), y, alt.X2("high:Q"), color=colour, yOffset=offset)
    points = base.mark_point(filled=True, size=75, opacity=1).encode(
        alt.X("ratio:Q", scale=scale, title="observed over predicted odds (log scale)"),
        y,
        color=colour,
        yOffset=offset,
        tooltip=["segment:N", "objective:N", alt.Tooltip("ratio:Q", format=".2f")],
    )
    one = alt.Chart(inline([{}])).mark_rule(style="zero").encode(x=alt.datum(1, scale=scale))
    chart = alt.layer(one, bars, points).properties(width=WIDTH - 280, height=alt.Step(16, **{"for": "offset"}))
    answer, _, reason = headroom.sentence.partition(": ")
    how = "Right of 1: the head is too low there. The largest errors of single features and pairs, shrunk, with intervals."
    return finished(chart, title=answer, subtitle=[*_lines(reason[:1].upper() + reason[1:]), how])


def _lines(text: str, *, width: int = 105) -> list[str]:
    """Return a sentence broken into lines that fit the picture."""
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
