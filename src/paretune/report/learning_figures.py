"""Pictures of what was learned and how well: fronts by feature group, calibration of predicted gains.

The rules of `figures` hold: each chart is legible without its caption; lifts are in per cent of production.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from paretune.errors import DataError
from paretune.frontier.calibration import Calibration
from paretune.frontier.isolation import Isolation
from paretune.report.tables import percent, signed
from paretune.report.theme import ESTIMATE, FAINT, SERIES, finished, inline

_SIDE = (570, 420)


def isolation_figure(found: Isolation, *, axes: tuple[int, int] = (0, 1)) -> alt.TopLevelMixin:
    """Return the fronts of models that see one group of features each, on the same held-out rows, knees with their bands.

    Args:
        found: the comparison.
        axes: the objectives across and up.

    Raises:
        DataError: fewer than two objectives.
    """
    lifts = found.lifts
    if max(axes) >= len(lifts.objectives):
        raise DataError(f"no objectives {axes} among {lifts.objectives}", hint="read the table of a one-objective comparison")
    size, names = len(found.scalarisations), [_gained(found, g) for g in range(len(found.groups))]
    lines: list[dict[str, Any]] = []
    knees: list[dict[str, Any]] = []
    for g, name in enumerate(names):
        points = 100 * found.points(g)[:, list(axes)]
        lines += [{"group": name, "order": p, "x": x, "y": y} for p, (x, y) in enumerate(points) if np.isfinite([x, y]).all()]
        at = g * size + found.knees[g]
        low, high = 100 * lifts.band_low[at, list(axes)], 100 * lifts.band_high[at, list(axes)]
        x, y = points[found.knees[g]]
        knees.append({"group": name, "x": x, "y": y, "l": low[0], "r": high[0], "b": low[1], "t": high[1]})
    x_axis = alt.X(
        "x:Q", title=f"{lifts.objectives[axes[0]]}: lift over production (%)", scale=alt.Scale(zero=False, nice=False, padding=16)
    )
    y_axis = alt.Y(
        "y:Q", title=f"{lifts.objectives[axes[1]]}: lift over production (%)", scale=alt.Scale(zero=False, nice=False, padding=16)
    )
    colour = alt.Color("group:N", scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])), legend=alt.Legend(title=None, columns=2))
    base = alt.Chart(inline(lines)).encode(x_axis, y_axis, colour)
    cross = alt.Chart(inline([k for k in knees if np.isfinite([v for v in k.values() if not isinstance(v, str)]).all()])).encode(colour)
    origin = alt.Chart(inline([{"x": 0.0, "y": 0.0, "name": "production"}]))
    chart = alt.layer(
        origin.mark_rule(style="zero").encode(x=alt.X("x:Q")),
        origin.mark_rule(style="zero").encode(y=alt.Y("y:Q")),
        base.mark_line(strokeWidth=1.6, opacity=0.8).encode(order="order:Q"),
        base.mark_point(filled=True, size=26, opacity=0.9),
        cross.mark_rule(strokeWidth=1.4, opacity=0.55).encode(alt.X("l:Q"), alt.X2("r:Q"), alt.Y("y:Q")),
        cross.mark_rule(strokeWidth=1.4, opacity=0.55).encode(alt.X("x:Q"), alt.Y("b:Q"), alt.Y2("t:Q")),
        cross.mark_point(filled=True, size=150, opacity=1).encode(x_axis, y_axis),
        origin.mark_point(style="production", shape="diamond", size=150, filled=True, opacity=1).encode(alt.X("x:Q"), alt.Y("y:Q")),
        origin.mark_text(style="label", align="left", dx=9, dy=12).encode(alt.X("x:Q"), alt.Y("y:Q"), text="name:N"),
    ).properties(width=_SIDE[0], height=_SIDE[1])
    best = int(np.argmax(found.gain[1:])) + 1 if len(found.groups) > 1 else 0
    title = f"{found.groups[best].capitalize()} alone gains {signed(found.gain[best])}, all features {signed(found.gain[0])}"
    how = [
        f"Each line: one model's policies along the trade-off, on the same {lifts.n_rows:,} held-out requests; large: its knee",
        f"Crosses: {percent(lifts.confidence)} bands that hold for all policies at once. Gain: scalarised lift, averaged along the line",
    ]
    return finished(chart, title=title, subtitle=how)


def _gained(found: Isolation, group: int) -> str:
    return f"{found.groups[group]}: gain {signed(found.gain[group])} ± {percent(found.std_error[group], 2)}"


def calibration_figure(found: Calibration, *, policy: str) -> alt.TopLevelMixin:
    """Return held-out gains against predicted ones by decile, with the line through them and the one of perfect calibration.

    Args:
        found: of one policy.
        policy: its name.
    """
    known = np.isfinite(found.measured) & np.isfinite(found.std_error)
    rows = [
        {"x": 100 * x, "y": 100 * y, "low": 100 * (y - 2 * e), "high": 100 * (y + 2 * e), "hits": int(n)}
        for x, y, e, n in zip(found.predicted[known], found.measured[known], found.std_error[known], found.hits[known], strict=True)
    ]
    ends = np.array([found.predicted[known].min(), found.predicted[known].max()])
    middle = float(np.average(found.predicted[known], weights=found.hits[known]))
    fitted = found.mean_measured + found.slope * (ends - middle)
    lines = [
        *({"line": "as predicted (slope 1)", "x": 100 * x, "y": 100 * x} for x in ends),
        *({"line": f"held-out (slope {found.slope:.2f})", "x": 100 * x, "y": 100 * y} for x, y in zip(ends, fitted, strict=True)),
    ]
    names = [lines[0]["line"], lines[-1]["line"]]
    x_axis = alt.X("x:Q", title="gain predicted by the model (% of production)", scale=alt.Scale(zero=False, padding=18))
    base = alt.Chart(inline(rows))
    scale = alt.Scale(domain=names, range=[FAINT, ESTIMATE])
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=[[5, 3], [1, 0]]), legend=None)
    colour = alt.Color("line:N", scale=scale, legend=alt.Legend(title=None))
    y_axis = alt.Y("y:Q", title="held-out gain (% of production)")
    chart = alt.layer(
        alt.Chart(inline([{"y": 0.0}])).mark_rule(style="zero").encode(y=alt.Y("y:Q")),
        alt.Chart(inline(lines)).mark_line(strokeWidth=2).encode(x_axis, y_axis, colour, dash),
        base.mark_rule(color=ESTIMATE, strokeWidth=1.4, opacity=0.6).encode(x_axis, alt.Y("low:Q"), alt.Y2("high:Q")),
        base.mark_point(filled=True, color=ESTIMATE, opacity=1).encode(
            x_axis, y_axis, size=alt.Size("hits:Q", legend=None, scale=alt.Scale(range=[40, 160]))
        ),
    ).properties(width=_SIDE[0], height=_SIDE[1])
    how = [
        f"Policy {policy}; requests in deciles of predicted gain, {int(found.hits.sum()):,} hits against production of the same deciles",
        "Bars: two standard errors, clustered by user. Gains of all objectives, weighted as the policy weights them",
    ]
    return finished(chart, title=f"Of each 1 % predicted, {found.slope:.2f} ± {found.slope_std_error:.2f} % come true", subtitle=how)
